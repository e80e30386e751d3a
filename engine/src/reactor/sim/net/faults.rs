//! What goes wrong in the simulated network because somebody wants it to.

use super::super::socket::{Socket, State};
use super::Net;
use std::net::IpAddr;
use std::time::Duration;

impl Net {
    pub(in super::super) fn cut(&mut self, a: IpAddr, b: IpAddr) {
        self.cuts.insert((a.min(b), a.max(b)));
    }

    pub(in super::super) fn heal(&mut self, a: IpAddr, b: IpAddr) {
        self.cuts.remove(&(a.min(b), a.max(b)));
    }

    pub(in super::super) fn set_black_hole(&mut self, ip: IpAddr, on: bool) {
        if on {
            self.black_holes.insert(ip);
        } else {
            self.black_holes.remove(&ip);
        }
    }

    pub(in super::super) fn set_unreachable(&mut self, ip: IpAddr, on: bool) {
        if on {
            self.unreachable.insert(ip);
        } else {
            self.unreachable.remove(&ip);
        }
    }

    pub(in super::super) fn heal_all(&mut self) {
        self.cuts.clear();
        self.black_holes.clear();
        self.unreachable.clear();
    }

    pub(in super::super) fn set_latency(&mut self, min: Duration, max: Duration) {
        (self.config.latency_min, self.config.latency_max) = (min, max);
    }

    pub(in super::super) fn reset(&mut self, at: IpAddr, with: IpAddr) {
        let between =
            |s: &Socket| s.state == State::Open && s.local.ip() == at && s.peer_ip() == Some(with);
        let ends = self.sockets.iter().filter(|(_, s)| between(s)).map(|(id, _)| *id);
        let mut ends: Vec<u32> = ends.collect();
        ends.sort_unstable();
        for id in ends {
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.reset = true;
            }
            self.changed(id);
        }
    }

    pub(in super::super) fn lose(&mut self, owner: u32) {
        for (id, _) in self.sockets_of(owner) {
            if let Some(Socket { state: State::Listening { queue, .. }, .. }) =
                self.sockets.remove(&id)
            {
                for waiting in queue {
                    self.sockets.remove(&waiting);
                }
            }
            self.names.retain(|(_, named)| *named != id);
        }
        self.owner(owner).descriptors = 0;
    }

    pub(in super::super) fn set_stopped(&mut self, owner: u32, on: bool) {
        let its = self.owner(owner);
        its.stopped = on;
        if on {
            self.ready.remove(&owner);
        } else if !its.changed.is_empty() {
            self.ready.insert(owner);
        }
    }

    pub(in super::super) fn set_descriptors_max(&mut self, owner: u32, max: usize) {
        self.owner(owner).descriptors_max = max;
    }
}
