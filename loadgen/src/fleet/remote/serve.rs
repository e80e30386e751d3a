//! A worker's end: a process that waits for controllers.

use super::PATIENCE;
use super::message::{Greeting, Task, Wire, is_sound, told};
use crate::error::LoadError;
use crate::fleet::worker::Worker;
use crate::fleet::{Order, descriptors_for};
use engine::clock::SystemClock;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// While it works, it looks so often whether another controller wants something.
const LOOK: Duration = Duration::from_millis(100);

/// Where a worker waits for controllers.
#[derive(Debug)]
pub struct Post {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Post {
    /// Listens. Whoever can connect can have it load any master that it reaches, so an address
    /// that other machines reach must be allowed.
    ///
    /// # Errors
    /// It is not allowed, or not to be had.
    pub fn open(listen: SocketAddr, foreign_allowed: bool) -> Result<Self, LoadError> {
        if !listen.ip().is_loopback() && !foreign_allowed {
            return Err(LoadError::ForeignListen { listen });
        }
        let open = || {
            let listener = TcpListener::bind(listen)?;
            let addr = listener.local_addr()?;
            Ok(Self { listener, addr })
        };
        open().map_err(|error| LoadError::WorkerListen { listen, error })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Works for one controller after another, without an end of its own, and says what it does.
    ///
    /// # Errors
    /// No controller can come any more.
    pub fn serve(&self, mut say: impl FnMut(&str)) -> Result<Infallible, LoadError> {
        loop {
            say(&format!("{} waits for a controller", self.addr));
            self.serve_next(&mut say)?;
        }
    }

    /// Works for the next controller, until that has gone.
    fn serve_next(&self, say: &mut impl FnMut(&str)) -> io::Result<()> {
        let (socket, controller) = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return Ok(()),
            accepted => accepted?,
        };
        if let Err(error) = self.work_for(socket, controller, say) {
            say(&format!("the controller {controller} has gone: {error}"));
        }
        self.listener.set_nonblocking(false)
    }

    fn work_for(
        &self,
        socket: TcpStream,
        controller: SocketAddr,
        say: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        let mut wire = Wire::new(socket)?;
        wire.send(&Greeting::new(false))?;
        let Some(task) = wire.receive::<Task>(Some(PATIENCE))? else { return Ok(()) };
        // Nothing lies between the reading and this but its way here.
        let clock = SystemClock::start_at(task.now);
        if !task.is_sound() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a task that cannot be"));
        }
        let Task { number, fleet, .. } = task;
        let clients = fleet.share(number).len();
        let (all, master) = (fleet.clients, fleet.master);
        say(&format!("{clients} of {all} clients for {controller}, on the master at {master}"));
        self.listener.set_nonblocking(true)?;
        let descriptors = descriptors_for(clients);
        let (sender, events) = channel();
        let (order, orders) = channel();
        let worker = Builder::new().name(format!("swarm-{number}")).spawn(move || {
            Worker::new(number, orders, sender, clock).run(&fleet, descriptors, false);
        })?;
        let ear = wire.split()?;
        let ear = Builder::new().name("orders".to_owned()).spawn(move || hear(ear, &order));
        let told = loop {
            match events.recv_timeout(LOOK) {
                Ok(event) => {
                    if let Err(error) = wire.send(&told(event.what)) {
                        break Err(error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
            self.turn_away();
        };
        // With the connection the orders end, and with them the worker, if it has not ended yet.
        wire.close();
        let ear = ear.map(|ear| drop(ear.join()));
        // One that panicked has told of it.
        let _ = worker.join();
        told.and(ear)
    }

    /// One controller at a time: others are told so at once.
    fn turn_away(&self) {
        while let Ok((socket, _)) = self.listener.accept() {
            // Whoever has gone does not want to know.
            let _ = Wire::new(socket).and_then(|wire| wire.send(&Greeting::new(true)));
        }
    }
}

/// Passes the orders on. The worker ends with the channel, and that ends with the connection.
fn hear(mut wire: Wire, orders: &Sender<Order>) {
    while let Ok(Some(order)) = wire.receive::<Order>(None) {
        if !is_sound(&order) || orders.send(order).is_err() {
            return;
        }
    }
}
