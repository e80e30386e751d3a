//! The thread that resolves: it sleeps until somebody asks or a look-up ends.

use super::names::{NameSettings, Names, Resolution};
use super::table::{TableError, TableFile};
use super::{Answer, Lookup};
use crate::clock::Clock;
use crate::ids::HostName;
use crate::node::io::ResolveError;
use crate::time::Instant;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Builder;
use std::time::Duration;

/// How often, at most, a look-up asks whether the table's file has changed.
const TABLE_CHECK: Duration = Duration::from_secs(1);
const STACK_SIZE: usize = 256 * 1024;

enum Work {
    Resolve(Vec<HostName>),
    Answered(HostName, Result<Answer, ResolveError>),
    Reload,
    Stop,
}

/// Where a [`Lookup`] leaves its answer. Dropped without one, it answers that the look-up
/// failed, so that nobody waits for ever.
#[derive(Debug)]
pub struct Done {
    name: HostName,
    work: Option<Sender<Work>>,
}

impl Done {
    /// Ends the look-up.
    pub fn answer(mut self, answer: Result<Answer, ResolveError>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Result<Answer, ResolveError>) {
        if let Some(work) = self.work.take() {
            // A resolver that has stopped needs no answer.
            let _ = work.send(Work::Answered(self.name.clone(), answer));
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.send(Err(ResolveError::Failed("the look-up was given up".to_owned())));
    }
}

/// Asks a resolver; cheap to clone.
#[derive(Debug, Clone)]
pub struct ResolverHandle {
    work: Sender<Work>,
}

impl ResolverHandle {
    /// Asks for a name's addresses; never blocks. The answer goes to the resolver's callback.
    pub fn resolve(&self, name: HostName) {
        let _ = self.work.send(Work::Resolve(vec![name]));
    }

    /// Reads table and configuration again and forgets what was cached.
    pub fn reload(&self) {
        let _ = self.work.send(Work::Reload);
    }
}

/// A resolver's thread; it ends, after the look-up that it is busy with, when this is dropped,
/// and tells those who wait for others that it does.
#[derive(Debug)]
pub struct Resolver {
    handle: ResolverHandle,
    gathered: Vec<HostName>,
}

impl Resolver {
    /// Starts the thread. `answer` is called on it, exactly once for each request; an address
    /// from the name service has port 0.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        table: Option<TableFile>,
        lookup: impl Lookup,
        settings: NameSettings,
        clock: impl Clock + Send + 'static,
        answer: impl Fn(HostName, Resolution) + Send + 'static,
    ) -> io::Result<Self> {
        let (work, inbox) = mpsc::channel();
        let handle = ResolverHandle { work: work.clone() };
        let state = State {
            table,
            table_checked: clock.now().at,
            names: Names::new(settings),
            lookup,
            clock,
            work,
        };
        let thread = Builder::new().name("resolver".to_owned()).stack_size(STACK_SIZE);
        thread.spawn(move || state.run(&inbox, answer))?;
        Ok(Self { handle, gathered: Vec::new() })
    }

    /// Asks for a name's addresses, as soon as [`Resolver::hand_over`] is called: to wake the thread
    /// takes longer than to look a name up in a table, so a crowd's names go there together.
    pub fn gather(&mut self, name: HostName) {
        self.gathered.push(name);
    }

    /// Asks for all that was gathered; never blocks.
    pub fn hand_over(&mut self) {
        if !self.gathered.is_empty() {
            let _ = self.handle.work.send(Work::Resolve(std::mem::take(&mut self.gathered)));
        }
    }

    /// Asks this resolver.
    #[must_use]
    pub fn handle(&self) -> ResolverHandle {
        self.handle.clone()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.hand_over();
        let _ = self.handle.work.send(Work::Stop);
    }
}

struct State<L, C> {
    table: Option<TableFile>,
    table_checked: Instant,
    names: Names,
    lookup: L,
    clock: C,
    work: Sender<Work>,
}

impl<L: Lookup, C: Clock> State<L, C> {
    fn run(mut self, inbox: &Receiver<Work>, answer: impl Fn(HostName, Resolution)) {
        while let Ok(work) = inbox.recv() {
            let (now, stops) = (self.clock.now(), matches!(work, Work::Stop));
            match work {
                Work::Resolve(names) => {
                    if now.at.since(self.table_checked) >= TABLE_CHECK {
                        self.table_checked = now.at;
                        self.refresh_table(TableFile::refresh);
                    }
                    for name in names {
                        match self.table.as_ref().and_then(|file| file.table().addrs(&name)) {
                            Some(addrs) => answer(name, Ok(addrs.to_vec())),
                            None => self.names.handle_request(name, now),
                        }
                    }
                }
                Work::Answered(name, result) => self.names.handle_answer(name, result, now),
                Work::Reload => {
                    self.refresh_table(TableFile::reload);
                    self.lookup.reload();
                    self.names.clear();
                }
                Work::Stop => self.names.give_up(),
            }
            while let Some((name, resolution)) = self.names.poll_answer() {
                answer(name, resolution);
            }
            if stops {
                return;
            }
            while let Some(name) = self.names.poll_lookup() {
                let done = Done { name: name.clone(), work: Some(self.work.clone()) };
                self.lookup.begin(name, done);
            }
        }
    }

    /// A table that has become wrong is reported, and the last good one stays.
    fn refresh_table(&mut self, refresh: impl Fn(&mut TableFile) -> Result<bool, TableError>) {
        if let Some(file) = &mut self.table
            && let Err(error) = refresh(file)
        {
            log::error!("{error}; the names read before stay in force");
        }
    }
}

#[cfg(test)]
mod tests;
