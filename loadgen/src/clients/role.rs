//! What a simulated client does: it polls at its slots, takes the manifests that are dialled
//! back to it, fetches their files if it is to, and reports; everything below that is the real
//! client's node.

use super::schedule::Slots;
use super::work::{Goal, Reports, Work};
use crate::measure::{Timed, Took};
use engine::blob::{Blob, BlobCommand, BlobEvent, FetchEvent};
use engine::ids::{BlobHash, ConnId, Epoch, HostName, Origin};
use engine::node::io::PeerAddr;
use engine::node::{Context, Handled, Message, NodeEvent, Role};
use engine::queue::outbox::OutboxFull;
use engine::release::{Assignment, ManifestBlob, SignedAssignment, decode};
use engine::time::{Instant, Now, WallMs};
use engine::wire::message::{Manifest, Poll, Report, ResourceResult, outcome, trigger};
use engine::wire::{Class, Frame, Kind, Lane, NackReason, access};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// This program's version, as the master sees it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Resources that a simulated run looked at.
const RESOURCES_CHECKED: u32 = 100;

/// What all clients of a run do alike, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is due when.
    pub work: Work,
    /// When it began: what was published before is no push of this while.
    pub began: WallMs,
    /// Nothing is due then, or later.
    pub until: Instant,
}

/// A client's own part of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Whether it takes part at all.
    pub takes_part: bool,
    /// When its process starts anew, if it does.
    pub restart: Option<Instant>,
    /// Its polls.
    pub polls: Slots,
    /// Its reports.
    pub reports: Slots,
}

impl Share {
    /// When it first has something to do.
    #[must_use]
    pub fn first(&self, until: Instant) -> Option<Instant> {
        let due = self.polls.peek(until).into_iter().chain(self.reports.peek(until)).min();
        self.restart.or(due)
    }
}

/// What happened to one client, for the run's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Something took so long.
    Took(Timed, Took),
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
        /// What it said.
        digest: NonZeroU32,
    },
    /// An ack came for a report that was never sent.
    FalseAck,
    /// An older release came before the client had asked for it.
    Unasked,
    /// The revision that the client holds came once more.
    Repeated,
    /// A report could not be queued: the master has taken none for long.
    OutboxFull,
    /// A blob was not served, or arrived damaged.
    FetchFailed(&'static str),
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
    /// Messages that it has sent and that are not acked, and 1 more if its slots are not over.
    pub awaited: u32,
}

/// A message whose ack is awaited.
#[derive(Debug, Clone, Copy)]
struct Sent {
    seq: u64,
    /// When it should have been sent.
    due: Instant,
    /// When it was.
    begun: Instant,
    revision: u64,
    /// What it said, if it is a report.
    digest: Option<NonZeroU32>,
}

impl Sent {
    fn took(&self, now: Instant) -> Took {
        Took { latency: now.since(self.due), service: now.since(self.begun) }
    }
}

/// Messages of one lane whose acks are awaited, oldest first. There are never more of them
/// than slots in the run.
#[derive(Debug, Clone)]
struct Awaited {
    epoch: Epoch,
    /// Number of the newest that was ever sent; 0 for none.
    newest: u64,
    sent: VecDeque<Sent>,
}

impl Default for Awaited {
    fn default() -> Self {
        Self { epoch: Epoch(0), newest: 0, sent: VecDeque::new() }
    }
}

impl Awaited {
    fn push(&mut self, epoch: Epoch, sent: Sent) {
        self.epoch = epoch;
        self.newest = sent.seq;
        if self.sent.is_empty() {
            // Most clients wait for one ack at a time.
            self.sent.reserve_exact(1);
        }
        self.sent.push_back(sent);
    }

    /// Whether this ack can be of something that was sent.
    fn has_sent(&self, epoch: Epoch, seq: u64) -> bool {
        self.epoch == epoch && seq <= self.newest
    }

