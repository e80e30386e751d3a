//! How far a run has come, while it goes on: one line that is written over on a terminal, a
//! line every two seconds elsewhere.

use crate::fleet::Beat;
use crate::measure::{Record, Standings, Timed};
use engine::time::Instant;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(2);

/// Where progress goes.
pub struct Progress {
    out: Box<dyn Write>,
    refreshes: bool,
    next: Instant,
    /// The line on the terminal is not ended.
    open: bool,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("refreshes", &self.refreshes).finish_non_exhaustive()
    }
}

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn to_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let refreshes = io::stderr().is_terminal() && !dumb;
        Self::new(Box::new(io::stderr()), refreshes)
    }

    /// Into `out`; `refreshes` writes one line over and over.
    #[must_use]
    pub fn new(out: Box<dyn Write>, refreshes: bool) -> Self {
        Self { out, refreshes, next: Instant(0), open: false }
    }

    /// Shows where the run stands, if it is time to.
    pub fn update(
        &mut self,
        now: Instant,
        elapsed: Duration,
        clients: u32,
        beats: &[Beat],
        record: &Record,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + if self.refreshes { ON_TERMINAL } else { ELSEWHERE };
        self.show(&line(elapsed, clients, beats, record));
    }

    /// Says something that stays to be read.
    pub fn say(&mut self, text: &str) {
        self.close();
        let _ = writeln!(self.out, "{text}");
    }

    /// Ends the line that is being written over.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(self.out);
        }
    }

    // Nobody can be told that the terminal is gone; the run goes on without.
    fn show(&mut self, line: &str) {
        let _ = if self.refreshes {
            self.open = true;
            write!(self.out, "\r{line}\x1b[K")
        } else {
            writeln!(self.out, "{line}")
        };
        let _ = self.out.flush();
    }
}

fn line(elapsed: Duration, clients: u32, beats: &[Beat], record: &Record) -> String {
    let standings: Standings = beats.iter().map(|beat| beat.standings).sum();
    let sum = |of: fn(&Beat) -> u64| beats.iter().map(of).sum::<u64>();
    let tally = record.whole();
    format!(
        "{:6.1} s  {} of {clients} bound, {} hold the release, {} done; {} reports durable; {} deliveries, {} waiting; {} failures",
        elapsed.as_secs_f64(),
        standings.bound,
        standings.holding,
        standings.done,
        tally.latencies.count(Timed::Report),
        sum(|beat| beat.deliveries),
        sum(|beat| beat.waiting),
        tally.failures_all(),
    )
}
