//! The thread that keeps a machine as its assignment wants it: it owns the catalog, the watch
//! and the runs, and sleeps until something happens.

mod account;
mod applier;
mod course;
mod event;
mod fight;
mod handle;
mod pace;
mod retry;
mod status;
mod stuck;
mod unsettled;

pub use applier::{Applier, ApplyError, EnforcerConfig, Ready, Scope};
pub use event::EnforcerEvent;
pub use handle::EnforcerHandle;
pub use status::{Action, Activity, EnforcerStatus, LastRun, WatchState};

use crate::config::keep_assignment;
use crate::executor::run::RunDone;
use crate::executor::stop::StopSwitch;
use crate::heap;
use crate::policy::{AssignedManifest, LoadedCatalog};
use crate::provider::command::poll_timeout;
use crate::provider::rooted::Rooted;
use crate::resource::{Attention, Spec};
use crate::watch::{Noticed, Target, Watch};
use course::Course;
use engine::clock::{self, Clock, SystemClock};
use engine::time::Instant;
use engine::wire::message::trigger;
use fight::{Fights, Tempo};
use handle::{Shared, Wanted, lock};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use pace::Pace;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use stuck::Stuck;
use unsettled::Unsettled;

const STACK_SIZE: usize = 512 * 1024;

/// What is enforced.
struct Held {
    assigned: AssignedManifest,
    watch: Option<Watch>,
    /// Something in it can only be noticed by looking.
    needs_interval: bool,
    /// What must be looked at again after a while.
    unsettled: Unsettled,
    /// All else in it was looked at, and was as wanted then.
    is_known: bool,
    /// Not everything could be watched when it was last tried.
    is_blind: bool,
}

/// What of the assignment a run looks at.
#[derive(Clone, Copy)]
enum Extent<'a> {
    Whole,
    Part,
    /// A part, while another run is under way.
    Beside(&'a Course<'a>),
}

struct Enforcer<F> {
    applier: Arc<Applier>,
    shared: Arc<Shared>,
    wakes: io::PipeReader,
    clock: SystemClock,
    on_event: F,
    held: Option<Held>,
    /// What could not be taken on yet, because its catalog could not be read, and why: what is
    /// held goes on being enforced.
    waiting: Option<(Wanted, Stuck)>,
    pending: Noticed,
    next_check: Option<Instant>,
    pace: Pace,
    fights: Fights,
    /// Why nothing of what is held could be applied when it was last tried.
    stuck: Option<Stuck>,
    /// When it was last told that events were lost.
    loss_told: Option<Instant>,
    told: Option<WatchState>,
}

/// Starts the enforcer thread. Events are told on that thread; a slow `on_event` holds it up.
///
/// # Errors
/// The system's, if it has no thread or descriptor left.
pub fn start(
    config: EnforcerConfig,
    on_event: impl Fn(EnforcerEvent) + Send + 'static,
) -> io::Result<EnforcerHandle> {
    start_with(config, Tempo::default(), on_event)
}

fn start_with(
    config: EnforcerConfig,
    tempo: Tempo,
    on_event: impl Fn(EnforcerEvent) + Send + 'static,
) -> io::Result<EnforcerHandle> {
    let (wakes, waker) = io::pipe()?;
    for end in [wakes.as_fd(), waker.as_fd()] {
        let nonblocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(end, nonblocking)?;
    }
    let shared = Arc::new(Shared {
        stop: StopSwitch::new()?,
        wishes: Mutex::default(),
        waker,
        status: Mutex::new(EnforcerStatus::default()),
    });
    let enforcer = Enforcer {
        applier: Arc::new(Applier::new(config)),
        shared: Arc::clone(&shared),
        wakes,
        clock: SystemClock::start(),
        on_event,
        held: None,
        waiting: None,
        pending: Noticed::default(),
        next_check: None,
        pace: Pace::default(),
        fights: Fights::new(tempo),
        stuck: None,
        loss_told: None,
        told: None,
    };
    let builder = std::thread::Builder::new().name("enforcer".to_owned()).stack_size(STACK_SIZE);
    let thread = builder.spawn(move || enforcer.work())?;
    Ok(EnforcerHandle { shared, thread: Some(thread) })
}

