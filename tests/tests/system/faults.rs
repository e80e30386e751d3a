//! Masters that are broken on purpose: the load generator finds out each of them, and says what is
//! wrong.

use crate::load::{loadgen, report};
use serde_json::Value;
use tests::system::{binary, output};

/// Loads a master with a fault, 100 clients with a report each 200 ms; the exit status, and the
/// report.
fn load(fault: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    let dir = tempfile::tempdir().unwrap();
    let load = ["--clients", "100", "--interval", "200ms", "--reports-per-poll", "1", "--json"];
    let mut command = loadgen(dir.path(), &["steady", "--own-master"]);
    command.args(load).args(arguments);
    command.arg("--drover").arg(binary("faulty-master")).env("FAULT", fault);
    let done = output(&mut command);
    (done.status.code(), report(&done))
}

/// Asserts that the generator found reports of one kind, and of no other, and names the first.
fn assert_violated(fault: &str, kind: &str, words: &str) {
    let (status, report) = load(fault, &["--for", "3s"]);
    let (truth, summary) = (&report["truth"], report["summary"].as_str().unwrap());
    assert_eq!(status, Some(4), "{fault}: {report:#}");
    assert!(truth["acked"].as_u64().unwrap() >= 1500, "{truth}");
    for other in ["lost", "doubled", "disordered", "altered"] {
        let found = truth[other].as_u64().unwrap();
        assert_eq!(found > 0, other == kind, "{fault}: {truth}");
    }
    let first = truth[format!("{kind}_first")][0].as_str().unwrap_or_default();
    assert!(first.starts_with("lg-"), "{fault}: {truth}");
    let said = words.replace('N', &truth[kind].to_string());
    assert!(summary.starts_with("VIOLATED") && summary.contains(&said), "{said:?}: {summary}");
    let kept = "the master's files are kept in ";
    assert!(report["checks"].to_string().contains(kept), "{report:#}");
}

#[test]
fn faulty_master_that_forgets_what_it_acked_is_found_out() {
    assert_violated("forget:200", "lost", "N are missing");
}

#[test]
fn faulty_master_that_stores_twice_is_found_out() {
    assert_violated("double:200", "doubled", "N are there twice");
}

#[test]
fn faulty_master_that_alters_what_it_stores_is_found_out() {
    assert_violated("alter:200", "altered", "N altered");
}

#[test]
fn faulty_master_that_acks_what_was_never_sent_is_found_out() {
    let (status, report) = load("false-ack:200", &["--for", "3s"]);
    assert_eq!(status, Some(4), "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.starts_with("VIOLATED"), "{summary}");
    assert!(summary.contains("acked") && summary.contains("never sent"), "{summary}");
}

/// How often the loop stood still, in the summary's words.
fn stalls(text: &str) -> u64 {
    let (_, times) = text.split_once("the master's loop stood still ").unwrap_or_default();
    times.split(' ').next().and_then(|times| times.parse().ok()).unwrap_or(0)
}

#[test]
fn faulty_master_that_stalls_is_told_of_though_the_bound_is_kept() {
    let (status, report) = load("stall:200", &["--for", "4s"]);
    assert_eq!(status, Some(0), "{report:#}");
    let remarks = report["phases"][0]["remarks"].as_array().unwrap();
    let times = remarks.iter().map(|remark| stalls(remark.as_str().unwrap()));
    assert!(times.max() >= Some(4), "{report:#}");
    let longest = &report["samples"].as_array().unwrap().last().unwrap()["said"]["loop_lag_max_us"];
    assert!(longest.as_u64().unwrap() >= 200_000, "{longest}");
}

#[test]
fn faulty_master_that_stalls_for_longer_than_the_bound_misses_it() {
    let (status, report) = load("stall:3000", &["--for", "8s", "--slo", "max=2s"]);
    let check = |what: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["what"] == what).unwrap()
    };
    let latencies = check("latencies keep to max ≤ 2.00s");
    let detail = latencies["detail"].as_str().unwrap();
    assert_eq!(latencies["outcome"], "missed", "{report:#}");
    assert!(detail.starts_with("missed: max ≤ 2.00s was asked"), "{detail}");
    assert!(stalls(detail) >= 1, "{detail}");
    // Where the host of the machine takes much of it, the run is invalid as well, and says so first.
    let punctual = check("the generator is punctual")["outcome"] == "reached";
    assert_eq!(status, Some(if punctual { 3 } else { 5 }), "{report:#}");
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.starts_with(if punctual { detail } else { "INVALID" }), "{summary}");
}

#[test]
fn faulty_master_whose_inbox_grows_is_found_out_without_waiting_for_it() {
    let (status, report) = load("inbox:100", &["--for", "10s"]);
    let summary = report["summary"].as_str().unwrap();
    assert_eq!(status, Some(3), "{report:#}");
    let (_, grew) = summary.split_once("the inbox grew by ").unwrap_or_default();
    let slope: u64 = grew.split(' ').next().unwrap().parse().unwrap();
    // 500 come in a second, and 100 go.
    assert!((200..=500).contains(&slope), "{summary}");
    assert!(summary.contains("a second and does not empty: "), "{summary}");
}
