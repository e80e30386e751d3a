//! The least that a server and a client can do with epoll: what everything else is compared with.

mod client;
mod requests;
mod server;

pub use client::{Ends, Load, Took, run, socket};
pub use requests::{Requests, frame, padded, poll, renumber, report};
pub use server::serve;

/// Bytes of a request of no protocol at all.
pub const RAW_REQUEST: usize = 256;
/// Bytes of the answer to it.
pub const RAW_ANSWER: usize = 64;