impl<F: Fn(EnforcerEvent)> Enforcer<F> {
    fn work(mut self) {
        while !self.shared.stop.is_pulled() {
            let wishes = std::mem::take(&mut *lock(&self.shared.wishes));
            if let Some(wanted) = wishes.assigned {
                self.on_assigned(wanted, None);
            } else if wishes.check {
                self.on_check(trigger::COMMAND);
            } else if !self.turn() {
                break;
            }
        }
        // What was accepted and not begun is enforced after the next start.
        if let Some(wanted) = lock(&self.shared.wishes).assigned.take() {
            self.keep(&wanted);
        }
        lock(&self.shared.status).activity = Activity::Stopped;
        (self.on_event)(EnforcerEvent::Stopped);
    }

    fn keep(&self, wanted: &Wanted) {
        if let Some(signed) = &wanted.keep {
            self.keep_signed(signed);
        }
    }

    /// Whether it was stored.
    fn keep_signed(&self, signed: &[u8]) -> bool {
        let kept = keep_assignment(&self.applier.config.state_dir, signed);
        if let Err(e) = &kept {
            // It was accepted and can be applied; only a restart falls back to the one before,
            // until the next poll.
            log::error!("cannot store the assignment in the state directory: {e}");
        }
        kept.is_ok()
    }

    /// Stores an assignment that came during a run, which may last long: a client that dies
    /// meanwhile begins with the newer one.
    fn keep_ahead(&self) {
        let wished = || {
            let wishes = lock(&self.shared.wishes);
            let wanted = wishes.assigned.as_ref()?;
            Some((wanted.assigned, wanted.keep.clone()?))
        };
        let Some((assigned, signed)) = wished() else { return };
        // One that cannot be taken on must not replace one that is.
        if self.applier.load(assigned.catalog).is_ok()
            && self.keep_signed(&signed)
            && let Some(wanted) = &mut lock(&self.shared.wishes).assigned
            && wanted.assigned == assigned
        {
            wanted.keep = None;
        }
    }

    /// Waits for a run to end. Meanwhile stores what is wished for, and puts right what drifts of
    /// what the run has done: that of a large tree holds up both, and the end of the run.
    fn attend(&mut self, course: &Course<'_>) -> io::Result<()> {
        while !course.is_over() {
            let now = self.clock.now().at;
            match self.poll_beside(course, now) {
                Ok(due) => self.heal(course, &due),
                Err(wake_at) => {
                    if self.sleep(wake_at, now)? {
                        self.keep_ahead();
                    }
                }
            }
        }
        Ok(())
    }

    /// What is to be put right beside a run; or when to ask again, if no event comes before.
    fn poll_beside(
        &mut self,
        course: &Course<'_>,
        now: Instant,
    ) -> Result<BTreeSet<u32>, Option<Instant>> {
        self.pending.resources.extend(self.fights.poll_over(now));
        // Asked first: what the run itself writes is noticed too, again and again.
        let beside = match self.pace.next_beside(now) {
            Some(at) => Err((!self.pending.resources.is_empty()).then_some(at)),
            None => {
                let free = course.poll_free(&self.pending.resources);
                self.pace.poll_drift(&self.fights, &free, now)
            }
        };
        beside.map_err(|later| [later, self.fights.next_over()].into_iter().flatten().min())
    }

    fn heal(&mut self, course: &Course<'_>, due: &BTreeSet<u32>) {
        self.pending.resources.retain(|r| !due.contains(r));
        self.cover(&course.ready.root, Some(due));
        let Some(held) = &self.held else { return };
        let mut done = course.heal(due, held.unsettled.all());
        self.postpone(course.take_overtaken(&mut done));
        self.on_done(done, Extent::Beside(course));
    }

