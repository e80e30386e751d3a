//! The daemon behind `drover master`.

use crate::commands::{Exit, Failure};
use crate::config::MasterConfig;

/// Runs the daemon until SIGTERM or SIGINT. The state directory exists, the log and the table
/// of descriptors are set up.
///
/// # Errors
/// It cannot start: an address in use, a store that cannot be opened, a damaged release.
pub fn run(config: MasterConfig) -> Result<(), Failure> {
    Err(Failure::new(
        format_args!("this build of drover has no daemon to listen on {}", config.listen),
        Exit::Failed,
    ))
}
