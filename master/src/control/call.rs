//! A command's side of the control socket: one request, pieces of answer until the last.

use super::answer::ControlError;
use engine::clock::{Clock, SystemClock};
use engine::wire::message::{ControlReq, ControlResp};
use engine::wire::{Decoder, Flow, Frame, FrameBuf, WireError, access};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a daemon may say nothing before it counts as hung; a push says something at least
/// once a second.
pub const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
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
    let io_error = |error: io::Error| CallError::Io { socket: socket.to_owned(), error };
    let mut stream = UnixStream::connect(socket).map_err(|e| connect_error(socket, e))?;
    stream.set_write_timeout(Some(PIECE_TIMEOUT)).map_err(io_error)?;
    stream.set_read_timeout(Some(INTERRUPT_CHECK)).map_err(io_error)?;

    let request = ControlReq { verb: verb.to_owned(), arguments: serde_json::to_vec(arguments)? };
    let frame = FrameBuf::message(None, &request, |_| ());
    match stream.write_all(&frame.to_vec()) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            return Err(CallError::TimedOut { waited: PIECE_TIMEOUT });
        }
        // It may have refused us and closed already: its reason can still be read.
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        Err(e) => return Err(io_error(e)),
    }

    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 64 * 1024];
    let clock = SystemClock::start();
    let mut heard = clock.now().at;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            return Err(CallError::Interrupted);
        }
        let n = match stream.read(&mut buffer) {
            Ok(0) => return Err(CallError::Closed),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let waited = clock.now().at.since(heard);
                if waited >= PIECE_TIMEOUT {
                    return Err(CallError::TimedOut { waited });
                }
                continue;
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Err(CallError::Closed),
            Err(e) => return Err(io_error(e)),
        };
        heard = clock.now().at;
        let mut outcome = Ok(());
        let flow = decoder.feed(&buffer[..n], |frame| match take(&frame, &mut on_piece) {
            Ok(false) => Flow::Next,
            Ok(true) => Flow::Stop,
            Err(error) => {
                outcome = Err(error);
                Flow::Stop
            }
        })?;
        outcome?;
        if flow == Flow::Stop {
            return Ok(());
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

fn connect_error(socket: &Path, error: io::Error) -> CallError {
    let socket = socket.to_owned();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => CallError::NotRunning { socket },
        ErrorKind::PermissionDenied => CallError::Denied { socket },
        _ => CallError::Io { socket, error },
    }
}

#[cfg(test)]
mod tests;
