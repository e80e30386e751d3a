//! A master with one fault, for the load generator to find: the real daemon, with something
//! between its parts. `FAULT=forget:100 faulty-master master --config FILE`, as `drover` is called;
//! what a fault is, and what its number means, stands at [`Fault`].
#![allow(clippy::unwrap_used, reason = "it is a part of the tests: a step that fails ends it")]

use engine::delivery::ack;
use engine::ids::ConnId;
use engine::node::Node;
use engine::node::io::{Host, Input, Output, Verdict};
use engine::time::{Instant, Now, WallMs};
use engine::wire::{FLAG_BEHIND, Frame, Kind, Lane};
use log::LevelFilter;
use master::commands::{Context, master as command};
use master::config::MasterConfig;
use master::daemon::{Effect, MasterHost, MasterRole, RoleMail, Wiring, results_path};
use master::sink::{Answer, Appended, HostUpdates, Query, Record, Sink, SinkError, SqliteSink};
use master::table::Paint;
use rusqlite::Connection;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A false ack is of a report so far behind the last one.
const AHEAD: u64 = 1000;

/// What is wrong with this master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `stall:MS`: its loop stands still for so long, and then serves for as long, in turn.
    Stall(Duration),
    /// `forget:N`: of N reports that it acks, it stores all but one.
    Forget(u64),
    /// `false-ack:N`: every Nth ack is of a report that was not sent yet.
    FalseAck(u64),
    /// `double:N`: of N reports, it stores one twice.
    Double(u64),
    /// `alter:N`: of N reports, it changes a byte of one.
    Alter(u64),
    /// `panic:N`: the handler of the first report with number N panics.
    Panic(u64),
    /// `inbox:N`: it stores so many reports a second and no more.
    Inbox(u64),
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once(':')?;
        let number = number.parse().ok().filter(|n| *n > 0)?;
        Some(match kind {
            "stall" => Self::Stall(Duration::from_millis(number)),
            "forget" => Self::Forget(number),
            "false-ack" => Self::FalseAck(number),
            "double" => Self::Double(number),
            "alter" => Self::Alter(number),
            "panic" => Self::Panic(number),
            "inbox" => Self::Inbox(number),
            _ => return None,
        })
    }
}

fn main() -> ExitCode {
    let fault = std::env::var("FAULT").unwrap_or_default();
    let fault = Fault::parse(&fault).unwrap_or_else(|| panic!("FAULT={fault:?} is none"));
    let mut arguments = std::env::args_os().skip(1);
    let called = (arguments.next().unwrap(), arguments.next().unwrap());
    assert_eq!(called, ("master".into(), "--config".into()), "it is called as drover is");
    let config_path = PathBuf::from(arguments.next().unwrap());
    let results = results_path(&MasterConfig::load(&config_path).unwrap().state_dir);
    let context = Context { config_path, json: false, paint: Paint { colour: false } };
    match command::run(&context, LevelFilter::Info, &Faulty { fault, results }) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("faulty-master: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Faulty {
    fault: Fault,
    results: PathBuf,
}

impl Wiring for Faulty {
    fn sink(&self, sink: SqliteSink) -> impl Sink + Send + 'static {
        let db = Connection::open(&self.results).unwrap();
        if matches!(self.fault, Fault::Double(_)) {
            lift_the_unique_key(&db);
        }
        FaultySink { inner: sink, db, fault: self.fault, seen: 0 }
    }

    fn host(&self, node: Node<MasterRole>) -> impl MasterHost {
        FaultyHost { node, fault: self.fault, stall_at: None, acks: 0, failed: false }
    }
}

/// Makes the table of reports anew, without the key that removes what comes twice.
fn lift_the_unique_key(db: &Connection) {
    let made: String = db
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'reports'", [], |row| row.get(0))
        .unwrap();
    let key = "UNIQUE (stream, seq)";
    if !made.contains(key) {
        // An earlier life has done so.
        assert!(made.contains("CHECK (true)"), "the store has another key: {made}");
        return;
    }
    let copy = made.replacen("reports", "copy", 1).replace(key, "CHECK (true)");
    db.execute_batch(&format!(
        "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; {copy}; INSERT INTO copy SELECT * FROM reports;
         DROP TABLE reports; ALTER TABLE copy RENAME TO reports;
         CREATE INDEX reports_by_number ON reports (stream, seq); COMMIT;"
    ))
    .unwrap();
}

/// A result store, and another way into its file.
struct FaultySink<S> {
    inner: S,
    db: Connection,
    fault: Fault,
    seen: u64,
}

impl<S> FaultySink<S> {
    /// Which of these records is every `n`th of all that came.
    fn every(&mut self, n: u64, batch: &[Record]) -> Vec<bool> {
        let numbers = self.seen + 1..;
        self.seen += batch.len() as u64;
        numbers.take(batch.len()).map(|number| number % n == 0).collect()
    }
}

