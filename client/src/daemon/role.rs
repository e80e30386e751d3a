//! The client's role: assignments in, blobs fetched, the enforcer told, reports out.

mod fetching;
mod status;

pub use status::IN_HAND;

use super::complaints::complaints;
use super::dial_back::{DialBack, not_dialled_back};
use super::fit::fit;
use super::refused::Refused;
use super::schedule::PollSchedule;
use super::unsent::Unsent;
use crate::enforcer::{EnforcerEvent, EnforcerStatus};
use crate::policy::AssignedManifest;
use engine::blob::{Blob, BlobCommand, BlobEvent};
use engine::config::format_duration;
use engine::ids::{BlobHash, ConnId, HostName, Revision};
use engine::node::io::PeerAddr;
use engine::node::{Context, Handled, Message, NodeEvent, Role, Trouble};
use engine::reactor::Metrics;
use engine::release::{Assignment, AssignmentError, ManifestBlob, TrustedKeys};
use engine::time::Instant;
use engine::wire::message::{Heartbeat, Manifest, Poll, Report, StatusReq, outcome, trigger};
use engine::wire::{Class, Frame, Kind, NackReason, access};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// This program's version, as peers and operators see it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What log, status and polls of a client say that takes assignments from anybody.
pub const UNCHECKED: &str =
    "signatures are not checked: whoever reaches this client's port decides what this host does";

/// Bytes of what is wrong, as polls and status say it: a master keeps less.
const ERRORS_SIZE_MAX: usize = 4096;

/// What the client asks of its enforcer.
#[derive(Debug)]
pub enum Effect {
    /// Keep this assignment, and enforce it from now on.
    Enforce {
        /// The encoded `SignedAssignment`, to be kept.
        signed: Vec<u8>,
        /// What it assigns.
        manifest: AssignedManifest,
    },
    /// Check everything now: a blob that was broken is whole again.
    Check,
    /// How it is; answered by [`RoleMail::Status`].
    Status {
        /// Who asks.
        conn: ConnId,
        /// Whether it may see what is managed.
        local: bool,
    },
    /// Let running resources finish, then say `Stopped`.
    Stop,
    /// End running resources, then say `Stopped`.
    StopNow,
}

/// What the client's own threads tell it.
#[derive(Debug)]
pub enum RoleMail {
    /// From the enforcer.
    Enforcer(EnforcerEvent),
    /// The answer to [`Effect::Status`].
    Status {
        /// Who asked.
        conn: ConnId,
        /// Whether it may see what is managed.
        local: bool,
        /// How the enforcer is.
        status: Box<EnforcerStatus>,
    },
}

/// An assignment that was accepted and whose blobs are on their way.
#[derive(Debug)]
struct Incoming {
    assignment: Assignment,
    signed: Vec<u8>,
    /// `None` until the manifest itself is here.
    manifest: Option<ManifestBlob>,
    missing: HashSet<BlobHash>,
}

/// What the role is configured with.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Keys that may sign assignments.
    pub trusted_keys: TrustedKeys,
    /// The assignment that is being enforced already, from before the start.
    pub held: Option<Assignment>,
    /// That its blobs are not all there.
    pub unfetched: Option<Unfetched>,
    /// The revision that was last applied to the end before the start; 0 for none.
    pub applied: Revision,
}

/// An assignment from before the start whose manifest is not in the cache any more.
#[derive(Debug, Clone)]
pub struct Unfetched {
    /// The encoded `SignedAssignment`.
    pub signed: Vec<u8>,
    /// What is wrong with the manifest.
    pub why: String,
}

/// The client.
#[derive(Debug)]
pub struct ClientRole {
    name: HostName,
    options: ClientOptions,
    metrics: Arc<Metrics>,
    schedule: PollSchedule,
    held: Option<Assignment>,
    /// The revision that was last applied to the end; 0 for none.
    applied: Revision,
    /// What was wrong with what is enforced when that was last looked at; empty if nothing.
    run_error: String,
    /// Why not everything can be watched; empty if it can.
    watch_error: String,
    /// Why an assignment that was sent is not taken.
    refused: Refused,
    /// What the last poll said was wrong.
    polled_word: String,
    /// The last report told of something wrong: the next run is told by a report too, even if it
    /// changed nothing.
    troubled: bool,
    incoming: Option<Incoming>,
    /// Blobs of the manifest in force that were found broken.
    broken: HashSet<BlobHash>,
    /// The manifest of what is enforced was missing, and has been fetched since.
    refetched: bool,
    /// What the cache keeps once this revision has been applied: what an earlier one needed
    /// goes then, and not while it may still be enforced.
    keep: Option<(Revision, Vec<BlobHash>)>,
    unsent: Unsent,
    bound: Option<SocketAddr>,
    dial_back: DialBack,
    /// What was logged since the master was last heard.
    troubles: Vec<Trouble>,
    is_unknown: bool,
    poll_lost: bool,
    behind: bool,
    runs: u64,
    started: Option<Instant>,
    stopping: bool,
    stopped: bool,
}

