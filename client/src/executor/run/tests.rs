use super::*;
use crate::executor::stop::StopSwitch;
use crate::testing::{TestRun, TestSite, With, exec, resource};
use engine::release::Resource;
use std::time::Duration;

/// A command that writes when it began and ended to a log in the order in which it happened.
fn logged(site: &TestSite, name: &str, script: &str) -> Resource {
    let log = site.at("/log");
    exec(
        name,
        &format!("echo +{name} >> {log:?}; {script}; s=$?; echo -{name} >> {log:?}; exit $s"),
    )
}

fn log_of(site: &TestSite) -> Vec<String> {
    site.read("/log").lines().map(str::to_owned).collect()
}

fn place(log: &[String], event: &str) -> usize {
    log.iter().position(|l| l == event).unwrap_or_else(|| panic!("{event} is not in {log:?}"))
}

#[test]
fn s2_2_a_cycle_is_shown_by_name_before_anything_runs() {
    let site = TestSite::new();
    let resources = vec![
        site.file("/f", b""),
        exec("a", "true").needs(&[2]),
        resource("symlink", "/b").with("target", &[b"x"]).needs(&[1]),
    ];
    let assigned = site.publish(1, resources);
    let catalog = crate::policy::LoadedCatalog::load(&site.cache(), assigned.catalog).unwrap();
    let error = graph_of(catalog.archived()).unwrap_err();
    let words = explain(&error, catalog.archived());
    assert!(words.contains("exec a -> symlink /b -> exec a"), "{words}");
}

#[test]
fn s2_3_parallel_1_runs_one_after_another_in_order() {
    let site = TestSite::new();
    let resources = [
        logged(&site, "d", "true").needs(&[2]),
        logged(&site, "a", "true"),
        logged(&site, "c", "true").needs(&[3]),
        logged(&site, "b", "true").needs(&[1]),
    ];
    let done = site.run_as(&resources, &TestRun { parallel: 1, ..TestRun::default() });
    assert!(done.is_converged());
    assert_eq!(log_of(&site), ["+a", "-a", "+b", "-b", "+c", "-c", "+d", "-d"]);
}

#[test]
fn s2_4_unrelated_chains_run_side_by_side() {
    let site = TestSite::new();
    // Each first link waits for the other chain's: one after another they would never end.
    let wait_for = |name: &str| {
        let flag = site.at(name);
        format!(
            "n=0; until [ -e {flag:?} ]; do sleep 0.02; n=$((n+1)); [ $n -lt 500 ] || exit 1; done"
        )
    };
    let chain = |own: &str, other: &str| {
        exec(own, &format!("touch {:?}; {}", site.at(own), wait_for(other)))
    };
    let resources = [
        chain("/a1", "/b1"),
        chain("/b1", "/a1"),
        chain("/a2", "/b2").needs(&[0]),
        chain("/b2", "/a2").needs(&[1]),
        chain("/a3", "/b3").needs(&[2]),
        chain("/b3", "/a3").needs(&[3]),
    ];
    let done = site.run_as(&resources, &TestRun { parallel: 2, ..TestRun::default() });
    assert!(done.is_converged(), "{:?}", done.report.results);
    assert!(done.report.busy_us > done.report.duration_us, "two at once");
}

#[test]
fn s2_5_a_failure_skips_what_requires_it_and_nothing_else() {
    let site = TestSite::new();
    let resources = [
        logged(&site, "1a", "sleep 0.1"),
        logged(&site, "2a", "false").needs(&[0]),
        logged(&site, "2b", "sleep 0.1").needs(&[0]),
        logged(&site, "3a", "true").needs(&[1]),
        logged(&site, "3b", "true").needs(&[2]),
        logged(&site, "4a", "true").needs(&[3]),
    ];
    let done = site.run_as(&resources, &TestRun { parallel: 4, ..TestRun::default() });
    let log = log_of(&site);
    assert!(place(&log, "-1a") < place(&log, "+2a") && place(&log, "-1a") < place(&log, "+2b"));
    assert!(place(&log, "-2b") < place(&log, "+3b"));
    assert!(!log.iter().any(|l| l.contains("3a") || l.contains("4a")), "{log:?}");
    let error = |id: &str| {
        let found = done.report.results.iter().find(|r| r.id == id.as_bytes()).unwrap();
        (found.outcome, found.error.clone())
    };
    assert_eq!(error("exec 2a").0, outcome::FAILED);
    let skipped = (outcome::SKIPPED, "skipped: requires exec 2a, which failed".to_owned());
    assert_eq!((error("exec 3a"), error("exec 4a")), (skipped.clone(), skipped));
    assert_eq!(done.unsettled, [1, 3, 5].into());
    assert!(done.to_end, "a failure is no cut");
}

