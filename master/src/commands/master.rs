//! `drover master`: the daemon's process.

use super::{Context, Exit, Failure};
use crate::daemon::{self, Wiring};
use crate::descriptors;
use engine::logging;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// The configuration is wrong, or the daemon cannot start.
pub fn run(
    context: &Context,
    level: log::LevelFilter,
    wiring: &impl Wiring,
) -> Result<Exit, Failure> {
    let mut config = context.config()?;
    logging::to_stderr(level);
    private_dir(&config.state_dir)?;
    // Before the first thread starts: it is what makes growing the table cheap.
    let wanted = config.limits.connections_max.saturating_add(descriptors::BESIDE_CONNECTIONS);
    let granted = descriptors::reserve(wanted);
    let configured = config.limits.connections_max;
    if granted < wanted {
        // What is left over is for the stores, for dials, and for the operator's commands.
        let connections = granted - descriptors::BESIDE_CONNECTIONS.min(granted / 2);
        log::warn!(
            "the system grants {granted} file descriptors, and limits.connections_max = {configured} needs {wanted}: raise the limit (`ulimit -n`, LimitNOFILE=), or lower connections_max; until then it is {connections}"
        );
        config.limits.connections_max = connections;
    }
    private_dir(&crate::daemon::inbox_dir(&config.state_dir))?;
    daemon::run(config, configured, wiring)?;
    Ok(Exit::Done)
}

/// Makes a directory that is its owner's alone.
fn private_dir(dir: &Path) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Failure {
        error: format!("the state directory {} cannot be made: {e}", dir.display()),
        hint: "make it for the user that runs the master, or set state_dir".to_owned(),
        exit: Exit::Failed,
    })
}
