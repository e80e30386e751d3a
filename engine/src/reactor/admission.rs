//! Who gets in, and who gives way, so that no crowd takes what others need: of the connections
//! each source has a share, of those places one that says nothing keeps none that is wanted, and
//! frames that do not become whole have a bound together.

use super::Reactor;
use super::conn::{Conn, Flags, Phase};
use super::output::LINGER;
use super::poller::Poller;
use crate::appointments::Appointments;
use crate::clock::Clock;
use crate::delivery;
use crate::ids::ConnId;
use crate::limits::Limits;
use crate::logging;
use crate::node::io::{CloseReason, Host, Services};
use crate::time::{Instant, Now};
use std::net::IpAddr;
use std::time::Duration;

/// A connection on which nothing whole has come keeps its place for this long at least.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Of the connections one in so many gives way at once, so that they are not all looked at for
/// each that comes.
const GIVE_WAY: usize = 64;
/// One that was turned away is called back per this.
const RETURN_SPACING: Duration = Duration::from_millis(1);
/// Between two log lines about peers that were turned away, which does not end by itself.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Counts of sources: so many that two seldom share one.
const CELLS: usize = 1 << 16;

/// How many connections each source has, in a table of fixed size: 128 KiB, whatever comes.
#[derive(Debug)]
pub(super) struct Sources {
    counts: Box<[u16]>,
    share: usize,
    seed: u64,
}

impl Sources {
    /// A table, if sources have a share at all.
    pub(super) fn new(limits: &Limits) -> Option<Self> {
        let share = limits.connections_per_source;
        (share < limits.connections_max.min(usize::from(u16::MAX))).then(|| Self {
            counts: vec![0; CELLS].into(),
            share,
            seed: limits.source_seed,
        })
    }

    /// Where a source is counted: an IPv4 address, or the /64 that an IPv6 address is of, since
    /// whoever has one address there has all.
    fn cell(&self, source: IpAddr) -> u16 {
        let key = match source.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): 2^64 / φ.
        let mixed = (key ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 48) as u16
    }

    /// Counts one more, if the source has not got its share yet; where it was counted.
    pub(super) fn enter(&mut self, source: IpAddr) -> Option<u16> {
        let cell = self.cell(source);
        let count = &mut self.counts[usize::from(cell)];
        if usize::from(*count) >= self.share {
            return None;
        }
        *count += 1;
        Some(cell)
    }

    fn leave(&mut self, cell: u16) {
        let count = &mut self.counts[usize::from(cell)];
        *count = count.saturating_sub(1);
    }
}

/// What a reactor knows of those that it lets in.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) sources: Option<Sources>,
    appointments: Appointments,
    /// Bytes that have come of frames that are not whole yet.
    unfinished_bytes: usize,
    logged: Option<Instant>,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            sources: Sources::new(limits),
            appointments: Appointments::new(limits.source_seed),
            unfinished_bytes: 0,
            logged: None,
        }
    }

    /// A connection that is about to end takes nothing any more.
    pub(super) fn left<S>(&mut self, conn: &Conn<S>) {
        self.unfinished_bytes -= conn.unfinished_bytes();
        if let Some(sources) = &mut self.sources
            && conn.flags.has(Flags::COUNTED)
        {
            sources.leave(conn.source);
        }
    }

    /// So much had come of a connection's incomplete frame, and so much has now.
    pub(super) fn note_unfinished(&mut self, before: usize, after: usize) {
        self.unfinished_bytes = self.unfinished_bytes - before + after;
    }
}

impl<S> Conn<S> {
    /// Bytes that have come of a frame that is not whole yet.
    pub(super) fn unfinished_bytes(&self) -> usize {
        let unfinished = self.phase == Phase::Open && self.reason == CloseReason::FrameTimeout;
        if unfinished { self.decoder.buffered() } else { 0 }
    }

    /// When its incomplete frame began.
    fn frame_began(&self, limits: &Limits) -> Instant {
        let sized = self.decoder.awaited().filter(|_| self.flags.has(Flags::SIZED));
        let allowed = limits.frame_timeout + sized.map_or(Duration::ZERO, |s| limits.time_for(s));
        self.deadline - allowed
    }

    /// Since when it has only taken a place: nothing whole has come on it yet, and nothing that
    /// is not looked at yet. One that was turned away has had its answer.
    fn silent_since(&self, limits: &Limits) -> Option<Instant> {
        if self.phase == Phase::Lingering && self.flags.has(Flags::UNTOLD) {
            return Some(Instant::default());
        }
        if self.phase != Phase::Open
            || self.flags.has(Flags::ADMITTED)
            || self.flags.has(Flags::QUEUED)
        {
            return None;
        }
        match self.reason {
            CloseReason::IdleTimeout => Some(self.deadline - limits.idle_timeout),
            CloseReason::FrameTimeout => Some(self.frame_began(limits)),
            _ => None,
        }
    }
}

impl<P: Poller, H: Host, S: Services<H::Effect>, C: Clock> Reactor<P, H, S, C> {
    /// Who gives way when all places are taken and somebody comes: those that have been silent
    /// longest, a few at once.
    pub(super) fn silent(&self, now: Now) -> Vec<(Instant, ConnId)> {
        let mut silent: Vec<(Instant, ConnId)> = self
            .conns
            .iter()
            .filter_map(|(id, conn)| Some((conn.silent_since(&self.limits)?, id)))
            .filter(|(since, _)| now.at.since(*since) >= SILENCE_MIN)
            .collect();
        silent.sort_unstable();
        silent.truncate((self.limits.connections_max / GIVE_WAY).max(1));
        silent
    }

    /// Sees to it that incomplete frames take no more than they may: those that began first give
    /// way, until there is room for a while.
    pub(super) fn bound_unfinished(&mut self, now: Now) {
        let most = self.limits.unfinished_bytes_max;
        if self.admission.unfinished_bytes <= most {
            return;
        }
        let mut unfinished: Vec<(Instant, ConnId)> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.unfinished_bytes() > 0)
            .map(|(id, conn)| (conn.frame_began(&self.limits), id))
            .collect();
        unfinished.sort_unstable();
        for (_, id) in unfinished {
            if self.admission.unfinished_bytes <= most - most / 4 {
                return;
            }
            self.finish(id, CloseReason::Crowded, now);
        }
    }

    /// Tells a peer whose source has its share when to come back, and nobody else of it.
    pub(super) fn turn_away(&mut self, stream: P::Stream, source: IpAddr, now: Now) {
        self.metrics.turned_away.bump();
        if logging::is_due(&mut self.admission.logged, LOG_INTERVAL, now.at) {
            log::warn!(
                "{source} has as many connections as one address may have, {}; more are told when to come back",
                self.limits.connections_per_source
            );
        }
        let wait = self.admission.appointments.next(now.at, RETURN_SPACING, now.at);
        let mut conn = Conn::new(stream, Phase::Open, now.at + LINGER, CloseReason::Crowded);
        conn.flags.set(Flags::UNTOLD);
        let id = self.conns.insert(conn);
        self.metrics.connections.set(self.conns.len() as u64);
        self.send(id, delivery::turned_away(wait), None);
        self.close(id, CloseReason::Crowded, now);
        // Now, so that its place is free again for whoever comes next.
        self.write(id, now);
    }
}
