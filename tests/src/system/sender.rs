//! A scripted client: sends reports by the rules of the durable lane, over the blocking codec,
//! and remembers which were acked.

use engine::blocking::{BlockingError, Connection};
use engine::ids::{Epoch, HostName, Origin};
use engine::wire::message::{Report, trigger};
use engine::wire::{FrameBuf, Kind, Lane, Nack, RouteBuf};
use std::net::SocketAddr;
use std::time::Duration;

/// A report that says little.
#[must_use]
pub fn report(note: &str) -> Report {
    Report {
        revision: 1,
        trigger: trigger::INTERVAL,
        started_ms: 1,
        duration_us: 1,
        busy_us: 1,
        checked: 1,
        results: Vec::new(),
        note: note.to_owned(),
    }
}

/// The id of a message as `drover ids` prints it.
#[must_use]
pub fn id_of(name: &HostName, epoch: Epoch, seq: u64) -> (String, String, u64) {
    (name.to_string(), format!("{:016x}", epoch.0), seq)
}

/// One host's durable outbox, in memory.
#[derive(Debug)]
pub struct Sender {
    /// The name that it claims.
    pub name: HostName,
    /// Its outbox's incarnation.
    pub epoch: Epoch,
    /// Acked up to here.
    pub acked: u64,
    /// Handed over up to here, acked or not.
    pub sent: u64,
    /// Refusals that told it to wait.
    pub busy: u64,
    /// Text in each report, to make it larger.
    pub filler: String,
}

impl Sender {
    /// A sender that has sent nothing.
    ///
    /// # Panics
    /// The name is none.
    #[must_use]
    pub fn new(name: &str, epoch: u64) -> Self {
        let name = name.parse().expect("tests name their hosts well");
        Self { name, epoch: Epoch(epoch), acked: 0, sent: 0, busy: 0, filler: String::new() }
    }

    fn frame(&self, seq: u64) -> FrameBuf {
        let origin = Origin { name: self.name.clone(), epoch: self.epoch, seq };
        let body = report(&format!("{seq} {}", self.filler));
        FrameBuf::message(Some(&RouteBuf::from(origin)), &body, |header| {
            header.epoch = self.epoch;
            header.seq = seq;
        })
    }

    /// One delivery: everything after the last ack up to `upto`, then waits for its acks.
    /// Returns how long the receiver asked it to wait, if it was refused.
    ///
    /// # Errors
    /// The connection ended, as it does when the master is killed: deliver again.
    pub fn deliver(
        &mut self,
        master: SocketAddr,
        upto: u64,
        timeout: Duration,
    ) -> Result<Option<Duration>, BlockingError> {
        let mut connection = Connection::connect(master, timeout)?;
        for seq in self.acked + 1..=upto {
            connection.send(&self.frame(seq))?;
            self.sent = self.sent.max(seq);
        }
        while self.acked < upto {
            let answer = connection.expect()?;
            let frame = answer.frame();
            let header = frame.header;
            match header.kind {
                Kind::ACK => {
                    assert_eq!((header.lane, header.epoch), (Lane::Durable, self.epoch));
                    assert!(header.seq <= self.sent, "an ack for what was never sent");
                    self.acked = self.acked.max(header.seq);
                }
                _ => {
                    let nack = Nack::decode(&frame);
                    self.busy += 1;
                    return Ok(Some(nack.map_or(Duration::ZERO, |nack| nack.retry_after)));
                }
            }
        }
        Ok(None)
    }
}
