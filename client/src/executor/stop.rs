//! The one switch that ends runs: pulled by the daemon, looked at by all that takes long.

use engine::clock::{Clock, SystemClock};
use engine::reactor::Signals;
use engine::time::Instant;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Signals that something is done at; one more ends the process.
const STOPS_MAX: usize = 2;
/// Between two looks whether one has come.
const SIGNALS_LOOK: Duration = Duration::from_millis(50);

/// Says whether the client stops, and until when running resources may go on. Its descriptor
/// becomes readable (and stays so) when it is pulled.
#[derive(Debug)]
pub struct StopSwitch {
    clock: SystemClock,
    reader: io::PipeReader,
    pulled: Mutex<Pulled>,
}

#[derive(Debug)]
struct Pulled {
    /// Dropped when the switch is pulled, which the other end sees.
    writer: Option<io::PipeWriter>,
    deadline: Option<Instant>,
}

impl StopSwitch {
    /// A switch that is not pulled.
    ///
    /// # Errors
    /// The system's, if it has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let pulled = Mutex::new(Pulled { writer: Some(writer), deadline: None });
        Ok(Self { clock: SystemClock::start(), reader, pulled })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pulled> {
        self.pulled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls it: nothing new begins, what runs may go on for `timeout`. Again: the earlier
    /// end of the two holds.
    pub fn pull(&self, timeout: Duration) {
        let deadline = self.clock.now().at + timeout;
        let mut pulled = self.lock();
        pulled.deadline = Some(pulled.deadline.map_or(deadline, |d| d.min(deadline)));
        pulled.writer = None;
    }

    /// Does something that SIGTERM or SIGINT pulls the switch of: the first leaves `timeout` to what
    /// runs, the second nothing.
    ///
    /// # Errors
    /// The system's, if it refuses the handlers.
    pub fn under_signals<T>(&self, timeout: Duration, act: impl FnOnce() -> T) -> io::Result<T> {
        let stops = Signals::stop_count(STOPS_MAX)?;
        let done = AtomicBool::new(false);
        Ok(std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut pulled = 0;
                while !done.load(Ordering::Acquire) {
                    let come = stops.load(Ordering::Acquire).min(STOPS_MAX);
                    if come > pulled {
                        pulled = come;
                        self.pull(if come == 1 { timeout } else { Duration::ZERO });
                    }
                    std::thread::park_timeout(SIGNALS_LOOK);
                }
            });
            // A panic too must end the watch: the scope waits for it.
            let result = catch_unwind(AssertUnwindSafe(act));
            done.store(true, Ordering::Release);
            watch.thread().unpark();
            result.unwrap_or_else(|panic| resume_unwind(panic))
        }))
    }

    /// Whether it is pulled.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.lock().deadline.is_some()
    }

    /// How long running resources may still go on; `None` if it is not pulled.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.lock().deadline;
        deadline.map(|d| d.since(self.clock.now().at))
    }

    /// Whether it is pulled and the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.time_left() == Some(Duration::ZERO)
    }
}

impl AsFd for StopSwitch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_end_holds() {
        let stop = StopSwitch::new().unwrap();
        assert!(!stop.is_pulled() && !stop.is_over());
        stop.pull(Duration::from_secs(3600));
        assert!(stop.is_pulled() && !stop.is_over());
        stop.pull(Duration::ZERO);
        assert!(stop.is_over());
        stop.pull(Duration::from_secs(3600));
        assert!(stop.is_over(), "a later end does not take back an earlier one");
    }
}
