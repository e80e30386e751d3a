//! What the daemon and `apply --once` leave behind: the last run, for `drover-client status` without
//! a daemon, and what was applied, for the next daemon.

use crate::config::Config;
use crate::enforcer::LastRun;
use engine::wire::message::Report;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// What it leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The last run that was told.
    #[serde(flatten)]
    pub last_run: LastRun,
    /// The revision that was last applied to the end; 0 for none. A run that was cut short does
    /// not change it.
    #[serde(default)]
    pub applied_revision: u64,
}

impl Left {
    /// What is left behind after another run; one that did not come to its end applied nothing.
    #[must_use]
    pub fn after(&self, report: &Report, converged: bool, to_end: bool) -> Self {
        Self {
            last_run: LastRun::of(report, converged),
            applied_revision: if to_end { report.revision } else { self.applied_revision },
        }
    }
}

/// The file where it lies.
#[derive(Debug, Clone)]
pub struct StatusFile(PathBuf);

impl StatusFile {
    /// Where this configuration has it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.state_dir.join("status.json"))
    }

    /// Writes it, after a run.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, left: &Left) -> io::Result<()> {
        let temp = self.0.with_extension("new");
        std::fs::write(&temp, serde_json::to_vec(left)?)?;
        std::fs::rename(temp, &self.0)
    }

    /// `None` if no run was told yet.
    ///
    /// # Errors
    /// It cannot be read; in words, with what to do.
    pub fn read(&self) -> Result<Option<Left>, String> {
        let read = match std::fs::read(&self.0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)),
        };
        read.map(Some).map_err(|e| {
            format!(
                "cannot read {}: {e}; the next run of the daemon writes it anew",
                self.0.display()
            )
        })
    }
}
