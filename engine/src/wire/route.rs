//! The route block behind the header: who first sent a frame, for whom it is, and the relays
//! that it has passed.
//!
//! Layout: u8 length and bytes of the origin's name (length 0: no origin, the block is empty
//! otherwise too), u64 origin epoch, u64 origin seq, u8 length and bytes of the target's name
//! (0: none), u8 number of relays, each a u8 length and bytes.

use super::error::{RouteField, WireError};
use crate::ids::{Epoch, HostName, Origin};
use crate::limits::{HOPS_MAX, ROUTE_SIZE_MAX};

/// A route block, read in place and not yet checked for host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    origin: &'a [u8],
    /// Incarnation of the origin's outbox.
    pub origin_epoch: Epoch,
    /// The origin's number.
    pub origin_seq: u64,
    target: &'a [u8],
    via: &'a [u8],
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(n)?;
    *bytes = tail;
    Some(head)
}

fn take_name<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = *take(bytes, 1)?.first()?;
    take(bytes, usize::from(n))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
}

impl<'a> Route<'a> {
    /// Reads a block; an empty one is the route of a bare header (acks) and names nobody.
    ///
    /// # Errors
    /// [`WireError::RouteLength`] if it ends early or has bytes left over.
    pub fn parse(block: &'a [u8]) -> Result<Self, WireError> {
        let none =
            Route { origin: &[], origin_epoch: Epoch(0), origin_seq: 0, target: &[], via: &[] };
        if block.is_empty() {
            return Ok(none);
        }
        let bad = WireError::RouteLength { found: u16::try_from(block.len()).unwrap_or(u16::MAX) };
        let parse = || -> Option<Self> {
            let mut rest = block;
            let origin = take_name(&mut rest)?;
            let origin_epoch = Epoch(take_u64(&mut rest)?);
            let origin_seq = take_u64(&mut rest)?;
            let target = take_name(&mut rest)?;
            let via = rest;
            let relays = *take(&mut rest, 1)?.first()?;
            if relays > HOPS_MAX {
                return None;
            }
            for _ in 0..relays {
                take_name(&mut rest)?;
            }
            rest.is_empty().then_some(Route { origin, origin_epoch, origin_seq, target, via })
        };
        parse().ok_or(bad)
    }

    /// The origin's name as it came, unchecked; empty if there is none.
    #[must_use]
    pub fn origin_bytes(&self) -> &'a [u8] {
        self.origin
    }

    /// Who first sent the frame.
    ///
    /// # Errors
    /// [`WireError::RouteName`] if that is no host name.
    pub fn origin(&self) -> Result<Origin, WireError> {
        let name = HostName::parse(self.origin)
            .map_err(|_| WireError::RouteName { field: RouteField::Origin })?;
        Ok(Origin { name, epoch: self.origin_epoch, seq: self.origin_seq })
    }

    /// For whom the frame is; `None` if it says nothing.
    ///
    /// # Errors
    /// [`WireError::RouteName`] if that is no host name.
    pub fn target(&self) -> Result<Option<HostName>, WireError> {
        if self.target.is_empty() {
            return Ok(None);
        }
        HostName::parse(self.target)
            .map(Some)
            .map_err(|_| WireError::RouteName { field: RouteField::Target })
    }

    /// The relays' names as they came, first to last.
    pub fn via(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.via.get(1..).unwrap_or_default();
        std::iter::from_fn(move || take_name(&mut rest))
    }

    /// The neighbour that sent the frame: the last relay, or the origin.
    #[must_use]
    pub fn hop_sender(&self) -> &'a [u8] {
        self.via().last().unwrap_or(self.origin)
    }
}

/// What a route block is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteBuf {
    /// Who first sends the frame.
    pub origin: Origin,
    /// For whom it is.
    pub target: Option<HostName>,
    /// Relays passed, first to last.
    pub via: Vec<HostName>,
}

impl RouteBuf {
    /// A route that begins here.
    #[must_use]
    pub fn from(origin: Origin) -> Self {
        Self { origin, target: None, via: Vec::new() }
    }

    /// The same, to one host.
    #[must_use]
    pub fn to(mut self, target: HostName) -> Self {
        self.target = Some(target);
        self
    }

    /// Bytes of the block.
    #[must_use]
    pub fn size(&self) -> usize {
        let name = |name: &HostName| 1 + name.as_str().len();
        let target = self.target.as_ref().map_or(1, name);
        name(&self.origin.name) + 16 + target + 1 + self.via.iter().map(name).sum::<usize>()
    }

    /// Writes the block behind what is there.
    ///
    /// # Panics
    /// If it would be longer than [`ROUTE_SIZE_MAX`]: more relays than hops allow.
    pub fn write(&self, out: &mut Vec<u8>) {
        fn name(out: &mut Vec<u8>, name: &str) {
            out.push(u8::try_from(name.len()).expect("host names have at most 253 bytes"));
            out.extend_from_slice(name.as_bytes());
        }
        assert!(self.size() <= ROUTE_SIZE_MAX, "a route of {} bytes", self.size());
        name(out, self.origin.name.as_str());
        out.extend_from_slice(&self.origin.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.origin.seq.to_le_bytes());
        name(out, self.target.as_ref().map_or("", HostName::as_str));
        out.push(u8::try_from(self.via.len()).expect("at most HOPS_MAX relays"));
        self.via.iter().for_each(|relay| name(out, relay.as_str()));
    }
}