    /// Does what is due, or sleeps until something happens; `false` if it can do neither.
    fn turn(&mut self) -> bool {
        let now = self.clock.now().at;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.next_check) {
            self.run(None, trigger::INTERVAL);
            return true;
        }
        let stuck_until = self.stuck.as_ref().map(|stuck| stuck.next_attempt);
        if is_due(stuck_until) {
            self.run(None, trigger::INTERVAL);
            return true;
        }
        let waiting_until = self.waiting.as_ref().map(|(_, stuck)| stuck.next_attempt);
        if is_due(waiting_until) {
            self.on_check(trigger::INTERVAL);
            return true;
        }
        let next_attempt = self.held.as_ref().and_then(|held| held.unsettled.next_attempt());
        if is_due(next_attempt) {
            self.on_retry(now);
            return true;
        }
        self.pending.resources.extend(self.fights.poll_over(now));
        let later = match self.pace.poll_drift(&self.fights, &self.pending.resources, now) {
            Ok(due) => {
                self.pending.resources.retain(|r| !due.contains(r));
                self.run(Some(&due), trigger::DRIFT);
                return true;
            }
            Err(later) => later,
        };
        // What is held back is not as wanted either.
        let held_back = self.fights.held_back(&self.pending.resources, now);
        let unsettled = self.unsettled(held_back).len();
        lock(&self.shared.status).unsettled = unsettled;
        let next_over = self.fights.next_over();
        let wake_at = [self.next_check, stuck_until, waiting_until, next_attempt, later, next_over];
        let wake_at = wake_at.into_iter().flatten().min();
        match self.sleep(wake_at, now) {
            Ok(_) => true,
            Err(e) => {
                log::error!("the enforcer cannot wait for events and ends: {e}");
                false
            }
        }
    }

    /// Whether it was woken: something is wished for, or a run has got on.
    fn sleep(&mut self, wake_at: Option<Instant>, now: Instant) -> io::Result<bool> {
        let timeout = wake_at.map_or(PollTimeout::NONE, |at| poll_timeout(at.since(now)));
        let watch = self.held.as_mut().and_then(|h| h.watch.as_mut());
        let mut fds = vec![PollFd::new(self.wakes.as_fd(), PollFlags::POLLIN)];
        fds.extend(watch.as_ref().map(|w| PollFd::new(w.as_fd(), PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |at: usize| fds.get(at).and_then(PollFd::any).unwrap_or(false);
        let (woken, noticed) = (is_ready(0), is_ready(1));
        drop(fds);
        if woken {
            // Emptied before the wishes are read, so that none is overlooked.
            let _ = (&self.wakes).read(&mut [0; 256]);
        }
        if let (true, Some(watch)) = (noticed, watch) {
            let noticed = watch.poll_noticed()?;
            self.pending.lost |= noticed.lost;
            self.pending.resources.extend(noticed.resources);
        }
        Ok(woken)
    }

    /// `before` is why it could not be taken on before, if it could not.
    fn on_assigned(&mut self, wanted: Wanted, before: Option<Stuck>) {
        let Wanted { assigned, trigger, .. } = wanted;
        let planned = self.applier.load(assigned.catalog).map(|(loaded, _)| plan(&loaded));
        let (targets, needs_interval) = match planned {
            Ok(planned) => planned,
            // What was enforced before goes on being so.
            Err(error) => {
                let stuck = self.on_not_applied(&assigned, trigger, &error, before);
                self.waiting = Some((wanted, stuck));
                return;
            }
        };
        self.waiting = None;
        self.stuck = None;
        self.keep(&wanted);
        self.applier.signatures.clear();
        self.pending = Noticed::default();
        self.fights.clear();
        let (watch, is_blind) = match Watch::new(targets) {
            Ok(watch) => (Some(watch), false),
            Err(error) => {
                self.tell_watch(WatchState::Polling { reason: error.to_string() });
                (None, true)
            }
        };
        let unsettled = Unsettled::default();
        self.held =
            Some(Held { assigned, watch, needs_interval, unsettled, is_known: false, is_blind });
        lock(&self.shared.status).assigned_revision = assigned.revision.0;
        self.run(None, trigger);
    }

    /// Tries what could not be taken on before, or else looks at everything.
    fn on_check(&mut self, trigger: u8) {
        match self.waiting.take() {
            Some((wanted, stuck)) => self.on_assigned(wanted, Some(stuck)),
            None => self.run(None, trigger),
        }
    }

    fn on_retry(&mut self, now: Instant) {
        let due = self.held.as_ref().map(|held| held.unsettled.due(now)).unwrap_or_default();
        self.run(Some(&due), trigger::INTERVAL);
    }

    /// Watches first and looks then, so that no change falls in between.
    fn cover(&mut self, root: &Rooted, selected: Option<&BTreeSet<u32>>) {
        let Some(held) = &mut self.held else { return };
        let Some(watch) = &mut held.watch else { return };
        let state = match watch.cover(root, selected) {
            Ok(()) => WatchState::Watching { directories: watch.directories_len() },
            Err(error) => WatchState::Polling { reason: error.to_string() },
        };
        let is_blind = matches!(state, WatchState::Polling { .. });
        // What a part can see says nothing of what the whole could not.
        if selected.is_none() || is_blind {
            held.is_blind = is_blind;
            self.tell_watch(state);
        }
    }

    fn tell_watch(&mut self, state: WatchState) {
        lock(&self.shared.status).watch = state.clone();
        let is_news = match (&self.told, &state) {
            (Some(WatchState::Watching { .. }), WatchState::Watching { .. }) => false,
            (told, state) => told.as_ref() != Some(state),
        };
        self.told = Some(state.clone());
        let event = match state {
            _ if !is_news => return,
            WatchState::Off => return,
            WatchState::Watching { directories } => EnforcerEvent::Watching { directories },
            WatchState::Polling { reason } => {
                let check_interval = self.applier.config.check_interval;
                EnforcerEvent::WatchFallback { reason, check_interval }
            }
        };
        (self.on_event)(event);
    }

    fn run(&mut self, selected: Option<&BTreeSet<u32>>, trigger: u8) {
        let Some(held) = &self.held else { return };
        let assigned = held.assigned;
        // Where nothing could be applied, a part is not enough to know how all is.
        let selected = selected.filter(|_| self.stuck.is_none());
        lock(&self.shared.status).activity =
            Activity::Running { trigger, done: 0, total: 0, since_ms: clock::wall().0 };
        let applier = Arc::clone(&self.applier);
        let ready = applier.prepare(&assigned);
        let done = ready.map(|ready| {
            self.cover(&ready.root, selected);
            self.run_attended(&applier, &ready, selected, trigger)
        });
        {
            let mut status = lock(&self.shared.status);
            status.activity = Activity::Idle;
            status.actions.clear();
        }
        let extent = if selected.is_none() { Extent::Whole } else { Extent::Part };
        match done {
            Ok(done) => self.on_done(done, extent),
            Err(error) => {
                let before = self.stuck.take();
                self.stuck = Some(self.on_not_applied(&assigned, trigger, &error, before));
                let (now, interval) = (self.clock.now().at, self.applier.config.check_interval);
                self.next_check = self.next_check.map(|_| now + interval);
                if let Some(held) = &mut self.held {
                    held.unsettled.handle_not_run(interval, now);
                }
            }
        }
        heap::trim();
    }

    /// Has a thread of its own for the run, so that this one can attend to what happens meanwhile.
    fn run_attended(
        &mut self,
        applier: &Applier,
        ready: &Ready,
        selected: Option<&BTreeSet<u32>>,
        trigger: u8,
    ) -> RunDone {
        let shared = Arc::clone(&self.shared);
        let failed = self.held.as_ref().map(|held| held.unsettled.all().clone());
        let failed = failed.unwrap_or_default();
        let course = Course::new(applier, &shared, ready, selected);
        let mut done = std::thread::scope(|threads| {
            let builder = std::thread::Builder::new().name("run".to_owned()).stack_size(STACK_SIZE);
            let run = match builder.spawn_scoped(threads, || course.run(&failed, trigger)) {
                Ok(run) => run,
                Err(e) => {
                    log::warn!("cannot start another thread: {e}");
                    return course.run(&failed, trigger);
                }
            };
            // Without news the run is only waited for.
            if let Err(e) = self.attend(&course) {
                log::error!("the enforcer cannot wait for events during a run: {e}");
            }
            run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        course.outdate(&mut done);
        if trigger == trigger::DRIFT {
            self.postpone(course.take_overtaken(&mut done));
        }
        done
    }

    /// Looks at these again, after pauses that double where that does not end.
    fn postpone(&mut self, resources: BTreeSet<u32>) {
        let now = self.clock.now().at;
        for resource in &resources {
            self.fights.handle_heal(*resource, b"", false, now);
        }
        self.pending.resources.extend(resources);
    }
}

/// What of a catalog can be watched, and whether some of it cannot.
fn plan(loaded: &LoadedCatalog) -> (Vec<Target>, bool) {
    let mut targets = Vec::new();
    let mut needs_interval = false;
    for (resource, archived) in (0_u32..).zip(loaded.archived().resources.iter()) {
        // One that cannot be read fails in every run, and is tried again like all that fail.
        let Ok(spec) = Spec::read(archived) else { continue };
        match spec.attention() {
            Attention::At(path) => {
                targets.push(Target { path: path.into(), resource, below: false })
            }
            Attention::Below(path) => {
                targets.push(Target { path: path.into(), resource, below: true })
            }
            Attention::Interval => needs_interval = true,
        }
    }
    (targets, needs_interval)
}

#[cfg(test)]
mod tests;
