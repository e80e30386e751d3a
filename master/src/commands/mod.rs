//! What the operator's commands do, apart from their command lines: each takes its arguments,
//! asks the daemon over its control socket, and prints the answer for people or as JSON.

pub mod hosts;
pub mod init;
pub mod master;
pub mod probe;
mod progress;
pub mod publish;
pub mod push;
pub mod queue;
pub mod reports;
pub mod site;
pub mod status;

pub use progress::ProgressLine;

use crate::config::{ConfigError, MasterConfig};
use crate::control::{self, CallError};
use crate::table::Paint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// How a command ended: the process's exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// Some hosts failed, others did not.
    Partial = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command failed, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong.
    pub error: String,
    /// What to do; empty if `error` says it.
    pub hint: String,
    /// The exit status.
    pub exit: Exit,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(error: impl fmt::Display, exit: Exit) -> Self {
        Self { error: error.to_string(), hint: String::new(), exit }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error, Exit::Usage)
    }
}

impl From<io::Error> for Failure {
    /// Only printing fails so: every other place names what it was about.
    fn from(error: io::Error) -> Self {
        // Who reads us has seen enough: `drover hosts | head` is no failure.
        let exit =
            if error.kind() == io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::Failed };
        Self::new(format_args!("printing the answer: {error}"), exit)
    }
}

/// What every command is run with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration file.
    pub config_path: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to print colours.
    pub paint: Paint,
}

impl Context {
    /// Reads the configuration.
    ///
    /// # Errors
    /// It is missing or wrong.
    pub fn config(&self) -> Result<MasterConfig, Failure> {
        Ok(MasterConfig::load(&self.config_path)?)
    }

    /// Asks the daemon something that it answers in one piece.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn ask<T: DeserializeOwned>(
        &self,
        verb: &str,
        arguments: &impl Serialize,
    ) -> Result<T, Failure> {
        let config = self.config()?;
        control::ask(&config.control_socket, verb, arguments).map_err(|e| self.call_failure(e))
    }

    /// What a failed call means for the operator.
    #[must_use]
    pub fn call_failure(&self, error: CallError) -> Failure {
        let exit = match &error {
            CallError::NotRunning { .. }
            | CallError::Denied { .. }
            | CallError::TimedOut { .. } => Exit::Unreachable,
            CallError::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        let hint = match &error {
            CallError::NotRunning { .. } => {
                format!("start it with `drover master --config {}`", self.config_path.display())
            }
            CallError::Denied { .. } => "run drover as that user".to_owned(),
            CallError::TimedOut { .. } => {
                "look at its log and at the machine's load, and restart it if it stays so"
                    .to_owned()
            }
            CallError::Refused(refusal) => refusal.hint.clone(),
            _ => String::new(),
        };
        Failure { error: error.to_string(), hint, exit }
    }
}

/// Prints an answer as JSON, on one line.
fn print_json(out: &mut dyn Write, answer: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, answer).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
