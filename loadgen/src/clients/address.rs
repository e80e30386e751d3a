//! Who the simulated clients are: the name and the loopback address of each follow from its
//! index, so that the hosts table can be written before anything runs.

use engine::ids::{HostName, HostNameError};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::Path;

/// Most clients of one load generator: more than any machine carries, and all their addresses
/// lie in 127.1.0.0 to 127.16.255.255, clear of the 127.0.0.x that people use by hand.
pub const CLIENTS_MAX: u32 = 1_000_000;
/// A client's second address is so much higher in its second byte: 127.17.0.0 to 127.32.255.255.
const OTHER: u8 = 16;
/// The suffix of the clients' names; `.test` is reserved for this (RFC 2606).
pub const DEFAULT_SUFFIX: &str = "load.test";
/// Values of the last two bytes of an address: 1 to 250, so that none looks like a network or
/// a broadcast address.
const BYTE_VALUES: u32 = 250;

/// The names and addresses of a swarm's clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identities {
    suffix: Box<str>,
}

impl TryFrom<String> for Identities {
    type Error = HostNameError;

    fn try_from(suffix: String) -> Result<Self, HostNameError> {
        Self::new(&suffix)
    }
}

impl From<Identities> for String {
    fn from(identities: Identities) -> Self {
        identities.suffix.into()
    }
}

impl Identities {
    /// Names that end with this suffix: `lg-00001.SUFFIX`, `lg-00002.SUFFIX`, …
    ///
    /// # Errors
    /// The suffix does not make host names.
    pub fn new(suffix: &str) -> Result<Self, HostNameError> {
        HostName::parse(format!("lg-{CLIENTS_MAX}.{suffix}").as_bytes())?;
        Ok(Self { suffix: suffix.to_ascii_lowercase().into() })
    }

    /// The name of a client.
    ///
    /// # Panics
    /// Never: the suffix was checked with the longest number.
    #[must_use]
    pub fn name(&self, index: u32) -> HostName {
        let text = format!("lg-{:05}.{}", u64::from(index) + 1, self.suffix);
        HostName::parse(text.as_bytes()).expect("the suffix was checked with the longest number")
    }

    /// The client that has this name; `None` if none can have it.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u32> {
        let number = name.strip_suffix(&*self.suffix)?.strip_prefix("lg-")?.strip_suffix('.')?;
        let index = number.parse::<u32>().ok()?.checked_sub(1)?;
        // Other ways to write the number are other names.
        (index < CLIENTS_MAX && self.name(index).as_str() == name).then_some(index)
    }

    /// Writes the table `name address:port` that the master's resolver and inventory read, for
    /// clients that are dialled back at these ports.
    /// The file appears whole or not at all, since the master may be reading it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_hosts_table(
        &self,
        path: &Path,
        ports: impl IntoIterator<Item = (Range<u32>, u16)>,
    ) -> io::Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let mut out = BufWriter::new(File::create(&partial)?);
        writeln!(out, "# Written by loadgen: simulated clients.")?;
        for (clients, port) in ports {
            for index in clients {
                writeln!(out, "{} {}:{port}", self.name(index), address(index))?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&partial, path)
    }
}

/// The loopback address of a client.
///
/// # Panics
/// If `index` is not below [`CLIENTS_MAX`].
#[must_use]
pub fn address(index: u32) -> Ipv4Addr {
    assert!(index < CLIENTS_MAX, "the command line was checked");
    let byte = |value: u32| u8::try_from(value).expect("below 251");
    let (low, high) = (index % BYTE_VALUES, index / BYTE_VALUES);
    Ipv4Addr::new(127, byte(1 + high / BYTE_VALUES), byte(1 + high % BYTE_VALUES), byte(1 + low))
}

/// The address to which a client moves where its name does: it is reached at both.
///
/// # Panics
/// As [`address`].
#[must_use]
pub fn other_address(index: u32) -> Ipv4Addr {
    let [net, a, b, c] = address(index).octets();
    Ipv4Addr::new(net, a + OTHER, b, c)
}

/// The client that has this address, as one of its two; `None` if none can have it.
#[must_use]
pub fn index_of(address: IpAddr) -> Option<u32> {
    // A wildcard IPv6 socket would show it as ::ffff:127.a.b.c.
    let IpAddr::V4(address) = address.to_canonical() else { return None };
    let [127, a, b, c] = address.octets() else { return None };
    let a = if a > OTHER { a - OTHER } else { a };
    let [a, b, c] = [a, b, c].map(u32::from);
    let digit = |byte: u32| byte.checked_sub(1).filter(|value| *value < BYTE_VALUES);
    let index = (digit(a)? * BYTE_VALUES + digit(b)?) * BYTE_VALUES + digit(c)?;
    (index < CLIENTS_MAX).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_addresses_are_one_to_one() {
        let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        for index in 0..100_000 {
            assert!(names.insert(identities.name(index)), "{index}");
            let address = address(index);
            assert!(addresses.insert(address), "{index}");
            assert!(address.is_loopback() && address.octets()[1] > 0, "{address}");
            assert_eq!(index_of(address.into()), Some(index));
            assert!(addresses.insert(other_address(index)), "{index}");
            assert_eq!(index_of(other_address(index).into()), Some(index));
            assert_eq!(identities.index_of(identities.name(index).as_str()), Some(index));
        }
        assert_eq!(identities.name(0).as_str(), "lg-00001.load.test");
        assert_eq!(address(0), Ipv4Addr::new(127, 1, 1, 1));
    }

    #[test]
    fn other_addresses_belong_to_nobody() {
        for text in ["127.0.0.1", "127.1.0.1", "127.1.1.255", "10.1.1.1", "127.33.1.1", "::1"] {
            assert_eq!(index_of(text.parse().unwrap()), None, "{text}");
        }
        assert_eq!(index_of("::ffff:127.1.1.2".parse().unwrap()), Some(1));
        for address in [address(CLIENTS_MAX - 1), other_address(CLIENTS_MAX - 1)] {
            assert_eq!(index_of(address.into()), Some(CLIENTS_MAX - 1));
        }
        let identities = Identities::new("example").unwrap();
        for name in ["lg-1.example", "lg-00000.example", "lg-00001.example.com", "lg-00001example"]
        {
            assert_eq!(identities.index_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_suffix_that_makes_no_names_is_refused() {
        assert!(Identities::new("bad suffix").is_err());
        assert!(Identities::new(&"x".repeat(250)).is_err());
    }

    #[test]
    fn the_table_is_what_the_resolver_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let identities = Identities::new("example").unwrap();
        identities.write_hosts_table(&path, [(0..100, 7400), (100..300, 7401)]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 300);
        assert_eq!(lines[0], "lg-00001.example 127.1.1.1:7400");
        assert_eq!(lines[299], "lg-00300.example 127.1.2.50:7401");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left behind");
    }
}
