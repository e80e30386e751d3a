//! JUnit's XML, for continuous integration: one case for each thing that is judged.

use super::{Outcome, Report};
use std::fmt::Write;

/// The document.
#[must_use]
pub fn document(report: &Report) -> String {
    let cases = [
        (
            "every client reaches the goal",
            report.clients.done < report.clients.all,
            format!("{} of {} clients are done", report.clients.done, report.clients.all),
        ),
        (
            "latencies keep to the bound",
            report.outcome == Outcome::Missed && report.clients.done == report.clients.all,
            report.summary.clone(),
        ),
        (
            "every acked report is stored once and in order",
            report.outcome == Outcome::Violated,
            report.truth.as_ref().map_or_else(|| report.summary.clone(), ToString::to_string),
        ),
        ("the generator is punctual", !report.punctuality.valid, report.punctuality.to_string()),
        (
            "the master stays reachable",
            report.outcome == Outcome::Unreachable,
            report.summary.clone(),
        ),
    ];
    let failures = cases.iter().filter(|(_, failed, _)| *failed).count();
    let workload = escape(&report.workload);
    let time = format!("{:.3}", report.elapsed_s);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"loadgen\" tests=\"{n}\" failures=\"{failures}\" errors=\"0\" time=\"{time}\">\n  \
         <testsuite name=\"{workload}\" tests=\"{n}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time}\">",
        n = cases.len(),
    );
    for (name, failed, why) in &cases {
        let _ = write!(
            out,
            "    <testcase classname=\"loadgen.{workload}\" name=\"{}\" time=\"{time}\"",
            escape(name)
        );
        if *failed {
            let why = escape(why);
            let _ = writeln!(
                out,
                ">\n      <failure message=\"{why}\" type=\"missed\">{why}</failure>\n    </testcase>"
            );
        } else {
            out.push_str("/>\n");
        }
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Text as XML and HTML want it, attributes included.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            // XML 1.0 has no way to write other control characters.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
