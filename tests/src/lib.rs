//! What the tests of whole clusters share.

pub mod sim;
pub mod system;
