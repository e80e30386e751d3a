//! The protocol state of one connection, without I/O: what a receiver owes in acks, what a
//! sender has under way, and a request that awaits its response.

mod exchange;
mod inbound;
mod outbound;

pub use exchange::{Exchange, ExchangeId, Exchanges};
pub use inbound::{AcksDue, Inbound, ack, nack, turned_away};
pub use outbound::{ANSWER_TIMEOUT, DURATION_MAX, FRAMES_MAX, Outbound, Stage};