#[test]
fn s2_6_children_start_together_within_the_limit() {
    let site = TestSite::new();
    let log = site.at("/log");
    // Each child waits until all have begun: they must all be let in at once.
    let child = |n: usize| {
        exec(
            &format!("child {n}"),
            &format!(
                "echo + >> {log:?}; n=0; until [ $(wc -l < {log:?}) -ge 12 ]; do sleep 0.05; n=$((n+1)); [ $n -lt 400 ] || exit 1; done"
            ),
        )
        .needs(&[0])
    };
    let mut resources = vec![exec("parent", "sleep 0.1")];
    resources.extend((0..12).map(child));
    let done = site.run_as(&resources, &TestRun { parallel: 12, ..TestRun::default() });
    assert!(done.is_converged(), "{:?}", done.report.results);
}

#[test]
fn s1_59_each_resource_has_a_result_and_unchanged_ones_are_counted() {
    let site = TestSite::new();
    std::fs::write(site.at("/same"), "s").unwrap();
    std::fs::write(site.at("/other"), "o").unwrap();
    let keep = |r: Resource| r.with("mode", &[b"0644"]);
    let resources = [
        keep(site.file("/same", b"s")),
        keep(site.file("/other", b"new")),
        exec("fails", "echo why; exit 7"),
        site.file("/x", b"").needs(&[2]),
    ];
    let done = site.run(&resources);
    let report = &done.report;
    assert_eq!((report.checked, report.results.len(), report.revision), (4, 3, 1));
    assert_eq!(done.count(outcome::UNCHANGED), 1);
    let changed = &report.results[0];
    assert_eq!(changed.id, b"file /other");
    assert!(changed.before.starts_with("1 bytes") && changed.after.starts_with("3 bytes"));
    assert!(changed.duration_us > 0 && changed.error.is_empty());
    assert_eq!(report.results[1].output, b"why\n");
    assert!(report.duration_us > 0 && report.busy_us > 0 && report.started_ms > 0);
}

#[test]
fn s1_27_a_stop_lets_the_running_finish_and_starts_nothing_new() {
    let site = TestSite::new();
    let stop = StopSwitch::new().unwrap();
    let resources = [logged(&site, "runs", "sleep 0.5"), logged(&site, "next", "true").needs(&[0])];
    let done = std::thread::scope(|scope| {
        let how = TestRun { stop: Some(&stop), ..TestRun::default() };
        let running = scope.spawn({
            let (site, resources) = (&site, &resources);
            move || site.run_as(resources, &how)
        });
        while !site.at("/log").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.pull(Duration::from_secs(60));
        running.join().unwrap()
    });
    assert_eq!(log_of(&site), ["+runs", "-runs"]);
    assert_eq!((done.report.checked, done.count(outcome::CHANGED)), (1, 1));
    assert!(done.report.note.contains("1 resources were not looked at"), "{}", done.report.note);
    assert!(!done.to_end);
    assert_eq!(done.unsettled, [1].into());
}

#[test]
fn s1_27_what_runs_too_long_after_a_stop_is_reported_as_interrupted() {
    let site = TestSite::new();
    let stop = StopSwitch::new().unwrap();
    let resources = [logged(&site, "runs", "sleep 60"), site.file("/f", b"").needs(&[0])];
    let done = std::thread::scope(|scope| {
        let how = TestRun { stop: Some(&stop), ..TestRun::default() };
        let running = scope.spawn({
            let (site, resources) = (&site, &resources);
            move || site.run_as(resources, &how)
        });
        while !site.at("/log").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.pull(Duration::ZERO);
        running.join().unwrap()
    });
    assert_eq!(done.count(outcome::INTERRUPTED), 1);
    assert!(!site.at("/f").exists() && !done.is_converged() && !done.to_end);
}
