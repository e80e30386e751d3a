//! What is wrong with a run, in lines for the log.

use engine::wire::message::{Report, outcome};
use std::collections::BTreeMap;

/// A line for each resource that failed. What was skipped for it may be thousands, and nothing
/// is to be done about it but to mend what failed: one line for each reason.
#[must_use]
pub fn complaints(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut skipped = BTreeMap::<&str, u64>::new();
    for result in report.results.iter().filter(|r| !r.error.is_empty()) {
        match result.outcome {
            outcome::SKIPPED => *skipped.entry(&result.error).or_default() += 1,
            _ => lines.push(format!("{}: {}", String::from_utf8_lossy(&result.id), result.error)),
        }
    }
    lines.extend(skipped.into_iter().map(|(why, count)| {
        let why = why.strip_prefix("skipped: ").unwrap_or(why);
        format!("{count} skipped: {why}")
    }));
    lines.extend((!report.note.is_empty()).then(|| report.note.clone()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::message::{ResourceResult, trigger};

    #[test]
    fn a_thousand_that_were_skipped_for_one_reason_are_one_line() {
        let result = |n: u32, of, error: &str| ResourceResult {
            id: format!("file /d/{n}").into_bytes(),
            outcome: of,
            before: String::new(),
            after: String::new(),
            error: error.to_owned(),
            duration_us: 1,
            output: Vec::new(),
        };
        let why = "skipped: requires directory /d, which failed";
        let skipped = (1..=1000).map(|n| result(n, outcome::SKIPPED, why));
        let report = Report {
            revision: 3,
            trigger: trigger::DRIFT,
            started_ms: 1,
            duration_us: 5,
            busy_us: 5,
            checked: 1001,
            results: std::iter::once(result(0, outcome::FAILED, "no")).chain(skipped).collect(),
            note: "a note".to_owned(),
        };
        let wanted =
            ["file /d/0: no", "1000 skipped: requires directory /d, which failed", "a note"];
        assert_eq!(complaints(&report), wanted);
    }
}
