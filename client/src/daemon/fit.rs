//! A report that has no room in one frame says less, and never nothing.

use engine::wire::message::{Report, outcome};
use engine::wire::{Body, encode};

/// Of what an action has printed so many of the last bytes are kept, in turn, until there is room.
const OUTPUT_KEPT: [usize; 3] = [2048, 256, 0];

fn has_room(report: &Report) -> bool {
    encode(report).len() <= Report::KIND.body_size_max() as usize
}

/// Cuts a report down to what one frame carries: what was printed goes first, then results that are
/// no failure, then failures. The note says how many are missing.
#[must_use]
pub fn fit(mut report: Report) -> Report {
    if has_room(&report) {
        return report;
    }
    for kept in OUTPUT_KEPT {
        for result in &mut report.results {
            let cut = result.output.len().saturating_sub(kept);
            result.output.drain(..cut);
        }
        if has_room(&report) {
            return report;
        }
    }
    let (all, note) = (report.results.len(), std::mem::take(&mut report.note));
    report.results.sort_by_key(|result| result.outcome != outcome::FAILED);
    while !has_room(&report) && !report.results.is_empty() {
        report.results.truncate(report.results.len() / 2);
        let missing = all - report.results.len();
        let between = if note.is_empty() { "" } else { "; " };
        report.note = format!(
            "{note}{between}{missing} of {all} results are missing: a report has no room for them"
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::message::ResourceResult;

    fn report(results: usize, output: usize, text: usize) -> Report {
        let result = |n: usize| ResourceResult {
            id: format!("exec {n}").into_bytes(),
            outcome: if n.is_multiple_of(10) { outcome::FAILED } else { outcome::CHANGED },
            before: "x".repeat(text),
            after: String::new(),
            error: String::new(),
            duration_us: 1,
            output: (0..output).map(|i| if i + 1 == output { b'E' } else { b'.' }).collect(),
        };
        Report {
            revision: 7,
            trigger: 1,
            started_ms: 1,
            duration_us: 1,
            busy_us: 1,
            checked: 1,
            results: (0..results).map(result).collect(),
            note: "said".into(),
        }
    }

    #[test]
    fn what_has_room_is_sent_as_it_is() {
        let whole = report(50, 16 * 1024, 10);
        assert_eq!(encode(&fit(whole.clone())), encode(&whole));
    }

    #[test]
    fn what_was_printed_gives_way_first_and_keeps_its_end() {
        let fitted = fit(report(80, 16 * 1024, 10));
        assert!(has_room(&fitted));
        assert_eq!((fitted.results.len(), fitted.note.as_str()), (80, "said"));
        assert!(fitted.results.iter().all(|r| r.output.len() == 2048 && r.output.ends_with(b"E")));
    }

    #[test]
    fn failures_are_told_before_the_rest_and_what_is_missing_is_said() {
        let fitted = fit(report(4000, 100, 1000));
        assert!(has_room(&fitted));
        let kept = fitted.results.len();
        assert!((400..4000).contains(&kept), "{kept}");
        let failed = fitted.results.iter().filter(|r| r.outcome == outcome::FAILED).count();
        assert_eq!(failed, 400, "all failures are there");
        let missing = format!("said; {} of 4000 results are missing", 4000 - kept);
        assert!(fitted.note.starts_with(&missing), "{}", fitted.note);
    }
}
