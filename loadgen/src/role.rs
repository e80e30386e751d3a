//! What a simulated client does: it polls at its slots, takes the manifests that are dialled
//! back to it, and reports; everything below that is the real client's node.

use crate::latency::Timed;
use crate::schedule::Slots;
use engine::ids::{ConnId, Epoch, HostName};
use engine::node::io::PeerAddr;
use engine::node::{Context, Handled, Message, NodeEvent, Role};
use engine::release::{Assignment, SignedAssignment, decode};
use engine::time::{Instant, WallMs};
use engine::wire::message::{Manifest, Poll, Report, ResourceResult, outcome, trigger};
use engine::wire::{Class, Frame, Kind, Lane, NackReason, access};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// This program's version, as the master sees it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Resources that a simulated run looked at.
const RESOURCES_CHECKED: u32 = 100;

/// What all clients of a run do alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Reports that are due at each poll, beside the one for each new manifest.
    pub reports_per_poll: u32,
    /// What each client is to reach.
    pub goal: Goal,
    /// When the run began: what was published before is no push of this run.
    pub began: WallMs,
}

/// What a client is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It is bound, and nothing that it has sent is left without its ack.
    Settled,
    /// It holds this revision or a later one, and its report about that is durable.
    Revision(u64),
}

/// What happened to one client, for the run's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Something took so long.
    Took(Timed, Duration),
    /// A poll was sent on its way.
    Polled,
    /// A report was sent on its way.
    Reported,
    /// A report was acked: the master must never lose it.
    Acked {
        /// Incarnation of the client's outbox.
        epoch: Epoch,
        /// The report's number there.
        seq: u64,
    },
    /// An older release came before the client had asked for it.
    Unasked,
    /// The revision that the client holds came once more.
    Repeated,
    /// A report could not be queued: the master has taken none for long.
    OutboxFull,
}

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was bound at least once.
    pub bound: bool,
    /// It holds a revision that satisfies the goal.
    pub holds: bool,
    /// It has reached the goal.
    pub done: bool,
}

/// A message whose ack is awaited.
#[derive(Debug, Clone, Copy)]
struct Sent {
    seq: u64,
    due: Instant,
    revision: u64,
}

/// Messages of one lane whose acks are awaited, oldest first. There are never more of them
/// than slots in the run.
#[derive(Debug, Default)]
struct Awaited {
    epoch: Option<Epoch>,
    sent: VecDeque<Sent>,
}

impl Awaited {
    fn push(&mut self, epoch: Epoch, sent: Sent) {
        self.epoch = Some(epoch);
        self.sent.push_back(sent);
    }

    /// The next one that this ack covers.
    fn take_acked(&mut self, epoch: Epoch, seq: u64) -> Option<Sent> {
        if self.epoch != Some(epoch) {
            return None;
        }
        let sent = self.sent.pop_front_if(|sent| sent.seq <= seq);
        if self.sent.is_empty() {
            // A client that waits for nothing owns no memory for it.
            self.sent = VecDeque::new();
        }
        sent
    }
}

/// A simulated client.
#[derive(Debug)]
pub struct LoadRole {
    plan: Arc<Plan>,
    slots: Slots,
    held: u64,
    /// The newest revision about which a report is durable.
    reported: u64,
    /// Since when it has had no parent.
    unbound_since: Option<Instant>,
    /// Slot and time of the poll whose answer is to be the first manifest.
    asked: Option<(Instant, WallMs)>,
    polls: Awaited,
    reports: Awaited,
    bound: bool,
    poll_acked: bool,
}

type Cx<'a> = Context<'a, Observation>;

