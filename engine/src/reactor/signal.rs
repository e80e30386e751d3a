//! SIGTERM, SIGINT and SIGHUP as mail, through a pipe: no thread, and no work in a handler.

use super::source::Source;
use crate::node::io::Mail;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// The signals that a daemon listens to. SIGTERM and SIGINT become [`Mail::Stop`], each of
/// them, until one too many ends the process at once with status 143 or 130; SIGHUP becomes
/// [`Mail::Reload`]. Several SIGHUPs that come together are one.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    stops: Arc<AtomicUsize>,
    stops_told: usize,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers, once per process; the second stop ends it.
    ///
    /// # Errors
    /// No descriptor for the pipe.
    pub fn install() -> io::Result<Self> {
        Self::install_patient(1)
    }

    /// The same for who has something to do at so many stops; the next one ends the process.
    ///
    /// # Errors
    /// No descriptor for the pipe.
    pub fn install_patient(stops_max: usize) -> io::Result<Self> {
        let (pipe, written) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let reload = Arc::new(AtomicBool::new(false));
        // Handlers of one signal run in the order in which they were added: it is counted before
        // the pipe is written.
        let stops = count_stops(stops_max)?;
        for signal in STOPS {
            low_level::pipe::register(signal, written.try_clone()?)?;
        }
        flag::register(SIGHUP, Arc::clone(&reload))?;
        low_level::pipe::register(SIGHUP, written)?;
        Ok(Self { pipe, stops, stops_told: 0, reload })
    }

    /// For who has no loop that could watch them: SIGTERM and SIGINT set this flag, until one
    /// more than so many ends the process at once with status 143 or 130.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn stop_flag(stops_max: usize) -> io::Result<Arc<AtomicBool>> {
        count_stops(stops_max)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in STOPS {
            flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(stop)
    }

    /// The same for who does more at the second one: how many have come.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn stop_count(stops_max: usize) -> io::Result<Arc<AtomicUsize>> {
        count_stops(stops_max)
    }
}

/// What asks a process to stop.
const STOPS: [i32; 2] = [SIGTERM, SIGINT];

/// Counts the stops; one more than so many ends the process.
fn count_stops(stops_max: usize) -> io::Result<Arc<AtomicUsize>> {
    let stops = Arc::new(AtomicUsize::new(0));
    for signal in STOPS {
        let counted = Arc::clone(&stops);
        let count = move || {
            if counted.fetch_add(1, SeqCst) >= stops_max {
                low_level::exit(128 + signal);
            }
        };
        // SAFETY: an atomic and `_exit` are all that it uses, which a handler may.
        #[allow(unsafe_code)]
        unsafe {
            low_level::register(signal, count)?;
        }
    }
    Ok(stops)
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
        let stops = self.stops.load(SeqCst);
        mail.extend((self.stops_told..stops).map(|_| Mail::Stop));
        self.stops_told = stops;
    }
}
