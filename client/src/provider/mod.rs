//! What touches the system: files below a root, accounts, commands.

pub mod accounts;
pub mod command;
pub mod rooted;
pub mod signature;
