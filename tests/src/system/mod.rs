//! Masters and clients as real processes, on addresses of the loopback network that no other
//! test uses, awaited by their log lines and ended by their process ids.

mod binaries;
mod cluster;
mod daemon;
mod sender;

pub use binaries::binary;
pub use cluster::{Cluster, start_client};
pub use daemon::{Daemon, Ended, output};
pub use sender::{Sender, id_of, report};

use std::time::Duration;

/// Nothing that a test awaits takes longer, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(100);
