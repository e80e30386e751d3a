//! What can be wrong with a configuration file.

use engine::config::Mistake;
use std::io;
use std::path::PathBuf;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: {error}; {}", path.display(), unreadable_hint(error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What exactly.
        error: io::Error,
    },
    /// A key or a value that is none, values that make no sense, or no TOML at all.
    #[error("{}:{mistake}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What exactly, and what to write instead.
        mistake: Mistake,
    },
}

fn unreadable_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "write it anew as UTF-8",
        io::ErrorKind::IsADirectory => "--config takes the file in it, such as master.toml",
        io::ErrorKind::PermissionDenied => "run drover as the user that it belongs to",
        _ => "name the file with --config, or make one with `drover init DIR`",
    }
}
