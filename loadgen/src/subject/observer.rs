//! Looks at the master once a second, on a thread of its own: a master that does not answer
//! must not stop the clock of the run.

use crate::kernel::{Process, Stolen, Tcp};
use crate::truth;
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is to be looked at.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// The master's process, if it is on this machine and known.
    pub pid: Option<u32>,
    /// Its control socket.
    pub control: Option<PathBuf>,
}

/// One look at the master.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When, on the run's clock, nanoseconds.
    pub at_ns: u64,
    /// Its process.
    pub process: Option<Process>,
    /// The machine's TCP.
    pub tcp: Tcp,
    /// What its host took of its processors.
    #[serde(default)]
    pub stolen: Stolen,
    /// What it says of itself.
    pub said: Option<Said>,
    /// What it warned of then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Sample {
    /// When it was taken.
    #[must_use]
    pub fn at(&self) -> Instant {
        Instant(self.at_ns)
    }
}

/// What a master says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Reports accepted and not yet in the result store.
    pub inbox_records: u64,
    /// Their bytes.
    pub inbox_bytes: u64,
    /// Open connections.
    pub connections: u64,
    /// 99th percentile of a turn of its loop since its start, microseconds.
    pub loop_lag_p99_us: u64,
    /// The longest turn since its start, microseconds.
    pub loop_lag_max_us: u64,
    /// Turns of 100 ms or longer since its start.
    pub stalls: u64,
    /// Connections that it accepted since its start.
    pub accepted: u64,
    /// Times that it could accept nothing for want of descriptors.
    pub accept_pauses: u64,
    /// Commits of its inbox since its start.
    pub commits: u64,
    /// Time that these took, microseconds.
    pub commit_busy_us: u64,
    /// 99th percentile of one, microseconds.
    pub commit_p99_us: u64,
    /// How long it took to say so, microseconds.
    pub answered_us: u64,
}

/// A thread that looks.
#[derive(Debug)]
pub struct Observer {
    watched: Arc<Mutex<Watched>>,
    samples: Receiver<Sample>,
    /// Dropped to end it.
    _running: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to look.
    ///
    /// # Errors
    /// No thread.
    pub fn start(watched: Watched, clock: SystemClock) -> std::io::Result<Self> {
        let watched = Arc::new(Mutex::new(watched));
        let (sender, samples) = channel();
        let (running, ended) = channel::<()>();
        let theirs = Arc::clone(&watched);
        let thread = std::thread::Builder::new().name("observer".into()).spawn(move || {
            loop {
                let watched = theirs.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if sender.send(look(&watched, clock)).is_err() {
                    return;
                }
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { watched, samples, _running: running, thread: Some(thread) })
    }

    /// The master has another process now.
    pub fn look_at(&self, pid: Option<u32>) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).pid = pid;
    }

    /// What it looks at.
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The looks since the last call.
    pub fn take(&self) -> impl Iterator<Item = Sample> {
        self.samples.try_iter()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // A look ends by the control socket's own timeout.
        self._running = channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks once.
#[must_use]
pub fn look(watched: &Watched, clock: SystemClock) -> Sample {
    let begun = clock.now().at;
    let mut status = watched.control.as_deref().and_then(|control| truth::status(control).ok());
    let warnings = status.as_mut().map(|status| std::mem::take(&mut status.warnings));
    let said = status.map(|status| {
        let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
        Said {
            uptime_ms: status.uptime_ms,
            inbox_records: status.inbox_records,
            inbox_bytes: status.inbox_bytes,
            connections: status.connections,
            loop_lag_p99_us: status.loop_lag_p99_us,
            loop_lag_max_us: counter("lag_max_us"),
            stalls: counter("stalls"),
            accepted: counter("accepted"),
            accept_pauses: counter("accept_pauses"),
            commits: counter("commits"),
            commit_busy_us: counter("commit_busy_us"),
            commit_p99_us: counter("commit_p99_us"),
            answered_us: u64::try_from(clock.now().at.since(begun).as_micros()).unwrap_or(u64::MAX),
        }
    });
    let process = watched.pid.and_then(Process::read);
    Sample {
        at_ns: clock.now().at.0,
        process,
        tcp: Tcp::read(),
        stolen: Stolen::read(),
        said,
        warnings: warnings.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_at_once_and_ends_when_dropped() {
        let clock = SystemClock::start();
        let watched = Watched { pid: Some(std::process::id()), control: None };
        let observer = Observer::start(watched, clock).unwrap();
        let sample = observer.samples.recv().unwrap();
        assert!(sample.process.is_some() && sample.said.is_none(), "{sample:?}");
        observer.look_at(None);
        drop(observer);
    }
}
