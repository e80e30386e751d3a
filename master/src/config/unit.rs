//! Durations (`"10m"`) and sizes (`"64MiB"`) as configuration files write them.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a whole number and its unit: ms, s, m, h or d.
///
/// # Errors
/// Says what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        format!(
            "{text:?} is no duration: write a whole number and ms, s, m, h or d, such as \"10m\""
        )
    })
}

/// Reads a whole number and its unit: B, KiB, MiB, GiB or TiB.
///
/// # Errors
/// Says what to write instead.
pub fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).ok_or_else(|| {
        format!("{text:?} is no size: write a whole number and B, KiB, MiB, GiB or TiB, such as \"64MiB\"")
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// For `#[serde(with = …)]` on a [`Duration`].
pub mod duration {
    use serde::{Deserialize, Deserializer, de::Error};
    use std::time::Duration;

    /// Reads one.
    ///
    /// # Errors
    /// As [`super::parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = …)]` on a number of bytes.
pub mod size {
    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads one.
    ///
    /// # Errors
    /// As [`super::parse_size`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        super::parse_size(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}
