//! What a reactor counts. Only its thread writes; any thread may read.

use crate::metrics::{Counter, Gauge, Histogram};
use crate::node::io::CloseReason;
use crate::time::Instant;
use crate::wire::Kind;
use std::array;
use std::time::Duration;

/// A turn that takes this long is one in which the loop stood still for its peers.
pub const STALL: Duration = Duration::from_millis(100);

/// The counters of one reactor.
#[derive(Debug)]
pub struct Metrics {
    /// Connections now, dials under way included.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Dials that succeeded.
    pub dialed: Counter,
    /// Dials that failed.
    pub dials_failed: Counter,
    /// Connections and dials that ended, by [`CloseReason::index`].
    pub closed: [Counter; CloseReason::LABELS.len()],
    /// Frames received, by kind.
    pub frames_in: Box<[Counter; 256]>,
    /// Frames sent, by kind.
    pub frames_out: Box<[Counter; 256]>,
    /// Bytes read.
    pub bytes_in: Counter,
    /// Bytes written, those of files included.
    pub bytes_out: Counter,
    /// Outputs for connections that had ended already.
    pub outputs_late: Counter,
    /// Times that accepting paused for want of descriptors, memory or connections.
    pub accept_pauses: Counter,
    /// When accepting paused last, in the nanoseconds of [`Instant`].
    accept_paused_at: Gauge,
    /// Whether all places were taken then: 1, or 0 where something else had run out.
    accept_paused_full: Gauge,
    /// Connections that were told to come back, since their source had its share.
    pub turned_away: Counter,
    /// Accepted connections that ended before they could be used.
    pub accept_errors: Counter,
    /// Frames on which the host panicked.
    pub handler_failures: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Turns that left something over for the next: a budget of theirs was used up.
    pub turns_full: Counter,
    /// Turns that took [`STALL`] or longer.
    pub stalls: Counter,
    /// Deadlines that closed a connection.
    pub deadlines_missed: Counter,
    /// Timers that fired, those that were only moved included.
    pub timers_expired: Counter,
    /// Mails taken from the mailbox.
    pub mails: Counter,
    /// How long a turn took from its poll's return on: the longest that an event that came
    /// during it had to wait.
    pub lag: Histogram,
}

fn per_kind() -> Box<[Counter; 256]> {
    Box::new(array::from_fn(|_| Counter::default()))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Gauge::default(),
            accepted: Counter::default(),
            dialed: Counter::default(),
            dials_failed: Counter::default(),
            closed: array::from_fn(|_| Counter::default()),
            frames_in: per_kind(),
            frames_out: per_kind(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            outputs_late: Counter::default(),
            accept_pauses: Counter::default(),
            accept_paused_at: Gauge::default(),
            accept_paused_full: Gauge::default(),
            turned_away: Counter::default(),
            accept_errors: Counter::default(),
            handler_failures: Counter::default(),
            turns: Counter::default(),
            turns_full: Counter::default(),
            stalls: Counter::default(),
            deadlines_missed: Counter::default(),
            timers_expired: Counter::default(),
            mails: Counter::default(),
            lag: Histogram::default(),
        }
    }
}

impl Metrics {
    /// A turn of the loop has ended, and took so long.
    pub(super) fn turned(&self, took: Duration, full: bool) {
        self.turns.bump();
        self.turns_full.add(u64::from(full));
        self.lag.record(took);
        self.stalls.add(u64::from(took >= STALL));
    }

    /// Accepting pauses, since all places are taken (`full`) or something else has run out.
    pub fn accepting_paused(&self, at: Instant, full: bool) {
        self.accept_pauses.bump();
        self.accept_paused_at.set(at.0);
        self.accept_paused_full.set(full.into());
    }

    /// When accepting paused last, and whether all places were taken then; `None` if it never did.
    #[must_use]
    pub fn accept_paused_last(&self) -> Option<(Instant, bool)> {
        (self.accept_pauses.value() > 0)
            .then(|| (Instant(self.accept_paused_at.value()), self.accept_paused_full.value() > 0))
    }

    /// Connections that ended for this reason.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()].value()
    }

    /// All values by name; of the kinds of frames only those that occurred. Durations are in
    /// microseconds.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, u64)> {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let mut all: Vec<(String, u64)> = [
            ("connections", self.connections.value()),
            ("accepted", self.accepted.value()),
            ("dialed", self.dialed.value()),
            ("dials_failed", self.dials_failed.value()),
            ("bytes_in", self.bytes_in.value()),
            ("bytes_out", self.bytes_out.value()),
            ("outputs_late", self.outputs_late.value()),
            ("accept_pauses", self.accept_pauses.value()),
            ("turned_away", self.turned_away.value()),
            ("accept_errors", self.accept_errors.value()),
            ("handler_failures", self.handler_failures.value()),
            ("turns", self.turns.value()),
            ("turns_full", self.turns_full.value()),
            ("stalls", self.stalls.value()),
            ("deadlines_missed", self.deadlines_missed.value()),
            ("timers_expired", self.timers_expired.value()),
            ("mails", self.mails.value()),
            ("lag_p50_us", us(self.lag.quantile(0.5))),
            ("lag_p99_us", us(self.lag.quantile(0.99))),
            ("lag_max_us", us(self.lag.max())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        // From the start: a program that watches one of them need not know what is not there yet.
        for (label, counter) in CloseReason::LABELS.iter().zip(&self.closed) {
            all.push((format!("closed_{label}"), counter.value()));
        }
        let mut occurred = |name: String, counter: &Counter| {
            if counter.value() > 0 {
                all.push((name, counter.value()));
            }
        };
        for (direction, counters) in [("in", &self.frames_in), ("out", &self.frames_out)] {
            for (byte, counter) in (0..=u8::MAX).zip(counters.iter()) {
                let kind = Kind(byte);
                match kind.name() {
                    Some(name) => occurred(format!("frames_{direction}_{name}"), counter),
                    None => occurred(format!("frames_{direction}_{byte:#04x}"), counter),
                }
            }
        }
        all
    }
}
