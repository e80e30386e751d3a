//! What the master knows of its hosts, in memory: enough to decide who lacks what. The result
//! store keeps the same for the operator's questions; it is told once a second at most.

use super::claims::{Claim, Claims};
use super::published::Published;
use crate::sink::{ConflictKey, HostUpdate, HostUpdates};
use engine::ids::{HostName, Revision};
use engine::node::{DeliveryFailure, Outgoing};
use engine::time::{Now, WallMs};
use std::collections::HashMap;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Two sources of one name within this time are a conflict, not a host that moved.
const CONFLICT_WINDOW: Duration = Duration::from_secs(600);
/// Addresses from which a host's requests to bind are remembered at once.
const ASKERS_MAX: usize = 4;
/// A client's clock that is off by more than this is worth a warning: expiry is judged by it.
pub const CLOCK_SKEW_MAX_MS: u64 = 60_000;

/// One host.
#[derive(Debug, Clone, Default)]
struct HostState {
    line: Option<u32>,
    seen: WallMs,
    held: Revision,
    /// The revision that is on its way to it.
    offered: Revision,
    /// The revision that it acked and has not yet said to hold.
    sent: Revision,
    source: Option<IpAddr>,
    /// The addresses that its name had when it was last resolved.
    addresses: Box<[IpAddr]>,
    /// It was heard from one of them: what comes from elsewhere does not stand for it.
    confirmed: bool,
    /// Something came from elsewhere, and its name is being resolved anew.
    unchecked: Option<IpAddr>,
    skewed: bool,
    /// Its last poll told of an error.
    failing: bool,
    /// What it lacks is on its way to it because it has polled: it runs.
    answering: bool,
    /// An operator has asked for it by name: it is offered the assignment whatever it is
    /// thought to hold.
    asked_for: bool,
    /// It lacks something, and the dial that answered its last poll failed. Failures while it
    /// may not have been running say nothing about the way to it.
    undeliverable: bool,
    /// The `BindReq`s not yet answered: where each came from, and its nonce. Who claims the name
    /// from elsewhere must not take the place of the host's own, and which is which may not be
    /// known yet: all are answered, where the name leads.
    asked_to_bind: Vec<(Option<IpAddr>, u64)>,
}

/// All hosts of the inventory that have a name: those it lists, those of the hosts table, and
/// those that matched a glob and were heard.
#[derive(Debug)]
pub struct Hosts {
    published: Arc<Published>,
    hosts: HashMap<HostName, HostState>,
    /// Names outside the inventory file that are known all the same.
    tabled: Vec<HostName>,
    to_resolve: Vec<HostName>,
    hosts_max: usize,
    updates: HostUpdates,
    claims: Claims,
}

/// Who it is that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A name that the inventory does not have.
    Stranger,
    /// The host of this name, as far as can be told.
    Host,
    /// Somebody else: the host itself was heard from its own address. It gets no answer (that
    /// goes where the name leads), and what it says of itself is not the host's.
    Claimant,
}

/// What a client said in its poll.
#[derive(Debug, Clone, Copy)]
pub struct Polled<'a> {
    /// The revision it holds.
    pub held: Revision,
    /// The revision it last applied to the end.
    pub applied: Revision,
    /// Its wall clock.
    pub wall: WallMs,
    /// Its program version.
    pub version: &'a str,
    /// Its last error.
    pub last_error: &'a str,
}

/// How the hosts are, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostCounts {
    /// They have the revision in force.
    pub current: u64,
    /// They were not heard of late.
    pub silent: u64,
    /// Their clock is off.
    pub skewed: u64,
    /// Their last poll told of an error.
    pub failing: u64,
    /// They hold a later revision than the one in force.
    pub ahead: u64,
    /// The latest that any of them holds.
    pub held_max: Revision,
}

/// What to do where a host holds a later revision than is published: it refuses all up to that.
#[must_use]
pub fn ahead(held: Revision, published: Revision) -> String {
    let above = held.0.saturating_add(1);
    format!(
        "it holds revision {held}, and {published} is published, which it refuses: run `drover publish --revision-min {above}`"
    )
}

impl HostState {
    /// The revision that it has, as far as is known.
    fn has(&self) -> Revision {
        self.held.max(self.sent)
    }
}

impl Hosts {
    /// No release yet: no host is known.
    #[must_use]
    pub fn new(hosts_max: usize) -> Self {
        Self {
            published: Arc::default(),
            hosts: HashMap::new(),
            tabled: Vec::new(),
            to_resolve: Vec::new(),
            hosts_max,
            updates: HostUpdates::default(),
            claims: Claims::default(),
        }
    }

