//! `drover master`: the daemon's process.

use super::{Context, Exit, Failure};
use crate::{daemon, descriptors};
use engine::logging;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// The configuration is wrong, or the daemon cannot start.
pub fn run(context: &Context, level: log::LevelFilter) -> Result<Exit, Failure> {
    let config = context.config()?;
    logging::to_stderr(level);
    DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir).map_err(|e| {
        Failure {
            error: format!(
                "the state directory {} cannot be made: {e}",
                config.state_dir.display()
            ),
            hint: "make it for the user that runs the master, or set state_dir".to_owned(),
            exit: Exit::Failed,
        }
    })?;
    // Before the first thread starts: it is what makes growing the table cheap.
    let wanted = config.limits.connections_max + descriptors::BESIDE_CONNECTIONS;
    let granted = descriptors::reserve(wanted);
    if granted < wanted {
        log::warn!(
            "the system grants {granted} file descriptors, and limits.connections_max = {} needs {wanted}: raise the limit (`ulimit -n`, LimitNOFILE=), or lower connections_max",
            config.limits.connections_max
        );
    }
    daemon::run(config)?;
    Ok(Exit::Done)
}
