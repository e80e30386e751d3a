//! Bodies: rkyv archives, one struct per (kind, schema), read in place and validated once,
//! where they are consumed; and the two that are no archive.

use super::error::WireError;
use super::frame::Frame;
use super::header::Header;
use super::kind::Kind;
use crate::ids::Epoch;
use rkyv::Archive;
use rkyv::api::high::{HighSerializer, HighValidator, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use std::cell::Cell;
use std::time::Duration;

/// A message's body: the struct of one kind and schema.
pub trait Body:
    Archive + for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>
{
    /// Its kind.
    const KIND: Kind;
    /// Its schema.
    const SCHEMA: u16;
}

thread_local! {
    /// Where bodies are written: it has grown to the size of the usual ones after the first few.
    static SCRATCH: Cell<AlignedVec> = Cell::default();
}
/// A body that was larger than this leaves no memory behind.
const SCRATCH_KEPT: usize = 64 * 1024;

/// Writes a body.
///
/// # Panics
/// Never: an archive in memory fails only for lengths over 2 GiB, which no caller builds.
#[must_use]
pub fn encode<T>(value: &T) -> Vec<u8>
where
    T: for<'a> rkyv::Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, rancor::Error>>,
{
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let scratch = to_bytes_in::<_, rancor::Error>(value, scratch);
    let scratch = scratch.expect("bodies are far below 2 GiB");
    let bytes = scratch.to_vec();
    if scratch.capacity() <= SCRATCH_KEPT {
        SCRATCH.set(scratch);
    }
    bytes
}

/// Reads a frame's body in place: kind, schema, checksum and every offset in it are checked.
///
/// # Errors
/// The typed reason why this frame is not a `B`.
pub fn access<'a, B>(frame: &Frame<'a>) -> Result<&'a B::Archived, WireError>
where
    B: Body,
    B::Archived: for<'b> CheckBytes<HighValidator<'b, rancor::Failure>>,
{
    let header = &frame.header;
    let kind = header.kind;
    if kind != B::KIND {
        return Err(if kind.name().is_none() {
            WireError::UnknownKind { kind }
        } else {
            WireError::UnexpectedKind { expected: B::KIND, found: kind }
        });
    }
    if header.schema != B::SCHEMA {
        return Err(WireError::UnknownSchema { kind, found: header.schema, highest: B::SCHEMA });
    }
    header.check_body(frame.body())?;
    rkyv::access::<B::Archived, rancor::Failure>(frame.body())
        .map_err(|_| WireError::Body { kind, schema: header.schema })
}

/// Why a receiver refused a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum NackReason {
    /// Its durable inbox is full, or so many connections come from one address: wait, then offer
    /// the same again.
    Busy = 1,
    /// It could not store the frame: offer the same again.
    Store = 2,
    /// It does not know the kind or the schema: settle the record, never offer it again as it is.
    Unsupported = 3,
    /// The body is damaged or not of its kind: settle the record.
    Damaged = 4,
    /// The kind goes the other way, or the message is for another: settle the record.
    Refused = 5,
    /// It is shutting down: offer the same again later, or elsewhere.
    Stopping = 6,
    /// The sender is not in the inventory: keep what you have, and offer it again later.
    Unknown = 7,
    /// No key that is trusted here has signed the assignment.
    Untrusted = 8,
    /// The assignment's time is over by the receiver's clock.
    Expired = 9,
    /// The receiver holds a later revision than the assignment's.
    Older = 10,
}

impl NackReason {
    /// Every reason, in the order of [`NackReason::index`].
    pub const ALL: [NackReason; 10] = [
        Self::Busy,
        Self::Store,
        Self::Unsupported,
        Self::Damaged,
        Self::Refused,
        Self::Stopping,
        Self::Unknown,
        Self::Untrusted,
        Self::Expired,
        Self::Older,
    ];

    /// Its place in [`NackReason::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// What happened, in words for an operator.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Busy => {
                "it is busy: its inbox is full, or too many connections come from one address"
            }
            Self::Store => "it could not store the message",
            Self::Unsupported => "it does not know this kind of message: it runs another version",
            Self::Damaged => "the message arrived damaged",
            Self::Refused => "the message is not for it: is its `name` the one in the inventory?",
            Self::Stopping => "it is shutting down",
            Self::Unknown => "it does not know the sender",
            Self::Untrusted => {
                "it trusts no key that has signed the assignment: compare its trusted_keys with the master's signing.pub"
            }
            Self::Expired => {
                "the assignment has expired by its clock: check that clock, or run `drover publish --force`"
            }
            Self::Older => {
                "it holds a later revision than is published: `drover publish --revision-min N` goes above it"
            }
        }
    }
}

/// The body of a `Nack`: 16 bytes. u16 reason, u16 highest known schema, u32 milliseconds to
/// wait, u64 reserved (0). The frame's own header echoes lane, epoch and seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// Why.
    pub reason: NackReason,
    /// With `Unsupported`: the highest schema of that kind known here; 0 for none.
    pub highest: u16,
    /// When to come back; zero leaves it to the sender.
    pub retry_after: Duration,
}

impl Nack {
    /// The 16 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0..2].copy_from_slice(&(self.reason as u16).to_le_bytes());
        bytes[2..4].copy_from_slice(&self.highest.to_le_bytes());
        let ms = u32::try_from(self.retry_after.as_millis()).unwrap_or(u32::MAX);
        bytes[4..8].copy_from_slice(&ms.to_le_bytes());
        bytes
    }

    /// Whether the message that it refuses will never be taken, and need not be sent again.
    /// `Refused` with a time to wait is about the sender, and without one about the message.
    #[must_use]
    pub fn settles(&self) -> bool {
        match self.reason {
            NackReason::Unsupported
            | NackReason::Damaged
            | NackReason::Untrusted
            | NackReason::Expired
            | NackReason::Older => true,
            NackReason::Refused => self.retry_after.is_zero(),
            NackReason::Busy | NackReason::Store | NackReason::Stopping | NackReason::Unknown => {
                false
            }
        }
    }

    /// Whether it refuses a connection and no message of it: it names none.
    #[must_use]
    pub fn turns_away(&self, header: &Header) -> bool {
        self.reason == NackReason::Busy && header.epoch == Epoch(0) && header.seq == 0
    }

    /// Reads the body of a `Nack`.
    ///
    /// # Errors
    /// Another length, a damaged body, or a reason that does not exist.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, WireError> {
        frame.header.check_body(frame.body())?;
        let bad = WireError::Body { kind: Kind::NACK, schema: frame.header.schema };
        let b: &[u8; 16] = frame.body().try_into().map_err(|_| bad)?;
        let reason = match u16::from_le_bytes([b[0], b[1]]) {
            1 => NackReason::Busy,
            2 => NackReason::Store,
            3 => NackReason::Unsupported,
            4 => NackReason::Damaged,
            5 => NackReason::Refused,
            6 => NackReason::Stopping,
            7 => NackReason::Unknown,
            8 => NackReason::Untrusted,
            9 => NackReason::Expired,
            10 => NackReason::Older,
            _ => return Err(bad),
        };
        Ok(Self {
            reason,
            highest: u16::from_le_bytes([b[2], b[3]]),
            retry_after: Duration::from_millis(u64::from(u32::from_le_bytes([
                b[4], b[5], b[6], b[7],
            ]))),
        })
    }
}
