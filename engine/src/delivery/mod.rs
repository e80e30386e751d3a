//! The protocol state of one connection, without I/O: what a receiver owes in acks, what a
//! sender has under way, and a request that awaits its response.

mod exchange;
mod inbound;
mod outbound;

pub use exchange::{Exchange, Exchanges, ExchangeId};
pub use inbound::Inbound;
pub use outbound::{Outbound, Stage};

#[cfg(test)]
mod tests;
