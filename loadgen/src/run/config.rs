//! What is loaded, and by how many clients: what all phases of a run share.

use crate::names::NamesConfig;
use crate::subject::own::OwnConfig;
use engine::config::parse_duration;
use master::table::words::duration_us;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

/// A master and its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadConfig {
    /// How many clients.
    pub clients: u32,
    /// Who shares them.
    pub workers: Workers,
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

/// Most threads that share the clients.
const THREADS_MAX: u32 = 256;

/// Who simulates the clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Workers {
    /// As many threads as their descriptors demand.
    #[default]
    AsNeeded,
    /// So many threads.
    Threads(u32),
    /// Processes, each `HOST:PORT` of a `loadgen worker`.
    At(Vec<String>),
}

impl Workers {
    /// Reads a number, or addresses with commas between them.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is neither a number of threads, 1 to {THREADS_MAX}, nor HOST:PORT,… of a `loadgen worker` each, none of them twice"
            )
        };
        if let Ok(threads) = text.parse() {
            return match (1..=THREADS_MAX).contains(&threads) {
                true => Ok(Self::Threads(threads)),
                false => Err(wrong()),
            };
        }
        let named: Vec<String> = text.split(',').map(|worker| worker.trim().to_owned()).collect();
        let is_address = |worker: &String| {
            let parts = worker.rsplit_once(':');
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<NonZeroU16>().is_ok())
        };
        let once: BTreeSet<&String> = named.iter().collect();
        let is_sound = named.iter().all(is_address) && once.len() == named.len();
        is_sound.then_some(Self::At(named)).ok_or_else(wrong)
    }
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
    fn workers_are_a_number_or_addresses() {
        let at = |all: &[&str]| Ok(Workers::At(all.iter().map(|&one| one.into()).collect()));
        assert_eq!(Workers::parse("3"), Ok(Workers::Threads(3)));
        assert_eq!(Workers::parse("127.0.0.1:7500"), at(&["127.0.0.1:7500"]));
        assert_eq!(Workers::parse("a:1, [::1]:2"), at(&["a:1", "[::1]:2"]));
        for text in ["", "0", "257", "a", "a:", ":1", "a:0", "a:65536", "a:1,", "a:1,a:1", "a:1,2"]
        {
            let error = Workers::parse(text).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

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
