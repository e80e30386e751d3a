//! A record of the inbox, read: a report and who sent it, or the reason why it is none.

use super::Record;
use engine::ids::Origin;
use engine::wire::message::{ArchivedReport, Report, cut, outcome};
use engine::wire::{Frame, WireError, access};

/// A report in place in its record.
pub(super) struct Incoming<'a> {
    pub(super) origin: Origin,
    pub(super) report: &'a ArchivedReport,
    pub(super) tally: Tally,
}

/// How many results there are of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) changed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
    pub(super) interrupted: u32,
}

impl<'a> Incoming<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// Damage, or a kind or schema that this build does not know.
    pub(super) fn read(record: &'a Record) -> Result<Self, WireError> {
        let frame = Frame::parse(&record.frame)?;
        let origin = frame.route()?.origin()?;
        let report = access::<Report>(&frame)?;
        Ok(Self { origin, report, tally: Tally::of(report) })
    }

    /// What the run did, in words.
    pub(super) fn summary(&self) -> String {
        let Tally { changed, failed, skipped, interrupted } = self.tally;
        let parts = [
            (changed, "changed"),
            (failed, "failed"),
            (skipped, "skipped"),
            (interrupted, "interrupted"),
        ];
        let mut said: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if cut::is_in(&self.report.note) {
            said.push("cut short".to_owned());
        }
        if self.is_refusal() {
            "nothing applied".to_owned()
        } else if said.is_empty() {
            format!("{} checked", self.report.checked.to_native())
        } else {
            said.join(", ")
        }
    }

    /// Whether it tells why nothing could be applied, such as an assignment that was refused.
    fn is_refusal(&self) -> bool {
        let note = self.report.note.as_str();
        self.report.checked.to_native() == 0 && !note.is_empty() && !cut::is_in(note)
    }

    /// The first failure, in words; empty if there is none.
    pub(super) fn first_error(&self) -> String {
        if self.is_refusal() {
            return self.report.note.as_str().to_owned();
        }
        let failed = |o: u8| matches!(o, outcome::FAILED | outcome::INTERRUPTED);
        self.report.results.iter().find(|r| failed(r.outcome)).map_or_else(String::new, |r| {
            let what = if r.error.is_empty() { outcome::name(r.outcome) } else { r.error.as_str() };
            format!("{}: {what}", String::from_utf8_lossy(&r.id))
        })
    }
}

impl Tally {
    fn of(report: &ArchivedReport) -> Self {
        let mut tally = Self::default();
        for result in report.results.iter() {
            match result.outcome {
                outcome::UNCHANGED => {}
                outcome::CHANGED => tally.changed += 1,
                outcome::SKIPPED => tally.skipped += 1,
                outcome::INTERRUPTED => tally.interrupted += 1,
                // An outcome of a later version is shown rather than passed over.
                _ => tally.failed += 1,
            }
        }
        tally
    }
}
