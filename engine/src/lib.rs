//! What Drover's master, client and load generator share.

pub mod blob;
pub mod clock;
pub mod config;
pub mod ids;
pub mod limits;
pub mod node;
pub mod queue;
pub mod reactor;
pub mod release;
pub mod sign;
pub mod time;
pub mod wheel;
pub mod wire;
