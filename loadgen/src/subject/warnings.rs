//! What the master itself warned of under the load, and whether it was started anew: it knows
//! why it refuses reports, and whose name has no address.

use super::observer::Sample;
use master::table::words::plural;

/// Warnings that are told at most.
const WARNINGS_MAX: usize = 5;

/// How the warning of hosts that are not heard ends: that is loadgen's own doing before its
/// clients begin, and its own figures tell of those that are missing.
const SILENCE: &str = "silent: `drover hosts --silent` lists them";

/// A warning without its figures: one that counts on is the same one.
fn kind(warning: &str) -> String {
    warning.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What it warned of in these looks, each kind once, as it was said last.
#[must_use]
pub fn during(looks: &[Sample]) -> Vec<String> {
    let mut found: Vec<(String, &String)> = Vec::new();
    let all = looks.iter().flat_map(|look| &look.warnings);
    for warning in all.filter(|warning| !warning.ends_with(SILENCE)) {
        let kind = kind(warning);
        match found.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, last)) => *last = warning,
            None => found.push((kind, warning)),
        }
    }
    found.iter().take(WARNINGS_MAX).map(|(_, last)| format!("the master warned: {last}")).collect()
}

/// Whether it was started anew between these looks more often than loadgen itself did it.
#[must_use]
pub fn restarts(looks: &[Sample], own: usize) -> Option<String> {
    let said: Vec<u64> = looks.iter().filter_map(|look| Some(look.said?.uptime_ms)).collect();
    let times = said.windows(2).filter(|pair| pair[1] < pair[0]).count().saturating_sub(own);
    let times = (times > 0).then(|| plural(times as u64, "time", "times"))?;
    Some(format!("the master was started anew {times} by somebody else"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::observer::Said;

    fn look(uptime_ms: u64, warnings: &[&str]) -> Sample {
        let said = Some(Said { uptime_ms, ..Said::default() });
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Sample { said, warnings, ..Sample::default() }
    }

    #[test]
    fn each_warning_is_told_once_as_it_was_last() {
        let silent = "43 hosts are silent: `drover hosts --silent` lists them";
        let first = look(2, &["3 names", "disk full"]);
        let looks = [look(1, &[silent]), first, look(3, &["17 names"]), look(4, &[])];
        let told = ["the master warned: 17 names", "the master warned: disk full"];
        assert_eq!(during(&looks), told);
        assert!(during(&looks[..1]).is_empty());
    }

    #[test]
    fn a_restart_is_told_unless_it_was_ours() {
        let looks = [look(5_000, &[]), look(6_000, &[]), look(300, &[]), look(1_300, &[])];
        let told = "the master was started anew 1 time by somebody else";
        assert_eq!(restarts(&looks, 0).as_deref(), Some(told));
        assert_eq!(restarts(&looks, 1), None);
        assert_eq!(restarts(&looks[..2], 0), None);
    }
}
