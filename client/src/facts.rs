//! What this machine is: read from `/proc`, `/etc/os-release` and the kernel.

use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// The operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OsFacts {
    /// `ID` of os-release: `debian`.
    pub id: String,
    /// The first of `ID_LIKE`, or `ID`: `debian` for Ubuntu too.
    pub family: String,
    /// `VERSION_ID`: `12`.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

/// The facts of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its own name.
    pub hostname: String,
    /// The operating system.
    pub os: OsFacts,
    /// The kernel's release: `6.1.0-18-amd64`.
    pub kernel: String,
    /// The machine's architecture: `x86_64`.
    pub arch: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory, MiB.
    pub memory_mb: u64,
    /// Whether it is a virtual machine.
    pub virtual_machine: bool,
    /// Its addresses, loopback left out.
    pub addresses: Vec<IpAddr>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl Facts {
    /// Reads them. What cannot be read is empty.
    #[must_use]
    pub fn read() -> Self {
        let release = [Path::new("/etc/os-release"), Path::new("/usr/lib/os-release")];
        let release = release.iter().find_map(|p| std::fs::read_to_string(p).ok());
        Self {
            hostname: nix::unistd::gethostname()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default(),
            os: parse_os_release(&release.unwrap_or_default()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: parse_memory_kb(&read("/proc/meminfo")) / 1024,
            virtual_machine: is_virtual(
                &read("/proc/cpuinfo"),
                &read("/sys/class/dmi/id/sys_vendor"),
            ),
            addresses: parse_addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6")),
        }
    }

    /// `name: value`, a line each.
    #[must_use]
    pub fn to_text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let rows = [
            ("hostname", self.hostname.clone()),
            ("os.id", self.os.id.clone()),
            ("os.family", self.os.family.clone()),
            ("os.version", self.os.version.clone()),
            ("os.name", self.os.name.clone()),
            ("kernel", self.kernel.clone()),
            ("arch", self.arch.clone()),
            ("cpus", self.cpus.to_string()),
            ("memory_mb", self.memory_mb.to_string()),
            ("virtual_machine", self.virtual_machine.to_string()),
            ("addresses", addresses.join(", ")),
        ];
        rows.iter().map(|(name, value)| format!("{:<17}{value}\n", format!("{name}:"))).collect()
    }
}

fn parse_os_release(text: &str) -> OsFacts {
    let lines = text.lines().filter_map(|l| l.split_once('='));
    let values: BTreeMap<&str, &str> =
        lines.map(|(k, v)| (k.trim(), v.trim().trim_matches(['"', '\'']))).collect();
    let value = |key| values.get(key).copied().unwrap_or_default().to_owned();
    let id = value("ID");
    let family = value("ID_LIKE").split_whitespace().next().unwrap_or(&id).to_owned();
    OsFacts { family, version: value("VERSION_ID"), name: value("PRETTY_NAME"), id }
}

fn parse_memory_kb(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn is_virtual(cpuinfo: &str, vendor: &str) -> bool {
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags"));
    let hypervisor = flags.is_some_and(|l| l.split_whitespace().any(|f| f == "hypervisor"));
    let vendors = ["QEMU", "VMware", "innotek", "Xen", "Bochs", "KVM", "Amazon EC2", "OpenStack"];
    hypervisor || vendors.iter().any(|v| vendor.contains(v))
}

/// The kernel's routing tables name every address of its own: IPv4 as `LOCAL` leaves of a
/// tree, IPv6 a line each.
fn parse_addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut last: Option<IpAddr> = None;
    for line in fib_trie.lines() {
        match line.trim().strip_prefix("|-- ") {
            Some(address) => last = address.parse().ok(),
            None if line.contains("host LOCAL") => addresses.extend(last),
            None => {}
        }
    }
    for line in if_inet6.lines() {
        let digits = line.split_whitespace().next().unwrap_or_default();
        if let (32, Ok(bits)) = (digits.len(), u128::from_str_radix(digits, 16)) {
            addresses.push(IpAddr::from(bits.to_be_bytes()));
        }
    }
    addresses.retain(|a| !a.is_loopback());
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read() {
        let os = parse_os_release(
            "PRETTY_NAME=\"Ubuntu 24.04\"\nID=ubuntu\nID_LIKE='debian x'\nVERSION_ID=\"24.04\"\n#\n",
        );
        assert_eq!((&os.id[..], &os.family[..], &os.version[..]), ("ubuntu", "debian", "24.04"));
        assert_eq!(parse_os_release("ID=alpine").family, "alpine");
        assert_eq!(parse_os_release(""), OsFacts::default());
    }

    #[test]
    fn addresses_are_those_of_the_host() {
        let trie = "  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.7\n        /32 host LOCAL\n";
        let six = "00000000000000000000000000000001 01 80 10 80 lo\nfe800000000000000000000000000001 02 40 20 80 eth0\nshort\n";
        let found = parse_addresses(trie, six);
        assert_eq!(found, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = Facts::read();
        assert!(facts.memory_mb > 0 && facts.cpus > 0 && !facts.kernel.is_empty());
        assert!(facts.to_text().contains("memory_mb:"));
        assert_eq!(parse_memory_kb("MemTotal:  x kB"), 0);
        assert!(is_virtual("flags\t: fpu hypervisor", "") && !is_virtual("flags: fpu", "Dell"));
    }
}
