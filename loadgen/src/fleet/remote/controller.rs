//! A run's end of the connection to a worker.

use super::message::{Greeting, Task, Told, Wire};
use super::{Address, PATIENCE, RemoteError, SILENCE_MAX};
use crate::error::LoadError;
use crate::fleet::{Event, FleetConfig, Happening, Order};
use engine::clock::{Clock, SystemClock};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// More than this of anything is not counted within a second.
const COUNT_MAX: u64 = 1 << 48;

/// A worker in another process.
#[derive(Debug)]
pub(in crate::fleet) struct RemoteWorker {
    wire: Wire,
    thread: Option<JoinHandle<()>>,
}

impl RemoteWorker {
    /// Gives a worker its share. What it tells comes as an event, that it has gone too.
    pub(in crate::fleet) fn connect(
        address: &Address,
        number: u32,
        config: &FleetConfig,
        clock: SystemClock,
        events: Sender<Event>,
    ) -> Result<Self, LoadError> {
        let unreachable = |error| RemoteError::Unreachable { worker: address.clone(), error };
        let socket = TcpStream::connect_timeout(&address.addr, PATIENCE).map_err(unreachable)?;
        let mut wire = Wire::new(socket).map_err(unreachable)?;
        greet(&mut wire, address)?;
        let task = Task { number, fleet: config.clone(), now: clock.now().at };
        wire.send(&task).map_err(|error| ended(address, PATIENCE, &error))?;
        let mut ear =
            Ear { wire: wire.split()?, address: address.clone(), clients: config.share(number) };
        let body = move || {
            loop {
                let what = ear.hear().unwrap_or_else(|error| Happening::Failed(error.into()));
                let is_last = matches!(what, Happening::Failed(_) | Happening::Ended(_));
                if events.send(Event { worker: number, what }).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("remote-{number}")).spawn(body)?;
        Ok(Self { wire, thread: Some(thread) })
    }

    /// One that has gone has told so, or the end of its connection will.
    pub(in crate::fleet) fn send(&self, order: &Order) {
        if self.wire.send(order).is_err() {
            self.wire.close();
        }
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        self.wire.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Before anything else: is it one of ours?
fn greet(wire: &mut Wire, address: &Address) -> Result<(), RemoteError> {
    let worker = address.clone();
    let greeting = match wire.receive::<Greeting>(Some(PATIENCE)) {
        Ok(Some(greeting)) if greeting.is_of_a_worker() => greeting,
        Ok(_) => return Err(RemoteError::Stranger { worker, detail: "no greeting".to_owned() }),
        Err(error) => return Err(ended(address, PATIENCE, &error)),
    };
    if !greeting.is_understood() {
        let (theirs, ours) = (greeting.versions(), Greeting::new(false).versions());
        return Err(RemoteError::Version { worker, theirs, ours });
    }
    if greeting.busy {
        return Err(RemoteError::Busy { worker });
    }
    Ok(())
}

fn ended(address: &Address, silence: Duration, error: &io::Error) -> RemoteError {
    let worker = address.clone();
    match error.kind() {
        ErrorKind::TimedOut => RemoteError::Silent { worker, silence },
        ErrorKind::InvalidData => RemoteError::Stranger { worker, detail: error.to_string() },
        _ => RemoteError::Gone { worker },
    }
}

/// What hears a worker.
#[derive(Debug)]
struct Ear {
    wire: Wire,
    address: Address,
    /// The worker's.
    clients: Range<u32>,
}

impl Ear {
    fn hear(&mut self) -> Result<Happening, RemoteError> {
        let worker = self.address.clone();
        match self.wire.receive::<Told>(Some(SILENCE_MAX)) {
            Ok(Some(Ok(what))) if self.is_sound(&what) => Ok(what),
            Ok(Some(Ok(_))) => {
                Err(RemoteError::Stranger { worker, detail: "numbers that cannot be".to_owned() })
            }
            Ok(Some(Err(detail))) => Err(RemoteError::Failed { worker, detail }),
            Ok(None) => Err(RemoteError::Gone { worker }),
            Err(error) => Err(ended(&self.address, SILENCE_MAX, &error)),
        }
    }

    /// Whether all of it can be counted, and is about the worker's own clients.
    fn is_sound(&self, what: &Happening) -> bool {
        match what {
            Happening::Beat(beat) => {
                let standings = beat.standings;
                let clients = self.clients.len() as u64;
                [standings.bound, standings.holding, standings.done].iter().all(|n| *n <= clients)
                    && [beat.deliveries, beat.waiting, beat.standings.awaited]
                        .iter()
                        .all(|n| *n <= COUNT_MAX)
                    && beat.acked.iter().all(|acked| {
                        self.clients.contains(&acked.client) && acked.first <= u64::from(u32::MAX)
                    })
            }
            Happening::Second(second) => {
                second.tally.count_max().max(second.cpu_us).max(second.connections) <= COUNT_MAX
            }
            Happening::Ready { .. } | Happening::Failed(_) | Happening::Ended(_) => true,
        }
    }
}
