//! The reactor's suite, run on both pollers: each test is generic over a [`Backend`], and a
//! macro makes it a test of either. Time is virtual on both; bytes are real on one.

mod closing;
mod deadlines;
mod fairness;
mod harness;
mod process;

use harness::{Backend, MioBackend, SimBackend};

/// Makes each generic test one of the mio backend and one of the simulated backend.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod mio { $(#[test] fn $test() { super::$test::<crate::reactor::tests::MioBackend>(); })* }
        mod sim { $(#[test] fn $test() { super::$test::<crate::reactor::tests::SimBackend>(); })* }
    };
}
use on_both;

#[test]
fn e22_the_two_backends_are_two() {
    assert_ne!(MioBackend::NAME, SimBackend::NAME);
}
