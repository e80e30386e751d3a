//! One page that says what a run found, with plots; it needs no script, no network and no other
//! file.

use super::junit::escape;
use super::plot::{Plot, Series, Unit, seconds};
use super::{Outcome, PhaseReport, Report};
use crate::measure::{Row, Timed};
use crate::subject::{Constraint, Sample};
use master::table::words::{duration_us, size};
use std::collections::BTreeSet;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("loadgen {}: {}", report.scenario, report.outcome);
    let tone = if report.outcome == Outcome::Reached { "good" } else { "bad" };
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title><style>\n{STYLE}</style></head><body>\n\
         <h1>loadgen {}</h1><span class=\"outcome {tone}\">{}</span>\n<p class=\"summary\">{}</p>\n",
        escape(&title),
        escape(&report.scenario),
        report.outcome,
        escape(&report.summary),
    );
    facts(&mut out, report);
    out.push_str("<h2>How long things took</h2>\n<p class=\"dim\">From the moment at which each should have begun; the service time, from its real beginning, is shown and never judged.</p>\n");
    for phase in report.judged() {
        if report.phases.len() > 1 {
            let _ = writeln!(out, "<h3>{}</h3>", escape(&phase.name));
        }
        latencies(&mut out, phase);
    }
    out.push_str("<h2>Over time</h2>\n<div class=\"plots\">\n");
    for plot in plots(report).iter().filter(|plot| !plot.is_empty()) {
        out.push_str(&plot.svg());
    }
    out.push_str("</div>\n");
    lists(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn facts(out: &mut String, report: &Report) {
    let truth = report.truth.as_ref().map_or("not checked".to_owned(), |truth| {
        format!(
            "{} acked, {} lost, {} doubled, {} altered",
            truth.acked, truth.lost, truth.doubled, truth.altered
        )
    });
    let seen: Vec<_> = report.judged().filter_map(|phase| phase.constraint.as_ref()).collect();
    let bound = match seen.iter().find(|constraint| constraint.binds()) {
        Some(constraint) => constraint.resource.to_string(),
        None if seen.is_empty() => "unknown".to_owned(),
        None => "nothing yet".to_owned(),
    };
    let done = report.phases.last().map_or(0, |phase| phase.clients.done);
    let sum = |of: fn(&PhaseReport) -> u64| report.phases.iter().map(of).sum::<u64>();
    let slip = report.judged().map(|phase| phase.punctuality.slip_p99_us).max().unwrap_or(0);
    let facts = [
        ("clients done", format!("{done} of {}", report.clients)),
        ("time", format!("{:.1} s", report.elapsed_s)),
        (
            "reports durable",
            format!(
                "{} of {}",
                sum(|phase| phase.messages.reports_acked),
                sum(|phase| phase.messages.reports)
            ),
        ),
        ("truth", truth),
        ("what gives out first", bound),
        ("own lateness, p99", duration_us(slip)),
    ];
    out.push_str("<div class=\"facts\">");
    for (name, value) in facts {
        let _ = write!(out, "<div><b>{}</b><small>{name}</small></div>", escape(&value));
    }
    out.push_str("</div>\n");
}

fn latencies(out: &mut String, report: &PhaseReport) {
    out.push_str("<div class=\"table\"><table><tr><th>from → to</th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>service p99</th></tr>\n");
    for (what, q) in &report.latencies {
        let _ = write!(out, "<tr><td>{what}</td><td>{}</td>", q.count);
        for us in [q.p50_us, q.p90_us, q.p99_us, q.p999_us, q.max_us, q.service_p99_us] {
            let _ = write!(out, "<td>{}</td>", duration_us(us));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

#[expect(clippy::cast_precision_loss, reason = "plots have three digits")]
fn plots(report: &Report) -> Vec<Plot> {
    // A piece of a second, which a run ends with, would look like a collapse.
    let is_whole = |row: &&Row| row.second == 0 || (row.second + 1) as f64 <= report.elapsed_s;
    let rows: Vec<&Row> = report.rows.iter().filter(is_whole).collect();
    let marks = seconds(rows.last().map_or(1, |row| row.second + 1));
    let time = || ("seconds from the start".to_owned(), marks.clone());
    let per_row = |name: &str, of: &dyn Fn(&Row) -> Option<f64>| Series {
        name: name.to_owned(),
        points: rows.iter().filter_map(|row| Some((row.second as f64, of(row)?))).collect(),
    };
    let kinds: BTreeSet<Timed> =
        report.judged().flat_map(|phase| phase.latencies.keys().copied()).collect();
    let kinds = || kinds.iter().copied().filter(|what| *what != Timed::Slip);
    let is_named = report.judged().count() > 1;
    let count = |row: &Row, what| Some(row.latencies.get(&what).map_or(0.0, |q| q.count as f64));
    // A second without such a message has no latency, and none of zero.
    let p99 =
        |row: &Row, what| row.latencies.get(&what).filter(|q| q.count > 0).map(|q| q.p99_us as f64);
    let nines = ["0", "90", "99", "99.9", "99.99", "99.999"];
    let by_percentile = report.judged().flat_map(|phase| {
        phase.percentiles.iter().map(move |(what, points)| Series {
            name: if is_named { format!("{}: {what}", phase.name) } else { what.to_string() },
            points: points
                .iter()
                .map(|(q, us)| (-(1.0 - q).max(1e-6).log10(), *us as f64))
                .collect(),
        })
    });
    let zero = report.rows.first().map_or(0, |_| report.start_ns);
    let seen = |samples: &[Sample], name: &str, of: &dyn Fn(&Sample) -> Option<f64>| Series {
        name: name.to_owned(),
        points: samples
            .iter()
            .filter(|sample| sample.at_ns >= zero)
            .filter_map(|sample| Some(((sample.at_ns - zero) as f64 / 1e9, of(sample)?)))
            .collect(),
    };
    let samples = &report.samples;
    let threads: BTreeSet<&String> =
        samples.iter().filter_map(|s| s.process.as_ref()).flat_map(|p| p.cpu_us.keys()).collect();
    let cpu = threads.into_iter().map(|thread| {
        let share = |pair: &[Sample]| {
            let us = |s: &Sample| s.process.as_ref()?.cpu_us.get(thread).copied();
            let used = us(&pair[1])?.saturating_sub(us(&pair[0])?) as f64 * 1000.0;
            let passed = pair[1].at_ns.saturating_sub(pair[0].at_ns).max(1) as f64;
            let at = pair[1].at_ns.checked_sub(zero)?;
            Some((at as f64 / 1e9, used / passed * 100.0))
        };
        Series { name: thread.clone(), points: samples.windows(2).filter_map(share).collect() }
    });
    let cpu: Vec<_> = cpu.filter(|series| series.points.iter().any(|(_, y)| *y >= 1.0)).collect();
    vec![
        Plot {
            title: "Latency by percentile".into(),
            x: (
                "per cent of the messages".into(),
                nines.iter().enumerate().map(|(n, l)| (n as f64, (*l).into())).collect(),
            ),
            unit: Unit::Duration,
            log: true,
            series: by_percentile.collect(),
        },
        Plot {
            title: "Latency, p99 of each second".into(),
            x: time(),
            unit: Unit::Duration,
            log: true,
            series: kinds().map(|what| per_row(&what.to_string(), &|row| p99(row, what))).collect(),
        },
        Plot {
            title: "Answered a second".into(),
            x: time(),
            unit: Unit::Count,
            log: false,
            series: kinds()
                .map(|what| per_row(&what.to_string(), &|row| count(row, what)))
                .collect(),
        },
        Plot {
            title: "The master: reports that wait for the result store".into(),
            x: time(),
            unit: Unit::Count,
            log: false,
            series: vec![seen(samples, "inbox", &|s| Some(s.said?.inbox_records as f64))],
        },
        Plot {
            title: "The master: CPU by thread".into(),
            x: time(),
            unit: Unit::Percent,
            log: false,
            series: cpu,
        },
        Plot {
            title: "The master: memory".into(),
            x: time(),
            unit: Unit::Bytes,
            log: false,
            series: vec![
                seen(samples, "resident", &|s| Some(s.process.as_ref()?.resident_bytes as f64)),
                seen(samples, "all sockets of the machine", &|s| Some(s.tcp.memory_bytes as f64)),
            ],
        },
    ]
}

fn lists(out: &mut String, report: &Report) {
    let mut list = |title: &str, entries: Vec<(String, String)>| {
        if entries.is_empty() {
            return;
        }
        let _ = write!(out, "<h2>{title}</h2>\n<dl>");
        for (name, value) in entries {
            let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(&name), escape(&value));
        }
        out.push_str("</dl>\n");
    };
    let asked = report.checks.iter().map(|check| {
        let what = match &check.phase {
            Some(phase) if report.phases.len() > 1 => format!("{phase}: {}", check.what),
            _ => check.what.clone(),
        };
        let found = if check.holds() { "holds".to_owned() } else { check.detail.clone() };
        (what, found)
    });
    list("What was asked", asked.collect());
    let failures = report.phases.iter().flat_map(|phase| {
        phase.failures.iter().map(|(k, n)| (format!("{}: {k}", phase.name), n.to_string()))
    });
    list("What failed on the way", failures.collect());
    let peers = report.phases.iter().flat_map(|phase| phase.peers.iter()).map(|peers| {
        let found = format!(
            "{} connections, {} refused, {} ended by the master, {} acks, {} refusals",
            peers.connected, peers.refused, peers.ended_by_master, peers.acks, peers.nacks
        );
        (format!("{} {}", peers.peers, peers.badness), found)
    });
    list("Bad peers", peers.collect());
    let remarks = report
        .phases
        .iter()
        .flat_map(|phase| phase.remarks.iter().map(|remark| (phase.name.clone(), remark.clone())));
    list("What was seen of the master", remarks.collect());
    let names = report.names.map(|names| ("name service".to_owned(), names.to_string()));
    let elsewhere = report.phases.iter().filter(|phase| phase.messages.misdirected > 0);
    let elsewhere = elsewhere.map(|phase| {
        let told = format!("{} messages, refused there", phase.messages.misdirected);
        (format!("{}: came to another client", phase.name), told)
    });
    list("Names", names.into_iter().chain(elsewhere).collect());
    let generator = &report.generator;
    let mut own = vec![
        ("workers".to_owned(), generator.workers.to_string()),
        ("CPU".to_owned(), format!("{:.1} s", generator.cpu_s)),
        (
            "resident".to_owned(),
            format!(
                "{}, {} a client",
                size(generator.resident_bytes),
                size(generator.bytes_per_client)
            ),
        ),
        ("longest turn".to_owned(), duration_us(generator.loop_lag_max_us)),
    ];
    for phase in report.judged() {
        own.push((format!("lateness in {}", phase.name), phase.punctuality.to_string()));
        let bound_by = |c: &Constraint| (format!("{} bound by", phase.name), c.to_string());
        own.extend(phase.constraint.iter().map(bound_by));
    }
    list("The generator", own);
    let e = &report.environment;
    let mut entries = vec![
        ("command".to_owned(), e.command.join(" ")),
        ("master".to_owned(), format!("{}, version {}", report.master, report.master_version)),
        ("seed".to_owned(), report.seed.to_string()),
        ("kernel".to_owned(), e.kernel.clone()),
        ("processors".to_owned(), e.processors.clone()),
        ("memory".to_owned(), size(e.memory_bytes)),
        ("descriptors".to_owned(), e.descriptors_max.clone()),
    ];
    entries.extend(e.settings.iter().map(|(name, value)| (name.clone(), value.clone())));
    list("To repeat it", entries);
}
