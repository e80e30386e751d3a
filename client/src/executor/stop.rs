//! The one switch that ends runs: pulled by the daemon, looked at by all that takes long.

use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
