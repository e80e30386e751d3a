//! Who asks and is in no line of the inventory: remembered for the operator, who may have
//! forgotten them.

use engine::ids::HostName;
use engine::logging::is_due;
use engine::time::Instant;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Names that are remembered: anybody can make up more.
const NAMES_MAX: usize = 32;
/// Names shown.
const SHOWN_MAX: usize = 5;
/// Whoever was not heard for so long asks no more.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Stranger {
    name: HostName,
    source: Option<IpAddr>,
    heard: Instant,
    logged: bool,
}

/// The hosts that were refused of late, the latest at the end.
#[derive(Debug, Default)]
pub struct Strangers {
    names: VecDeque<Stranger>,
    logged: Option<Instant>,
}

impl Strangers {
    /// One was refused: a line of the log for each name, and not too many at once.
    pub fn refused(&mut self, name: &HostName, source: Option<IpAddr>, now: Instant) {
        // One address has two forms where IPv4 comes through an IPv6 socket.
        let source = source.map(|ip| ip.to_canonical());
        let at = self.names.iter().position(|stranger| stranger.name == *name);
        let known = at.and_then(|at| self.names.remove(at));
        let mut stranger = known.unwrap_or_else(|| Stranger {
            name: name.clone(),
            source,
            heard: now,
            logged: false,
        });
        (stranger.source, stranger.heard) = (source, now);
        if !stranger.logged && is_due(&mut self.logged, LOG_INTERVAL, now) {
            stranger.logged = true;
            let from = source.map(|ip| format!(" from {ip}")).unwrap_or_default();
            log::warn!(
                "{name}{from} is refused: it is not in the inventory; add it to hosts.yaml and publish"
            );
        }
        if self.names.len() == NAMES_MAX {
            self.names.pop_front();
        }
        self.names.push_back(stranger);
    }

    /// The inventory has changed: some may be in it now.
    pub fn admit(&mut self, knows: impl Fn(&HostName) -> bool) {
        self.names.retain(|stranger| !knows(&stranger.name));
    }

    /// What an operator should know of them.
    #[must_use]
    pub fn warning(&self, now: Instant) -> Option<String> {
        let recent = |s: &&Stranger| now.since(s.heard) < FORGET_AFTER;
        let recent: Vec<_> = self.names.iter().rev().filter(recent).collect();
        let name = |s: &&Stranger| match s.source {
            Some(ip) => format!("{} ({ip})", s.name),
            None => s.name.to_string(),
        };
        let shown: Vec<String> = recent.iter().take(SHOWN_MAX).map(name).collect();
        let more = if recent.len() > SHOWN_MAX { ", …" } else { "" };
        (!recent.is_empty()).then(|| {
            format!(
                "refused, since they are not in the inventory: {}{more}; add them to hosts.yaml and publish",
                shown.join(", ")
            )
        })
    }
}
