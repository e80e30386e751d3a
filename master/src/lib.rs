//! The master's daemon and the operator's commands, behind the binary `drover`.

pub mod commands;
pub mod release;
pub mod site;
