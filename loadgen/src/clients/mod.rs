//! The simulated clients: who they are, when they start what, what they do, and the swarm that
//! carries thousands of them behind one reactor.

pub mod address;
mod cache;
pub mod role;
pub mod schedule;
pub mod swarm;
pub mod work;
