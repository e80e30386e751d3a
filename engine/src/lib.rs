//! What Drover's master, client and load generator share.
//!
//! A [`node::io::Host`] says *what* happens; a [`reactor::Reactor`] makes it happen on sockets.
//! A server that counts messages, and leaves after the third:
//!
//! ```
//! use engine::blocking::Connection;
//! use engine::clock::SystemClock;
//! use engine::ids::ConnId;
//! use engine::limits::Limits;
//! use engine::node::io::{Host, Input, Listener, Output, Request, Services, Verdict};
//! use engine::reactor::{Mailbox, MioPoller, Reactor};
//! use engine::time::{Instant, Now};
//! use engine::wire::{Frame, FrameBuf, message::StatusReq};
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct Counter { messages: u32, exit: bool }
//!
//! impl Host for Counter {
//!     type Mail = ();
//!     type Effect = ();
//!     fn handle_input(&mut self, _: Input<()>, _: Now) {}
//!     fn handle_frame(&mut self, _: ConnId, _: Frame<'_>, _: Now) -> Verdict {
//!         self.messages += 1;
//!         self.exit = self.messages == 3;
//!         Verdict::Taken
//!     }
//!     fn handle_timeout(&mut self, _: Now) {}
//!     fn end_turn(&mut self, _: Now) {}
//!     fn next_timeout(&self) -> Option<Instant> { None }
//!     fn poll_output(&mut self) -> Option<Output<()>> {
//!         std::mem::take(&mut self.exit).then_some(Output::Exit)
//!     }
//! }
//!
//! struct NoThreads;
//! impl Services<()> for NoThreads {
//!     fn dispatch(&mut self, _: Request<()>) {}
//! }
//!
//! let poller = MioPoller::new()?;
//! let mailbox = Mailbox::new(&poller);
//! let clock = SystemClock::start();
//! let mut server =
//!     Reactor::new(poller, mailbox, Counter::default(), NoThreads, clock, Limits::default());
//! let addr = server.listen(Listener::Peers, "127.0.0.1:0".parse()?)?;
//!
//! let mut client = Connection::connect(addr, Duration::from_secs(5))?;
//! for _ in 0..3 {
//!     client.send(&FrameBuf::message(None, &StatusReq { detail: 0 }, |_| {}))?;
//! }
//! server.run()?;
//! assert_eq!(server.host().messages, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod appointments;
pub mod blob;
pub mod blocking;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod ids;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod queue;
pub mod reactor;
pub mod release;
pub mod resolver;
pub mod sign;
pub mod time;
pub mod wheel;
pub mod wire;
