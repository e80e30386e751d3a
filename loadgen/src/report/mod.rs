//! What a run says at its end: for programs as JSON, for people as one screen.

pub mod compare;
pub mod csv;
pub mod environment;
pub mod html;
pub mod interval_log;
pub mod junit;
pub mod plot;

use crate::error::Exit;
use crate::kernel::Process;
use crate::measure::{Quantiles, Record, Row, Timed};
use crate::names::NameCounts;
use crate::peers::PeerCounts;
use crate::subject::{Constraint, Sample};
use crate::truth::Truth;
use environment::Environment;
use master::table::words::{duration_us, size};
use master::table::{Cell, Paint, Table, Tone};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the JSON: raised whenever a field changes its meaning or goes.
pub const SCHEMA: u32 = 3;

/// What a run leaves in its directory.
const FILES: [&str; 5] = ["report.json", "seconds.csv", "latency.hlog", "junit.xml", "report.html"];

/// The files that an earlier run has left in a directory.
pub fn left_in(dir: &Path) -> impl Iterator<Item = PathBuf> {
    FILES.iter().map(|name| dir.join(name)).filter(|path| path.is_file())
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every client reached the goal.
    Reached,
    /// Some did not, in the time that they had.
    Missed,
    /// An acked report is missing, stored twice or out of order, or something was acked that was
    /// never sent.
    Violated,
    /// The generator itself was too late for its figures to count.
    Invalid,
    /// The master was gone at the end.
    Unreachable,
    /// Somebody interrupted it.
    Interrupted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reached => "reached",
            Self::Missed => "missed",
            Self::Violated => "VIOLATED",
            Self::Invalid => "INVALID",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
        })
    }
}

impl Outcome {
    /// The exit status that says so.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Reached => Exit::Reached,
            Self::Missed => Exit::Missed,
            Self::Violated => Exit::Violated,
            Self::Invalid => Exit::Invalid,
            Self::Unreachable => Exit::Unreachable,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// One thing that was asked of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The phase that it is about, if it is about one.
    pub phase: Option<String>,
    /// What was asked.
    pub what: String,
    /// [`Outcome::Reached`] if it holds; else how the run ended for that.
    pub outcome: Outcome,
    /// What was found, if it does not hold.
    pub detail: String,
}

impl Check {
    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.outcome == Outcome::Reached
    }

    /// How a run ended of which this was asked, and why: nothing counts beside a report that was
    /// lost, and no figure of a generator that was late. `None`: all of it holds.
    #[must_use]
    pub fn sum_up(checks: &[Self]) -> Option<(Outcome, String)> {
        const ORDER: [Outcome; 5] = [
            Outcome::Violated,
            Outcome::Interrupted,
            Outcome::Unreachable,
            Outcome::Invalid,
            Outcome::Missed,
        ];
        let first = ORDER
            .into_iter()
            .find_map(|outcome| checks.iter().find(|check| check.outcome == outcome))?;
        let several = checks.iter().filter_map(|check| check.phase.as_ref());
        let several = several.collect::<BTreeSet<_>>().len() > 1;
        let detail = match &first.phase {
            Some(phase) if several => format!("{}, in the phase {phase}", first.detail),
            _ => first.detail.clone(),
        };
        Some((first.outcome, detail))
    }
}

/// How far the clients came in a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Bound at least once.
    pub bound: u64,
    /// Hold the release.
    pub holding: u64,
    /// Have reached the goal.
    pub done: u64,
}

/// Connections of a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// The most that the generator had at once in any second, its workers added up.
    pub generator_most: u64,
    /// The most that the master was seen to have at once; `None` if it could not be seen.
    pub master_most: Option<u64>,
    /// Connections that ended because the other side did not do in time what was awaited.
    pub timeouts: u64,
}

impl Connections {
    /// What was measured of them, and seen at the master.
    #[must_use]
    pub fn of(record: &Record, samples: &[Sample]) -> Self {
        let said = samples.iter().filter_map(|sample| sample.said);
        let failures = record.whole().failures.iter();
        let timeouts = failures.filter(|((_, why), _)| why.ends_with("timeout"));
        Self {
            generator_most: record.rows().iter().map(|row| row.connections).max().unwrap_or(0),
            master_most: said.map(|said| said.connections).max(),
            timeouts: timeouts.map(|(_, count)| count).sum(),
        }
    }
}

