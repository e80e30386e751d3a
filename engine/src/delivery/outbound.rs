//! The sender's side of one delivery: dial, send, await the acks, close.

use crate::ids::{ConnId, DialId};
use crate::time::Instant;
use std::time::Duration;

/// Frames after which a delivery ends, so that a queue that never empties does not hold its
/// connection for ever.
pub const FRAMES_MAX: u32 = 10_000;
/// Time after which a delivery ends, for the same reason.
pub const DURATION_MAX: Duration = Duration::from_secs(60);
/// How long a peer may take to ack; every ack begins it anew.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the connection.
    Dialing(DialId),
    /// Frames go out, acks come in.
    Sending(ConnId),
    /// No more frames go out: the cap is reached, or the peer refused one.
    Draining(ConnId),
}

/// One draining of an outbox over one connection.
#[derive(Debug, Clone, Copy)]
pub struct Outbound {
    stage: Stage,
    frames: u32,
    began: Instant,
}

impl Outbound {
    /// A delivery whose dial has been asked for.
    #[must_use]
    pub fn dialing(dial: DialId, now: Instant) -> Self {
        Self { stage: Stage::Dialing(dial), frames: 0, began: now }
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Its connection, once it has one.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Dialing(_) => None,
            Stage::Sending(conn) | Stage::Draining(conn) => Some(conn),
        }
    }

    /// The connection stands.
    pub fn dialed(&mut self, conn: ConnId, now: Instant) {
        self.stage = Stage::Sending(conn);
        self.began = now;
    }

    /// Whether another frame may go out.
    pub fn may_send(&mut self, now: Instant) -> bool {
        if self.frames >= FRAMES_MAX || now.since(self.began) >= DURATION_MAX {
            self.drain();
        }
        matches!(self.stage, Stage::Sending(_))
    }

    /// A frame has gone out.
    pub fn sent(&mut self) {
        self.frames += 1;
    }

    /// Send no more; what is under way may still be acked.
    pub fn drain(&mut self) {
        if let Stage::Sending(conn) = self.stage {
            self.stage = Stage::Draining(conn);
        }
    }
}
