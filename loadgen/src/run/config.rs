//! What is loaded, and by how many clients: what all phases of a run share.

use crate::names::NamesConfig;
use crate::subject::own::OwnConfig;
use engine::config::parse_duration;
use master::table::words::duration_us;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A master and its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadConfig {
    /// How many clients.
    pub clients: u32,
    /// How many workers share them; `None`: as many as their descriptors take.
    pub workers: Option<u32>,
    /// The master.
    pub master: MasterChoice,
    /// The port on which the clients are dialled back, a port higher for each further worker;
    /// 0 takes any.
    pub port: u16,
    /// Suffix of the clients' names.
    pub suffix: String,
    /// Where to write the hosts table before anything starts.
    pub hosts_table: Option<PathBuf>,
    /// A name service of its own, in the place of a hosts table.
    pub names: Option<NamesConfig>,
    /// Where to note the acked reports as they come.
    pub journal: Option<PathBuf>,
    /// Where to leave the report as files.
    pub out: Option<PathBuf>,
    /// Deliveries under way at once; `None` takes half of the descriptors.
    pub deliveries_max: Option<usize>,
    /// Decides the order of the slots.
    pub seed: u64,
}

/// The master that is loaded.
#[derive(Debug, Clone, PartialEq)]
pub enum MasterChoice {
    /// One that runs.
    Running {
        /// Where it listens.
        addr: SocketAddr,
        /// Whether it may be on another machine.
        foreign_allowed: bool,
        /// Its control socket, for the check at the end and to see how it is.
        control: Option<PathBuf>,
        /// Its process, to see what it takes of the machine.
        pid: Option<u32>,
    },
    /// One that loadgen starts, and ends, itself.
    Own(OwnConfig),
}

/// What latencies must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Of all messages of a kind this share, 0 to 1,
    pub quantile: f64,
    /// takes at most this.
    pub limit: Duration,
}

impl Bound {
    /// Reads `p99=1s`, `p99.9=250ms`, `max=2s`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no bound; write for example p99=1s, or max=5s");
        let (quantile, limit) = text.split_once('=').ok_or_else(wrong)?;
        let limit = parse_duration(limit).map_err(|error| format!("{}: {error}", wrong()))?;
        let quantile = match quantile.strip_prefix('p') {
            Some(percent) => percent.parse::<f64>().map_err(|_| wrong())? / 100.0,
            None if quantile == "max" => 1.0,
            None => return Err(wrong()),
        };
        let sound = quantile > 0.0 && quantile <= 1.0 && !limit.is_zero();
        sound.then_some(Self { quantile, limit }).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = duration_us(u64::try_from(self.limit.as_micros()).unwrap_or(u64::MAX));
        if self.quantile >= 1.0 {
            return write!(f, "max ≤ {limit}");
        }
        let percent = (self.quantile * 1e6).round() / 1e4;
        write!(f, "p{percent} ≤ {limit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_shown() {
        for (text, shown) in [
            ("p99=1s", "p99 ≤ 1.00s"),
            ("p99.9=250ms", "p99.9 ≤ 250.0ms"),
            ("max=5s", "max ≤ 5.00s"),
        ] {
            let found = Bound::parse(text).unwrap().to_string();
            assert_eq!(found, shown);
        }
        for text in ["", "p99", "p0=1s", "p101=1s", "p99=0s", "p99=x", "99=1s", "mean=1s"] {
            let error = Bound::parse(text).unwrap_err();
            assert!(error.contains("p99=1s"), "{error}");
        }
    }
}
