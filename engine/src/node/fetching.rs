//! The connection that blobs come through: one, to the parent, while anything is wanted.

use super::io::{CloseReason, Output, Request};
use super::outputs::Outputs;
use super::uplink::source_for;
use crate::blob::{FetchEvent, Fetcher};
use crate::ids::{ConnId, DialId};
use crate::time::{Instant, Now};
use crate::wire::{Frame, Kind, Nack, WireError};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The fetcher wants a connection, and there is no parent yet.
    Wanted,
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
}

/// How long the server may take for the next chunk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Fetching {
    /// Nothing wanted yet; `from` is the address to dial from, if it matters.
    #[must_use]
    pub fn new(fetcher: Fetcher, from: Option<IpAddr>) -> Self {
        Self { fetcher, from, stage: Stage::Idle }
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
    pub fn handle_dial_failed(&mut self, dial: DialId, now: Now) -> bool {
        let ours = self.stage == Stage::Dialing(dial);
        if ours {
            self.stage = Stage::Idle;
            self.fetcher.disconnected(now);
        }
        ours
    }

    /// The connection has ended.
    pub fn handle_closed(&mut self, conn: ConnId, now: Now) {
        if self.stage == Stage::Open(conn) {
            self.stage = Stage::Idle;
            self.fetcher.disconnected(now);
        }
    }

    /// A frame from the server: an answer, or when to come back.
    ///
    /// # Errors
    /// It answers nothing that was asked for: close the connection.
    pub fn handle_frame(&mut self, frame: &Frame<'_>, now: Now) -> Result<(), WireError> {
        if frame.header.kind == Kind::NACK {
            let nack = Nack::decode(frame)?;
            if nack.turns_away(&frame.header) {
                self.fetcher.turned_away(nack.retry_after, now);
                return Ok(());
            }
        }
        self.fetcher.handle_frame(frame)
    }

    /// Goes on with whatever can go on; returns what has become of blobs.
    pub fn advance<E>(
        &mut self,
        parent: Option<SocketAddr>,
        next_dial: &mut u64,
        now: Now,
        out: &mut Outputs<E>,
    ) -> Vec<FetchEvent> {
        if self.fetcher.next_timeout().is_some_and(|at| at <= now.at) {
            self.fetcher.handle_timeout(now);
        }
        let mut told = Vec::new();
        while let Some(event) = self.fetcher.poll_event() {
            match (event, self.stage) {
                (FetchEvent::Connect, _) => self.stage = Stage::Wanted,
                (FetchEvent::Hangup, Stage::Open(conn)) => {
                    out.push(Output::Close { conn, reason: CloseReason::Done });
                }
                (FetchEvent::Hangup, _) => {}
                (event, _) => told.push(event),
            }
        }
        if let (Stage::Wanted, Some(addr)) = (self.stage, parent) {
            let dial = DialId(*next_dial);
            *next_dial += 1;
            self.stage = Stage::Dialing(dial);
            let from = source_for(addr, self.from);
            out.push(Output::Dial { dial, addr, from, timeout: None });
        }
        if let Stage::Open(conn) = self.stage {
            let mut asked = false;
            while let Some(frame) = self.fetcher.poll_frame() {
                out.push(Output::Send { conn, frame });
                asked = true;
            }
            if asked {
                let within = Some(ANSWER_TIMEOUT);
                out.push(Output::Expect { conn, within, reason: CloseReason::AnswerTimeout });
            }
        }
        while let Some(command) = self.fetcher.poll_command() {
            out.push(Output::Request(Request::Blob(command)));
        }
        told
    }

    /// When to call [`Fetching::advance`] although nothing happened.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.fetcher.next_timeout()
    }
}
