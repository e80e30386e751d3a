//! Whether the master keeps its word: what it acked is compared with what it has stored.

pub mod inbox;
pub mod journal;
pub mod ledger;
mod ranges;

pub use inbox::{InboxWait, status};
pub use journal::Journal;
pub use ledger::{Ledger, Truth};
