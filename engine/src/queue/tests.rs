//! Outbox and inbox together, over stores that are slow, fail and crash, on connections that
//! break: what was accepted arrives once, in order.

use super::testing::{InboxRig, OutboxRig, at, conn, nack, report};
use crate::queue::inbox::{InboxConfig, Offer};
use crate::queue::outbox::OutboxConfig;
use crate::time::Now;
use crate::wire::{Frame, Lane, NackReason};
use std::collections::VecDeque;

/// One sender, one receiver and the wire between them.
struct World {
    rng: fastrand::Rng,
    sender: OutboxRig,
    receiver: InboxRig,
    now_ms: u64,
    conns: u32,
    /// The connection, while there is one.
    link: Option<u32>,
    frames: VecDeque<Vec<u8>>,
    parked: bool,
    answers: VecDeque<Answer>,
    /// What the sender was told is safe: bodies in order of their numbers.
    accepted: Vec<u64>,
    pushed: Vec<u64>,
    consumed: Vec<u64>,
    cursor: Option<u64>,
    crashes: u32,
}

enum Answer {
    Ack(u64),
    Nack(u64, NackReason, u64),
}

fn number(frame: &[u8]) -> u64 {
    let body = Frame::parse(frame).unwrap().body().to_vec();
    u64::from_le_bytes(body.try_into().unwrap())
}

impl World {
    fn new(seed: u64) -> Self {
        let inbox = InboxConfig {
            gathering_records_max: 8,
            bytes_high: 6000,
            bytes_low: 3000,
            read_records_max: 5,
            trim_records: 20,
            ..InboxConfig::default()
        };
        let outbox =
            OutboxConfig { window_frames: 12, read_bytes_max: 600, ..OutboxConfig::default() };
        let mut receiver = InboxRig::new(inbox);
        receiver.inbox.start_consuming(None);
        Self {
            rng: fastrand::Rng::with_seed(seed),
            sender: OutboxRig::new(outbox),
            receiver,
            now_ms: 0,
            conns: 0,
            link: None,
            frames: VecDeque::new(),
            parked: false,
            answers: VecDeque::new(),
            accepted: Vec::new(),
            pushed: Vec::new(),
            consumed: Vec::new(),
            cursor: None,
            crashes: 0,
        }
    }