    /// The release in force.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Takes a new release, and the names of the hosts table.
    pub fn publish(&mut self, published: Arc<Published>, tabled: Vec<HostName>) {
        self.published = published;
        self.tabled = tabled;
        let gone =
            |line: Option<u32>| HostUpdate { gone: Some(line.is_none()), ..HostUpdate::default() };
        for (name, state) in &mut self.hosts {
            let line = line_of(&self.published, name);
            if line.is_some() != state.line.is_some() {
                self.updates.host(name.clone(), gone(line));
            }
            state.line = line;
        }
        self.hosts.retain(|_, state| state.line.is_some());
        let published = Arc::clone(&self.published);
        for name in published.named_hosts().chain(&mem::take(&mut self.tabled)) {
            if !self.hosts.contains_key(name) && self.admit(name) {
                self.updates.host(name.clone(), gone(Some(0)));
            }
        }
    }

    /// Takes what the result store remembers of a host from before the start.
    pub fn remember(&mut self, name: &HostName, seen: WallMs, held: Revision) {
        if self.admit(name)
            && let Some(state) = self.hosts.get_mut(name)
        {
            state.seen = state.seen.max(seen);
            state.held = state.held.max(held);
        }
    }

    fn admit(&mut self, name: &HostName) -> bool {
        if self.hosts.contains_key(name) {
            return true;
        }
        let line = line_of(&self.published, name);
        // A glob lets anybody make up names: their number is bounded.
        if line.is_none() || self.hosts.len() >= self.hosts_max {
            return false;
        }
        self.hosts.insert(name.clone(), HostState { line, ..HostState::default() });
        true
    }

    /// Whether the inventory has this host.
    #[must_use]
    pub fn knows(&self, name: &HostName) -> bool {
        self.hosts.contains_key(name) || self.published.line_of(name).is_some()
    }

    /// How many hosts have a name.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Names of all hosts.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// How they are; silent is who was not heard since then.
    #[must_use]
    pub fn counts(&self, silent_since: WallMs) -> HostCounts {
        let revision = self.published.revision;
        let mut counts = HostCounts::default();
        for host in self.hosts.values() {
            counts.current += u64::from(host.has() == revision);
            counts.silent += u64::from(host.seen < silent_since);
            counts.skewed += u64::from(host.skewed);
            counts.failing += u64::from(host.failing);
            counts.ahead += u64::from(host.held > revision);
            counts.held_max = counts.held_max.max(host.held);
        }
        counts
    }

    /// Why a host refuses all that is published; `None` if it does not.
    #[must_use]
    pub fn ahead(&self, name: &HostName) -> Option<String> {
        let held = self.hosts.get(name)?.held;
        (held > self.published.revision).then(|| ahead(held, self.published.revision))
    }

    /// A message in the name of a host has come in. Where the name leads elsewhere, or that is
    /// not known yet, it has to be resolved: [`Hosts::take_unresolved`].
    pub fn heard(&mut self, name: &HostName, source: Option<IpAddr>, now: Now) -> Heard {
        if !self.admit(name) {
            return Heard::Stranger;
        }
        let Some(state) = self.hosts.get_mut(name) else { return Heard::Stranger };
        // One address has two forms where IPv4 comes through an IPv6 socket.
        let source = source.map(|ip| ip.to_canonical());
        let mut conflict = None;
        if let Some(found) = source {
            let window = u64::try_from(CONFLICT_WINDOW.as_millis()).unwrap_or(u64::MAX);
            if state.addresses.contains(&found) {
                state.confirmed = true;
            } else {
                if state.unchecked.replace(found).is_none() {
                    self.to_resolve.push(name.clone());
                }
                if state.confirmed {
                    return Heard::Claimant;
                }
                // While nobody says where the name leads, two sources are one too many.
                conflict = state.source.filter(|expected| {
                    state.addresses.is_empty()
                        && *expected != found
                        && now.wall.0.saturating_sub(state.seen.0) < window
                });
            }
        }
        state.seen = now.wall;
        state.source = source.or(state.source);
        let update = HostUpdate { seen: Some(now.wall), address: source, ..HostUpdate::default() };
        self.updates.host(name.clone(), update);
        if let (Some(expected), Some(found)) = (conflict, source) {
            self.on_conflict(name, ConflictKey { expected, found }, now);
        }
        Heard::Host
    }

    /// Names that have to be resolved, to tell who it was that was heard: each once until
    /// [`Hosts::resolved`].
    pub fn take_unresolved(&mut self) -> Vec<HostName> {
        mem::take(&mut self.to_resolve)
    }

