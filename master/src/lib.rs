//! The master's daemon and the operator's commands, behind the binary `drover`.

pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod daemon;
pub mod descriptors;
pub mod release;
pub mod resolver;
pub mod sink;
pub mod site;
pub mod table;