impl<S: Sink> Sink for FaultySink<S> {
    fn append(&mut self, batch: &[Record]) -> Result<Appended, SinkError> {
        match self.fault {
            Fault::Forget(n) => {
                let forgotten = self.every(n, batch);
                let kept = batch.iter().zip(forgotten).filter(|(_, forgotten)| !forgotten);
                let kept: Vec<Record> = kept.map(|(record, _)| record.clone()).collect();
                let mut appended = self.inner.append(&kept)?;
                // The inbox is to let go of what was forgotten, too.
                appended.upto = batch.iter().map(|record| record.seq).fold(appended.upto, u64::max);
                Ok(appended)
            }
            Fault::Double(n) => {
                let appended = self.inner.append(batch)?;
                for (record, again) in batch.iter().zip(self.every(n, batch)) {
                    if again {
                        self.inner.append(std::slice::from_ref(record))?;
                    }
                }
                Ok(appended)
            }
            Fault::Alter(n) => {
                let appended = self.inner.append(batch)?;
                let altered = self.every(n, batch).into_iter().filter(|is| *is).count();
                let newest = "SELECT id FROM reports ORDER BY id DESC LIMIT ?1";
                let changed = self.db.execute(
                    &format!("UPDATE results SET after = 'F' || substr(after, 2) WHERE report IN ({newest})"),
                    [i64::try_from(altered).unwrap()],
                );
                assert_eq!(changed.unwrap(), altered, "a result each");
                Ok(appended)
            }
            Fault::Inbox(per_second) => {
                std::thread::sleep(Duration::from_secs(batch.len() as u64) / per_second as u32);
                self.inner.append(batch)
            }
            Fault::Stall(_) | Fault::FalseAck(_) | Fault::Panic(_) => self.inner.append(batch),
        }
    }

    fn cursor(&self) -> Option<u64> {
        self.inner.cursor()
    }

    fn update_hosts(&mut self, updates: &HostUpdates) -> Result<(), SinkError> {
        self.inner.update_hosts(updates)
    }

    fn query(&mut self, query: &Query) -> Result<Answer, SinkError> {
        self.inner.query(query)
    }

    fn prune(&mut self, before: WallMs, reports_max: usize) -> Result<usize, SinkError> {
        self.inner.prune(before, reports_max)
    }
}

/// A node that stands still, acks too much, or fails.
struct FaultyHost {
    node: Node<MasterRole>,
    fault: Fault,
    stall_at: Option<Instant>,
    acks: u64,
    failed: bool,
}

impl AsMut<Node<MasterRole>> for FaultyHost {
    fn as_mut(&mut self) -> &mut Node<MasterRole> {
        &mut self.node
    }
}

impl FaultyHost {
    fn stall(&mut self, length: Duration, now: Now) {
        match self.stall_at {
            Some(at) if at > now.at => return,
            Some(_) => std::thread::sleep(length),
            None => {}
        }
        // The time of this turn is that of its beginning.
        self.stall_at = Some(now.at + 2 * length);
    }
}

impl Host for FaultyHost {
    type Mail = RoleMail;
    type Effect = Effect;

    fn handle_input(&mut self, input: Input<RoleMail>, now: Now) {
        if let Fault::Stall(length) = self.fault {
            self.stall(length, now);
        }
        self.node.handle_input(input, now);
    }

    fn handle_frame(&mut self, conn: ConnId, frame: Frame<'_>, now: Now) -> Verdict {
        let header = frame.header;
        let verdict = self.node.handle_frame(conn, frame, now);
        if (header.kind, self.fault) == (Kind::REPORT, Fault::Panic(header.seq)) && !self.failed {
            self.failed = true;
            panic!("this handler fails on purpose");
        }
        verdict
    }

    fn trail(&mut self) -> String {
        self.node.trail()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.node.handle_timeout(now);
    }

    fn end_turn(&mut self, now: Now) {
        self.node.end_turn(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.node.next_timeout()
    }

    fn poll_output(&mut self) -> Option<Output<Effect>> {
        let output = self.node.poll_output()?;
        let (Fault::FalseAck(n), Output::Send { conn, frame }) = (self.fault, &output) else {
            return Some(output);
        };
        let bytes = frame.to_vec();
        let header = Frame::parse(&bytes).unwrap().header;
        if header.kind != Kind::ACK || header.lane != Lane::Durable {
            return Some(output);
        }
        self.acks += 1;
        let ahead = if self.acks.is_multiple_of(n) { AHEAD } else { 0 };
        let behind = header.flags & FLAG_BEHIND != 0;
        let frame = ack(header.lane, header.epoch, header.seq + ahead, behind);
        Some(Output::Send { conn: *conn, frame })
    }
}
