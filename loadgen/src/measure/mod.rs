//! What is measured: how long things took, and what was counted.

mod encoded;
pub mod latency;
pub mod record;
pub mod tally;

pub use latency::{Latencies, Quantiles, Timed, Took};
pub use record::{Part, Parts, Record, Row};
pub use tally::{FailureKind, Standings, Tally};
