//! The fixed header: 44 bytes, little-endian, parsed by hand.

use super::error::WireError;
use super::kind::Kind;
use crate::ids::Epoch;
use crate::limits::{HEADER_SIZE, HOPS_MAX, ROUTE_SIZE_MAX};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"DRV1";
/// Version of the frame format.
pub const VERSION: u8 = 1;
/// Flag: the body has no checksum (blob chunks, which their hash protects).
pub const FLAG_NO_CRC: u8 = 1 << 2;
/// Flag on an ack of an uplink message: the master has something for this host that it could
/// not dial.
pub const FLAG_BEHIND: u8 = 1 << 3;
const LANE_BITS: u8 = 0b11;

/// Which of a sender's three queues a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Binding: goes before everything else.
    Urgent = 0,
    /// In memory and bounded: may be dropped, and is counted then.
    Volatile = 1,
    /// On disk until it is acked.
    Durable = 2,
}

impl Lane {
    /// The three lanes, in the order in which they are sent.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Volatile, Lane::Durable];
}

/// A frame's fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// [`FLAG_NO_CRC`], [`FLAG_BEHIND`]; the lane's bits are kept apart.
    pub flags: u8,
    /// The hop sender's queue.
    pub lane: Lane,
    /// Relays passed.
    pub hops: u8,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the route block.
    pub route_len: u16,
    /// Version of this kind's body.
    pub schema: u16,
    /// Incarnation of the hop sender's lane.
    pub epoch: Epoch,
    /// The hop sender's number, ascending in its lane.
    pub seq: u64,
    /// Seconds that remain; 0 means for ever.
    pub ttl_s: u32,
    /// CRC-32 (IEEE) of the body; 0 with [`FLAG_NO_CRC`].
    pub body_crc: u32,
    /// CRC-32 (IEEE) of the first 40 bytes and the route block.
    pub header_crc: u32,
}

fn u16_at(bytes: &[u8; HEADER_SIZE], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; HEADER_SIZE], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_SIZE], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Header {
    /// A header for a body of this kind; lengths and checksums are set by [`Header::seal`].
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            flags: 0,
            lane: kind.lane().unwrap_or(Lane::Volatile),
            hops: 0,
            body_len: 0,
            route_len: 0,
            schema: kind.schema().unwrap_or(1),
            epoch: Epoch(0),
            seq: 0,
            ttl_s: 0,
            body_crc: 0,
            header_crc: 0,
        }
    }

    /// Reads and checks everything that can be checked without the route and the body, so
    /// that nothing is allocated for a frame that is refused anyway.
    ///
    /// # Errors
    /// Magic, version, lane, hops or a length is not one that a peer of ours sends.
    pub fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, WireError> {
        let found = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if found != MAGIC {
            return Err(WireError::Magic { found });
        }
        if bytes[4] != VERSION {
            return Err(WireError::Version { found: bytes[4] });
        }
        let kind = Kind(bytes[5]);
        let lane = match bytes[6] & LANE_BITS {
            0 => Lane::Urgent,
            1 => Lane::Volatile,
            2 => Lane::Durable,
            found => return Err(WireError::Lane { found }),
        };
        if bytes[7] > HOPS_MAX {
            return Err(WireError::Hops { found: bytes[7] });
        }
        let body_len = u32_at(bytes, 8);
        if body_len > kind.body_size_max() {
            return Err(WireError::BodyLength {
                kind,
                found: body_len,
                limit: kind.body_size_max(),
            });
        }
        let route_len = u16_at(bytes, 12);
        if usize::from(route_len) > ROUTE_SIZE_MAX {
            return Err(WireError::RouteLength { found: route_len });
        }
        Ok(Self {
            kind,
            flags: bytes[6] & !LANE_BITS,
            lane,
            hops: bytes[7],
            body_len,
            route_len,
            schema: u16_at(bytes, 14),
            epoch: Epoch(u64_at(bytes, 16)),
            seq: u64_at(bytes, 24),
            ttl_s: u32_at(bytes, 32),
            body_crc: u32_at(bytes, 36),
            header_crc: u32_at(bytes, 40),
        })
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_size(&self) -> usize {
        HEADER_SIZE + usize::from(self.route_len) + self.body_len as usize
    }

    /// Checks the header's own checksum, which covers the route too.
    ///
    /// # Errors
    /// [`WireError::HeaderChecksum`].
    pub fn check(&self, bytes: &[u8; HEADER_SIZE], route: &[u8]) -> Result<(), WireError> {
        let found = header_crc(bytes, route);
        if found == self.header_crc {
            Ok(())
        } else {
            Err(WireError::HeaderChecksum { expected: self.header_crc, found })
        }
    }

    /// Checks the body's checksum, unless the header says that it has none.
    ///
    /// # Errors
    /// [`WireError::BodyChecksum`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), WireError> {
        if self.flags & FLAG_NO_CRC != 0 {
            return Ok(());
        }
        let found = crc32fast::hash(body);
        if found == self.body_crc {
            Ok(())
        } else {
            Err(WireError::BodyChecksum { expected: self.body_crc, found })
        }
    }

    /// Sets lengths and checksums for this route and body, and writes the header.
    ///
    /// # Panics
    /// If the route is longer than 64 KiB or the body than 4 GiB, which no caller builds.
    #[must_use]
    pub fn seal(&mut self, route: &[u8], body: &[u8]) -> [u8; HEADER_SIZE] {
        let crc = if self.flags & FLAG_NO_CRC == 0 { crc32fast::hash(body) } else { 0 };
        self.seal_length(route, body.len(), crc)
    }

    /// Like [`Header::seal`] for a body that is not at hand: its length and checksum are.
    ///
    /// # Panics
    /// As [`Header::seal`].
    #[must_use]
    pub fn seal_length(
        &mut self,
        route: &[u8],
        body_len: usize,
        body_crc: u32,
    ) -> [u8; HEADER_SIZE] {
        self.route_len = u16::try_from(route.len()).expect("routes are bounded by ROUTE_SIZE_MAX");
        self.body_len = u32::try_from(body_len).expect("bodies are bounded by their kind");
        self.body_crc = body_crc;
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind.0;
        bytes[6] = self.flags | self.lane as u8;
        bytes[7] = self.hops;
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.route_len.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.schema.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.seq.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.ttl_s.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.body_crc.to_le_bytes());
        self.header_crc = header_crc(&bytes, route);
        bytes[40..44].copy_from_slice(&self.header_crc.to_le_bytes());
        bytes
    }
}

fn header_crc(bytes: &[u8; HEADER_SIZE], route: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..40]);
    crc.update(route);
    crc.finalize()
}
