//! What the tests of the queue share.

use crate::ids::{ConnId, Epoch, HostName, Origin};
use crate::queue::inbox::{Inbox, InboxConfig, Offer};
use crate::queue::lanes::Message;
use crate::queue::memory::MemoryStore;
use crate::queue::outbox::{Outbox, OutboxConfig};
use crate::time::{Instant, Now, WallMs};
use crate::wire::{Frame, Kind, Nack, NackReason};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(super) fn at(ms: u64) -> Now {
    Now { at: Instant(ms * 1_000_000), wall: WallMs(1_700_000_000_000 + ms) }
}

pub(super) fn conn(n: u32) -> ConnId {
    ConnId::new(n, 1)
}

pub(super) fn message(kind: Kind, body: &[u8]) -> Message {
    let body = body.to_vec().into();
    Message { kind, schema: 1, body, target: None, ttl: None }
}

pub(super) fn report(body: &[u8]) -> Message {
    message(Kind::REPORT, body)
}

/// A report as it comes from its origin.
pub(super) fn frame(name: &str, epoch: u64, seq: u64, body: &[u8]) -> Vec<u8> {
    let origin = Origin { name: host(name), epoch: Epoch(epoch), seq };
    report(body).seal_whole(&origin, 0)
}

pub(super) fn nack(reason: NackReason, ms: u64) -> Nack {
    Nack { reason, highest: 0, retry_after: Duration::from_millis(ms) }
}

/// An inbox on a store in memory.
pub(super) struct InboxRig {
    pub inbox: Inbox,
    pub store: MemoryStore,
    pub config: InboxConfig,
}

impl InboxRig {
    pub(super) fn new(config: InboxConfig) -> Self {
        let store = MemoryStore::new(77);
        Self { inbox: Inbox::restore(&store.state(), config, 1), store, config }
    }

    pub(super) fn offer(&mut self, on: u32, bytes: &[u8], now: Now) -> Offer {
        let frame = Frame::parse(bytes).unwrap();
        let route = frame.route().unwrap();
        self.inbox.offer(conn(on), &frame, route.hop_sender(), now)
    }

    /// The end of a turn: all commands to the store, all answers back.
    pub(super) fn turn(&mut self, now: Now) {
        while let Some(command) = self.inbox.poll_command(now) {
            if let Some(event) = self.store.apply(command) {
                self.inbox.handle_store(event, now);
            }
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        for event in self.store.tick() {
            self.inbox.handle_store(event, now);
        }
    }

    pub(super) fn acks(&mut self) -> Vec<(ConnId, u64)> {
        std::iter::from_fn(|| self.inbox.poll_ack()).map(|(conn, _, seq)| (conn, seq)).collect()
    }

    /// SIGKILL and a new start.
    pub(super) fn restart(&mut self, now: Now) {
        self.store.crash();
        self.inbox = Inbox::restore(&self.store.state(), self.config, 2);
        self.turn(now);
    }
}

/// An outbox on a store in memory.
pub(super) struct OutboxRig {
    pub outbox: Outbox,
    pub store: MemoryStore,
    config: Arc<OutboxConfig>,
}

impl OutboxRig {
    pub(super) fn new(config: OutboxConfig) -> Self {
        let store = MemoryStore::new(55);
        let config = Arc::new(config);
        let outbox = Outbox::restore(host("web1"), &store.state(), Arc::clone(&config), Epoch(9));
        Self { outbox, store, config }
    }

    /// The end of a turn; whether the store had anything to do.
    pub(super) fn turn(&mut self, now: Now) -> bool {
        let mut worked = false;
        while let Some(command) = self.outbox.poll_command(now) {
            worked = true;
            if let Some(event) = self.store.apply(command) {
                self.outbox.handle_store(event, now);
            }
        }
        worked
    }

    /// Everything that can be sent now, the store answering in between.
    pub(super) fn sent(&mut self, now: Now) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        loop {
            let worked = self.turn(now);
            match self.outbox.poll_frame(now) {
                Some(frame) => sent.push(frame.to_vec()),
                None if worked => {}
                None => return sent,
            }
        }
    }

    pub(super) fn restart(&mut self, now: Now) {
        self.store.crash();
        let config = Arc::clone(&self.config);
        self.outbox = Outbox::restore(host("web1"), &self.store.state(), config, Epoch(10));
        self.turn(now);
    }
}