    /// The next one that this ack covers.
    fn take_acked(&mut self, epoch: Epoch, seq: u64) -> Option<Sent> {
        if self.epoch != epoch {
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

/// A manifest whose files are being fetched.
#[derive(Debug, Clone)]
struct Incoming {
    revision: u64,
    manifest: BlobHash,
    /// Since when.
    since: Instant,
    /// What is missing of its files; `None` while the manifest itself is.
    missing: Option<HashSet<BlobHash>>,
}

/// A simulated client.
#[derive(Debug, Clone)]
pub struct LoadRole {
    plan: Arc<Plan>,
    poll_slots: Slots,
    report_slots: Slots,
    held: u64,
    /// The newest revision about which a report is durable.
    reported: u64,
    /// Since when it has had no parent.
    unbound_since: Option<Instant>,
    /// The poll whose answer is to be the first manifest: its slot, and when it was sent.
    asked: Option<Box<(Instant, Now)>>,
    incoming: Option<Box<Incoming>>,
    polls: Awaited,
    reports: Awaited,
    bound: bool,
    poll_acked: bool,
    idle: bool,
}

type Cx<'a> = Context<'a, Observation>;

impl LoadRole {
    /// A client that does nothing yet.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        Self {
            plan,
            poll_slots: Slots::default(),
            report_slots: Slots::default(),
            held: 0,
            reported: 0,
            unbound_since: None,
            asked: None,
            incoming: None,
            polls: Awaited::default(),
            reports: Awaited::default(),
            bound: false,
            poll_acked: false,
            idle: true,
        }
    }

    /// From now on it does its share of this.
    pub fn begin(&mut self, plan: Arc<Plan>, share: &Share) {
        // One that takes no part, or has no slot before the end, has nothing to reach.
        let has_work = share.first(plan.until).is_some() || plan.work.goal.revision().is_some();
        self.idle = !(share.takes_part && has_work);
        self.poll_acked = share.polls.peek(plan.until).is_none();
        self.asked = None;
        self.poll_slots = share.polls;
        self.report_slots = share.reports;
        self.plan = plan;
    }

    /// Its process ends, and starts again at this time.
    pub fn restart(&mut self, at: Instant) {
        self.bound = false;
        self.unbound_since = Some(at);
        // What lies in memory is lost.
        self.polls = Awaited::default();
        self.asked = None;
        self.incoming = None;
        self.leave_out(at);
        // What waits on its disk cannot be sent before: the time away is not the master's.
        for sent in &mut self.reports.sent {
            (sent.due, sent.begun) = (sent.due.max(at), sent.begun.max(at));
        }
    }

    /// It is not there before this time: what was due until then is not.
    pub fn leave_out(&mut self, before: Instant) {
        let work = &self.plan.work;
        let slots = [
            (&mut self.poll_slots, work.polls),
            (&mut self.report_slots, work.reports.map(|reports| reports.pace)),
        ];
        for (slots, pace) in slots {
            pace.iter().for_each(|pace| slots.skip(before, pace));
        }
        // One that comes back after its last slot has none to wait for.
        self.poll_acked |= self.poll_slots.peek(self.plan.until).is_none();
    }

    /// It was away until this time, and polls as any client does that starts. What was published
    /// meanwhile is an answer to that, however long ago it was.
    pub fn come_back(&mut self, at: Instant, cx: &mut Context<'_, Observation>) {
        self.asked = Some(Box::new((at, cx.now)));
        self.on_poll_due(at, cx);
    }

    /// How far it has come.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (holds, done) = match self.plan.work.goal {
            Goal::Settled | Goal::Acked => {
                (self.held > 0, self.polls.sent.is_empty() && self.reports.sent.is_empty())
            }
            Goal::Revision(revision) => (self.held >= revision, self.reported >= revision),
        };
        let is_reached = self.bound || self.plan.work.goal == Goal::Acked;
        let started = is_reached && (self.poll_acked || self.plan.work.polls.is_none());
        let awaited = self.polls.sent.len()
            + self.reports.sent.len()
            + usize::from(self.next_slot().is_some());
        Standing {
            bound: self.bound,
            holds,
            done: self.idle || (done && started),
            awaited: u32::try_from(awaited).unwrap_or(u32::MAX),
        }
    }

    fn next_slot(&self) -> Option<Instant> {
        let until = self.plan.until;
        self.poll_slots.peek(until).into_iter().chain(self.report_slots.peek(until)).min()
    }

    fn poll(&self, cx: &mut Cx<'_>) -> Result<Origin, OutboxFull> {
        POLL.with_borrow_mut(|poll| {
            (poll.held, poll.applied, poll.wall_ms) = (self.held, self.held, cx.now.wall.0);
            cx.push_up(poll)
        })
    }

    fn on_poll_due(&mut self, due: Instant, cx: &mut Cx<'_>) {
        let begun = cx.now.at;
        cx.effect(Observation::Took(Timed::Slip, Took::from_due(begun.since(due))));
        if let Ok(origin) = self.poll(cx) {
            cx.effect(Observation::Polled);
            let sent = Sent { seq: origin.seq, due, begun, revision: self.held, digest: None };
            self.polls.push(origin.epoch, sent);
        }
        if self.held == 0 {
            self.asked.get_or_insert_with(|| Box::new((due, cx.now)));
        }
    }

    fn on_report_due(&mut self, due: Instant, burst: u32, cx: &mut Cx<'_>) {
        cx.effect(Observation::Took(Timed::Slip, Took::from_due(cx.now.at.since(due))));
        for _ in 0..burst {
            self.report(trigger::INTERVAL, due, cx);
        }
    }

    fn report(&mut self, trigger: u8, due: Instant, cx: &mut Cx<'_>) {
        let reports = self.plan.work.reports.unwrap_or_default();
        let failed = cx.rng().u16(..1000) < reports.failed_permille;
        let (pushed, digest) = REPORT.with_borrow_mut(|body| {
            write_report(body, self.held, trigger, failed, reports.bytes, cx.now.wall);
            (cx.push_up(body), body.digest())
        });
        match pushed {
            Ok(origin) => {
                cx.effect(Observation::Reported);
                let (begun, digest) = (cx.now.at, Some(digest));
                let sent = Sent { seq: origin.seq, due, begun, revision: self.held, digest };
                self.reports.push(origin.epoch, sent);
            }
            Err(_) => cx.effect(Observation::OutboxFull),
        }
    }

    fn on_manifest(&mut self, frame: &Frame<'_>, cx: &mut Cx<'_>) -> Handled {
        let Some(assignment) = read_assignment(frame) else {
            return Handled::Refused(NackReason::Damaged);
        };
        let incoming = self.incoming.as_ref().map_or(0, |incoming| incoming.revision);
        if assignment.revision <= self.held.max(incoming) {
            cx.effect(Observation::Repeated);
            return Handled::Taken;
        }
        match self.asked.take().map(|asked| *asked) {
            // What was published after the poll is no answer to it.
            Some((due, begun)) if assignment.issued_ms <= begun.wall.0 => {
                let now = cx.now.at;
                let took = Took { latency: now.since(due), service: now.since(begun.at) };
                cx.effect(Observation::Took(Timed::Assignment, took));
            }
            _ if assignment.issued_ms >= self.plan.began.0 => {
                let ms = cx.now.wall.0.saturating_sub(assignment.issued_ms);
                let took = Took::from_due(Duration::from_millis(ms));
                cx.effect(Observation::Took(Timed::Push, took));
            }
            // A master that has just started brings it before anybody has asked.
            _ => cx.effect(Observation::Unasked),
        }
        if self.plan.work.fetch {
            let manifest = Blob::manifest_of(&assignment);
            self.incoming = Some(Box::new(Incoming {
                revision: assignment.revision,
                manifest: manifest.hash,
                since: cx.now.at,
                missing: None,
            }));
            cx.fetch([manifest]);
        } else {
            self.hold(assignment.revision, cx);
        }
        Handled::Taken
    }

    fn hold(&mut self, revision: u64, cx: &mut Cx<'_>) {
        self.held = revision;
        self.report(trigger::ASSIGNMENT, cx.now.at, cx);
    }

    fn on_fetched(&mut self, event: FetchEvent, cx: &mut Cx<'_>) {
        let (hash, failure) = match event {
            FetchEvent::Stored { hash } => (hash, None),
            FetchEvent::Refused { hash } => (hash, Some("refused")),
            FetchEvent::Broken { hash, .. } => (hash, Some("damaged")),
            FetchEvent::Connect | FetchEvent::Hangup => return,
        };
        let Some(incoming) = &mut self.incoming else { return };
        if let Some(why) = failure {
            self.incoming = None;
            cx.effect(Observation::FetchFailed(why));
        } else if let Some(missing) = &mut incoming.missing {
            missing.remove(&hash);
            self.hold_if_whole(cx);
        } else if hash == incoming.manifest {
            cx.blob(BlobCommand::Load { hash, size_max: u64::MAX });
        }
    }

    fn on_manifest_loaded(&mut self, hash: BlobHash, bytes: &[u8], cx: &mut Cx<'_>) {
        let incoming = self.incoming.as_mut().filter(|incoming| incoming.manifest == hash);
        let Some(incoming) = incoming.filter(|incoming| incoming.missing.is_none()) else { return };
        let Some(manifest) = decode::<ManifestBlob>(bytes) else {
            self.incoming = None;
            cx.effect(Observation::FetchFailed("damaged"));
            return;
        };
        let wanted: Vec<Blob> = Blob::all_of(&manifest).collect();
        incoming.missing = Some(wanted.iter().map(|blob| blob.hash).collect());
        cx.fetch(wanted);
    }

    fn hold_if_whole(&mut self, cx: &mut Cx<'_>) {
        let is_whole =
            |incoming: &mut Box<Incoming>| incoming.missing.as_ref().is_some_and(HashSet::is_empty);
        let Some(incoming) = self.incoming.take_if(is_whole) else { return };
        let took = Took::from_due(cx.now.at.since(incoming.since));
        cx.effect(Observation::Took(Timed::Fetch, took));
        self.hold(incoming.revision, cx);
    }

    fn on_acked(&mut self, lane: Lane, epoch: Epoch, seq: u64, cx: &mut Cx<'_>) {
        match lane {
            Lane::Urgent => {}
            Lane::Volatile => {
                while let Some(sent) = self.polls.take_acked(epoch, seq) {
                    self.poll_acked = true;
                    cx.effect(Observation::Took(Timed::Poll, sent.took(cx.now.at)));
                }
            }
            Lane::Durable => {
                if !self.reports.has_sent(epoch, seq) {
                    cx.effect(Observation::FalseAck);
                }
                while let Some(sent) = self.reports.take_acked(epoch, seq) {
                    self.reported = self.reported.max(sent.revision);
                    if let Some(digest) = sent.digest {
                        cx.effect(Observation::Acked { epoch, seq: sent.seq, digest });
                    }
                    cx.effect(Observation::Took(Timed::Report, sent.took(cx.now.at)));
                }
            }
        }
    }

    fn on_unbound(&mut self, cx: &mut Cx<'_>) {
        self.unbound_since.get_or_insert(cx.now.at);
        // The polls that waited were dropped with the parent. One more takes their place; its
        // ack ends the wait of all of them, each counted from its own slot.
        if !self.polls.sent.is_empty() {
            // Only the durable lane can be full.
            let _ = self.poll(cx);
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

thread_local! {
    /// A poll: those of a run differ in little, as reports do.
    static POLL: RefCell<Poll> = RefCell::new(Poll {
        held: 0,
        applied: 0,
        wall_ms: 0,
        version: VERSION.to_owned(),
        last_error: String::new(),
    });
    /// A report as a host sends it after a change, or after a failure. Those of a run differ in
    /// little: one is written over and over, and costs the generator no memory of its own.
    static REPORT: RefCell<Report> = RefCell::new(Report {
        revision: 0,
        trigger: 0,
        started_ms: 0,
        duration_us: 2_600,
        busy_us: 2_400,
        checked: RESOURCES_CHECKED,
        results: vec![ResourceResult {
            id: b"file /etc/motd".to_vec(),
            outcome: outcome::CHANGED,
            before: "absent".to_owned(),
            after: "file 0644 root:root, 312 bytes".to_owned(),
            error: String::new(),
            duration_us: 420,
            output: Vec::new(),
        }],
        note: String::new(),
    });
}

fn write_report(
    report: &mut Report,
    revision: u64,
    trigger: u8,
    failed: bool,
    bytes: u32,
    wall: WallMs,
) {
    (report.revision, report.trigger, report.started_ms) = (revision, trigger, wall.0);
    for result in &mut report.results {
        result.outcome = if failed { outcome::FAILED } else { outcome::CHANGED };
        result.error.clear();
        if failed {
            result.error.push_str("no space left on device");
        }
        result.output.resize(bytes as usize, b'.');
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
                    cx.effect(Observation::Took(
                        Timed::Bind,
                        Took::from_due(cx.now.at.since(since)),
                    ));
                }
            }
            NodeEvent::Unbound(_) => self.on_unbound(cx),
            NodeEvent::Acked { lane, epoch, seq } => self.on_acked(lane, epoch, seq, cx),
            NodeEvent::Fetched(event) => self.on_fetched(event, cx),
            NodeEvent::Blob(BlobEvent::Loaded { hash, bytes }) => {
                self.on_manifest_loaded(hash, &bytes, cx);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        let plan = Arc::clone(&self.plan);
        if let Some(pace) = &plan.work.polls {
            while let Some(due) = self.poll_slots.take_due(cx.now.at, pace, plan.until) {
                self.on_poll_due(due, cx);
            }
        }
        if let Some(reports) = &plan.work.reports {
            let Reports { pace, burst, .. } = reports;
            while let Some(due) = self.report_slots.take_due(cx.now.at, pace, plan.until) {
                self.on_report_due(due, *burst, cx);
            }
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.next_slot()
    }

    fn is_finished(&self) -> bool {
        true
    }
}
