//! The receiver's side of a delivery, for the lanes that are not durable: their frames are
//! acked as received, with one cumulative ack a lane and turn. Durable frames are acked by the
//! inbox once they are committed.

use crate::ids::{Epoch, Listener, PeerAddr};
use crate::wire::{FLAG_BEHIND, FrameBuf, Header, Kind, Lane, Nack, NackReason};
use std::time::Duration;

/// A connection that a peer opened.
#[derive(Debug)]
pub struct Inbound {
    /// Who opened it.
    pub peer: PeerAddr,
    /// Through which listener.
    pub listener: Listener,
    due: [Option<(Epoch, u64)>; 2],
    behind: bool,
}

impl Inbound {
    /// A connection on which nothing has arrived yet.
    #[must_use]
    pub fn new(peer: PeerAddr, listener: Listener) -> Self {
        Self { peer, listener, due: [None; 2], behind: false }
    }

    /// A frame of a lane that is not durable was taken; `behind` asks the ack to say that
    /// there is something for the sender that could not be brought to it. Returns whether this
    /// is the first ack due, so that the caller lists the connection once.
    pub fn received(&mut self, header: &Header, behind: bool) -> bool {
        let first = self.due == [None; 2];
        self.behind |= behind;
        if let Some(due) = self.due.get_mut(header.lane as usize) {
            // A lane's seq ascends; a damaged sender must not make an ack go backwards.
            let seq = due.map_or(header.seq, |(_, seq)| seq.max(header.seq));
            *due = Some((header.epoch, seq));
        }
        first
    }

    /// The acks due, which are not due afterwards.
    pub fn take_acks(&mut self) -> impl Iterator<Item = FrameBuf> + use<> {
        let behind = std::mem::take(&mut self.behind);
        let due = std::mem::take(&mut self.due);
        [Lane::Urgent, Lane::Volatile]
            .into_iter()
            .zip(due)
            .filter_map(move |(lane, due)| due.map(|(epoch, seq)| ack(lane, epoch, seq, behind)))
    }
}

/// A cumulative ack of a lane.
#[must_use]
pub fn ack(lane: Lane, epoch: Epoch, seq: u64, behind: bool) -> FrameBuf {
    FrameBuf::bare(Kind::ACK, |h| {
        h.lane = lane;
        h.epoch = epoch;
        h.seq = seq;
        h.flags = if behind { FLAG_BEHIND } else { 0 };
    })
}

/// The refusal of the frame with this header.
#[must_use]
pub fn nack(refused: &Header, reason: NackReason, retry_after: Duration) -> FrameBuf {
    let highest = refused.kind.schema().unwrap_or(0);
    let body = Nack { reason, highest, retry_after }.encode();
    let mut header = Header::new(Kind::NACK);
    header.lane = refused.lane;
    header.epoch = refused.epoch;
    header.seq = refused.seq;
    FrameBuf::seal(header, None, bytes::Bytes::copy_from_slice(&body))
}
