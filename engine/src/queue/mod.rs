//! The reliable queue: lanes, outbox, inbox and marks (pure), and the store behind them.

pub mod inbox;
pub mod lanes;
pub mod lmdb;
pub mod marks;
pub mod memory;
pub mod outbox;
pub mod store;
pub mod thread;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
