//! The load generator, behind the binary `loadgen`: thousands of clients that speak the real
//! protocol over real sockets, a schedule that never waits, and a check that nothing was lost.

pub mod address;
pub mod latency;
pub mod role;
pub mod schedule;
pub mod swarm;
pub mod tally;
