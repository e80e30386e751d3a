//! Where other threads leave what the loop should know.

use super::poller::{Poller, Wake};
use crate::node::io::Mail;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// A queue into a reactor. Posting never blocks, and wakes the loop at most once per drain.
pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    queue: Mutex<VecDeque<Mail<M>>>,
    /// A wake is under way that the loop has not answered yet; the next post needs none.
    woken: AtomicBool,
    waker: Arc<dyn Wake>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

impl<M> Mailbox<M> {
    /// A mailbox whose mail wakes this poller. Make it before the threads that answer through
    /// it, and hand it to the reactor.
    #[must_use]
    pub fn new(poller: &impl Poller) -> Self {
        Self::with_waker(poller.waker())
    }

    fn with_waker(waker: Arc<dyn Wake>) -> Self {
        let shared = Shared { queue: Mutex::default(), woken: AtomicBool::new(false), waker };
        Self { shared: Arc::new(shared) }
    }

    /// Leaves a mail, from any thread.
    pub fn post(&self, mail: Mail<M>) {
        self.lock().push_back(mail);
        if !self.shared.woken.swap(true, SeqCst) {
            self.shared.waker.wake();
        }
    }

    /// Leaves a mail of the role's own.
    pub fn post_role(&self, mail: M) {
        self.post(Mail::Role(mail));
    }

    /// Whether there is something to take.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.woken.load(SeqCst)
    }

    /// Takes at most `max`, oldest first; what is left keeps [`Mailbox::is_waiting`] true.
    pub(super) fn take(&self, max: usize, into: &mut Vec<Mail<M>>) {
        // The flag is cleared before the queue is drained: a mail that comes between the two is
        // taken now, and its wake costs one empty turn; the other way round it would be lost.
        self.shared.woken.store(false, SeqCst);
        let mut queue = self.lock();
        let count = queue.len().min(max);
        into.extend(queue.drain(..count));
        if !queue.is_empty() {
            self.shared.woken.store(true, SeqCst);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Mail<M>>> {
        // Nothing is done under the lock that could leave the queue half changed.
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn e13_posts_between_two_drains_wake_once() {
        let wakes = Arc::new(Counted::default());
        let mailbox = Mailbox::<u64>::with_waker(wakes.clone());
        let mut mails = Vec::new();
        for drains in 1..=3 {
            for n in 0..1000 {
                mailbox.post_role(n);
            }
            assert_eq!(wakes.0.load(SeqCst), drains);
            mailbox.take(999, &mut mails);
            assert!(mailbox.is_waiting(), "one is left");
            mailbox.take(999, &mut mails);
            assert!(!mailbox.is_waiting(), "the loop would never sleep again");
            assert_eq!(mails.len(), drains * 1000);
        }
    }
}
