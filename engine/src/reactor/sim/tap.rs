//! What went over the simulated network, for tests that look at the traffic itself.

use super::socket::Socket;
use crate::node::io::PeerAddr;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// All that one end of a TCP connection has written, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Who wrote: the listener's address, if this end was accepted.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// Keeps what is written, once it has been told to.
#[derive(Debug, Default)]
pub(super) struct Tap {
    flows: Option<BTreeMap<u32, Flow>>,
}

impl Tap {
    pub(super) fn open(&mut self) {
        self.flows.get_or_insert_default();
    }

    pub(super) fn note(&mut self, id: u32, socket: &Socket, bytes: &[u8]) {
        let (Some(flows), PeerAddr::Tcp(to)) = (&mut self.flows, &socket.peer_addr) else { return };
        let flow = Flow { from: socket.local, to: *to, bytes: Vec::new() };
        flows.entry(id).or_insert(flow).bytes.extend_from_slice(bytes);
    }

    pub(super) fn flows(&self) -> Vec<Flow> {
        self.flows.iter().flat_map(BTreeMap::values).cloned().collect()
    }
}
