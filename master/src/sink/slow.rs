//! A slow result store, to rehearse one: what must not happen is that anything else waits.

use super::{Answer, Appended, HostUpdates, Query, Record, Sink, SinkError};
use engine::time::WallMs;
use std::time::Duration;

/// Another sink, whose every write takes this much longer.
#[derive(Debug)]
pub struct SlowSink<S> {
    inner: S,
    delay: Duration,
}

impl<S: Sink> SlowSink<S> {
    /// Slows a sink down.
    pub fn new(inner: S, delay: Duration) -> Self {
        Self { inner, delay }
    }
}

impl<S: Sink> Sink for SlowSink<S> {
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError> {
        std::thread::sleep(self.delay);
        self.inner.append(batch)
    }

    fn cursor(&self) -> Option<u64> {
        self.inner.cursor()
    }

    fn update_hosts(&mut self, updates: &HostUpdates) -> Result<(), SinkError> {
        std::thread::sleep(self.delay);
        self.inner.update_hosts(updates)
    }

    fn query(&mut self, query: &Query) -> Result<Answer, SinkError> {
        self.inner.query(query)
    }

    fn prune(&mut self, before: WallMs, reports_max: usize) -> Result<usize, SinkError> {
        self.inner.prune(before, reports_max)
    }
}
