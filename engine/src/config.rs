//! Durations, sizes and addresses as people write them in a configuration file: `"10m"`,
//! `"64 MiB"`, `"0.0.0.0:7400"`.

mod mistake;

pub use mistake::{Key, Mistake, What, key, nearest};

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

/// The TCP port on which a master listens, if nothing else is configured.
pub const MASTER_PORT: u16 = 7400;
/// The TCP port on which a client takes pushes, if nothing else is configured.
pub const CLIENT_PORT: u16 = 7401;

const DURATION_UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
];

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Why a text is no duration, size or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has no number or no known unit.
    #[error(
        "{text:?} is no {what}: write a whole number and a unit ({units}), such as {example:?}"
    )]
    Form {
        /// What was found.
        text: String,
        /// `duration` or `size`.
        what: &'static str,
        /// The units that exist.
        units: String,
        /// One that works.
        example: &'static str,
    },
    /// It is no address with a port.
    #[error(
        "{text:?} is no address with a port: write one such as \"0.0.0.0:7400\" for a master or \"[::]:7401\" for a client, and no name"
    )]
    Addr {
        /// What was found.
        text: String,
    },
    /// It does not fit 64 bits.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was found.
        text: String,
    },
}

fn parse(
    text: &str,
    units: &[(&'static str, u64)],
    what: &'static str,
    example: &'static str,
) -> Result<u64, QuantityError> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let found = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (Some((_, factor)), false) = (found, number.is_empty()) else {
        let units = units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(QuantityError::Form { text: text.to_owned(), what, units, example });
    };
    let too_large = || QuantityError::TooLarge { text: text.to_owned() };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).ok_or_else(too_large)
}

/// Reads a duration: a whole number and `ms`, `s`, `m`, `h`, `d` or `w`.
///
/// # Errors
/// [`QuantityError`] says what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    parse(text, &DURATION_UNITS, "duration", "10m").map(Duration::from_millis)
}

/// Reads a size in bytes: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// [`QuantityError`] says what to write instead.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    parse(text, &SIZE_UNITS, "size", "64MiB")
}

/// Reads an IP address with a TCP port.
///
/// # Errors
/// [`QuantityError`] says what to write instead.
pub fn parse_addr(text: &str) -> Result<SocketAddr, QuantityError> {
    text.trim().parse().map_err(|_| QuantityError::Addr { text: text.to_owned() })
}

/// A value that should be text in quotes: a bare number is taken as its digits, so that the
/// message is about what it lacks, and not about types.
fn read_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl Fn(&str) -> Result<T, QuantityError>,
) -> Result<T, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    read(&deserializer.deserialize_any(Text)?).map_err(D::Error::custom)
}

/// What an IPv6 address without brackets may be meant to be, if it ends like one of the ports that
/// people give: `::1:7400` is an address, and was hardly meant as one.
#[must_use]
pub fn as_if_with_port(text: &str) -> Option<(Ipv6Addr, NonZeroU16)> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| port.len() >= 4)?;
    Some((ip.parse().ok()?, port))
}

/// What to do where the system lets nobody listen on an address; `who` may have it already.
#[must_use]
pub fn listen_hint(error: &io::Error, who: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("is {who} already running? `ss -ltnp` shows who has the port")
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: set `listen` to one that it has, or to 0.0.0.0 for all".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root: set `listen` to another".to_owned()
        }
        _ => "set `listen` to another address".to_owned(),
    }
}

/// Writes a duration in the largest unit that divides it: what [`parse_duration`] reads.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = DURATION_UNITS.iter().rev().find(|(_, factor)| ms != 0 && ms % factor == 0);
    let (unit, factor) = whole.copied().unwrap_or(DURATION_UNITS[1]);
    format!("{}{unit}", ms / factor)
}

/// A duration as a value of a configuration file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationValue(pub Duration);

impl<'de> Deserialize<'de> for DurationValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| parse_duration(text).map(Self))
    }
}

impl fmt::Debug for DurationValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_duration(self.0))
    }
}

/// A size in bytes as a value of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeValue(pub u64);

impl<'de> Deserialize<'de> for SizeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| parse_size(text).map(Self))
    }
}

/// Where to listen, as a value of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| parse_addr(text).map(Self))
    }
}

/// For `#[serde(deserialize_with = "…")]` on a path, which must name something.
///
/// # Errors
/// It is empty.
pub fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.as_os_str().is_empty() {
        return Err(D::Error::invalid_value(Unexpected::Str(""), &"a path"));
    }
    Ok(path)
}

/// The same on a path that may be left out.
///
/// # Errors
/// It is empty.
pub fn optional_path<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
    path(d).map(Some)
}

/// What a parser of the standard library says of a number on a command line, in words that say
/// what to write.
#[must_use]
pub fn number_words(said: &str) -> Option<&'static str> {
    match said {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            Some("write a whole number, 0 or more")
        }
        "number too large to fit in target type" => Some("write a smaller number"),
        "number too small to fit in target type" => Some("write a larger number"),
        "invalid float literal" | "cannot parse float from empty string" => {
            Some("write a number, such as 2.5")
        }
        _ => None,
    }
}

/// For `#[serde(with = "…")]` on a [`SocketAddr`].
pub mod listen_addr {
    use serde::Deserializer;
    use std::net::SocketAddr;

    /// Reads one.
    ///
    /// # Errors
    /// As [`super::parse_addr`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
        serde::Deserialize::deserialize(d).map(|super::ListenAddr(addr)| addr)
    }
}

/// For `#[serde(with = "…")]` on a [`Duration`].
pub mod duration {
    use serde::Deserializer;
    use std::time::Duration;

    /// Reads one.
    ///
    /// # Errors
    /// As [`super::parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        serde::Deserialize::deserialize(d).map(|super::DurationValue(duration)| duration)
    }
}

/// For `#[serde(with = "…")]` on a number of bytes.
pub mod size {
    use serde::Deserializer;

    /// Reads one.
    ///
    /// # Errors
    /// As [`super::parse_size`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        serde::Deserialize::deserialize(d).map(|super::SizeValue(bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("10m", 600_000), (" 2 h ", 7_200_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, bytes) in [("1B", 1), ("64MiB", 64 << 20), ("2 gib", 2 << 30)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        for text in ["", "10", "m", "-1s", "1.5s", "10 parsecs"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("ms, s, m, h, d, w") && error.contains("\"10m\""), "{error}");
        }
        let huge = "99999999999999999999w";
        assert_eq!(parse_duration(huge), Err(QuantityError::TooLarge { text: huge.to_owned() }));
    }

    #[test]
    fn a_duration_is_read_as_it_was_written() {
        for text in ["0s", "1500ms", "90s", "10m", "1d", "2w"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }
}