/// Messages of a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Polls sent on their way.
    pub polls: u64,
    /// Polls acked.
    pub polls_acked: u64,
    /// Manifests taken.
    pub manifests: u64,
    /// Manifests that came although their revision was held.
    pub manifests_repeated: u64,
    /// Reports sent on their way.
    pub reports: u64,
    /// Reports acked.
    pub reports_acked: u64,
    /// Bytes of files that were fetched.
    pub fetched_bytes: u64,
    /// Clients that left, to come back later.
    pub leaves: u64,
    /// Clients that came back: of those that left, and of those that an earlier phase left away.
    #[serde(default)]
    pub returns: u64,
    /// Messages for one client that came to another, which did not take them.
    #[serde(default)]
    pub misdirected: u64,
}

/// The generator itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads with a reactor each.
    pub workers: u64,
    /// Descriptors that each may have for connections.
    pub descriptors: u64,
    /// CPU time that it took, seconds.
    pub cpu_s: f64,
    /// Resident memory at the end, bytes.
    pub resident_bytes: u64,
    /// Bytes that it had read from disks.
    pub read_bytes: u64,
    /// Bytes that it had written to disks.
    pub written_bytes: u64,
    /// Of which each client took so much, buffers of the loop included.
    pub bytes_per_client: u64,
    /// 99th percentile of a turn of its loops, microseconds.
    pub loop_lag_p99_us: u64,
    /// The longest turn.
    pub loop_lag_max_us: u64,
}

/// Whether the generator kept to its own schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punctuality {
    /// Whether it did, so that the figures count.
    pub valid: bool,
    /// 99 % of all slots were begun at most this late, microseconds.
    pub slip_p99_us: u64,
    /// The latest.
    pub slip_max_us: u64,
    /// What was allowed: a hundredth of the latency bound,
    pub p99_allowed_us: u64,
    /// and the whole of it.
    pub max_allowed_us: u64,
}

impl fmt::Display for Punctuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.valid {
            f.write_str("INVALID: the generator was too late for its figures to count; ")?;
        }
        write!(
            f,
            "own lateness p99 {} of {} allowed, latest {} of {}",
            duration_us(self.slip_p99_us),
            duration_us(self.p99_allowed_us),
            duration_us(self.slip_max_us),
            duration_us(self.max_allowed_us),
        )?;
        if !self.valid && self.p99_allowed_us < TIMER_US && self.slip_p99_us <= TIMER_US {
            f.write_str(
                "; a bound below 200ms asks for more than its timer gives: take a longer one",
            )?;
        }
        Ok(())
    }
}

/// The loops' timers are as fine as a millisecond, and so nobody is punctual to less than two.
const TIMER_US: u64 = 2_000;

/// A phase of a run, as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Whether its figures are what the run is about; if not, it prepares the others.
    pub judged: bool,
    /// When its slots began, seconds from the beginning of the run.
    pub start_s: f64,
    /// How long it took until the goal was reached or given up, seconds.
    pub elapsed_s: f64,
    /// How much of that is judged, seconds.
    pub measured_s: f64,
    /// What latencies had to keep to, if anything.
    pub bound: Option<String>,
    /// The clients.
    pub clients: Clients,
    /// Their connections.
    pub connections: Connections,
    /// The messages.
    pub messages: Messages,
    /// How long things took in the part that is judged, from their intended start.
    pub latencies: BTreeMap<Timed, Quantiles>,
    /// The same, by percentile: share of the messages, microseconds.
    pub percentiles: BTreeMap<Timed, Vec<(f64, u64)>>,
    /// What failed, by place and reason; a failure that was got over is one too.
    pub failures: BTreeMap<String, u64>,
    /// What became of the bad peers.
    pub peers: Vec<PeerCounts>,
    /// What was seen of the master that its user should know, goal or not.
    pub remarks: Vec<String>,
    /// Whether the figures count.
    pub punctuality: Punctuality,
    /// Which resource gave out, or would; `None` if the master could not be seen.
    pub constraint: Option<Constraint>,
}

