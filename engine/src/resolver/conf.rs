//! The two files that say how this machine resolves names. Lines that are not understood are
//! passed over, as the C library does.

use crate::ids::HostName;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Name servers asked, and search domains tried, at most.
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;

/// `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    pub(super) search: Vec<String>,
    /// A name with at least as many dots is first tried as it is.
    pub(super) dots_min: usize,
    pub(super) timeout: Duration,
    pub(super) tries: u32,
}

fn words(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 1)
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots_min: 1,
            timeout: Duration::from_secs(5),
            tries: 2,
        };
        for words in words(text) {
            match words[0] {
                "nameserver" => conf.servers.extend(words[1].parse::<IpAddr>()),
                "search" | "domain" => {
                    conf.search = words[1..].iter().map(|s| (*s).to_owned()).collect();
                }
                "options" => words[1..].iter().for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        conf.search.truncate(SEARCH_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((key, Ok(value))) = option.split_once(':').map(|(k, v)| (k, v.parse::<u8>()))
        else {
            return;
        };
        match key {
            "ndots" => self.dots_min = usize::from(value.min(15)),
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.tries = u32::from(value.clamp(1, 5)),
            _ => {}
        }
    }

    /// The names to ask for, in this order.
    pub(super) fn candidates(&self, name: &HostName) -> Vec<HostName> {
        let plain = name.as_str();
        let searched = self.search.iter().filter_map(|domain| {
            HostName::parse(format!("{plain}.{}", domain.trim_matches('.')).as_bytes()).ok()
        });
        let mut names: Vec<HostName> = searched.collect();
        let dots = plain.bytes().filter(|b| *b == b'.').count();
        names.insert(if dots >= self.dots_min { 0 } else { names.len() }, name.clone());
        names
    }
}

/// The addresses that `/etc/hosts` has for a name.
pub(super) fn hosts_addrs(text: &str, name: &HostName) -> Vec<IpAddr> {
    let lines = words(text);
    let named = lines.filter(|w| w[1..].iter().any(|n| n.eq_ignore_ascii_case(name.as_str())));
    named.filter_map(|words| words[0].parse().ok()).collect()
}
