//! A name service for the simulated clients: a small DNS server on loopback, in the place of a
//! hosts table, which the master's resolver has to ask. It can be slow, wrong and fickle.

mod desk;
mod faults;

pub use desk::{Desk, Reply};
pub use faults::{Draw, NameCounts, NameFaults, Said};

use crate::clients::address::Identities;
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// It looks at its own end at least this often.
const TURN_MAX: Duration = Duration::from_millis(50);
/// Questions are short: what does not fit is none.
const QUESTION_SIZE_MAX: usize = 512;

/// How a name service is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamesConfig {
    /// The UDP port on 127.0.0.1; 0 takes any.
    pub port: u16,
    /// What it does wrong.
    pub faults: NameFaults,
}

/// A name service that runs, until it is dropped.
#[derive(Debug)]
pub struct NameService {
    addr: SocketAddr,
    counts: Arc<Mutex<NameCounts>>,
    /// Dropped to end it.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NameService {
    /// Answers for so many clients from now on.
    ///
    /// # Errors
    /// The port is taken, or there is no thread.
    pub fn start(
        config: NamesConfig,
        identities: Identities,
        clients: u32,
        seed: u64,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, config.port))?;
        let addr = socket.local_addr()?;
        let counts = Arc::<Mutex<NameCounts>>::default();
        let (running, ended) = channel();
        let mut server = Server {
            socket,
            desk: Desk::new(identities, clients, config.faults, seed),
            late: BTreeMap::new(),
            number: 0,
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::Builder::new()
            .name("names".into())
            .spawn(move || server.serve(&ended, SystemClock::start()))?;
        Ok(Self { addr, counts, running: Some(running), thread: Some(thread) })
    }

    /// Where it answers.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has answered so far.
    #[must_use]
    pub fn counts(&self) -> NameCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameService {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What runs on the thread.
struct Server {
    socket: UdpSocket,
    desk: Desk,
    /// Replies that go out later, by their time.
    late: BTreeMap<(Instant, u64), (SocketAddr, Reply)>,
    number: u64,
    counts: Arc<Mutex<NameCounts>>,
}

impl Server {
    fn serve(&mut self, ended: &Receiver<()>, clock: SystemClock) {
        let mut buf = [0; QUESTION_SIZE_MAX];
        while ended.try_recv() == Err(TryRecvError::Empty) {
            let now = clock.now().at;
            while let Some(first) = self.late.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let (to, reply) = first.remove();
                self.send(to, &reply);
            }
            let next = self.late.first_key_value().map_or(TURN_MAX, |((at, _), _)| at.since(now));
            // A time of zero would mean for ever.
            let wait = next.clamp(Duration::from_millis(1), TURN_MAX);
            if self.socket.set_read_timeout(Some(wait)).is_err() {
                return;
            }
            // That nothing came is no more of a failure than that an earlier asker is gone.
            let Ok((len, from)) = self.socket.recv_from(&mut buf) else { continue };
            let now = clock.now().at;
            let Some(reply) = self.desk.reply(&buf[..len], now) else { continue };
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.desk.counts();
            if reply.after.is_zero() {
                self.send(from, &reply);
            } else {
                self.number += 1;
                self.late.insert((now + reply.after, self.number), (from, reply));
            }
        }
    }

    fn send(&self, to: SocketAddr, reply: &Reply) {
        for _ in 0..reply.copies {
            // The asker may be gone.
            let _ = self.socket.send_to(&reply.bytes, to);
        }
    }
}

#[cfg(test)]
mod tests;