/// A run, as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// This program's version.
    pub version: String,
    /// `steady`, `storm`, …, or the name that the scenario's file gives.
    pub scenario: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The same in words.
    pub summary: String,
    /// All that was asked of it.
    pub checks: Vec<Check>,
    /// Why its files could not be left behind, if they could not.
    #[serde(skip)]
    pub unwritten: Option<String>,
    /// The master's address.
    pub master: String,
    /// The master's version.
    pub master_version: String,
    /// When it began, milliseconds since 1970.
    pub started_ms: u64,
    /// From the first phase's start to the last one's end, seconds.
    pub elapsed_s: f64,
    /// Decides the order of the slots.
    pub seed: u64,
    /// How many clients.
    pub clients: u64,
    /// The first of those that have not reached the last goal.
    pub unfinished_first: Vec<String>,
    /// Its phases, as far as it came.
    pub phases: Vec<PhaseReport>,
    /// Acked against stored; `None` if it was not checked.
    pub truth: Option<Truth>,
    /// What its name service has answered, if it had one.
    #[serde(default)]
    pub names: Option<NameCounts>,
    /// The generator itself.
    pub generator: Generator,
    /// How often the master was killed and started again.
    pub master_kills: u32,
    /// Second by second.
    pub rows: Vec<Row>,
    /// Looks at the master.
    pub samples: Vec<Sample>,
    /// When the first slot lay on the clock of the looks, nanoseconds.
    pub start_ns: u64,
    /// The machine and the command line.
    pub environment: Environment,
}

impl Report {
    /// The phases that the run is about.
    pub fn judged(&self) -> impl Iterator<Item = &PhaseReport> {
        self.phases.iter().filter(|phase| phase.judged)
    }

    /// Writes all files but the interval log, which is written while the run goes on.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write_files(&self, dir: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        write_whole(&dir.join("report.json"), &(json + "\n"))?;
        let seconds = csv::table(&self.rows, &self.samples, self.start_ns);
        write_whole(&dir.join("seconds.csv"), &seconds)?;
        write_whole(&dir.join("junit.xml"), &junit::document(self))?;
        write_whole(&dir.join("report.html"), &html::page(self))
    }

    /// Reads the JSON of an earlier run.
    ///
    /// # Errors
    /// The file cannot be read, or is no report of this schema.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let schema = value["schema"].as_u64();
        if schema != Some(u64::from(SCHEMA)) {
            return Err(wrong(&format_args!("this is no report of schema {SCHEMA} of loadgen")));
        }
        serde_json::from_value(value).map_err(|error| wrong(&error))
    }

    /// One screen for people.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        let mut out = String::new();
        let tone = if self.outcome == Outcome::Reached { Tone::Good } else { Tone::Bad };
        let _ = writeln!(out, "{}", paint.paint(tone, &self.summary));
        // The summary has told the first of them.
        for check in self.checks.iter().filter(|check| !check.holds()) {
            if !self.summary.starts_with(&check.detail) {
                let line = check.phase.iter().fold(check.detail.clone(), |detail, phase| {
                    format!("{detail}, in the phase {phase}")
                });
                let _ = writeln!(out, "{}", paint.paint(Tone::Bad, &line));
            }
        }
        for name in &self.unfinished_first {
            let _ = writeln!(out, "not done: {name}");
        }
        let told =
            self.phases.iter().filter(|phase| phase.judged || phase.fell_short(self.clients));
        for phase in told {
            phase.render(&mut out, self.clients, self.phases.len() > 1, paint);
        }
        out.push('\n');
        match &self.truth {
            Some(truth) => {
                let tone = if truth.holds() { Tone::Good } else { Tone::Bad };
                let _ = writeln!(out, "truth     {}", paint.paint(tone, &truth.to_string()));
            }
            None => out.push_str("truth     not checked\n"),
        }
        if let Some(names) = &self.names {
            let _ = writeln!(out, "names     {names}");
        }
        if self.master_kills > 0 {
            let _ = writeln!(out, "kills     the master was killed {} times", self.master_kills);
        }
        let g = &self.generator;
        let _ = writeln!(
            out,
            "loadgen   {:.1} s CPU, {} resident ({} a client), workers {} with {} descriptors, seed {}",
            g.cpu_s,
            size(g.resident_bytes),
            size(g.bytes_per_client),
            g.workers,
            g.descriptors,
            self.seed
        );
        let (read, written) = (size(g.read_bytes), size(g.written_bytes));
        let _ = writeln!(out, "          {read} read, {written} written");
        out.push_str(&self.master_line());
        out
    }

    /// What the master's process took between the first look and the last; empty if it was not
    /// seen twice. One that was started in between is counted from its start.
    fn master_line(&self) -> String {
        let seen = || self.samples.iter().filter_map(|sample| sample.process.as_ref());
        let Some(last) = seen().skip(1).last() else { return String::new() };
        let took = |of: fn(&Process) -> u64| -> u64 {
            seen().zip(seen().skip(1)).map(|(before, now)| now.took_since(before, of)).sum()
        };
        format!(
            "master    {:.1} s CPU, {} resident, {} read, {} written\n",
            Duration::from_micros(took(Process::cpu_all_us)).as_secs_f64(),
            size(last.resident_bytes),
            size(took(|process| process.read_bytes)),
            size(took(|process| process.written_bytes)),
        )
    }
}

