//! JUnit's XML, for continuous integration: one case for each thing that is judged.

use super::Report;
use std::fmt::Write;

/// The document.
#[must_use]
pub fn document(report: &Report) -> String {
    let cases = &report.checks;
    let failures = cases.iter().filter(|check| !check.holds()).count();
    let scenario = escape(&report.scenario);
    let time = format!("{:.3}", report.elapsed_s);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"loadgen\" tests=\"{n}\" failures=\"{failures}\" errors=\"0\" time=\"{time}\">\n  \
         <testsuite name=\"{scenario}\" tests=\"{n}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{time}\">",
        n = cases.len(),
    );
    for check in cases {
        let phase = check.phase.as_ref().map_or(String::new(), |phase| format!(".{phase}"));
        let _ = write!(
            out,
            "    <testcase classname=\"loadgen.{scenario}{}\" name=\"{}\" time=\"{time}\"",
            escape(&phase),
            escape(&check.what)
        );
        if check.holds() {
            out.push_str("/>\n");
        } else {
            let why = escape(&check.detail);
            let _ = writeln!(
                out,
                ">\n      <failure message=\"{why}\" type=\"{}\">{why}</failure>\n    </testcase>",
                escape(&check.outcome.to_string())
            );
        }
    }
    let remarks: Vec<String> = report
        .phases
        .iter()
        .flat_map(|phase| phase.remarks.iter().map(|remark| format!("{}: {remark}", phase.name)))
        .collect();
    if !remarks.is_empty() {
        // What is no failure of a case still belongs to the run.
        let _ = writeln!(out, "    <system-out>{}</system-out>", escape(&remarks.join("\n")));
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