type Cx<'a> = Context<'a, Effect>;

/// Whether a master shows it as what is wrong with this host until it has another report.
fn has_trouble(report: &Report) -> bool {
    count(report, outcome::FAILED) > 0 || (report.checked == 0 && !report.note.is_empty())
}

fn count(report: &Report, of: u8) -> u64 {
    report.results.iter().filter(|r| r.outcome == of).count() as u64
}

impl ClientRole {
    /// A client that polls for the first time when the schedule says.
    #[must_use]
    pub fn new(name: HostName, options: ClientOptions, schedule: PollSchedule) -> Self {
        let held = options.held.clone();
        // What was put back from a copy may be older than what had been applied.
        let newest = Revision(held.as_ref().map_or(0, |a| a.revision));
        let applied = Some(options.applied).filter(|applied| *applied <= newest);
        Self {
            name,
            options,
            metrics: Arc::default(),
            schedule,
            held,
            applied: applied.unwrap_or(Revision(0)),
            run_error: String::new(),
            watch_error: String::new(),
            refused: Refused::default(),
            polled_word: String::new(),
            // What was told before the start nobody knows.
            troubled: true,
            incoming: None,
            broken: HashSet::new(),
            refetched: false,
            keep: None,
            unsent: Unsent::default(),
            bound: None,
            dial_back: DialBack::default(),
            troubles: Vec::new(),
            is_unknown: false,
            poll_lost: false,
            behind: false,
            runs: 0,
            started: None,
            stopping: false,
            stopped: false,
        }
    }

    /// The loop is about to turn; these are its counters.
    pub fn start(&mut self, metrics: Arc<Metrics>, cx: &mut Cx<'_>) {
        self.metrics = metrics;
        self.started = Some(cx.now.at);
        self.fetch_held(cx);
    }

