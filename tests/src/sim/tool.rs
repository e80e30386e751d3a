//! A program that talks to daemons over one connection, as an operator's tool does, or an
//! impostor: any party that has the codec.

use engine::reactor::poller::{Poller, Readiness, Token};
use engine::reactor::sim::{SimNet, SimPoller, SimStream};
use engine::wire::{Decoder, Flow, Frame, FrameBuf};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const TOKEN: Token = Token(0);

/// One connection of such a program.
pub struct Tool {
    net: SimNet,
    poller: SimPoller,
    stream: SimStream,
    unsent: VecDeque<u8>,
    decoder: Decoder,
    received: Vec<Vec<u8>>,
    ended: bool,
}

impl Tool {
    /// Dials an address from another.
    ///
    /// # Errors
    /// There is no route to it.
    pub fn dial(net: &SimNet, from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let mut poller = net.poller(from);
        let (stream, _) = poller.connect(to, Some(from), TOKEN)?;
        Ok(Self::new(net, poller, stream))
    }

    /// Connects to a control socket, from the daemon's own machine.
    ///
    /// # Panics
    /// Nobody listens there.
    #[must_use]
    pub fn dial_control(net: &SimNet, from: IpAddr, path: &Path) -> Self {
        let mut poller = net.poller(from);
        let stream = poller.connect_unix(path, TOKEN).expect("the daemon listens");
        Self::new(net, poller, stream)
    }

    fn new(net: &SimNet, poller: SimPoller, stream: SimStream) -> Self {
        Self {
            net: net.clone(),
            poller,
            stream,
            unsent: VecDeque::new(),
            decoder: Decoder::new(),
            received: Vec::new(),
            ended: false,
        }
    }

    /// Sends a frame, as soon as the connection stands.
    pub fn send(&mut self, frame: &FrameBuf) {
        self.unsent.extend(frame.to_vec());
    }

    /// Sends bytes, whatever they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Whole frames that have come.
    ///
    /// # Panics
    /// Never: only whole, checked frames are kept.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.received.iter().map(|bytes| Frame::parse(bytes).expect("it was parsed before"))
    }

    /// Whether the peer has ended the connection, or none came about.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Does what can be done now; whether that was anything.
    pub(super) fn work(&mut self) -> bool {
        let mut events: Vec<Readiness> = Vec::with_capacity(4);
        let now = self.net.now().at;
        self.poller.poll(&mut events, now, Some(now)).expect("the network does not fail");
        let mut moved = !events.is_empty();
        match self.poller.connected(&self.stream) {
            Ok(true) => {}
            Ok(false) => return moved,
            Err(_) => {
                self.ended = true;
                return moved;
            }
        }
        while !self.unsent.is_empty() && !self.ended {
            let (front, _) = self.unsent.as_slices();
            match self.poller.write_vectored(&mut self.stream, &[IoSlice::new(front)]) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
            moved = true;
        }
        let mut buffer = [0; 4096];
        while !self.ended {
            match self.poller.read(&mut self.stream, &mut buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    let received = &mut self.received;
                    let fed = self.decoder.feed(&buffer[..n], |frame| {
                        received.push(frame.bytes().to_vec());
                        Flow::Next
                    });
                    fed.expect("daemons send frames");
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
            moved = true;
        }
        moved
    }
}
