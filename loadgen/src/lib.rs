//! The load generator, behind the binary `loadgen`: thousands of clients that speak the real
//! protocol over real sockets, a schedule that never waits, and a check that nothing was lost.
//!
//! [`run::run`] drives one [`swarm::Swarm`] on one reactor; each client in it is a real
//! `engine::node::Node` with a [`role::LoadRole`]. What was acked goes to a
//! [`journal::Journal`], and at the end a [`truth::Ledger`] compares it with what the master
//! has stored.

pub mod address;
pub mod cli;
pub mod config;
pub mod error;
pub mod generator;
pub mod journal;
pub mod latency;
pub mod progress;
pub mod report;
pub mod role;
pub mod run;
pub mod schedule;
pub mod swarm;
pub mod tally;
pub mod truth;