    /// What becomes of this host as long as no master is heard.
    fn meanwhile(&self) -> &'static str {
        match self.held.is_some() && self.options.unfetched.is_none() {
            true => "what is assigned stays enforced",
            false => "nothing is enforced until then",
        }
    }

    fn held_revision(&self) -> Revision {
        Revision(self.held.as_ref().map_or(0, |a| a.revision))
    }

    fn poll(&mut self, cx: &mut Cx<'_>) {
        let poll = Poll {
            held: self.held_revision().0,
            applied: self.applied.0,
            wall_ms: cx.now.wall.0,
            version: VERSION.to_owned(),
            last_error: self.last_word(),
        };
        if let Err(full) = cx.push_up(&poll) {
            log::warn!("the poll waits for the next time: {full}");
        } else {
            self.polled_word = poll.last_error;
        }
    }

    fn is_unchecked(&self) -> bool {
        self.options.trusted_keys == TrustedKeys::Unchecked
    }

    /// What is wrong now.
    fn errors(&self) -> String {
        let mut words = [self.run_error.as_str(), self.refused.why(), &self.watch_error].to_vec();
        words.retain(|word| !word.is_empty());
        let mut words = words.join("; ");
        words.truncate(words.floor_char_boundary(ERRORS_SIZE_MAX));
        words
    }

    /// What is wrong now, and with it what the operator should not forget.
    fn last_word(&self) -> String {
        match (self.is_unchecked(), self.errors()) {
            (false, errors) => errors,
            (true, errors) if errors.is_empty() => UNCHECKED.to_owned(),
            (true, errors) => format!("{errors}; {UNCHECKED}"),
        }
    }

    fn on_manifest(&mut self, frame: &Frame<'_>, cx: &mut Cx<'_>) -> Handled {
        let Ok(message) = access::<Manifest>(frame) else {
            return Handled::Refused(NackReason::Damaged);
        };
        let incoming = self.incoming.as_ref().map_or(0, |i| i.assignment.revision);
        let held = self.held_revision().max(Revision(incoming));
        match self.options.trusted_keys.accept(&message.assignment, &self.name, held, cx.now.wall) {
            Ok(assignment) => {
                log::info!(
                    "revision {} is assigned; fetching what is missing",
                    assignment.revision
                );
                if self.is_unchecked() {
                    log::warn!("{UNCHECKED}");
                }
                self.behind = false;
                let blob = Blob::manifest_of(&assignment);
                let signed = message.assignment.to_vec();
                self.incoming =
                    Some(Incoming { assignment, signed, manifest: None, missing: HashSet::new() });
                cx.fetch([blob]);
            }
            // The same again is what a second answer to two polls looks like.
            Err(AssignmentError::NotNewer { found, held }) if found == held => {}
            Err(error) => {
                self.refuse(format!("{error}"), cx);
                return Handled::Refused(match error {
                    AssignmentError::Format => NackReason::Unsupported,
                    AssignmentError::Signature { .. } => NackReason::Untrusted,
                    AssignmentError::OtherHost { .. } => NackReason::Refused,
                    AssignmentError::Expired { .. } => NackReason::Expired,
                    AssignmentError::NotNewer { .. } => NackReason::Older,
                });
            }
        }
        Handled::Taken
    }

    /// An assignment that was sent cannot be taken, which an operator must see.
    fn refuse(&mut self, why: String, cx: &mut Cx<'_>) {
        if !self.refused.handle(&why) {
            return;
        }
        log::warn!("{why}");
        let report = Report {
            revision: self.held_revision().0,
            trigger: trigger::ASSIGNMENT,
            started_ms: cx.now.wall.0,
            duration_us: 0,
            busy_us: 0,
            checked: 0,
            results: Vec::new(),
            note: why,
        };
        self.report(report, cx);
        self.poll(cx);
    }

    fn on_enforcer(&mut self, event: EnforcerEvent, cx: &mut Cx<'_>) {
        match event {
            EnforcerEvent::RunFinished { report, converged, to_end, beside, failing } => {
                let state = match converged {
                    true => "converged",
                    false if beside && failing.is_none() => {
                        "not converged: another run is under way"
                    }
                    false => "not converged",
                };
                self.on_run(report, state, to_end, failing, cx);
            }
            EnforcerEvent::NotApplied { report } => {
                log::error!("{}", report.note);
                self.run_error.clone_from(&report.note);
                self.report(report, cx);
                self.poll(cx);
            }
            EnforcerEvent::BlobBroken(hash) => {
                if self.broken.insert(hash) {
                    log::warn!("blob {hash} in the cache is broken; it is fetched again");
                    cx.blob(BlobCommand::Verify { hash });
                }
            }
            EnforcerEvent::Watching { directories } => {
                log::info!("directories that are watched: {directories}");
                if !std::mem::take(&mut self.watch_error).is_empty() {
                    self.poll(cx);
                }
            }
            EnforcerEvent::WatchFallback { reason, check_interval } => {
                let every = format_duration(check_interval);
                self.watch_error =
                    format!("{reason}: everything is looked at every {every} instead");
                log::warn!("{}", self.watch_error);
                self.poll(cx);
            }
            EnforcerEvent::Stopped => self.stopped = true,
        }
    }

    fn on_run(
        &mut self,
        report: Report,
        state: &str,
        to_end: bool,
        failing: Option<String>,
        cx: &mut Cx<'_>,
    ) {
        let (revision, checked) = (report.revision, report.checked);
        log::info!(
            "revision {revision}: {checked} checked, {} changed, {} failed, {state}",
            count(&report, outcome::CHANGED),
            count(&report, outcome::FAILED)
        );
        let mut lines = complaints(&report);
        // What is wrong since an earlier run is said when it is the first that is left.
        let is_known = |why: &&String| {
            **why == self.run_error || lines.iter().any(|line| line.contains(why.as_str()))
        };
        lines.extend(failing.as_ref().filter(|why| !is_known(why)).cloned());
        lines.iter().for_each(|line| log::warn!("{line}"));
        self.runs += 1;
        let first_of_revision = to_end && Revision(report.revision) > self.applied;
        if first_of_revision {
            self.applied = Revision(report.revision);
        }
        // What a newer one is fetching must stay: its own run will collect.
        if let Some((_, keep)) = self.keep.take_if(|(revision, _)| revision.0 == report.revision)
            && self.incoming.is_none()
        {
            cx.blob(BlobCommand::Collect { keep });
        }
        self.run_error = failing.unwrap_or_default();
        // The master takes a failure from the report that has it; what is left of an earlier one,
        // or over now, only a poll can say.
        let is_in_report = count(&report, outcome::FAILED) > 0 && self.polled_word.is_empty();
        let is_untold = self.last_word() != self.polled_word && !is_in_report;
        let has_news = !report.results.is_empty() || !report.note.is_empty();
        if first_of_revision || has_news || self.troubled {
            self.report(report, cx);
        } else {
            let heartbeat = Heartbeat {
                revision: report.revision,
                checked: report.checked,
                wall_ms: cx.now.wall.0,
            };
            // The lane drops the oldest by itself: there is nothing to do about a full one.
            cx.push_up(&heartbeat).ok();
        }
        if first_of_revision || is_untold {
            self.poll(cx);
        }
    }

    fn report(&mut self, report: Report, cx: &mut Cx<'_>) {
        let report = fit(report);
        self.troubled = has_trouble(&report);
        if let Err(full) = cx.push_up(&report) {
            log::warn!("{full}; this run is folded into one summary until there is room");
            self.unsent.fold(&report);
        }
    }
}

