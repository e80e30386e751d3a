//! What several measurements share: the least that a server and a client can do, as the baseline
//! that others are compared with, and figures with their spread.

pub mod child;
pub mod figures;
pub mod fleet;
pub mod minimal;
pub mod stores;
