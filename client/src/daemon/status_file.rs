//! What the daemon leaves behind of its last run, for `drover-client status` without a daemon.

use crate::config::Config;
use crate::enforcer::LastRun;
use std::io;
use std::path::PathBuf;

/// The file where it lies.
#[derive(Debug, Clone)]
pub struct StatusFile(PathBuf);

impl StatusFile {
    /// Where this configuration has it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.state_dir.join("status.json"))
    }

    /// Writes what a run did.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, last: &LastRun) -> io::Result<()> {
        let temp = self.0.with_extension("new");
        std::fs::write(&temp, serde_json::to_vec(last)?)?;
        std::fs::rename(temp, &self.0)
    }

    /// `None` if no run was told yet.
    ///
    /// # Errors
    /// It cannot be read; in words, with what to do.
    pub fn read(&self) -> Result<Option<LastRun>, String> {
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
