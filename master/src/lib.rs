//! The master and the operator's commands.

pub mod admin;
pub mod config;
pub mod control;
pub mod sink;
