//! What several measurements share: the least that a server and a client can do, as the baseline
//! that others are compared with; the engine's server of its real parts; and figures with their
//! spread.

pub mod allocator;
pub mod child;
pub mod crowd;
pub mod figures;
pub mod fleet;
pub mod flood;
pub mod instrument;
pub mod lockstep;
pub mod machine;
pub mod minimal;
pub mod network;
pub mod peers;
pub mod reference;
pub mod server;
pub mod shelf;
pub mod side;
pub mod stores;
