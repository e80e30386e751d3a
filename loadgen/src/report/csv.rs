//! One row a second, for spreadsheets and plots.

use crate::kernel::Process;
use crate::measure::{Row, Timed};
use crate::subject::Sample;
use std::fmt::Write;

/// The table: a header, and a row for each second. The master's columns are those of the last
/// look at it before the second's end, and empty where it could not be seen.
#[must_use]
pub fn table(rows: &[Row], samples: &[Sample], start_ns: u64) -> String {
    let mut out = String::from(
        "second,phase,part,polls,reports,failures,bound,holding,done,connections,generator_cpu_us",
    );
    for what in Timed::ALL {
        let name = what.name();
        let _ = write!(
            out,
            ",{name}_count,{name}_p50_us,{name}_p99_us,{name}_max_us,{name}_service_p99_us"
        );
    }
    out.push_str(",master_cpu_us,master_reactor_cpu_us,master_resident_bytes,master_read_bytes,master_written_bytes,master_descriptors,master_inbox_records,master_commit_p99_us,master_loop_lag_p99_us,tcp_memory_bytes,listen_overflows,retransmitted\n");
    for row in rows {
        let part = serde_json::to_value(row.part).unwrap_or_default();
        let _ = write!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{}",
            row.second,
            row.phase,
            part.as_str().unwrap_or_default(),
            row.polls,
            row.reports,
            row.failures,
            row.standings.bound,
            row.standings.holding,
            row.standings.done,
            row.connections,
            row.cpu_us
        );
        for what in Timed::ALL {
            let q = row.latencies.get(&what).copied().unwrap_or_default();
            let _ = write!(
                out,
                ",{},{},{},{},{}",
                q.count, q.p50_us, q.p99_us, q.max_us, q.service_p99_us
            );
        }
        let end = start_ns.saturating_add((row.second + 1) * 1_000_000_000);
        let sample = samples.iter().rev().find(|sample| sample.at_ns <= end);
        let process = sample.and_then(|sample| sample.process.as_ref());
        let said = sample.and_then(|sample| sample.said);
        let mut cell = |value: Option<u64>| {
            out.push(',');
            if let Some(value) = value {
                let _ = write!(out, "{value}");
            }
        };
        cell(process.map(Process::cpu_all_us));
        cell(process.and_then(|p| p.cpu_us.get("reactor").copied()));
        cell(process.map(|p| p.resident_bytes));
        cell(process.map(|p| p.read_bytes));
        cell(process.map(|p| p.written_bytes));
        cell(process.map(|p| p.descriptors));
        cell(said.map(|s| s.inbox_records));
        cell(said.map(|s| s.commit_p99_us));
        cell(said.map(|s| s.loop_lag_p99_us));
        cell(sample.map(|s| s.tcp.memory_bytes));
        cell(sample.map(|s| s.tcp.listen_overflows));
        cell(sample.map(|s| s.tcp.retransmitted));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Part;
    use std::collections::BTreeMap;

    #[test]
    fn every_row_has_all_columns() {
        let row = |second| Row {
            second,
            phase: "load".into(),
            part: Part::Measured,
            polls: 1,
            reports: 2,
            failures: 0,
            latencies: BTreeMap::new(),
            standings: Default::default(),
            connections: 3,
            cpu_us: 4,
            cpu_busiest_us: 4,
        };
        let sample = Sample { at_ns: 1_500_000_000, ..Sample::default() };
        let text = table(&[row(0), row(1)], &[sample], 0);
        let columns: Vec<_> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [58, 58, 58]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("0,load,measured,1,2,0,0,0,0,3,4,0,"), "{}", lines[1]);
        assert!(lines[1].ends_with(",,,,,,,,,,,"), "nothing was seen yet: {}", lines[1]);
        assert!(lines[2].ends_with(",0,0,0"), "{}", lines[2]);
    }
}
