//! One run from its beginning to its report: the load, what is checked afterwards, and the
//! judgement.

pub mod config;
pub(crate) mod outcome;
pub mod session;

pub use config::{Bound, MasterChoice, RunConfig, Workload};
pub use session::{Checked, Phase, Session, Until};

use crate::error::LoadError;
use crate::measure::Parts;
use crate::progress::Progress;
use crate::report::Report;
use crate::truth::{self, InboxWait, Ledger, Truth};
use engine::clock::{Clock, SystemClock};
use engine::reactor::Signals;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Between two questions whether the master's inbox is empty.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a workload. `stop` ends it early, as SIGINT does where `signals` are given.
///
/// # Errors
/// [`LoadError`] says why there is no report. A run that missed its goal has one.
pub fn run(
    config: &RunConfig,
    stop: &AtomicBool,
    signals: Option<Signals>,
    progress: &mut Progress,
) -> Result<Report, LoadError> {
    let mut session = Session::prepare(config, stop, signals, progress)?;
    let duration = config.workload.duration();
    let parts = Parts {
        warm_up: config.warm_up.as_secs(),
        cool_down_at: duration
            .filter(|_| !config.cool_down.is_zero())
            .map(|all| all.saturating_sub(config.cool_down).as_secs()),
    };
    let until = match duration {
        Some(_) => Until::Over(config.timeout),
        None => Until::Done(config.timeout),
    };
    let phase = session.work(&config.workload.work(config.timeout), parts, until)?;
    let backlog = outcome::backlog(config, &phase);
    let checked = session.check(backlog)?;
    session.end()?;
    session.progress.close();
    let report = outcome::report(config, &session, &phase, checked, backlog);
    session.leave(&report)?;
    Ok(report)
}

/// Checks a journal against what a master has stored: for a run that could not do so itself.
///
/// # Errors
/// The journal cannot be read, or the daemon does not answer.
pub fn check_journal(journal: &Path, control: &Path) -> Result<Truth, LoadError> {
    let mut ledger = Ledger::default();
    truth::journal::read(journal, |report| {
        ledger.acked(report.epoch.0, report.seq, [report.digest], || report.name.clone());
    })?;
    // A master that is not there is not waited for, as it is after a load that killed it.
    truth::status(control)?;
    let clock = SystemClock::start();
    let mut inbox = InboxWait::new(clock.now().at);
    while !inbox.ask(control, clock.now().at)? {
        std::thread::sleep(INBOX_INTERVAL);
    }
    ledger.read_stored(control)?;
    Ok(ledger.compare())
}

#[cfg(test)]
mod tests;
