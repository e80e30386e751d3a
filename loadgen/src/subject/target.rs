//! The master that a run loads: whether it may, and whether it is there.

use crate::clients::work::Goal;
use crate::error::LoadError;
use crate::run::{PhaseConfig, Scenario};
use engine::blocking::{BlockingError, Connection};
use engine::wire::message::{StatusReq, StatusResp};
use engine::wire::{FrameBuf, access};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the master may take to say how it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A master that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its program version.
    pub version: String,
    /// The revision that it distributes; 0 for none.
    pub revision: u64,
    /// Whether its own configuration lets other machines load it.
    pub load_tests: bool,
}

impl Target {
    /// Looks whether a run may load a master, and asks that one how it is.
    ///
    /// # Errors
    /// The master is elsewhere and that was not allowed, here or by itself, the workload cannot
    /// end there, or nobody answers.
    pub fn examine(
        addr: SocketAddr,
        foreign_allowed: bool,
        scenario: &Scenario,
    ) -> Result<Self, LoadError> {
        let phases = &scenario.phases;
        if let Some(what) = phases.iter().find_map(PhaseConfig::needs_own_master) {
            return Err(LoadError::NeedsOwnMaster { what });
        }
        let waits = phases.iter().any(PhaseConfig::needs_dial_back);
        if !Self::is_here(addr) {
            if !foreign_allowed {
                return Err(LoadError::ForeignTarget { master: addr });
            }
            if waits {
                return Err(LoadError::NoDialBack { what: scenario.name.clone() });
            }
        }
        let target = Self::ask(addr)?;
        target.permit()?;
        // A revision that is asked for by its number may be published later.
        let needs_any = |phase: &PhaseConfig| phase.work.goal == Goal::Revision(1);
        if target.revision == 0 && phases.iter().any(needs_any) {
            return Err(LoadError::NothingPublished);
        }
        Ok(target)
    }

    /// Whoever starts a load may be wrong about whose master it is: one on another machine says
    /// itself whether it may be loaded.
    ///
    /// # Errors
    /// It is elsewhere, and does not allow it.
    pub fn permit(&self) -> Result<(), LoadError> {
        match Self::is_here(self.addr) || self.load_tests {
            true => Ok(()),
            false => Err(LoadError::LoadTestsOff { master: self.addr }),
        }
    }

    /// Asks a master how it is.
    ///
    /// # Errors
    /// Nobody answers, or it is no master of this protocol.
    pub fn ask(addr: SocketAddr) -> Result<Self, BlockingError> {
        let mut connection = Connection::connect(addr, ANSWER_TIMEOUT)?;
        let request = FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {});
        let answer = connection.request::<StatusResp>(&request)?;
        let status = access::<StatusResp>(&answer.frame())
            .map_err(|error| BlockingError::Wire { peer: addr.to_string(), error })?;
        let is_on = |name: &str, value: u64| name == "load_tests" && value > 0;
        let mut counters = status.counters.iter();
        Ok(Self {
            addr,
            version: status.version.as_str().to_owned(),
            revision: status.revision.to_native(),
            load_tests: counters.any(|entry| is_on(entry.0.as_str(), entry.1.to_native())),
        })
    }

    /// Whether a master is on this machine: then each client has an address of its own, and can be
    /// dialled back.
    #[must_use]
    pub fn is_here(addr: SocketAddr) -> bool {
        // Clients have IPv4 addresses, so ::1 would refuse them all the same.
        addr.is_ipv4() && addr.ip().is_loopback()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the master at {} (version {}, ", self.addr, self.version)?;
        match self.revision {
            0 => f.write_str("nothing published)"),
            revision => write!(f, "revision {revision})"),
        }
    }
}
