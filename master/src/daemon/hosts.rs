//! What the master knows of its hosts, in memory: enough to decide who lacks what. The result
//! store keeps the same for the operator's questions; it is told once a second at most.

use super::published::Published;
use crate::sink::{ConflictKey, HostUpdate, HostUpdates};
use engine::ids::{HostName, Revision};
use engine::node::{DeliveryFailure, Outgoing};
use engine::time::{Now, WallMs};
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Two sources of one name within this time are a conflict, not a host that moved.
const CONFLICT_WINDOW: Duration = Duration::from_secs(600);
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
    skewed: bool,
    /// What it lacks is on its way to it because it has polled: it runs.
    answering: bool,
    /// It lacks something, and the dial that answered its last poll failed. Failures while it
    /// may not have been running say nothing about the way to it.
    undeliverable: bool,
    /// The nonce of a `BindReq` not yet answered.
    bind_nonce: Option<u64>,
}

/// All hosts of the inventory that have a name: those it lists, those of the hosts table, and
/// those that matched a glob and were heard.
#[derive(Debug)]
pub struct Hosts {
    published: Arc<Published>,
    hosts: HashMap<HostName, HostState>,
    /// Names outside the inventory file that are known all the same.
    tabled: Vec<HostName>,
    hosts_max: usize,
    updates: HostUpdates,
    /// Names claimed from two addresses, since the start.
    pub conflicts: u64,
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
            hosts_max,
            updates: HostUpdates::default(),
            conflicts: 0,
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

    /// How many hold the current revision, were not heard since `silent_since`, and have a
    /// clock that is off.
    #[must_use]
    pub fn counts(&self, silent_since: WallMs) -> (u64, u64, u64) {
        let revision = self.published.revision;
        let count =
            |is: &dyn Fn(&HostState) -> bool| self.hosts.values().filter(|h| is(h)).count() as u64;
        (count(&|h| h.has() >= revision), count(&|h| h.seen < silent_since), count(&|h| h.skewed))
    }

    /// A message from a host has come in; `false` if the inventory does not have it.
    pub fn heard(&mut self, name: &HostName, source: Option<IpAddr>, now: Now) -> bool {
        if !self.admit(name) {
            return false;
        }
        let Some(state) = self.hosts.get_mut(name) else { return false };
        let window = u64::try_from(CONFLICT_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if let (Some(expected), Some(found)) = (state.source, source)
            && expected != found
            && now.wall.0.saturating_sub(state.seen.0) < window
        {
            self.conflicts += 1;
            self.updates.conflict(name.clone(), ConflictKey { expected, found }, now.wall);
        }
        state.seen = now.wall;
        state.source = source.or(state.source);
        let update = HostUpdate { seen: Some(now.wall), address: source, ..HostUpdate::default() };
        self.updates.host(name.clone(), update);
        true
    }

    /// A poll has come in from a host that was [`Hosts::heard`].
    pub fn polled(&mut self, name: &HostName, polled: Polled<'_>, now: Now) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        // What it says it holds is the truth: it may have refused what it acked.
        state.held = polled.held;
        state.sent = Revision(0);
        state.answering = state.line.is_some() && state.has() < self.published.revision;
        state.skewed = polled.wall.0.abs_diff(now.wall.0) > CLOCK_SKEW_MAX_MS;
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

    /// A host asked to be bound.
    pub fn asked_to_bind(&mut self, name: &HostName, nonce: u64) {
        if let Some(state) = self.hosts.get_mut(name) {
            state.bind_nonce = Some(nonce);
        }
    }

    /// Takes the nonce that a host awaits the answer to.
    pub fn take_bind_nonce(&mut self, name: &HostName) -> Option<u64> {
        self.hosts.get_mut(name)?.bind_nonce.take()
    }

    /// Whether a host lacks the current revision.
    #[must_use]
    pub fn lacks(&self, name: &HostName) -> bool {
        self.hosts.get(name).is_some_and(|h| h.line.is_some() && h.has() < self.published.revision)
    }

    /// What a host lacks now, to be sent to it: the assignment of its line.
    pub fn offer(&mut self, name: &HostName) -> Option<Outgoing> {
        let state = self.hosts.get_mut(name)?;
        let line = state.line? as usize;
        if state.has() >= self.published.revision {
            return None;
        }
        state.offered = self.published.revision;
        self.published.message(line)
    }

    /// A delivery to a host has ended.
    pub fn delivered(&mut self, name: &HostName, result: &Result<(), DeliveryFailure>) {
        let Some(state) = self.hosts.get_mut(name) else { return };
        let (offered, answering) = (mem::take(&mut state.offered), mem::take(&mut state.answering));
        match result {
            Ok(()) => {
                state.undeliverable = false;
                state.sent = state.sent.max(offered);
            }
            // It was not dialled.
            Err(DeliveryFailure::RateLimited | DeliveryFailure::Cancelled) => {}
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
