//! The daemon. Without a master it enforces the last assignment that was accepted.

use crate::cli::StatusFile;
use crate::config::{Config, ConfigError};
use crate::enforcer::{self, EnforcerConfig, EnforcerEvent};
use crate::policy::{AssignedManifest, BlobError, Cache};
use engine::wire::message::trigger;
use nix::sys::signal::{SigSet, Signal};
use std::io;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration, or the stored assignment.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The manifest of the stored assignment.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The system has no thread or descriptor left.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Enforces until SIGTERM or SIGINT; running resources may then finish within
/// `stop_timeout`, and a second signal ends them.
///
/// # Errors
/// [`DaemonError`].
pub fn run(config: &Config) -> Result<(), DaemonError> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    // Before any other thread starts, so that all of them leave these signals to this one.
    signals.thread_block().map_err(io::Error::from)?;
    let assignment = config.stored_assignment()?;
    let assigned = AssignedManifest::find(&Cache::new(&config.cache_dir()), &assignment)?;
    let status_file = StatusFile::of(config);
    let handle = enforcer::start(EnforcerConfig::from(config), move |event| {
        log_event(&event);
        if let EnforcerEvent::RunFinished { report, converged } = &event
            && let Err(e) = status_file.write(report, *converged)
        {
            log::warn!("cannot write the status file: {e}");
        }
    })?;
    handle.enforce(assigned, None, trigger::START);
    let signal = signals.wait().map_err(io::Error::from)?;
    log::info!("{signal}: stopping");
    handle.stop(config.stop_timeout);
    // From here on a second signal takes its default way.
    signals.thread_unblock().map_err(io::Error::from)?;
    handle.join();
    Ok(())
}

fn log_event(event: &EnforcerEvent) {
    match event {
        EnforcerEvent::RunFinished { report, converged } => {
            let (revision, checked) = (report.revision, report.checked);
            let state = if *converged { "converged" } else { "not converged" };
            log::info!("revision {revision}: {checked} checked, {state}");
            for result in report.results.iter().filter(|r| !r.error.is_empty()) {
                log::warn!("{}: {}", String::from_utf8_lossy(&result.id), result.error);
            }
        }
        EnforcerEvent::NotApplied { report } => log::error!("{}", report.note),
        EnforcerEvent::BlobBroken(hash) => log::warn!("blob {hash} must be fetched again"),
        EnforcerEvent::Watching { directories } => log::info!("{directories} directories watched"),
        EnforcerEvent::WatchFallback { reason, check_interval } => {
            log::warn!("{reason}: looking at everything each {check_interval:?} instead");
        }
        EnforcerEvent::Stopped => log::info!("stopped"),
    }
}
