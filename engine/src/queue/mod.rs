//! The reliable queue: lanes, outbox, inbox and marks (pure), and the store behind them.

pub mod store;
