//! Which name is to be looked up, and what is known: the cache, and one look-up at a time for
//! each name, however many ask. Pure.

use super::Answer;
use crate::ids::HostName;
use crate::node::io::ResolveError;
use crate::time::{Instant, Now};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Bounds of [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameSettings {
    /// Look-ups under way.
    pub lookups_max: usize,
    /// Names that wait for a look-up; one more is answered with an error.
    pub waiting_max: usize,
    /// Answers kept.
    pub answers_max: usize,
    /// Longest time that an answer is kept, whatever its TTL.
    pub ttl_max: Duration,
    /// How long it is kept that a name does not exist.
    pub absent_ttl: Duration,
    /// How long it is kept that a look-up failed.
    pub failed_ttl: Duration,
}

impl Default for NameSettings {
    fn default() -> Self {
        Self {
            lookups_max: 256,
            waiting_max: 100_000,
            answers_max: 100_000,
            ttl_max: Duration::from_secs(24 * 3600),
            absent_ttl: Duration::from_secs(5),
            failed_ttl: Duration::from_secs(1),
        }
    }
}

/// What a name resolves to, or why to nothing.
pub type Resolution = Result<Vec<SocketAddr>, ResolveError>;

#[derive(Debug)]
struct Known {
    resolution: Resolution,
    until: Instant,
}

/// The cache of a resolver.
#[derive(Debug, Default)]
pub struct Names {
    settings: NameSettings,
    known: HashMap<HostName, Known>,
    /// How many requests wait for each name.
    asked: HashMap<HostName, usize>,
    waiting: VecDeque<HostName>,
    lookups: usize,
    answers: VecDeque<(HostName, Resolution)>,
}

impl Names {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: NameSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Forgets what is known, not what is asked.
    pub fn clear(&mut self) {
        self.known = HashMap::new();
    }

    /// Somebody asks for a name; each request has exactly one answer.
    pub fn handle_request(&mut self, name: HostName, now: Now) {
        // What a peer calls itself must not decide where it is dialled: only the table, or the
        // name service, has addresses.
        if name.as_str().parse::<IpAddr>().is_ok() {
            self.answers.push_back((name, Err(ResolveError::NoSuchName)));
            return;
        }
        if let Some(known) = self.known.get(&name)
            && now.at < known.until
        {
            self.answers.push_back((name, known.resolution.clone()));
            return;
        }
        if let Some(requests) = self.asked.get_mut(&name) {
            *requests += 1;
        } else if self.waiting.len() >= self.settings.waiting_max {
            let error = "too many names wait to be looked up".to_owned();
            self.answers.push_back((name, Err(ResolveError::Failed(error))));
        } else {
            self.asked.insert(name.clone(), 1);
            self.waiting.push_back(name);
        }
    }

    /// The name service has answered a look-up.
    pub fn handle_answer(
        &mut self,
        name: HostName,
        answer: Result<Answer, ResolveError>,
        now: Now,
    ) {
        let Some(requests) = self.asked.remove(&name) else { return };
        self.lookups -= 1;
        let (resolution, ttl) = match answer {
            Ok(answer) if answer.addrs.is_empty() => {
                (Err(ResolveError::NoSuchName), self.settings.absent_ttl)
            }
            Ok(Answer { addrs, ttl }) => {
                let addrs = addrs.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
                (Ok(addrs), ttl.min(self.settings.ttl_max))
            }
            Err(ResolveError::NoSuchName) => {
                (Err(ResolveError::NoSuchName), self.settings.absent_ttl)
            }
            Err(error) => (Err(error), self.settings.failed_ttl),
        };
        for _ in 0..requests {
            self.answers.push_back((name.clone(), resolution.clone()));
        }
        if self.known.len() >= self.settings.answers_max {
            self.known.retain(|_, known| now.at < known.until);
            if self.known.len() >= self.settings.answers_max {
                self.clear();
            }
        }
        self.known.insert(name, Known { resolution, until: now.at + ttl });
    }

    /// The next name to look up.
    pub fn poll_lookup(&mut self) -> Option<HostName> {
        if self.lookups >= self.settings.lookups_max {
            return None;
        }
        let name = self.waiting.pop_front()?;
        self.lookups += 1;
        Some(name)
    }

    /// The next answer to a request.
    pub fn poll_answer(&mut self) -> Option<(HostName, Resolution)> {
        self.answers.pop_front()
    }
}

#[cfg(test)]
mod tests;
