//! What the operator's commands do, apart from their command lines: each takes a struct of
//! arguments and gives back a result that can be printed for people or as JSON.

pub mod init;
pub mod publish;
