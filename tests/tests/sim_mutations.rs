//! With a deliberate fault of the code under test a soak must fail, within so many seeds, and the
//! same seeds must pass without it: a check that never fails checks nothing.

use tests::sim::mutation::Mutation;
use tests::sim::soak::{Plan, Size};

/// Seeds that may pass before a fault is found.
const SEEDS: u64 = 500;

fn assert_found(mutation: Mutation) {
    let plan = |seed| Plan { mutation: Some(mutation), ..Plan::new(Size::Small, seed) };
    let found = (0..SEEDS).find_map(|seed| plan(seed).play().err().map(|f| (seed, f.what)));
    let Some((seed, what)) = found else {
        panic!("{mutation:?} was not found with {SEEDS} seeds");
    };
    println!("{mutation:?}: seed {seed}: {}", what.lines().next().unwrap_or_default());
    for seed in 0..=seed {
        if let Err(failure) = Plan::new(Size::Small, seed).play() {
            panic!("seed {seed} fails without it: {}", failure.what);
        }
    }
}

macro_rules! found {
    ($($name:ident: $mutation:ident;)*) => {$(
        #[test]
        fn $name() {
            assert_found(Mutation::$mutation);
        }
    )*};
}

found! {
    an_ack_before_its_commit_is_found: AckBeforeCommit;
    an_ack_of_a_commit_that_failed_is_found: AckFailedCommit;
    the_loss_of_the_rest_of_a_batch_is_found: LoseRestOfBatch;
    a_commit_that_a_crash_takes_back_is_found: LoseLastCommit;
    a_trim_that_is_forgotten_is_found: ForgetTrim;
    an_answer_of_the_store_that_is_lost_is_found: LoseAnswer;
    marks_that_are_forgotten_are_found: ForgetMarks;
    a_batch_that_is_stored_twice_is_found: StoreTwice;
    a_record_that_is_altered_is_found: AlterRecord;
    an_address_that_is_never_renewed_is_found: OldAddress;
    a_deadline_that_is_forgotten_is_found: ForgetDeadline;
    a_connection_that_is_never_idle_is_found: NeverIdle;
    an_event_that_is_lost_is_found: LoseEdge;
    an_end_that_is_not_told_is_found: LoseClosed;
    two_frames_that_are_swapped_are_found: SwapFrames;
    a_watermark_that_is_ignored_is_found: IgnoreWatermark;
    a_loop_that_spins_is_found: Spin;
}