    /// A name was resolved: what was heard from elsewhere in the meantime is a conflict. A host
    /// with several addresses is known by all that its name has.
    pub fn resolved(&mut self, name: &HostName, addresses: &[SocketAddr], now: Now) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        state.addresses = addresses.iter().map(|addr| addr.ip().to_canonical()).collect();
        let Some(found) = state.unchecked.take() else { return };
        match state.addresses.iter().min().copied() {
            Some(_) if state.addresses.contains(&found) => state.confirmed = true,
            Some(expected) => self.on_conflict(name, ConflictKey { expected, found }, now),
            None => {}
        }
    }

    fn on_conflict(&mut self, name: &HostName, key: ConflictKey, now: Now) {
        self.updates.conflict(name.clone(), key, now.wall);
        self.claims.add(Claim { name: name.clone(), key }, now.at);
    }

    /// Names that were claimed from two addresses, since the start.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A poll has come in from a host that was [`Hosts::heard`].
    pub fn polled(&mut self, name: &HostName, polled: Polled<'_>, now: Now) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        // What it says it holds is the truth: it may have refused what it acked.
        state.held = polled.held;
        state.sent = Revision(0);
        state.answering = state.line.is_some() && state.has() < self.published.revision;
        state.skewed = polled.wall.0.abs_diff(now.wall.0) > CLOCK_SKEW_MAX_MS;
        state.failing = !polled.last_error.is_empty();
        let ahead = i128::from(polled.wall.0) - i128::from(now.wall.0);
        self.updates.host(
            name.clone(),
            HostUpdate {
                held: Some(polled.held),
                applied: Some(polled.applied),
                version: Some(polled.version.to_owned()),
                last_error: Some(polled.last_error.to_owned()),
                clock_skew_ms: Some(i64::try_from(ahead).unwrap_or(i64::MAX)),
                ..HostUpdate::default()
            },
        );
    }

    /// A host asked to be bound, or somebody in its name.
    pub fn asked_to_bind(&mut self, name: &HostName, source: Option<IpAddr>, nonce: u64) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        let source = source.map(|ip| ip.to_canonical());
        let asked = &mut state.asked_to_bind;
        asked.retain(|(from, _)| *from != source);
        if asked.len() == ASKERS_MAX {
            let is_own =
                |from: Option<IpAddr>| from.is_some_and(|ip| state.addresses.contains(&ip));
            asked.remove(asked.iter().position(|(from, _)| !is_own(*from)).unwrap_or(0));
        }
        asked.push((source, nonce));
    }

    /// Takes the nonces that a host may await the answer to: it knows which is its own.
    pub fn take_bind_nonces(&mut self, name: &HostName) -> Vec<u64> {
        let asked = self.hosts.get_mut(name).map(|state| mem::take(&mut state.asked_to_bind));
        asked.into_iter().flatten().map(|(_, nonce)| nonce).collect()
    }

    /// Whether a host lacks the current revision.
    #[must_use]
    pub fn lacks(&self, name: &HostName) -> bool {
        self.hosts.get(name).is_some_and(|h| h.line.is_some() && h.has() < self.published.revision)
    }

    /// An operator wants it to be told of the revision in force, whatever it may hold.
    pub fn ask_for(&mut self, name: &HostName) {
        if let Some(state) = self.hosts.get_mut(name) {
            state.asked_for = true;
        }
    }

    /// What a host lacks now, to be sent to it: the assignment of its line.
    pub fn offer(&mut self, name: &HostName) -> Option<Outgoing> {
        let state = self.hosts.get_mut(name)?;
        let line = state.line? as usize;
        if !mem::take(&mut state.asked_for) && state.has() >= self.published.revision {
            return None;
        }
        state.offered = self.published.revision;
        self.published.message(line)
    }

    /// A delivery to a host has ended.
    pub fn delivered(&mut self, name: &HostName, result: &Result<(), DeliveryFailure>) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        let (offered, answering) = (mem::take(&mut state.offered), mem::take(&mut state.answering));
        state.asked_for = false;
        match result {
            Ok(()) => {
                state.undeliverable = false;
                state.sent = state.sent.max(offered);
            }
            // It was not dialled, or it was reached and says itself why it does not take it.
            Err(
                DeliveryFailure::RateLimited
                | DeliveryFailure::Cancelled
                | DeliveryFailure::Refused(_),
            ) => {}
            Err(_) => state.undeliverable = answering,
        }
    }

    /// Whether a host was ever heard.
    #[must_use]
    pub fn was_heard(&self, name: &HostName) -> bool {
        self.hosts.get(name).is_some_and(|h| h.seen > WallMs(0))
    }

    /// Whether the host is to be told that something could not be brought to it.
    #[must_use]
    pub fn is_behind(&self, name: &HostName) -> bool {
        self.lacks(name) && self.hosts.get(name).is_some_and(|h| h.undeliverable)
    }

    /// What the result store has not been told yet.
    pub fn take_updates(&mut self) -> HostUpdates {
        mem::take(&mut self.updates)
    }

    /// Whether there is any such thing.
    #[must_use]
    pub fn has_updates(&self) -> bool {
        !self.updates.is_empty()
    }
}

fn line_of(published: &Published, name: &HostName) -> Option<u32> {
    published.line_of(name).and_then(|line| u32::try_from(line).ok())
}
