//! Whether the phases of a file make sense: one that never ends, or in which nothing happens, would
//! pass for a goal that was reached.

use crate::run::scenario::{PhaseConfig, Until};

/// Looks at all phases, in their order.
///
/// # Errors
/// What is missing in which of them, and what to write.
pub(super) fn check(phases: &[PhaseConfig]) -> Result<(), String> {
    let mut is_begun = false;
    for phase in phases {
        is_begun |= has_clients_begin(phase);
        check_one(phase, is_begun).map_err(|error| format!("phase {:?}: {error}", phase.name))?;
    }
    Ok(())
}

fn check_one(phase: &PhaseConfig, is_begun: bool) -> Result<(), String> {
    if is_empty(phase) {
        return Err("nothing happens in it: write what does, such as `polls = {}`, or `for = \"30s\"` for a pause".to_owned());
    }
    if let Some(key) = endless(phase) {
        return Err(format!(
            "`{key}` has no end: write how long it goes on, such as `for = \"30s\"`, or what all clients are to reach (`revision`, `newer`)"
        ));
    }
    if !is_begun {
        return Err("no client is started in it, or before it, so none gets bound: write `restart = \"5s\"` or `polls = {}` there".to_owned());
    }
    Ok(())
}

/// Whether clients that were never bound get bound in it.
fn has_clients_begin(phase: &PhaseConfig) -> bool {
    let work = &phase.work;
    work.restart.is_some() || work.polls.is_some() || work.reports.is_some()
}

/// Whether all clients are to reach more than that nothing is left to do.
fn has_goal(phase: &PhaseConfig) -> bool {
    phase.newer || phase.work.goal.revision().is_some_and(|revision| revision > 0)
}

/// Whether it ends only with what its clients reach.
fn is_open(phase: &PhaseConfig) -> bool {
    matches!(phase.until, Until::Done(_))
}

fn is_empty(phase: &PhaseConfig) -> bool {
    let is_load = phase.work.churn.is_some()
        || phase.kill_every.is_some()
        || !phase.bad_peers.is_empty()
        || !phase.acts.is_empty();
    is_open(phase) && !is_load && !has_goal(phase) && !has_clients_begin(phase)
}

/// What goes on in it without an end: all clients may have all their acks at any moment, or never.
fn endless(phase: &PhaseConfig) -> Option<&'static str> {
    if !is_open(phase) || has_goal(phase) {
        return None;
    }
    let work = &phase.work;
    // What is only done beside something else ends with that.
    let is_alone = !has_clients_begin(phase) && phase.acts.is_empty();
    let polls_on = work.polls.is_some_and(|pace| pace.interval.is_some());
    [
        ("reports", work.reports.is_some()),
        ("polls.every", polls_on),
        ("churn", work.churn.is_some()),
        ("kill_master", is_alone && phase.kill_every.is_some()),
        ("bad_peers", is_alone && !phase.bad_peers.is_empty()),
    ]
    .into_iter()
    .find_map(|(key, goes_on)| goes_on.then_some(key))
}

#[cfg(test)]
mod tests {
    use crate::run::Script;

    /// What is said of a file with these phases, each a few keys.
    fn said(phases: &[&str]) -> Result<(), String> {
        let of =
            |(number, keys): (usize, &&str)| format!("[[phase]]\nname = 'p{number}'\n{keys}\n");
        let phases: String = phases.iter().enumerate().map(of).collect();
        Script::parse(&format!("name = 'x'\n{phases}"), None, 10).map(drop)
    }

    #[test]
    fn what_has_no_end_needs_one() {
        for (keys, key) in [
            ("reports = { rate = 100 }", "reports"),
            ("restart = '1s'\nreports = { rate = 100 }", "reports"),
            ("reports = { rate = 100 }\nrevision = 0", "reports"),
            ("polls = { every = '1s' }", "polls.every"),
            ("churn = { percent_per_minute = 10, away = '1s' }", "churn"),
            ("kill_master = '1s'", "kill_master"),
            ("bad_peers = ['garbage=1']", "bad_peers"),
        ] {
            let phases = ["polls = {}", keys];
            let error = said(&phases).unwrap_err();
            assert!(error.starts_with(&format!("phase \"p1\": `{key}` has no end: ")), "{error}");
            for end in ["for = '1s'", "newer = true"] {
                assert_eq!(said(&["polls = {}", &format!("{keys}\n{end}")]), Ok(()), "{keys}");
            }
        }
        // These end with what else happens.
        for keys in [
            "restart = '1s'\nkill_master = '1s'",
            "polls = { within = '1s' }\nbad_peers = ['garbage=1']",
            "polls = { every = '1s' }\nrevision = 1",
            "master = [{ at = '1s', restart = true }]\nkill_master = '5s'",
        ] {
            assert_eq!(said(&["polls = {}", keys]), Ok(()), "{keys}");
        }
    }

    #[test]
    fn a_phase_in_which_nothing_happens_is_a_mistake() {
        for keys in ["", "timeout = '5s'", "active = 3\nbound = 'p99=1s'"] {
            let error = said(&["polls = {}", keys]).unwrap_err();
            assert!(error.starts_with("phase \"p1\": nothing happens in it: "), "{error}");
            assert!(error.contains("`for = \"30s\"` for a pause"), "{error}");
        }
        assert_eq!(said(&["polls = {}", "for = '1s'"]), Ok(()), "a pause");
        assert_eq!(said(&["polls = {}", "newer = true"]), Ok(()), "it waits");
    }

    #[test]
    fn nothing_is_done_before_the_clients_are_started() {
        for keys in [
            "for = '1s'",
            "newer = true",
            "for = '1s'\nchurn = { percent_per_minute = 10, away = '1s' }",
            "for = '1s'\nbad_peers = ['garbage=1']",
            "master = [{ at = '1s', restart = true }]",
        ] {
            let error = said(&[keys, "polls = {}"]).unwrap_err();
            assert!(error.starts_with("phase \"p0\": no client is started in it, "), "{error}");
            for begun in ["restart = '1s'", "polls = {}", "reports = { rate = 1 }\nfor = '1s'"] {
                assert_eq!(said(&[begun, keys]), Ok(()), "{begun}, {keys}");
            }
        }
    }
}
