//! What can be wrong with bytes from a peer or a disk.

use super::kind::Kind;

/// Why bytes are not a frame, or a body not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WireError {
    /// The first four bytes are not `DRV1`: another protocol's, or the stream is out of step.
    #[error("not a Drover frame: it begins with {found:02x?}")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version of the frame format that this build does not speak.
    #[error("frame format version {found} is not known here (1 is)")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// The header, or the route behind it, was damaged.
    #[error("header checksum: expected {expected:08x}, found {found:08x}")]
    HeaderChecksum {
        /// What the header says.
        expected: u32,
        /// What its bytes give.
        found: u32,
    },
    /// The body was damaged.
    #[error("body checksum: expected {expected:08x}, found {found:08x}")]
    BodyChecksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The body is longer than its kind may be.
    #[error("{kind} body of {found} bytes: at most {limit} are allowed")]
    BodyLength {
        /// The frame's kind.
        kind: Kind,
        /// What the header announced.
        found: u32,
        /// The kind's or the class's limit.
        limit: u32,
    },
    /// The route block is longer than [`crate::limits::ROUTE_SIZE_MAX`], or ends early.
    #[error("route block of {found} bytes is too long or not whole")]
    RouteLength {
        /// What the header announced.
        found: u16,
    },
    /// A name in the route block is no host name.
    #[error("the route block names no host in its {field}")]
    RouteName {
        /// Where.
        field: RouteField,
    },
    /// More relays than [`crate::limits::HOPS_MAX`].
    #[error("the frame has passed {found} relays: it is in a loop")]
    Hops {
        /// What the header says.
        found: u8,
    },
    /// The lane bits name no lane.
    #[error("lane {found} does not exist")]
    Lane {
        /// The two bits.
        found: u8,
    },
    /// A body that is not what its kind and schema say.
    #[error("the body is no {kind} of schema {schema}")]
    Body {
        /// The frame's kind.
        kind: Kind,
        /// The frame's schema.
        schema: u16,
    },
    /// A kind that this build does not know.
    #[error("{kind} is not known here")]
    UnknownKind {
        /// The frame's kind.
        kind: Kind,
    },
    /// A later schema of a known kind.
    #[error("{kind} schema {found} is not known here ({highest} is the highest)")]
    UnknownSchema {
        /// The frame's kind.
        kind: Kind,
        /// The frame's schema.
        found: u16,
        /// The highest that this build knows.
        highest: u16,
    },
    /// A frame where one of another kind was expected.
    #[error("expected {expected}, found {found}")]
    UnexpectedKind {
        /// What was expected.
        expected: Kind,
        /// What came.
        found: Kind,
    },
    /// The bytes end within a frame.
    #[error("the frame is cut short after {found} bytes")]
    Truncated {
        /// How many there are; of more than 4 GiB, so many.
        found: u32,
    },
}

/// A name in a route block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteField {
    /// Who sent the message first.
    Origin,
    /// Whom it is for.
    Target,
}

impl std::fmt::Display for RouteField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Origin => "origin",
            Self::Target => "target",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_little_since_every_connection_has_room_for_one() {
        assert!(size_of::<WireError>() <= 12, "{}", size_of::<WireError>());
    }
}
