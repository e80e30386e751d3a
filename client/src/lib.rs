//! The client: what brings a machine to the state that its site describes, and keeps it there.
//!
//! Data flows one way: an accepted assignment names a catalog ([`policy`]); its resources
//! ([`resource`]) are checked and applied through what touches the system ([`provider`]), in
//! the order of their requirements ([`executor`]); the [`enforcer`] thread does so whenever
//! something changes behind its back ([`watch`]), and tells what happened.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod diff;
pub mod enforcer;
pub mod executor;
pub mod facts;
pub mod heap;
pub mod owner;
pub mod policy;
pub mod provider;
pub mod resource;
pub mod watch;

#[cfg(test)]
mod testing;
