//! What a run ran on, so that its figures can be repeated, and not be compared with others'.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
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

/// Settings of the kernel on which a run depends.
pub const SETTINGS: [&str; 7] = [
    "net.core.somaxconn",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_max_tw_buckets",
    "net.netfilter.nf_conntrack_max",
    "fs.nr_open",
];

/// A setting of the kernel, if there is one of this name.
#[must_use]
pub fn setting(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Environment {
    /// As it is here.
    #[must_use]
    pub fn read() -> Self {
        let line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.trim_start_matches(key).trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let name = line("/proc/cpuinfo", "model name");
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let memory = line("/proc/meminfo", "MemTotal");
        let kib = memory.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        Self {
            kernel: line("/proc/version", ""),
            processors: format!("{count} of {name}"),
            memory_bytes: kib.unwrap_or(0) * 1024,
            settings: SETTINGS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), setting(name)?)))
                .collect(),
            descriptors_max: line("/proc/self/limits", "Max open files"),
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
        assert!(found.kernel.starts_with("Linux"), "{found:?}");
        assert!(found.memory_bytes > 1 << 20 && found.settings.contains_key("net.core.somaxconn"));
        assert_eq!(setting("no.such.setting"), None);
    }
}
