//! The machine's TCP.

use super::{line, text};
use serde::{Deserialize, Serialize};

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
    /// As it stands.
    #[must_use]
    pub fn read() -> Self {
        let (netstat, snmp) = (text("/proc/net/netstat"), text("/proc/net/snmp"));
        let pages = pages(&text("/proc/net/sockstat"));
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

/// Pages of TCP's memory: the word behind `mem` in the line of TCP.
fn pages(sockstat: &str) -> Option<u64> {
    let mut words = line(sockstat, "TCP:")?.split_whitespace().skip_while(|word| *word != "mem");
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
        let sockstat = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 12\nUDP: mem 4\n";
        assert_eq!(pages(sockstat), Some(12));
    }
}
