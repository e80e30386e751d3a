//! master

pub mod resolver;
