//! What is measured: how long things took, what was counted, and what the generator itself took
//! of the machine.

pub mod latency;
pub mod process;
pub mod record;
pub mod tally;

pub use latency::{Latencies, Quantiles, Timed, Took};
pub use record::{Part, Parts, Record, Row};
pub use tally::{Standings, Tally};
