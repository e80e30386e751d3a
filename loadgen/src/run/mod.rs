//! One run from its beginning to its report: the phases of its scenario, what is checked
//! afterwards, and the judgement.

pub mod config;
pub mod file;
pub(crate) mod judge;
pub mod load;
pub mod scenario;

pub use config::{Bound, LoadConfig, MasterChoice, Workers};
pub use file::Script;
pub use load::{Checked, Load, Phase};
pub use scenario::{PhaseConfig, Scenario, Until};

use crate::error::LoadError;
use crate::progress::Progress;
use crate::report::Report;
use crate::truth::{self, InboxWait, Ledger, Truth};
use engine::clock::{Clock, SystemClock};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Between two questions whether the master's inbox is empty.
const INBOX_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a scenario. `stop` ends it early. A phase in which not all clients reach their goal is the last one, if the next would build upon it.
///
/// # Errors
/// [`LoadError`] says why there is no report. A run that missed its goal has one.
pub fn run(
    config: &LoadConfig,
    scenario: &Scenario,
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Report, LoadError> {
    if let Some(phase) = scenario.phases.iter().find(|phase| phase.is_unmeasured()) {
        return Err(LoadError::Unmeasured { phase: phase.name.clone() });
    }
    let mut load = Load::prepare(config, scenario, stop, progress)?;
    let mut phases = Vec::new();
    for phase_config in &scenario.phases {
        if scenario.phases.len() > 1 {
            load.progress.say(&format!("phase {}", phase_config.name));
        }
        let phase = load.run(phase_config)?;
        let is_done = phase.standings.done >= load.clients();
        let goes_on = !phase.interrupted && (is_done || phase_config.judged);
        phases.push(phase);
        if !goes_on {
            break;
        }
    }
    let has_grown = |(config, phase)| judge::backlog(config, phase).is_some();
    let has_grown = scenario.phases.iter().zip(&phases).any(has_grown);
    let checked = load.check(has_grown)?;
    load.end()?;
    load.progress.close();
    let mut report = judge::report(config, scenario, &load, &phases, checked);
    // What was measured is told, whether it can be left behind or not.
    report.unwritten = load.leave(&report).err().map(|error| error.to_string());
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
