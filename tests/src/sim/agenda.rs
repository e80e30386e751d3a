//! When which machine of a cluster has something to do, so that a moment costs what happens in
//! it, however many machines there are.

use engine::reactor::sim::{SimNet, SimProcess};
use engine::time::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// A machine of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The master of this number.
    Master(usize),
    /// The client of this number.
    Client(usize),
}

/// The times at which machines that run have something to do by themselves.
#[derive(Debug, Default)]
pub struct Agenda {
    wakes: BTreeSet<(Instant, Who)>,
    times: BTreeMap<Who, Instant>,
    processes: BTreeMap<SimProcess, Who>,
    ready: Vec<SimProcess>,
}

impl Agenda {
    /// A process has begun: it is looked at now.
    pub fn begin(&mut self, who: Who, process: SimProcess) {
        self.processes.insert(process, who);
        self.poke(who);
    }

    /// A process has ended.
    pub fn end(&mut self, who: Who) {
        self.processes.retain(|_, its| *its != who);
        self.set(who, None);
    }

    /// Something has been changed in it: it is looked at now.
    pub fn poke(&mut self, who: Who) {
        self.set(who, Some(Instant(0)));
    }

    /// When it has something to do.
    pub fn set(&mut self, who: Who, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.times.insert(who, at),
            None => self.times.remove(&who),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.wakes.remove(&(old, who));
        }
        if let Some(at) = at {
            self.wakes.insert((at, who));
        }
    }

    /// Who has something to do now, by itself or for what the network has for it; in order.
    pub fn due(&mut self, net: &SimNet, now: Instant, into: &mut Vec<Who>) {
        into.extend(self.wakes.iter().take_while(|(at, _)| *at <= now).map(|(_, who)| *who));
        net.ready(&mut self.ready);
        into.extend(self.ready.drain(..).filter_map(|process| self.processes.get(&process)));
        into.sort_unstable();
        into.dedup();
    }

    /// When the first has something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }
}
