//! The bodies, one struct per (kind, schema). A struct that was released is never changed: a
//! new field is a new struct with the next schema.

use super::body::Body;
use super::kind::Kind;
use rkyv::{Archive, Deserialize, Serialize};

macro_rules! bodies {
    ($($body:ident = $kind:ident $schema:literal;)*) => {
        $(impl Body for $body {
            const KIND: Kind = Kind::$kind;
            const SCHEMA: u16 = $schema;
        })*
    };
}

bodies! {
    BindReq = BIND_REQ 1;
    BindResp = BIND_RESP 1;
    BindAck = BIND_ACK 1;
    Poll = POLL 1;
    Heartbeat = HEARTBEAT 1;
    Report = REPORT 1;
    Manifest = MANIFEST 1;
    FetchReq = FETCH_REQ 1;
    FetchRefused = FETCH_REFUSED 1;
    StatusReq = STATUS_REQ 1;
    StatusResp = STATUS_RESP 1;
    ControlReq = CONTROL_REQ 1;
    ControlResp = CONTROL_RESP 1;
}

/// A client asks to be bound.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BindReq {
    /// Echoed in the answer, so that an old answer is told from a new one.
    pub nonce: u64,
    /// The client's program version.
    pub version: String,
}

/// The master's answer, which finds its way through the relays that the client will use.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BindResp {
    /// From the request.
    pub nonce: u64,
    /// The master's program version.
    pub version: String,
}

/// The client has bound itself.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct BindAck {
    /// From the request.
    pub nonce: u64,
    /// The relay it is bound to; empty: the master itself.
    pub parent: String,
}

/// What a client says whenever it asks for its assignment.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Poll {
    /// The revision it holds (verified and stored), 0 for none.
    pub held: u64,
    /// The revision it last applied to the end, 0 for none.
    pub applied: u64,
    /// Its wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// Its program version.
    pub version: String,
    /// Its last error, or empty.
    pub last_error: String,
}

/// A run without change.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The revision that holds.
    pub revision: u64,
    /// Resources that were checked.
    pub checked: u32,
    /// Its wall clock, milliseconds since 1970.
    pub wall_ms: u64,
}

/// Why a run was made.
pub mod trigger {
    /// A new assignment was accepted.
    pub const ASSIGNMENT: u8 = 1;
    /// A watched file changed.
    pub const DRIFT: u8 = 2;
    /// The check interval had passed.
    pub const INTERVAL: u8 = 3;
    /// Somebody ran `apply --once`.
    pub const COMMAND: u8 = 4;
    /// The daemon started.
    pub const START: u8 = 5;
}

/// What became of one resource.
pub mod outcome {
    /// It was as wanted.
    pub const UNCHANGED: u8 = 0;
    /// It was changed, and is as wanted now.
    pub const CHANGED: u8 = 1;
    /// It could not be made as wanted.
    pub const FAILED: u8 = 2;
    /// It was left alone: what it requires failed, or it is not allowed here.
    pub const SKIPPED: u8 = 3;
    /// The daemon stopped before it was done.
    pub const INTERRUPTED: u8 = 4;

    /// The name of an outcome.
    #[must_use]
    pub fn name(outcome: u8) -> &'static str {
        match outcome {
            UNCHANGED => "unchanged",
            CHANGED => "changed",
            FAILED => "failed",
            SKIPPED => "skipped",
            INTERRUPTED => "interrupted",
            _ => "unknown",
        }
    }
}

/// How the note of a run begins that was cut short: the master tells such runs by it.
pub mod cut {
    /// The client stopped.
    pub const STOPPED: &str = "the client stopped: ";
    /// Something newer was assigned.
    pub const SUPERSEDED: &str = "a newer assignment came: ";

    /// Whether a note says so. Others may stand before it.
    #[must_use]
    pub fn is_in(note: &str) -> bool {
        [STOPPED, SUPERSEDED].iter().any(|cut| note.contains(cut))
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Report {
    /// The revision that was applied.
    pub revision: u64,
    /// One of [`trigger`].
    pub trigger: u8,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// From its beginning to its end, microseconds.
    pub duration_us: u64,
    /// Sum of its resources' durations, microseconds.
    pub busy_us: u64,
    /// Resources looked at.
    pub checked: u32,
    /// Resources that were not as wanted or could not be looked at; unchanged ones are only
    /// counted.
    pub results: Vec<ResourceResult>,
    /// Anything else, in words: what was folded away, why nothing was applied.
    pub note: String,
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ResourceResult {
    /// `KIND NAME`, as in the policy; bytes, since paths are.
    pub id: Vec<u8>,
    /// One of [`outcome`].
    pub outcome: u8,
    /// The state before, in words.
    pub before: String,
    /// The state after, in words.
    pub after: String,
    /// Why it failed or was skipped; empty otherwise.
    pub error: String,
    /// Time spent on it, microseconds.
    pub duration_us: u64,
    /// What a command printed, bounded.
    pub output: Vec<u8>,
}

/// The signed assignment of the host that it is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Manifest {
    /// An encoded `engine::release::SignedAssignment`.
    pub assignment: Vec<u8>,
}

/// Asks for a piece of a blob: from `offset` up to the next multiple of
/// [`crate::limits::CHUNK_SIZE_MAX`], or to its end. Answered by one chunk or a refusal, which
/// bears the request's seq.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FetchReq {
    /// Its name in the release; bytes, since paths are.
    pub name: Vec<u8>,
    /// Its BLAKE3 hash.
    pub hash: [u8; 32],
    /// Where to begin.
    pub offset: u64,
}

/// The one answer to every fetch that is not served.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct FetchRefused {
    /// From the request.
    pub hash: [u8; 32],
}

/// Asks a daemon how it is.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct StatusReq {
    /// Reserved; 0.
    pub detail: u8,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct StatusResp {
    /// Its host name.
    pub name: String,
    /// `master`, `client` or `loadgen`.
    pub role: String,
    /// Its program version.
    pub version: String,
    /// The revision that it holds (client) or has published (master).
    pub revision: u64,
    /// The parent it is bound to; empty if none.
    pub bound: String,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Counters and gauges by name.
    pub counters: Vec<(String, u64)>,
    /// What is wrong with it, in words; empty if nothing is known, or if who asks may not see it.
    pub last_error: String,
}

/// A command to the daemon of the same machine.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ControlReq {
    /// `status`, `hosts`, `push`, …
    pub verb: String,
    /// Its arguments, a JSON object.
    pub arguments: Vec<u8>,
}

/// A piece of the answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ControlResp {
    /// Whether this is the last piece.
    pub last: bool,
    /// Whether the command has gone well so far.
    pub ok: bool,
    /// The answer, JSON; with `ok` false an object with `error` and `hint`.
    pub body: Vec<u8>,
}