impl PhaseReport {
    /// Whether some clients have not reached its goal.
    fn fell_short(&self, clients: u64) -> bool {
        self.clients.done < clients
    }

    fn render(&self, out: &mut String, clients: u64, is_named: bool, paint: Paint) {
        let Clients { bound, holding, done } = self.clients;
        if is_named {
            let _ = write!(out, "\n{}", paint.paint(Tone::Head, &format!("phase {}", self.name)));
        }
        let _ = writeln!(
            out,
            "\nclients   {clients}: {bound} bound, {holding} hold the release, {done} done, in {:.1} s",
            self.elapsed_s
        );
        let _ = write!(out, "open      {} connections at once", self.connections.generator_most);
        if let Some(most) = self.connections.master_most {
            let _ = write!(out, ", {most} seen at the master");
        }
        let _ = writeln!(out, ", {} timeouts", self.connections.timeouts);
        let m = &self.messages;
        let _ = writeln!(
            out,
            "messages  {} of {} polls acked, {} manifests ({} repeated), {} of {} reports durable",
            m.polls_acked, m.polls, m.manifests, m.manifests_repeated, m.reports_acked, m.reports
        );
        if m.fetched_bytes > 0 {
            let rate = m.fetched_bytes as f64 / self.elapsed_s.max(0.001);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "shown with few digits"
            )]
            let rate = rate as u64;
            let _ = writeln!(
                out,
                "files     {} fetched, {} a second",
                size(m.fetched_bytes),
                size(rate)
            );
        }
        if m.leaves + m.returns > 0 {
            let _ = writeln!(out, "churn     {} clients left, {} came back", m.leaves, m.returns);
        }
        if m.misdirected > 0 {
            let what = "messages came to another client than they were meant for, and were refused";
            let _ = writeln!(out, "elsewhere {} {what}", m.misdirected);
        }
        out.push('\n');
        out.push_str(&self.latency_table(paint));
        out.push('\n');
        if self.failures.is_empty() {
            out.push_str("failures  none\n");
        }
        for (kind, count) in &self.failures {
            let _ =
                writeln!(out, "failures  {}", paint.paint(Tone::Warn, &format!("{count} {kind}")));
        }
        for peers in &self.peers {
            let _ = writeln!(
                out,
                "bad peers {} {}: {} connections, {} refused, {} ended by the master, {} acks, {} refusals",
                peers.peers,
                peers.badness,
                peers.connected,
                peers.refused,
                peers.ended_by_master,
                peers.acks,
                peers.nacks
            );
        }
        for remark in &self.remarks {
            let _ = writeln!(out, "remark    {}", paint.paint(Tone::Warn, remark));
        }
        let _ = writeln!(out, "own       {}", self.punctuality);
        if let Some(constraint) = &self.constraint {
            let _ = writeln!(out, "bound by  {constraint}");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are shown with one digit")]
    fn latency_table(&self, paint: Paint) -> String {
        let mut table = Table::new(&[
            "from → to",
            ">count",
            ">per s",
            ">p50",
            ">p90",
            ">p99",
            ">p99.9",
            ">max",
            ">service p99",
        ]);
        for (what, q) in &self.latencies {
            let rate = q.count as f64 / self.measured_s.max(0.001);
            let mut row = vec![Cell::from(what), Cell::from(q.count), format!("{rate:.1}").into()];
            let shown = [q.p50_us, q.p90_us, q.p99_us, q.p999_us, q.max_us, q.service_p99_us];
            row.extend(shown.map(|us| duration_us(us).into()));
            table.row(row);
        }
        table.render(paint)
    }
}

/// Writes a file, or leaves none.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests;
