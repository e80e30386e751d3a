//! The load generator, behind the binary `loadgen`: thousands of clients that speak the real
//! protocol over real sockets, a schedule that never waits, and a check that nothing was lost.
//!
//! [`run::run`] leads a [`fleet::Fleet`] through the phases of a [`run::Scenario`]: workers with a reactor and a
//! [`clients::swarm::Swarm`] each, in which each client is a real `engine::node::Node` with a
//! [`clients::role::LoadRole`]. What they measured is merged second by second; what was acked
//! goes to a [`truth::Journal`], and at the end a [`truth::Ledger`] compares it with what the
//! master has stored.

pub mod capacity;
pub mod cli;
pub mod clients;
pub mod doctor;
pub mod error;
pub mod fleet;
pub mod kernel;
pub mod measure;
pub mod names;
pub mod peers;
pub mod progress;
pub mod report;
pub mod run;
pub mod subject;
pub mod truth;