    fn now(&self) -> Now {
        at(self.now_ms)
    }

    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            self.receiver.inbox.conn_closed(conn(link));
            self.sender.outbox.end();
        }
        self.frames.clear();
        self.answers.clear();
        self.parked = false;
    }

    fn note_accepted(&mut self) {
        let committed = usize::try_from(self.sender.outbox.committed()).unwrap();
        self.accepted = self.pushed[..committed.min(self.pushed.len())].to_vec();
    }

    fn crash_sender(&mut self) {
        self.note_accepted();
        self.cut();
        self.sender.restart(self.now());
        // What was not committed was never promised.
        self.pushed.truncate(usize::try_from(self.sender.outbox.committed()).unwrap());
        assert!(self.pushed.len() >= self.accepted.len(), "the sender lost what it had accepted");
        self.crashes += 1;
    }

    fn crash_receiver(&mut self) {
        self.cut();
        let now = self.now();
        self.receiver.restart(now);
        let epoch = self.receiver.inbox.epoch();
        let cursor = self.cursor.map(|seq| (epoch, seq));
        self.receiver.inbox.start_consuming(cursor);
        self.crashes += 1;
    }

    fn push(&mut self) {
        let value = self.rng.u64(..);
        if self.sender.outbox.push(report(&value.to_le_bytes()), self.now()).is_ok() {
            self.pushed.push(value);
        }
    }

    fn receive(&mut self) {
        let (Some(link), false) = (self.link, self.parked) else { return };
        let Some(bytes) = self.frames.pop_front() else { return };
        let seq = Frame::parse(&bytes).unwrap().header.seq;
        match self.receiver.offer(link, &bytes, self.now()) {
            Offer::Gathered | Offer::Waiting | Offer::Refused => {}
            Offer::AckNow { seq, .. } => self.answers.push_back(Answer::Ack(seq)),
            Offer::Full => {
                self.parked = true;
                self.frames.push_front(bytes);
            }
            Offer::Busy { retry_after } => {
                let ms = u64::try_from(retry_after.as_millis()).unwrap();
                self.answers.push_back(Answer::Nack(seq, NackReason::Busy, ms));
            }
        }
    }

    fn settle_answers(&mut self) {
        let epoch = crate::ids::Epoch(55);
        let now = self.now();
        match self.answers.pop_front() {
            Some(Answer::Ack(seq)) => self.sender.outbox.handle_ack(Lane::Durable, epoch, seq),
            Some(Answer::Nack(seq, reason, ms)) => {
                self.sender.outbox.handle_nack(Lane::Durable, epoch, seq, &nack(reason, ms), now);
                self.cut();
            }
            None => {}
        }
    }

    fn stores(&mut self) {
        let now = self.now();
        self.sender.turn(now);
        for event in self.sender.store.tick() {
            self.sender.outbox.handle_store(event, now);
        }
        self.receiver.turn(now);
        self.receiver.tick(now);
        while let Some((on, _, seq)) = self.receiver.inbox.poll_ack() {
            if self.link.map(conn) == Some(on) {
                self.answers.push_back(Answer::Ack(seq));
            }
        }
        while let Some((on, _, seq)) = self.receiver.inbox.poll_refused() {
            if self.link.map(conn) == Some(on) {
                self.answers.push_back(Answer::Nack(seq, NackReason::Store, 0));
            }
        }
        while let Some(on) = self.receiver.inbox.poll_resume() {
            self.parked &= self.link.map(conn) != Some(on);
        }
        if self.rng.u8(..) < 90
            && let Some(records) = self.receiver.inbox.poll_records()
        {
            // The consumer's own commit: cursor and records together.
            let last = records.last().unwrap().seq;
            self.consumed.extend(records.iter().map(|record| number(&record.frame)));
            self.cursor = Some(last);
            self.receiver.inbox.consumed(last, now);
        }
    }

    fn send(&mut self) {
        let now = self.now();
        if self.link.is_none() && self.sender.outbox.is_due(now.at) {
            self.conns += 1;
            self.link = Some(self.conns);
            self.sender.outbox.begin();
        }
        for _ in 0..self.rng.u8(0..4) {
            let Some(frame) = self.sender.outbox.poll_frame(now) else { break };
            self.frames.push_back(frame.to_vec());
        }
    }

    fn step(&mut self, faults: bool) {
        self.now_ms += self.rng.u64(1..60);
        self.send();
        for _ in 0..self.rng.u8(0..4) {
            self.receive();
        }
        self.settle_answers();
        self.stores();
        if !faults {
            return;
        }
        if self.rng.u8(..) < 100 {
            self.push();
        }
        match self.rng.u16(0..1000) {
            0..8 => self.crash_sender(),
            8..16 => self.crash_receiver(),
            16..40 => self.cut(),
            40..50 => self.receiver.store.faults().failing_commits = 1,
            50..60 => self.sender.store.faults().failing_commits = 1,
            60..66 => self.receiver.store.faults().failing_trims = 1,
            66..72 => self.sender.store.faults().failing_trims = 1,
            72..80 => self.sender.store.faults().failing_reads = 1,
            80..88 => self.receiver.store.faults().failing_reads = 1,
            88..110 => self.receiver.store.faults().delay = self.rng.u32(0..4),
            110..130 => self.sender.store.faults().delay = self.rng.u32(0..4),
            _ => {}
        }
    }

    /// Everything that can still move does; then all that was accepted has arrived once.
    fn finish(mut self, seed: u64) -> (u32, usize) {
        let mut steps = 0;
        while !(self.sender.outbox.is_empty() && self.consumed.len() >= self.pushed.len()) {
            self.step(false);
            steps += 1;
            assert!(steps < 50_000, "seed {seed}: nothing moves any more");
        }
        assert_eq!(self.consumed, self.pushed, "seed {seed}: lost, doubled or out of order");
        assert_eq!(self.sender.store.quarantine().len(), 0, "seed {seed}");
        (self.crashes, self.pushed.len())
    }
}

#[test]
fn s1_53_a_thousand_crashes_lose_nothing_and_double_nothing() {
    let (mut crashes, mut records) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..1500 {
            world.step(true);
        }
        let (died, arrived) = world.finish(seed);
        crashes += died;
        records += arrived;
    }
    assert!(crashes >= 1000, "only {crashes} crashes");
    assert!(records > 5000, "only {records} records");
}

#[test]
fn s1_26_stopped_at_200_points_what_was_accepted_is_delivered() {
    for seed in 1000..1200 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.u32(1..400) {
            world.step(false);
            world.push();
        }
        world.note_accepted();
        let accepted = world.accepted.clone();
        world.crash_sender();
        if seed % 2 == 0 {
            world.crash_receiver();
        }
        assert_eq!(world.pushed[..accepted.len()], accepted);
        world.finish(seed);
    }
}
