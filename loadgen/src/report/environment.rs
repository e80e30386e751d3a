//! What a run ran on, so that its figures can be repeated, and not be compared with others'.

use crate::kernel::{self, Machine, SETTINGS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// The machine, its limits and the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The kernel's name and release.
    pub kernel: String,
    /// The processors' name, and how many this process may use.
    pub processors: String,
    /// Memory of the machine, bytes.
    pub memory_bytes: u64,
    /// Settings of the kernel that bound a run, by name.
    pub settings: BTreeMap<String, String>,
    /// Most descriptors of a process.
    pub descriptors_max: String,
    /// This program's version.
    pub version: String,
    /// How it was called.
    pub command: Vec<String>,
}

impl Environment {
    /// As it is here.
    #[must_use]
    pub fn read() -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let Machine { kernel, processor, memory_bytes } = Machine::read();
        let (now, most) = kernel::descriptors_max();
        Self {
            kernel,
            processors: format!("{count} of {processor}"),
            memory_bytes,
            settings: SETTINGS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), kernel::setting(name)?)))
                .collect(),
            descriptors_max: format!("{now}, at most {most}"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_understood() {
        let found = Environment::read();
        assert!(found.kernel.starts_with("Linux") && found.memory_bytes > 1 << 20, "{found:?}");
        assert!(found.settings.contains_key("net.core.somaxconn"), "{found:?}");
    }
}
