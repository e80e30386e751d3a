//! Bytes to messages and back, without any I/O: the header, its kinds, the decoder and the
//! bodies. `docs/PROTOCOL.md` has the byte tables.

mod body;
mod decoder;
mod digest;
mod error;
mod frame;
mod header;
mod kind;
pub mod message;
mod route;

pub use body::{Body, Nack, NackReason, access, encode};
pub use decoder::{Decoder, Flow};
pub use error::{RouteField, WireError};
pub use frame::{Frame, FrameBuf, Verdict};
pub use header::{FLAG_BEHIND, FLAG_NO_CRC, Header, Lane, MAGIC, VERSION};
pub use kind::{Class, Kind};
pub use route::{Route, RouteBuf};

#[cfg(test)]
mod tests;
