//! What the kernel tells of a process and of the network, from `/proc`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that Drover is for.
const TICK_US: u64 = 10_000;
/// Bytes of a page, as `/proc/net/sockstat` counts.
const PAGE: u64 = 4096;

/// Counters of the machine's TCP, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Connections that a full accept queue refused.
    pub listen_overflows: u64,
    /// Connections dropped before they were accepted, those included.
    pub listen_drops: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times that TCP's memory got short.
    pub memory_pressures: u64,
    /// Memory of all sockets of the machine now, bytes.
    pub memory_bytes: u64,
}

impl Tcp {
    /// As it stands; zero where `/proc` does not say.
    #[must_use]
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (netstat, snmp) = (text("/proc/net/netstat"), text("/proc/net/snmp"));
        let sockstat = text("/proc/net/sockstat");
        let memory = sockstat.lines().find(|line| line.starts_with("TCP:"));
        let pages = memory.and_then(|line| after(line, "mem"));
        Self {
            listen_overflows: named(&netstat, "TcpExt:", "ListenOverflows"),
            listen_drops: named(&netstat, "TcpExt:", "ListenDrops"),
            retransmitted: named(&snmp, "Tcp:", "RetransSegs"),
            memory_pressures: named(&netstat, "TcpExt:", "TCPMemoryPressures"),
            memory_bytes: pages.unwrap_or(0) * PAGE,
        }
    }

    /// What was counted since an earlier reading; the memory is today's.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows.saturating_sub(earlier.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(earlier.listen_drops),
            retransmitted: self.retransmitted.saturating_sub(earlier.retransmitted),
            memory_pressures: self.memory_pressures.saturating_sub(earlier.memory_pressures),
            memory_bytes: self.memory_bytes,
        }
    }
}

/// The word behind `key` in a line of words, as a number.
fn after(line: &str, key: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip_while(|word| *word != key);
    words.nth(1)?.parse().ok()
}

/// A value of `/proc/net/netstat` or `snmp`: a line of names, and below it one of values.
fn named(text: &str, section: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(section));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let place = names.split_whitespace().position(|word| word == name);
    let value = place.and_then(|place| values.split_whitespace().nth(place));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// What a process takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// CPU time by the names of its threads, microseconds since its start.
    pub cpu_us: BTreeMap<String, u64>,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Of that, what is no file's: what the program itself has taken.
    pub anonymous_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Most descriptors that it may have.
    pub descriptors_max: u64,
}

impl Process {
    /// As it stands; `None` if there is no such process, or it is somebody else's.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let mut cpu_us = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
            let Some((head, fields)) = stat.rsplit_once(')') else { continue };
            // The first thread bears the program's name; it is the one with the loop.
            let is_first = task.file_name().to_str() == Some(pid.to_string().as_str());
            let name = head.split_once('(').map_or("", |(_, name)| name);
            let ticks = fields.split_whitespace().skip(11).take(2);
            let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
            let name = if is_first { "reactor" } else { name };
            *cpu_us.entry(name.to_owned()).or_default() += ticks * TICK_US;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let memory = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            1024 * line.and_then(|line| after(line, key)).unwrap_or(0)
        };
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Some(Self {
            cpu_us,
            resident_bytes: memory("VmRSS:"),
            anonymous_bytes: memory("RssAnon:"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64,
            descriptors_max: files
                .and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or(u64::MAX),
        })
    }

    /// CPU time of all threads.
    #[must_use]
    pub fn cpu_all_us(&self) -> u64 {
        self.cpu_us.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPMemoryPressures\n\
                           TcpExt: 7 21 22 3\nIpExt: InNoRoutes\nIpExt: 9\n";

    #[test]
    fn values_are_found_by_name() {
        assert_eq!(named(NETSTAT, "TcpExt:", "ListenOverflows"), 21);
        assert_eq!(named(NETSTAT, "TcpExt:", "TCPMemoryPressures"), 3);
        assert_eq!(named(NETSTAT, "TcpExt:", "Nothing"), 0);
        assert_eq!(named("", "TcpExt:", "ListenDrops"), 0);
        assert_eq!(after("TCP: inuse 5 orphan 0 tw 2 alloc 6 mem 12", "mem"), Some(12));
    }

    #[test]
    fn this_process_is_understood() {
        let found = Process::read(std::process::id()).unwrap();
        assert!(found.cpu_us.contains_key("reactor"), "{found:?}");
        assert!((1 << 20..1 << 34).contains(&found.resident_bytes), "{found:?}");
        assert!(found.descriptors >= 3 && found.descriptors_max > found.descriptors, "{found:?}");
        assert_eq!(Process::read(u32::MAX - 1), None);
    }
}
