//! A fleet of `loadgen` against a minimal server: as a run has it, without a master.

use engine::clock::{self, Clock, SystemClock};
use loadgen::clients::address::{DEFAULT_SUFFIX, Identities};
use loadgen::clients::work::{Pace, Reports, Work};
use loadgen::fleet::{Fleet, FleetConfig, Happening};
use loadgen::measure::{Tally, Timed};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// No phase takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between the order and the first slot.
const LEAD: Duration = Duration::from_millis(500);

/// What came of a phase.
#[derive(Debug)]
pub struct Phase {
    /// From the first slot until the last ack; of polls alone.
    pub elapsed: Duration,
    /// CPU time of the worker, and of the thread that hears it.
    pub cpu_us: u64,
    /// What was counted.
    pub tally: Tally,
}

/// Starts a fleet of one worker; its clients are dialled back at this port.
///
/// # Errors
/// No thread, or the port is taken.
pub fn start(
    clients: u32,
    window: usize,
    to: SocketAddr,
    back: u16,
    clock: SystemClock,
) -> io::Result<Fleet> {
    let config = FleetConfig {
        clients,
        workers: 1,
        identities: Identities::new(DEFAULT_SUFFIX).map_err(io::Error::other)?,
        master: to,
        own_addresses: true,
        port: back,
        deliveries_max: Some(window),
        seed: 1,
        incarnation: fastrand::u64(..),
    };
    Fleet::start(&config, clock, 4 * window).map_err(io::Error::other)
}

/// One poll or one report of each client, spread over this window.
#[must_use]
pub fn work(window: Duration, kind: Timed) -> Work {
    let pace = Pace::once(window);
    match kind {
        Timed::Report => Work { reports: Some(Reports::at(pace)), ..Work::idle(PATIENCE) },
        _ => Work { polls: Some(pace), ..Work::idle(PATIENCE) },
    }
}

/// Has the fleet do a work, and waits until nothing that it has sent is without its ack.
///
/// # Errors
/// A worker has failed, or a message: then there is no figure.
pub fn phase(fleet: &mut Fleet, work: &Work, clock: SystemClock) -> io::Result<Phase> {
    let start = clock.now().at + LEAD;
    let before = clock::thread_cpu_us();
    fleet.begin(work, start);
    let (mut tally, mut cpu_us, mut done_at) = (Tally::default(), 0, None);
    loop {
        let now = clock.now().at;
        if now > start + PATIENCE {
            return Err(io::Error::other("not every client has its ack"));
        }
        match fleet.next(PATIENCE).map_err(io::Error::other)?.map(|event| event.what) {
            None => return Err(io::Error::other("the fleet says nothing")),
            Some(Happening::Failed(error)) => return Err(io::Error::other(error)),
            Some(Happening::Beat(beat)) if done_at.is_none() && beat.standings.awaited == 0 => {
                // Nothing is awaited any more: neither an ack nor a slot.
                done_at = beat.done_at.filter(|_| beat.at > start).map(|at| at.max(start));
                if done_at.is_some() {
                    fleet.close();
                }
            }
            Some(Happening::Second(second)) => {
                tally.merge(&second.tally);
                cpu_us += second.cpu_us;
                if second.last {
                    break;
                }
            }
            Some(_) => {}
        }
    }
    if tally.failures_all() > 0 {
        return Err(io::Error::other(format!("{:?}", tally.failures)));
    }
    let elapsed = done_at.map_or(Duration::ZERO, |at| at.since(start));
    Ok(Phase { elapsed, cpu_us: cpu_us + clock::thread_cpu_us() - before, tally })
}
