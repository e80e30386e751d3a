//! How other threads speak to the enforcer: wishes in, its status out.

use super::status::{Activity, EnforcerStatus};
use crate::executor::stop::StopSwitch;
use crate::policy::AssignedManifest;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// An assignment to take on.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) assigned: AssignedManifest,
    /// Its signed bytes, where they are not on the disk yet.
    pub(super) keep: Option<Vec<u8>>,
    pub(super) trigger: u8,
}

/// The wishes of the other threads: the newest of each kind.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) assigned: Option<Wanted>,
    pub(super) check: bool,
}

pub(super) struct Shared {
    pub(super) stop: StopSwitch,
    pub(super) wishes: Mutex<Wishes>,
    pub(super) waker: io::PipeWriter,
    pub(super) status: Mutex<EnforcerStatus>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn wake(&self) {
        // A full pipe wakes as well as one byte more.
        let _ = (&self.waker).write(&[1]);
    }
}

/// Speaks to an enforcer; dropped, it stops it and waits for what runs.
pub struct EnforcerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl EnforcerHandle {
    /// Enforces another assignment from now on. `keep` has its signed bytes, which are stored
    /// before anything of it is applied; `None` if they are stored already. `trigger` is one of
    /// `engine::wire::message::trigger`, for the report. Of several that wait the last counts.
    pub fn enforce(&self, assigned: AssignedManifest, keep: Option<Vec<u8>>, trigger: u8) {
        lock(&self.shared.wishes).assigned = Some(Wanted { assigned, keep, trigger });
        self.shared.wake();
    }

    /// Looks at everything, now.
    pub fn check_now(&self) {
        lock(&self.shared.wishes).check = true;
        self.shared.wake();
    }

    /// How it is; never waits for a run.
    #[must_use]
    pub fn status(&self) -> EnforcerStatus {
        let mut status = lock(&self.shared.status).clone();
        if status.activity != Activity::Stopped
            && let Some(left) = self.shared.stop.time_left()
        {
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            status.activity = Activity::Stopping { left_ms };
        }
        status
    }

    /// Begins to stop: no resource starts any more, running ones may take `timeout`, then
    /// their process groups are ended. [`EnforcerEvent::Stopped`](super::EnforcerEvent::Stopped) follows.
    pub fn stop(&self, timeout: Duration) {
        self.shared.stop.pull(timeout);
        self.shared.wake();
    }

    /// Waits for the end after [`EnforcerHandle::stop`].
    pub fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the enforcer ended in a panic: please report it");
        }
    }
}

impl Drop for EnforcerHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop(Duration::ZERO);
            self.wait();
        }
    }
}
