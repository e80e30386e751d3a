//! Senders of reports that keep to the protocol, whatever else goes on around them: nothing that
//! they were told is acked may be lost, and all that they have arrives once faults are over.

use crate::disk::Disk;
use crate::world::Heard;
use engine::ids::{ConnId, Epoch, HostName, Origin};
use engine::wire::message::Heartbeat;
use engine::wire::{FrameBuf, encode};
use engine::wire::{Header, Kind, Lane, RouteBuf};
use std::collections::VecDeque;

/// The epoch of the first: far from those of other frames, so that nobody speaks in their name.
const EPOCH: u64 = 0xfeed_0000;
/// Whether an epoch is one of theirs.
#[must_use]
pub fn is_own(epoch: Epoch) -> bool {
    (EPOCH..EPOCH + 256).contains(&epoch.0)
}

/// Records that one has waiting, at most.
const UNACKED_MAX: usize = 24;

/// A host that has reports, and delivers them over one connection at a time.
#[derive(Debug)]
pub struct Sender {
    /// Its name.
    pub name: HostName,
    epoch: Epoch,
    last_seq: u64,
    unacked: VecDeque<u64>,
    /// Its delivery.
    pub conn: Option<ConnId>,
    /// How many of `unacked` were sent on it.
    sent: usize,
    /// A frame of it was refused: it waits for the end of the connection.
    pub refused: bool,
}

impl Sender {
    /// The nth.
    ///
    /// # Panics
    /// The name is none.
    #[must_use]
    pub fn new(name: &str, n: u64) -> Self {
        Self {
            name: name.parse().expect("a host name"),
            epoch: Epoch(EPOCH + n),
            last_seq: 0,
            unacked: VecDeque::new(),
            conn: None,
            sent: 0,
            refused: false,
        }
    }

    /// It has something more to say; numbers may be left out.
    pub fn push(&mut self, gap: u64) {
        if self.unacked.len() < UNACKED_MAX {
            self.last_seq += 1 + gap;
            self.unacked.push_back(self.last_seq);
        }
    }

    /// Whether everything was acked.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.unacked.is_empty()
    }

    /// It has this connection for its next delivery, which begins at the oldest.
    pub fn begin(&mut self, conn: ConnId) {
        (self.conn, self.sent, self.refused) = (Some(conn), 0, false);
    }

    /// The next frame of its delivery.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        if self.refused {
            return None;
        }
        let seq = *self.unacked.get(self.sent)?;
        self.sent += 1;
        let mut header = Header::new(Kind::REPORT);
        (header.lane, header.epoch, header.seq) = (Lane::Durable, self.epoch, seq);
        let origin = Origin { name: self.name.clone(), epoch: self.epoch, seq };
        // Nobody between here and the result store looks into a report.
        let body = encode(&Heartbeat { revision: seq, checked: 0, wall_ms: self.epoch.0 });
        Some(FrameBuf::seal_whole(header, Some(&RouteBuf::from(origin)), &body))
    }

    /// What a peer has heard, if it is this one.
    ///
    /// # Panics
    /// It was told that something is acked which is not on the disk, or which it never sent.
    pub fn handle(&mut self, heard: &Heard, disk: &Disk) {
        match heard {
            Heard::Ended(conn) if self.conn == Some(*conn) => self.conn = None,
            Heard::Frame(conn, header, _)
                if self.conn == Some(*conn)
                    && (header.lane, header.epoch) == (Lane::Durable, self.epoch) =>
            {
                match header.kind {
                    Kind::ACK => self.handle_ack(header.seq, disk),
                    Kind::NACK => self.refused = true,
                    other => panic!("a {other} in answer to a report"),
                }
            }
            _ => {}
        }
    }

    fn handle_ack(&mut self, upto: u64, disk: &Disk) {
        assert!(upto <= self.last_seq, "{upto} is acked, and {} is the last", self.last_seq);
        while let Some(seq) = self.unacked.front().copied().filter(|seq| *seq <= upto) {
            assert!(self.sent > 0, "{seq} of {} is acked before it was sent", self.name);
            let name = self.name.as_str().as_bytes();
            let stored = disk.has(name, self.epoch, seq);
            assert!(stored, "{seq} of {} is acked, and was never committed", self.name);
            self.unacked.pop_front();
            self.sent -= 1;
        }
    }
}
