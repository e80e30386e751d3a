use super::*;
use crate::ids::{Epoch, HostName, Origin};
use crate::node::NodeEvent;
use crate::node::io::{Host, Input, Mail, PeerAddr};
use crate::queue::inbox::{Inbox, InboxConfig};
use crate::queue::memory::MemoryStore;
use crate::time::Instant;
use crate::wire::message::{BindResp, Heartbeat, Report, StatusReq};
use crate::wire::{Body, FrameBuf, Nack, RouteBuf};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Takes what comes up from hosts whose name begins with `web`, and finds each heartbeat damaged.
struct Picky;

impl Role for Picky {
    type Mail = ();
    type Effect = ();

    fn accepts(&self, class: Class) -> bool {
        class == Class::Uplink
    }

    fn knows(&self, host: &HostName) -> bool {
        host.as_str().starts_with("web")
    }

    fn handle_message(&mut self, _: Message<'_>, _: &mut Context<'_, ()>) -> Handled {
        Handled::Refused(NackReason::Damaged)
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Context<'_, ()>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, (): (), _: &mut Context<'_, ()>) {}

    fn handle_event(&mut self, _: NodeEvent, _: &mut Context<'_, ()>) {}

    fn handle_timeout(&mut self, _: &mut Context<'_, ()>) {}

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_finished(&self) -> bool {
        false
    }
}

/// A node with a store in memory; every frame comes on a connection of its own.
struct Rig {
    node: Node<Picky>,
    store: MemoryStore,
    conns: u32,
    /// The reasons of the nacks that it sent, in their order.
    sent: Vec<NackReason>,
}

impl Rig {
    fn new(config: InboxConfig) -> Self {
        let store = MemoryStore::new(7);
        let mut parts = Parts::new("master".parse().unwrap(), fastrand::Rng::with_seed(1));
        parts.inbox = Some(Box::new(Inbox::restore(&store.state(), config, 1)));
        Self { node: Node::new(parts, Picky), store, conns: 0, sent: Vec::new() }
    }

    fn input(&mut self, input: Input<()>) {
        self.node.handle_input(input, Now::default());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { frame, .. } => {
                    let bytes = frame.to_vec();
                    let frame = Frame::parse(&bytes).unwrap();
                    if frame.header.kind == Kind::NACK {
                        self.sent.push(Nack::decode(&frame).unwrap().reason);
                    }
                }
                Output::Request(Request::Store(command)) => {
                    if let Some(event) = self.store.apply(command) {
                        self.input(Input::Mail(Mail::Store(event)));
                    }
                }
                _ => {}
            }
        }
    }

    fn comes<B: Body>(&mut self, from: &str, lane: Lane, body: &B) {
        self.conns += 1;
        let conn = ConnId::new(self.conns, 1);
        let peer = PeerAddr::Tcp(SocketAddr::from(([192, 0, 2, 1], 1000)));
        self.input(Input::Accepted { conn, listener: Listener::Peers, local: None, peer });
        let origin = Origin { name: from.parse().unwrap(), epoch: Epoch(5), seq: 1 };
        let frame = FrameBuf::message(Some(&RouteBuf::from(origin)), body, |h| {
            (h.lane, h.epoch, h.seq) = (lane, Epoch(5), 1);
        });
        let bytes = frame.to_vec();
        self.node.handle_frame(conn, Frame::parse(&bytes).unwrap(), Now::default());
        self.node.end_turn(Now::default());
        self.drain();
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let counted = self.node.parts().counters.named();
        counted.filter(|(name, _)| name.starts_with("nacks_")).collect()
    }
}

fn report() -> Report {
    Report {
        revision: 1,
        trigger: 0,
        started_ms: 0,
        duration_us: 0,
        busy_us: 0,
        checked: 0,
        results: Vec::new(),
        note: String::new(),
    }
}

#[test]
fn nacks_are_counted_by_their_reason() {
    let names = NackReason::ALL.map(|r| format!("nacks_{r:?}").to_lowercase());
    let mut rig = Rig::new(InboxConfig::default());
    let mut wanted: BTreeMap<&str, u64> = names.iter().map(|name| (name.as_str(), 0)).collect();
    assert_eq!(rig.counted(), wanted, "each is there from the start");

    rig.comes("db-1", Lane::Durable, &report());
    rig.comes("db-2", Lane::Durable, &report());
    rig.comes("web-1", Lane::Volatile, &Heartbeat { revision: 1, checked: 0, wall_ms: 0 });
    rig.comes("web-1", Lane::Volatile, &BindResp { nonce: 1, version: String::new() });
    rig.comes("web-1", Lane::Volatile, &StatusReq { detail: 0 });
    rig.store.faults().failing_commits = 1;
    rig.comes("web-2", Lane::Durable, &report());
    // The store is left in peace after that.
    rig.comes("web-3", Lane::Durable, &report());
    rig.input(Input::Mail(Mail::Stop));
    rig.comes("web-4", Lane::Durable, &report());

    use NackReason::{Busy, Damaged, Refused, Stopping, Store, Unknown, Unsupported};
    let sent = [Unknown, Unknown, Damaged, Refused, Unsupported, Store, Busy, Stopping];
    assert_eq!(rig.sent, sent);
    for reason in sent {
        *wanted.get_mut(&*names[reason.index()]).unwrap() += 1;
    }
    assert_eq!(rig.counted(), wanted, "as many as were sent, and of no other reason");
}
