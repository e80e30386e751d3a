//! The master under load: whether it may be loaded and is there, one that loadgen starts itself,
//! and what it takes of the machine meanwhile.

pub mod backlog;
pub mod constraint;
pub mod observer;
pub mod own;
pub mod stalls;
pub mod target;
pub mod warnings;

pub use backlog::Backlog;
pub use constraint::Constraint;
pub use observer::{Observer, Sample};
pub use own::OwnMaster;
pub use stalls::Stalls;
pub use target::Target;
