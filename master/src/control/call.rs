//! A command's side of the control socket: one request, pieces of answer until the last.

use super::answer::ControlError;
use engine::blocking::{BlockingError, Connection};
use engine::clock::{Clock, SystemClock};
use engine::node::io::CloseReason;
use engine::wire::message::{ControlReq, ControlResp};
use engine::wire::{Frame, FrameBuf, WireError, access};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a daemon may say nothing before it counts as hung; a push says something at least
/// once a second.
pub const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a daemon may leave a connection waiting; one that runs takes it within moments.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a command notices that it was interrupted.
const INTERRUPT_CHECK: Duration = Duration::from_millis(100);

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens on the socket.
    #[error("the master is not running: nobody listens on {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("no permission to use {}: it belongs to the user that runs the master", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon does not answer.
    #[error("the master has not answered for {} s: it hangs or is overloaded", waited.as_secs())]
    TimedOut {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The daemon has gone away in the middle.
    #[error(
        "the master closed the connection before its answer was complete: it may have been stopped; look at its log"
    )]
    Closed,
    /// What came is no answer.
    #[error(
        "the answer cannot be read: {0}; drover and the running master may be of different versions"
    )]
    Protocol(#[from] WireError),
    /// The JSON of the answer is not what was expected.
    #[error(
        "the answer cannot be read: {0}; drover and the running master may be of different versions"
    )]
    Json(#[from] serde_json::Error),
    /// The daemon says no.
    #[error("{}", .0.error)]
    Refused(ControlError),
    /// The operator pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Anything else the operating system said.
    #[error("talking to the master over {}: {error}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What exactly.
        error: io::Error,
    },
}

/// Sends a command and hands each piece of its answer to `on_piece`; returns after the last.
/// Once `interrupted` is true the connection is closed, which the daemon takes as a cancel.
///
/// # Errors
/// [`CallError`] says why there is no (whole) answer.
pub fn call(
    socket: &Path,
    verb: &str,
    arguments: &impl Serialize,
    interrupted: &AtomicBool,
    mut on_piece: impl FnMut(&[u8]) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let failed = |error| failure(socket, error);
    let mut daemon = match Connection::connect_unix(socket, CONNECT_TIMEOUT) {
        Err(_) if interrupted.load(Ordering::Relaxed) => return Err(CallError::Interrupted),
        connected => connected.map_err(failed)?,
    };
    daemon.set_timeout(PIECE_TIMEOUT);
    let request = ControlReq { verb: verb.to_owned(), arguments: serde_json::to_vec(arguments)? };
    match daemon.send(&FrameBuf::message(None, &request, |_| ())) {
        // It may have refused us and closed already: its reason can still be read.
        Ok(()) | Err(BlockingError::Closed { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    daemon.set_timeout(INTERRUPT_CHECK);
    let clock = SystemClock::start();
    let mut heard = clock.now().at;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(CallError::Interrupted);
        }
        match daemon.expect() {
            Ok(frame) => {
                heard = clock.now().at;
                if take(&frame.frame(), &mut on_piece)? {
                    return Ok(());
                }
            }
            Err(BlockingError::Timeout { .. }) => {
                let waited = clock.now().at.since(heard);
                if waited >= PIECE_TIMEOUT {
                    return Err(CallError::TimedOut { waited });
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Sends a command whose answer is one piece.
///
/// # Errors
/// [`CallError`] says why there is no answer.
pub fn ask<T: DeserializeOwned>(
    socket: &Path,
    verb: &str,
    arguments: &impl Serialize,
) -> Result<T, CallError> {
    let mut answer = None;
    call(socket, verb, arguments, &AtomicBool::new(false), |piece| {
        answer = Some(serde_json::from_slice(piece)?);
        Ok(())
    })?;
    answer.ok_or(CallError::Closed)
}

/// Takes one piece; says whether it is the last.
fn take(
    frame: &Frame<'_>,
    on_piece: &mut impl FnMut(&[u8]) -> Result<(), CallError>,
) -> Result<bool, CallError> {
    let piece = access::<ControlResp>(frame)?;
    if piece.ok {
        on_piece(&piece.body)?;
        Ok(piece.last)
    } else {
        Err(CallError::Refused(serde_json::from_slice(&piece.body)?))
    }
}

fn failure(socket: &Path, error: BlockingError) -> CallError {
    let socket = socket.to_owned();
    match error {
        BlockingError::Connect {
            reason: CloseReason::Refused | CloseReason::Os(libc::ENOENT),
            ..
        } => CallError::NotRunning { socket },
        BlockingError::Connect { reason: CloseReason::Os(libc::EACCES | libc::EPERM), .. } => {
            CallError::Denied { socket }
        }
        BlockingError::Connect { reason, .. } => {
            CallError::Io { socket, error: io::Error::other(reason.describe()) }
        }
        BlockingError::Closed { .. } | BlockingError::Truncated { .. } => CallError::Closed,
        BlockingError::Timeout { timeout, .. } => CallError::TimedOut { waited: timeout },
        BlockingError::Wire { error, .. } => CallError::Protocol(error),
        BlockingError::Io { error, .. } => CallError::Io { socket, error },
    }
}

#[cfg(test)]
mod tests;
