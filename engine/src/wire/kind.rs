//! The kinds of messages, their classes and their limits: one table.

use super::header::Lane;
use crate::limits::CHUNK_SIZE_MAX;
use std::fmt;

/// Which way a message may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Between two neighbours, about a delivery.
    Hop,
    /// Client to master.
    Uplink,
    /// Master to client.
    Downstream,
    /// Request and response between any two parties, on one connection.
    Direct,
}

impl Class {
    /// Longest body of a kind of this class that this build does not know, in bytes.
    #[must_use]
    pub fn body_size_max(self) -> u32 {
        match self {
            Class::Hop => 64,
            Class::Uplink | Class::Downstream => 1024 * 1024,
            Class::Direct => 8 * 1024 * 1024,
        }
    }
}

/// What a frame carries: bits 7 and 6 are its [`Class`], so that a relay forwards kinds it
/// does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

struct Row {
    kind: Kind,
    name: &'static str,
    schema: u16,
    body_size_max: u32,
    lane: Lane,
    newest_wins: bool,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $id:ident = $value:literal, $name:literal, schema $schema:literal, max $max:expr, $lane:ident $(, $newest:ident)?;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $id: Kind = Kind($value);)*
        }
        const TABLE: &[Row] = &[$(Row {
            kind: Kind::$id, name: $name, schema: $schema, body_size_max: $max, lane: Lane::$lane,
            newest_wins: kinds!(@newest $($newest)?),
        },)*];
    };
    (@newest newest_wins) => { true };
    (@newest) => { false };
}

const KIB: u32 = 1024;

kinds! {
    /// Everything of a lane up to a seq has arrived.
    ACK = 0x01, "Ack", schema 1, max 0, Urgent;
    /// A frame was refused.
    NACK = 0x02, "Nack", schema 1, max 16, Urgent;
    /// Keep this connection open: downstream messages take it.
    HOLD = 0x03, "Hold", schema 1, max 0, Urgent;
    /// A client asks to be bound to a parent.
    BIND_REQ = 0x41, "BindReq", schema 1, max 4 * KIB, Urgent, newest_wins;
    /// A client has taken the parent that `BindResp` came through.
    BIND_ACK = 0x42, "BindAck", schema 1, max 4 * KIB, Urgent, newest_wins;
    /// A client asks for its assignment and says what it has.
    POLL = 0x43, "Poll", schema 1, max 16 * KIB, Volatile, newest_wins;
    /// A run that changed nothing.
    HEARTBEAT = 0x44, "Heartbeat", schema 1, max 16 * KIB, Volatile, newest_wins;
    /// What a run did to each resource.
    REPORT = 0x45, "Report", schema 1, max 1024 * KIB, Durable;
    /// The answer to `BindReq`.
    BIND_RESP = 0x81, "BindResp", schema 1, max 4 * KIB, Urgent;
    /// The signed assignment of a host, as an answer to `Poll` or as a push.
    MANIFEST = 0x82, "Manifest", schema 1, max 64 * KIB, Volatile;
    /// Asks for a blob by name and hash.
    FETCH_REQ = 0xC1, "FetchReq", schema 1, max 8 * KIB, Volatile;
    /// A piece of a blob: u64 offset, then raw bytes.
    CHUNK = 0xC2, "Chunk", schema 1, max CHUNK_SIZE_MAX as u32 + 8, Volatile;
    /// There is no blob of that name and hash for you.
    FETCH_REFUSED = 0xC3, "FetchRefused", schema 1, max 8 * KIB, Volatile;
    /// Asks a daemon how it is.
    STATUS_REQ = 0xC4, "StatusReq", schema 1, max 4 * KIB, Volatile;
    /// How a daemon is.
    STATUS_RESP = 0xC5, "StatusResp", schema 1, max 64 * KIB, Volatile;
    /// An operator's command to the daemon of the same machine.
    CONTROL_REQ = 0xC6, "ControlReq", schema 1, max 1024 * KIB, Volatile;
    /// A piece of the answer to a command.
    CONTROL_RESP = 0xC7, "ControlResp", schema 1, max 8 * 1024 * KIB, Volatile;
}

impl Kind {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.kind == self)
    }

    /// All kinds that this build knows.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|row| row.kind)
    }

    /// Which way it may go.
    #[must_use]
    pub fn class(self) -> Class {
        match self.0 >> 6 {
            0 => Class::Hop,
            1 => Class::Uplink,
            2 => Class::Downstream,
            _ => Class::Direct,
        }
    }

    /// Its name; `None` for a kind that this build does not know.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.name)
    }

    /// The highest schema that this build knows; `None` for an unknown kind.
    #[must_use]
    pub fn schema(self) -> Option<u16> {
        self.row().map(|row| row.schema)
    }

    /// Longest body in bytes: the kind's own, or its class's for an unknown kind.
    #[must_use]
    pub fn body_size_max(self) -> u32 {
        self.row().map_or(self.class().body_size_max(), |row| row.body_size_max)
    }

    /// The lane on which it travels; unknown kinds say it in their header alone.
    #[must_use]
    pub fn lane(self) -> Option<Lane> {
        self.row().map(|row| row.lane)
    }

    /// Whether whoever receives it owes an answer on the same connection.
    #[must_use]
    pub fn is_request(self) -> bool {
        matches!(self, Self::FETCH_REQ | Self::STATUS_REQ | Self::CONTROL_REQ)
    }

    /// Whether a later message replaces an earlier one that is not in flight.
    #[must_use]
    pub fn newest_wins(self) -> bool {
        self.row().is_some_and(|row| row.newest_wins)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind {:#04x}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
