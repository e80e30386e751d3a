//! The connection that blobs come through: one, to the parent, while anything is wanted.

use super::backoff::Backoff;
use super::io::{CloseReason, Output, Verdict};
use crate::blob::fetch::Fetcher;
use crate::ids::{ConnId, DialId};
use crate::time::{Instant, Now};
use crate::wire::{Frame, Kind};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Dialing(DialId),
    Open(ConnId),
}

/// Fetches what is wanted over one connection, and comes back after a break.
#[derive(Debug)]
pub struct Fetching {
    /// What is wanted, and how far it has come.
    pub fetcher: Fetcher,
    from: Option<IpAddr>,
    stage: Stage,
    parked: bool,
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// How long the server may take for the next chunk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Fetching {
    /// Nothing wanted yet.
    #[must_use]
    pub fn new(fetcher: Fetcher, from: Option<IpAddr>) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        Self { fetcher, from, stage: Stage::Idle, parked: false, backoff, not_before: None }
    }

    /// The dial has succeeded, if it is this one's.
    pub fn handle_dialed(&mut self, dial: DialId, conn: ConnId) -> bool {
        let ours = self.stage == Stage::Dialing(dial);
        if ours {
            self.stage = Stage::Open(conn);
            self.fetcher.connected();
        }
        ours
    }

    /// The dial has failed, if it is this one's.
    pub fn handle_dial_failed(&mut self, dial: DialId, rng: &mut fastrand::Rng, now: Now) -> bool {
        let ours = self.stage == Stage::Dialing(dial);
        if ours {
            self.on_broken(rng, now);
        }
        ours
    }

    /// The connection has ended.
    pub fn handle_closed(&mut self, conn: ConnId, rng: &mut fastrand::Rng, now: Now) {
        if self.stage == Stage::Open(conn) {
            self.fetcher.disconnected();
            self.on_broken(rng, now);
        }
    }

    fn on_broken(&mut self, rng: &mut fastrand::Rng, now: Now) {
        self.stage = Stage::Idle;
        self.parked = false;
        self.not_before = Some(now.at + self.backoff.failed(rng));
    }

    /// A frame from the server.
    pub fn handle_frame(&mut self, frame: &Frame<'_>) -> Verdict {
        let verdict = match frame.header.kind {
            Kind::CHUNK => self.fetcher.handle_chunk(frame),
            Kind::FETCH_REFUSED => {
                self.fetcher.handle_refused(frame);
                Verdict::Taken
            }
            _ => Verdict::Taken,
        };
        match verdict {
            Verdict::Taken => self.backoff.succeeded(),
            Verdict::Park => self.parked = true,
        }
        verdict
    }

    /// Goes on with whatever can go on.
    pub fn advance<E>(
        &mut self,
        parent: Option<SocketAddr>,
        next_dial: &mut u64,
        now: Now,
        out: &mut VecDeque<Output<E>>,
    ) {
        if self.not_before.is_some_and(|at| at <= now.at) {
            self.not_before = None;
        }
        match (self.stage, parent) {
            (Stage::Idle, Some(addr)) if self.not_before.is_none() && self.fetcher.wants_connection() => {
                let dial = DialId(*next_dial);
                *next_dial += 1;
                self.stage = Stage::Dialing(dial);
                out.push_back(Output::Dial { dial, addr, from: self.from, timeout: None });
            }
            (Stage::Open(conn), _) => {
                let mut asked = false;
                while let Some(frame) = self.fetcher.poll_frame() {
                    out.push_back(Output::Send { conn, frame });
                    asked = true;
                }
                if asked {
                    let within = Some(ANSWER_TIMEOUT);
                    out.push_back(Output::Expect { conn, within, reason: CloseReason::AnswerTimeout });
                }
                if self.parked && self.fetcher.has_room() {
                    self.parked = false;
                    out.push_back(Output::Resume { conn });
                }
                if !self.fetcher.wants_connection() {
                    out.push_back(Output::Close { conn, reason: CloseReason::Done });
                    self.stage = Stage::Idle;
                    self.fetcher.disconnected();
                }
            }
            _ => {}
        }
    }

    /// When to call [`Fetching::advance`] although nothing happened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.fetcher.wants_connection())
    }
}
