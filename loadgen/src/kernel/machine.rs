//! The machine, and the settings of its kernel.

use super::{line, number, text};

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
    let found = text(format!("/proc/sys/{}", name.replace('.', "/")));
    let words: Vec<_> = found.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// What a machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's name and release.
    pub kernel: String,
    /// The processors' name.
    pub processor: String,
    /// Its memory, bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn read() -> Self {
        Self {
            kernel: text("/proc/version").trim_end().to_owned(),
            processor: line(&text("/proc/cpuinfo"), "model name").unwrap_or_default().to_owned(),
            memory_bytes: 1024 * number(&text("/proc/meminfo"), "MemTotal:").unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_understood() {
        let found = Machine::read();
        assert!(found.kernel.starts_with("Linux"), "{found:?}");
        assert!(found.memory_bytes > 1 << 20, "{found:?}");
        assert!(setting("net.core.somaxconn").is_some_and(|n| n.parse::<u64>().is_ok()));
        assert_eq!(setting("no.such.setting"), None);
    }
}