impl Role for ClientRole {
    type Mail = RoleMail;
    type Effect = Effect;

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
        conn: ConnId,
        peer: &PeerAddr,
        frame: Frame<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<()> {
        access::<StatusReq>(&frame).ok()?;
        let local = matches!(peer, PeerAddr::Unix { .. });
        cx.effect(Effect::Status { conn, local });
        Some(())
    }

    fn handle_mail(&mut self, mail: RoleMail, cx: &mut Cx<'_>) {
        match mail {
            RoleMail::Enforcer(event) => self.on_enforcer(event, cx),
            RoleMail::Status { conn, local, status } => {
                let status = self.status(&status, local, cx);
                cx.reply(conn, &status);
            }
        }
    }

    fn handle_event(&mut self, event: NodeEvent, cx: &mut Cx<'_>) {
        match event {
            NodeEvent::Bound { parent } => {
                log::info!("bound to {parent}");
                self.bound = Some(parent);
                self.dial_back.handle_heard();
                self.troubles.clear();
                // What the lost parent was asked went with it.
                if std::mem::take(&mut self.poll_lost) {
                    self.poll(cx);
                }
            }
            NodeEvent::Unbound(trouble) => {
                self.bound = None;
                self.dial_back.handle_heard();
                self.poll_lost |= matches!(trouble, Trouble::Unreachable { .. });
                if !self.troubles.contains(&trouble) {
                    log::warn!(
                        "the master cannot be reached: {trouble}; {}; {}",
                        self.meanwhile(),
                        cx.trail()
                    );
                    self.troubles.push(trouble);
                }
            }
            NodeEvent::Unknown { parent } => {
                log::warn!(
                    "the master {parent} does not have `{0}` in its inventory: add it to hosts.yaml and publish, or set `name`; reports wait, and {1}",
                    self.name,
                    self.meanwhile()
                );
                self.is_unknown = true;
                self.dial_back.handle_heard();
            }
            NodeEvent::Known => {
                log::info!("the master has `{}` in its inventory now", self.name);
                self.is_unknown = false;
            }
            NodeEvent::Behind => {
                if !self.behind {
                    log::warn!(
                        "the master has a newer assignment, but cannot dial {}; check its name service and the firewall",
                        self.name
                    );
                }
                self.behind = true;
            }
            NodeEvent::Acked { .. } => {
                if self.bound.is_none() && !self.is_unknown {
                    self.dial_back.handle_taken(cx.now.at);
                }
                if let Some(summary) = self.unsent.summary(self.held_revision())
                    && cx.push_up(&summary).is_ok()
                {
                    self.unsent = Unsent::default();
                }
            }
            NodeEvent::Quarantined { seq, reason } => {
                log::error!(
                    "message {seq} was refused for good ({reason:?}) and set aside; {}",
                    cx.trail()
                );
            }
            NodeEvent::Fetched(event) => self.on_fetched(event, cx),
            NodeEvent::Blob(BlobEvent::Loaded { hash, bytes }) => self.on_loaded(hash, &bytes, cx),
            NodeEvent::Blob(BlobEvent::Verified { hash, whole }) => {
                self.on_verified(hash, whole, cx)
            }
            NodeEvent::Blob(BlobEvent::Missing { hash }) => self.on_missing(hash, cx),
            NodeEvent::Blob(BlobEvent::Collected { removed, bytes }) if removed > 0 => {
                log::info!(
                    "{removed} blobs of {bytes} bytes are not needed any more and were removed"
                );
            }
            NodeEvent::Reload => self.schedule.now(cx.now),
            NodeEvent::Stop => {
                self.stopping = true;
                log::info!(
                    "stopping: what runs may end, within stop_timeout; a second signal ends it at once"
                );
                cx.effect(Effect::Stop);
            }
            NodeEvent::StopNow => cx.effect(Effect::StopNow),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.schedule.advance(cx.now, cx.rng()) {
            self.refused.handle_poll();
            self.fetch_held(cx);
            self.poll(cx);
        }
        if let Some(unheard) = self.dial_back.poll_warning(cx.now.at) {
            log::warn!("{}", not_dialled_back(self.name.as_str(), unheard));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let warning = self.dial_back.next_timeout();
        Some(warning.map_or(self.schedule.next(), |at| at.min(self.schedule.next())))
    }

    /// The role's own stop timeout is the enforcer's, which ends what does not end by itself.
    fn stop_timeout(&self) -> Option<Duration> {
        None
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
