//! The receiver's side of a delivery, for the lanes that are not durable: their frames are
//! acked as received, with one cumulative ack a lane and turn. Durable frames are acked by the
//! inbox once they are committed.

use crate::ids::{ConnId, Epoch, Listener, PeerAddr};
use crate::wire::{FLAG_BEHIND, FrameBuf, Header, Kind, Lane, Nack, NackReason};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// A connection that a peer opened: 16 bytes, since a master has tens of thousands of them.
#[derive(Debug)]
pub struct Inbound(Opened);

/// By whom, and through which listener, without the room that the rarer ones take.
#[derive(Debug)]
enum Opened {
    /// A peer's, with an IPv4 address.
    V4(SocketAddrV4),
    Other(Box<(PeerAddr, Listener)>),
}

impl Inbound {
    /// A connection on which nothing has arrived yet.
    #[must_use]
    pub fn new(peer: PeerAddr, listener: Listener) -> Self {
        Self(match (peer, listener) {
            (PeerAddr::Tcp(SocketAddr::V4(addr)), Listener::Peers) => Opened::V4(addr),
            other => Opened::Other(Box::new(other)),
        })
    }

    /// Who opened it.
    #[must_use]
    pub fn peer(&self) -> PeerAddr {
        match &self.0 {
            Opened::V4(addr) => PeerAddr::Tcp(SocketAddr::V4(*addr)),
            Opened::Other(other) => other.0.clone(),
        }
    }

    /// Through which listener it came.
    #[must_use]
    pub fn listener(&self) -> Listener {
        match &self.0 {
            Opened::V4(_) => Listener::Peers,
            Opened::Other(other) => other.1,
        }
    }
}

/// What a connection is owed for what came on it, until it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct AcksDue {
    conn: ConnId,
    due: [Option<(Epoch, u64)>; 2],
    behind: bool,
}

impl AcksDue {
    /// Nothing yet.
    #[must_use]
    pub fn new(conn: ConnId) -> Self {
        Self { conn, due: [None; 2], behind: false }
    }

    /// Whose.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// A frame of a lane that is not durable was taken; `behind` asks the ack to say that
    /// there is something for the sender that could not be brought to it.
    pub fn note(&mut self, header: &Header, behind: bool) {
        self.behind |= behind;
        if let Some(due) = self.due.get_mut(header.lane as usize) {
            // A lane's seq ascends; a damaged sender must not make an ack go backwards.
            let seq = due.map_or(header.seq, |(_, seq)| seq.max(header.seq));
            *due = Some((header.epoch, seq));
        }
    }

    /// The acks, one a lane.
    pub fn frames(self) -> impl Iterator<Item = FrameBuf> {
        let behind = self.behind;
        [Lane::Urgent, Lane::Volatile]
            .into_iter()
            .zip(self.due)
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

/// The refusal of a connection, whatever its peer is about to say on it: it may come back after
/// `retry_after`. [`Nack::turns_away`] knows it.
#[must_use]
pub fn turned_away(retry_after: Duration) -> FrameBuf {
    nack(&Header::new(Kind::POLL), NackReason::Busy, retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_connection_takes_16_bytes_and_tells_who_opened_it() {
        assert_eq!(size_of::<Inbound>(), 16);
        let peers = [
            (PeerAddr::Tcp((Ipv4Addr::LOCALHOST, 7400).into()), Listener::Peers),
            (PeerAddr::Tcp((Ipv6Addr::LOCALHOST, 7400).into()), Listener::Peers),
            (PeerAddr::Unix { uid: 7 }, Listener::Control),
        ];
        for (peer, listener) in peers {
            let inbound = Inbound::new(peer.clone(), listener);
            assert_eq!((inbound.peer(), inbound.listener()), (peer, listener));
        }
    }
}
