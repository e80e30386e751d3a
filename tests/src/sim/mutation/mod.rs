//! Deliberate faults of the code under test: with each of them the checks of a soak must fail,
//! or the checks are worth nothing. They are made between a node and its surroundings, so that
//! the engine itself has no switch for them.

mod host;
mod poller;
mod store;

pub use host::MutatedHost;
pub use poller::MutatedPoller;
pub use store::{alter, answered, lost_by_power_cut, say_trimmed, shorten};

/// What is wrong with every machine of one kind, from its start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The master's store says that a batch is on the disk before it is.
    AckBeforeCommit,
    /// The master's store says that a batch is on the disk whose commit has failed.
    AckFailedCommit,
    /// Of each batch the master's store keeps the first record alone.
    LoseRestOfBatch,
    /// A crash takes the last commit from the master's disk: it was never synced.
    LoseLastCommit,
    /// The stores say that they have trimmed, and have not.
    ForgetTrim,
    /// A store's answer is lost now and then.
    LoseAnswer,
    /// A master that starts has forgotten how far each sender had come.
    ForgetMarks,
    /// The result store takes a batch twice.
    StoreTwice,
    /// The result store alters what it takes.
    AlterRecord,
    /// The resolver goes on giving the first address that a name ever had.
    OldAddress,
    /// A client forgets one in eight of its deadlines.
    ForgetDeadline,
    /// A master's connections have no deadline while nothing is expected on them.
    NeverIdle,
    /// One in eight events of the poller is lost.
    LoseEdge,
    /// A master is not told of the end of one in five connections.
    LoseClosed,
    /// Two durable frames in a row leave a client in the wrong order.
    SwapFrames,
    /// A master takes more into its inbox than its high watermark allows.
    IgnoreWatermark,
    /// A client has always something to do.
    Spin,
}
