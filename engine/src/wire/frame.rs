//! A whole frame: borrowed as it arrives, owned as it is built.

use super::body::{Body, encode};
use super::error::WireError;
use super::header::Header;
use super::kind::Kind;
use super::route::{Route, RouteBuf};
use crate::limits::HEADER_SIZE;
use bytes::Bytes;

/// A whole frame in somebody else's buffer. Header and route have been checked against their
/// checksum; the body is checked where it is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fixed header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads one frame that `bytes` hold exactly.
    ///
    /// # Errors
    /// Anything that ends a connection at once, or [`WireError::Truncated`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let truncated =
            WireError::Truncated { found: u32::try_from(bytes.len()).unwrap_or(u32::MAX) };
        let head: &[u8; HEADER_SIZE] = bytes.first_chunk().ok_or(truncated)?;
        let header = Header::parse(head)?;
        if bytes.len() != header.frame_size() {
            return Err(truncated);
        }
        let frame = Self { header, bytes };
        header.check(head, frame.route_bytes())?;
        Ok(frame)
    }

    /// Header, route and body as they came.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The route block as it came.
    #[must_use]
    pub fn route_bytes(&self) -> &'a [u8] {
        &self.bytes[HEADER_SIZE..HEADER_SIZE + usize::from(self.header.route_len)]
    }

    /// The route block, read.
    ///
    /// # Errors
    /// [`WireError::RouteLength`].
    pub fn route(&self) -> Result<Route<'a>, WireError> {
        Route::parse(self.route_bytes())
    }

    /// The body, not yet checked.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_SIZE + usize::from(self.header.route_len)..]
    }
}

/// What the consumer of a frame says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Taken,
    /// It was not taken: keep it, read no more from this connection until it is resumed.
    Park,
}

/// A frame to be sent: header and route of its own, and a body that others may share unless it
/// lies behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBuf {
    /// The sealed header and the route block; of a frame in one piece, the body too.
    pub head: Bytes,
    /// The body, if it does not lie in `head`.
    pub body: Bytes,
}

impl FrameBuf {
    /// Seals a header over a route and a body that is already encoded.
    #[must_use]
    pub fn seal(header: Header, route: Option<&RouteBuf>, body: Bytes) -> Self {
        Self { head: head(header, route, &body, 0).into(), body }
    }

    /// A frame in one piece.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { head: bytes.into(), body: Bytes::new() }
    }

    /// Its header, which is sound in what was sealed here.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        Header::parse(self.head.first_chunk()?).ok()
    }

    /// The same frame in one piece, for a log.
    #[must_use]
    pub fn seal_whole(header: Header, route: Option<&RouteBuf>, body: &[u8]) -> Vec<u8> {
        let mut bytes = head(header, route, body, body.len());
        bytes.extend_from_slice(body);
        bytes
    }

    /// A frame with this body, on its kind's lane; no route means a `Direct` or hop frame.
    #[must_use]
    pub fn message<B: Body>(
        route: Option<&RouteBuf>,
        body: &B,
        tune: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new(B::KIND);
        header.schema = B::SCHEMA;
        tune(&mut header);
        Self::seal(header, route, encode(body).into())
    }

    /// A bare header of this kind.
    #[must_use]
    pub fn bare(kind: Kind, tune: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new(kind);
        tune(&mut header);
        Self::seal(header, None, Bytes::new())
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Never: every frame has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The frame in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.body[..]].concat()
    }
}

/// A sealed header and its route block, with room for so many bytes behind them.
fn head(mut header: Header, route: Option<&RouteBuf>, body: &[u8], room: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEADER_SIZE + route.map_or(0, RouteBuf::size) + room);
    head.resize(HEADER_SIZE, 0);
    if let Some(route) = route {
        route.write(&mut head);
    }
    let sealed = header.seal(&head[HEADER_SIZE..], body);
    head[..HEADER_SIZE].copy_from_slice(&sealed);
    head
}
