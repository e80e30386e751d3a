//! SIGTERM, SIGINT and SIGHUP as mail, through a pipe: no thread, and no work in a handler.

use super::source::Source;
use crate::node::io::Mail;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The signals that a daemon listens to. The first SIGTERM or SIGINT becomes [`Mail::Stop`],
/// a second one ends the process at once with status 143 or 130; SIGHUP becomes
/// [`Mail::Reload`]. Several SIGHUPs that come together are one.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    stop: Arc<AtomicBool>,
    stop_told: bool,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers; once per process.
    ///
    /// # Errors
    /// No descriptor for the pipe.
    pub fn install() -> io::Result<Self> {
        let (pipe, written) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let reload = Arc::new(AtomicBool::new(false));
        // Handlers of one signal run in the order in which they were added: the exit is taken
        // only if an earlier signal set the flag, and the flag stands before the pipe is written.
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
            low_level::pipe::register(signal, written.try_clone()?)?;
        }
        flag::register(SIGHUP, Arc::clone(&reload))?;
        low_level::pipe::register(SIGHUP, written)?;
        Ok(Self { pipe, stop, stop_told: false, reload })
    }
}

impl<M> Source<M> for Signals {
    fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    fn drain(&mut self, mail: &mut Vec<Mail<M>>) {
        let mut bytes = [0; 64];
        while matches!(self.pipe.read(&mut bytes), Ok(n) if n > 0) {}
        if self.reload.swap(false, SeqCst) {
            mail.push(Mail::Reload);
        }
        // The flag stays set, since it arms the exit at the second signal.
        if self.stop.load(SeqCst) && !self.stop_told {
            self.stop_told = true;
            mail.push(Mail::Stop);
        }
    }
}
