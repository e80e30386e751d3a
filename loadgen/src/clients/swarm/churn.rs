//! Clients that leave and come back. One that is away is as a host that is switched off: nothing
//! reaches it, it sends nothing, and what it had planned for that time is nobody's.

use super::Swarm;
use crate::clients::schedule::Tick;
use crate::clients::work::Churn;
use engine::node::io::Host;
use engine::time::Now;
use std::time::Duration;

impl Swarm {
    /// A client leaves if it is time to: without a word, and comes back later.
    pub(super) fn churn(&mut self, now: Now) {
        while let (Some((at, interval)), Some(churn)) = (self.next_leave, self.plan.work.churn)
            && at <= now.at
        {
            self.next_leave =
                Some((at + interval, interval)).filter(|(at, _)| *at < self.plan.until);
            let place = self.rng.usize(..self.clients.len());
            // One that is away, or has only just come back, does not leave again.
            if self.clients[place].standing.bound {
                self.leave(place, Tick::from(now.at + churn.away), now);
            }
        }
    }

    fn leave(&mut self, place: usize, back: Tick, now: Now) {
        self.restart(place, back.at(), now);
        self.clients[place].away_until = Some(back);
        self.tally.leaves += 1;
        self.end_connections(|other| other == place);
        self.advance(self.config.clients.start + u32::try_from(place).unwrap_or(u32::MAX), now);
    }

    /// Whether a client is away. The swarm has one listener for all of them, so what comes to one
    /// that is away is accepted, and closed at once without being read.
    pub(super) fn is_away(&self, index: u32) -> bool {
        self.clients[self.place(index)].away_until.is_some()
    }

    /// A client's timer has fired.
    pub(super) fn wake(&mut self, index: u32, now: Now) {
        let place = self.place(index);
        let client = &mut self.clients[place];
        if client.away_until.is_some_and(|back| back.at() > now.at) {
            // It was set before the client left.
            self.arm(index, now);
            return;
        }
        client.node.lend(&mut self.queues);
        if let Some(back) = client.away_until.take() {
            self.tally.returns += 1;
            client.node.with_role(now, |role, cx| role.come_back(back.at(), cx));
        }
        client.node.handle_timeout(now);
        self.advance(index, now);
    }
}

/// How far apart clients leave; `None` if none does.
pub(super) fn leave_interval(churn: Churn, clients: usize) -> Option<Duration> {
    let a_minute = u64::from(churn.permille) * clients as u64;
    let ns = 60_000_000_000_000_u64.checked_div(a_minute)?;
    Some(Duration::from_nanos(ns.max(1)))
}