impl LoadRole {
    /// A client that starts at its first slot.
    #[must_use]
    pub fn new(plan: Arc<Plan>, slots: Slots) -> Self {
        Self {
            plan,
            slots,
            held: 0,
            reported: 0,
            unbound_since: slots.peek(),
            asked: None,
            polls: Awaited::default(),
            reports: Awaited::default(),
            bound: false,
            poll_acked: false,
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (holds, done) = match self.plan.goal {
            Goal::Settled => {
                (self.held > 0, self.polls.sent.is_empty() && self.reports.sent.is_empty())
            }
            Goal::Revision(revision) => (self.held >= revision, self.reported >= revision),
        };
        let started = self.bound && self.poll_acked;
        Standing { bound: self.bound, holds, done: done && started }
    }

    /// Messages that it has sent and that are not acked.
    #[must_use]
    pub fn awaited(&self) -> usize {
        self.polls.sent.len() + self.reports.sent.len()
    }

    fn poll(&self, wall: WallMs) -> Poll {
        Poll {
            held: self.held,
            applied: self.held,
            wall_ms: wall.0,
            version: VERSION.to_owned(),
            last_error: String::new(),
        }
    }

    fn on_slot(&mut self, due: Instant, cx: &mut Cx<'_>) {
        cx.effect(Observation::Took(Timed::Slip, cx.now.at.since(due)));
        let poll = self.poll(cx.now.wall);
        if let Ok(origin) = cx.push_up(&poll) {
            cx.effect(Observation::Polled);
            self.polls.push(origin.epoch, Sent { seq: origin.seq, due, revision: self.held });
        }
        if self.held == 0 {
            self.asked.get_or_insert((due, cx.now.wall));
        }
        for _ in 0..self.plan.reports_per_poll {
            self.report(trigger::INTERVAL, due, cx);
        }
    }

    fn report(&mut self, trigger: u8, due: Instant, cx: &mut Cx<'_>) {
        match cx.push_up(&report(self.held, trigger, cx.now.wall)) {
            Ok(origin) => {
                cx.effect(Observation::Reported);
                let sent = Sent { seq: origin.seq, due, revision: self.held };
                self.reports.push(origin.epoch, sent);
            }
            Err(_) => cx.effect(Observation::OutboxFull),
        }
    }

    fn on_manifest(&mut self, frame: &Frame<'_>, cx: &mut Cx<'_>) -> Handled {
        let Some(assignment) = read_assignment(frame) else {
            return Handled::Refused(NackReason::Damaged);
        };
        if assignment.revision <= self.held {
            cx.effect(Observation::Repeated);
            return Handled::Taken;
        }
        match self.asked.take() {
            // What was published after the poll is no answer to it.
            Some((due, wall)) if assignment.issued_ms <= wall.0 => {
                cx.effect(Observation::Took(Timed::Assignment, cx.now.at.since(due)));
            }
            _ if assignment.issued_ms >= self.plan.began.0 => {
                let ms = cx.now.wall.0.saturating_sub(assignment.issued_ms);
                cx.effect(Observation::Took(Timed::Push, Duration::from_millis(ms)));
            }
            // A master that has just started brings it before anybody has asked.
            _ => cx.effect(Observation::Unasked),
        }
        self.held = assignment.revision;
        self.report(trigger::ASSIGNMENT, cx.now.at, cx);
        Handled::Taken
    }

    fn on_acked(&mut self, lane: Lane, epoch: Epoch, seq: u64, cx: &mut Cx<'_>) {
        match lane {
            Lane::Urgent => {}
            Lane::Volatile => {
                while let Some(sent) = self.polls.take_acked(epoch, seq) {
                    self.poll_acked = true;
                    cx.effect(Observation::Took(Timed::Poll, cx.now.at.since(sent.due)));
                }
            }
            Lane::Durable => {
                while let Some(sent) = self.reports.take_acked(epoch, seq) {
                    self.reported = self.reported.max(sent.revision);
                    cx.effect(Observation::Acked { epoch, seq: sent.seq });
                    cx.effect(Observation::Took(Timed::Report, cx.now.at.since(sent.due)));
                }
            }
        }
    }

    fn on_unbound(&mut self, cx: &mut Cx<'_>) {
        self.unbound_since.get_or_insert(cx.now.at);
        // The polls that waited were dropped with the parent. One more takes their place; its
        // ack ends the wait of all of them, each counted from its own slot.
        if !self.polls.sent.is_empty() {
            let poll = self.poll(cx.now.wall);
            // Only the durable lane can be full.
            let _ = cx.push_up(&poll);
        }
    }
}

/// Reads a manifest's assignment. Its signature is the real client's to check: here it would
/// only be the generator's own work, of the size of all its other work.
fn read_assignment(frame: &Frame<'_>) -> Option<Assignment> {
    let manifest = access::<Manifest>(frame).ok()?;
    let signed: SignedAssignment = decode(&manifest.assignment)?;
    decode(&signed.assignment)
}

/// A report as a host in good order sends it after a change.
fn report(revision: u64, trigger: u8, wall: WallMs) -> Report {
    let changed = ResourceResult {
        id: b"file /etc/motd".to_vec(),
        outcome: outcome::CHANGED,
        before: "absent".to_owned(),
        after: "file 0644 root:root, 312 bytes".to_owned(),
        error: String::new(),
        duration_us: 420,
        output: Vec::new(),
    };
    Report {
        revision,
        trigger,
        started_ms: wall.0,
        duration_us: 2_600,
        busy_us: 2_400,
        checked: RESOURCES_CHECKED,
        results: vec![changed],
        note: String::new(),
    }
}

impl Role for LoadRole {
    type Mail = ();
    type Effect = Observation;

    fn accepts(&self, class: Class) -> bool {
        class == Class::Downstream
    }

    fn knows(&self, _: &HostName) -> bool {
        false
    }

    fn handle_message(&mut self, message: Message<'_>, cx: &mut Cx<'_>) -> Handled {
        match message.frame.header.kind {
            Kind::MANIFEST => self.on_manifest(&message.frame, cx),
            _ => Handled::Refused(NackReason::Unsupported),
        }
    }

    fn handle_request(
        &mut self,
        _: ConnId,
        _: &PeerAddr,
        _: Frame<'_>,
        _: &mut Cx<'_>,
    ) -> Option<()> {
        None
    }

    fn handle_mail(&mut self, (): (), _: &mut Cx<'_>) {}

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Cx<'_>) {
        match event {
            NodeEvent::Bound { .. } => {
                self.bound = true;
                if let Some(since) = self.unbound_since.take() {
                    cx.effect(Observation::Took(Timed::Bind, cx.now.at.since(since)));
                }
            }
            NodeEvent::Unbound => self.on_unbound(cx),
            NodeEvent::Acked { lane, epoch, seq } => self.on_acked(lane, epoch, seq, cx),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        while let Some(due) = self.slots.take_due(cx.now.at) {
            self.on_slot(due, cx);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.slots.peek()
    }

    fn is_finished(&self) -> bool {
        true
    }
}
