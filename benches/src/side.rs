//! One side of a comparison: a client and a server, each a process on a processor of its own.

use crate::child::{Helper, Worker};
use crate::figures::Figures;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::time::Duration;

/// What was measured of one side.
#[derive(Debug, Default)]
pub struct Side {
    /// Transactions a second.
    pub rate: Figures,
    /// CPU time of the client for each, microseconds.
    pub client_us: Figures,
    /// CPU time of the server for each, all its threads together, microseconds.
    pub server_us: Figures,
}

/// One round of a side.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Transactions a second.
    pub rate: f64,
    /// As in [`Side`].
    pub client_us: f64,
    /// As in [`Side`].
    pub server_us: f64,
}

/// What a client's process says of a round: how long it took, and its CPU time.
#[must_use]
pub fn told(elapsed: Duration, cpu_us: u64) -> String {
    format!("{} {}", elapsed.as_secs_f64(), cpu_us as f64 / 1e6)
}

/// The figures that such a line begins with.
///
/// # Errors
/// There are fewer.
pub fn heard<const COUNT: usize>(line: &str) -> io::Result<[f64; COUNT]> {
    let figures: Vec<f64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
    let found = figures.first_chunk().copied();
    found.ok_or_else(|| io::Error::other("no figure came from a process of this bench"))
}

/// CPU time that all threads of this process have taken, microseconds.
///
/// # Errors
/// The kernel does not say.
pub fn own_cpu_us() -> io::Result<u64> {
    let time: Duration = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into();
    Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

impl Side {
    /// One round of so many transactions, by a client that answers with [`told`]. The first of a
    /// bench may go uncounted. Without a server's process its CPU time is not known.
    ///
    /// # Errors
    /// One of the processes has ended.
    pub fn round(
        &mut self,
        client: &mut Helper,
        server: Option<&dyn Worker>,
        transactions: u32,
        counts: bool,
    ) -> io::Result<Round> {
        let cpu = || server.map_or(Ok(Duration::ZERO), Worker::cpu);
        let before = cpu()?;
        let line = client.go()?;
        let served = cpu()?.saturating_sub(before);
        let [elapsed, taken] = heard(&line)?;
        let each = 1e6 / f64::from(transactions);
        let round = Round {
            rate: f64::from(transactions) / elapsed,
            client_us: taken * each,
            server_us: served.as_secs_f64() * each,
        };
        if counts {
            self.rate.push(round.rate);
            self.client_us.push(round.client_us);
            self.server_us.push(round.server_us);
        }
        Ok(round)
    }

    /// Prints it.
    pub fn tell(&self, name: &str) {
        println!("  {name:<20}rate {:.0}/s, CPU {:.1} us a transaction", self.rate, self.client_us);
        println!("  {:<20}server's CPU {:.1} us", "", self.server_us);
    }
}

/// Prints a ratio beside its goal, and says whether it is met.
pub fn judge(what: &str, ratios: &Figures, goal: Goal) -> bool {
    let median = ratios.median();
    let (met, words) = match goal {
        Goal::AtLeast(least) => (median >= least, format!("at least {least}")),
        Goal::AtMost(most) => (median <= most, format!("at most {most}")),
    };
    println!("  {what}: {ratios:.2}; {words}: {}", if met { "met" } else { "MISSED" });
    met
}

/// What is asked of the median of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// It, or more.
    AtLeast(f64),
    /// It, or less.
    AtMost(f64),
}
