//! Pushes that an operator asked for: who has still to be reached, and what became of each.

use crate::control::{PushFailure, PushPiece, PushProgress, PushResult};
use engine::ids::{ConnId, HostName, Revision};
use engine::node::DeliveryFailure;
use engine::time::Instant;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often its operator is told how far a push is.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// One push.
#[derive(Debug)]
pub struct Push {
    /// The operator's connection.
    pub conn: ConnId,
    revision: Revision,
    targets: u64,
    done: u64,
    remaining: BTreeSet<HostName>,
    failures: Vec<PushFailure>,
    told: Instant,
}

impl Push {
    /// A push to these hosts.
    #[must_use]
    pub fn new(
        conn: ConnId,
        revision: Revision,
        remaining: BTreeSet<HostName>,
        now: Instant,
    ) -> Self {
        let targets = remaining.len() as u64;
        Self { conn, revision, targets, done: 0, remaining, failures: Vec::new(), told: now }
    }

    /// Whether this host has still to be reached.
    #[must_use]
    pub fn awaits(&self, host: &HostName) -> bool {
        self.remaining.contains(host)
    }

    /// A delivery to a host has ended.
    pub fn delivered(&mut self, host: &HostName, result: &Result<(), DeliveryFailure>) {
        if !self.remaining.remove(host) {
            return;
        }
        match result {
            Ok(()) => self.done += 1,
            Err(why) => {
                self.failures.push(PushFailure { host: host.to_string(), reason: why.to_string() })
            }
        }
    }

    /// When to tell the operator again.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.told + PROGRESS_INTERVAL
    }

    /// What to tell the operator now, if anything; a result ends the push.
    pub fn poll_piece(&mut self, in_flight: usize, now: Instant) -> Option<PushPiece> {
        let failed = self.failures.len() as u64;
        if self.remaining.is_empty() {
            return Some(PushPiece::Result(PushResult {
                revision: self.revision.0,
                targets: self.targets,
                done: self.done,
                failed,
                failures: std::mem::take(&mut self.failures),
            }));
        }
        if now < self.next_timeout() {
            return None;
        }
        self.told = now;
        let (targets, done) = (self.targets, self.done);
        Some(PushPiece::Progress(PushProgress {
            targets,
            // Those of other pushes and of polls are dialled too.
            in_flight: (in_flight as u64).min(self.remaining.len() as u64),
            done,
            failed,
        }))
    }
}
