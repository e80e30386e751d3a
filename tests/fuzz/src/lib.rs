//! What the fuzzing targets share: input taken apart, frames made of it, and one node in a world
//! of its own, in virtual time.

pub mod client;
pub mod disk;
pub mod frames;
pub mod input;
pub mod master;
pub mod memory;
pub mod senders;
pub mod world;
