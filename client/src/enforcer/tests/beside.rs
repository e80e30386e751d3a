//! What drifts while a run is under way.

use super::*;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// A command that lasts until the test lets it end. The test holds both ends of its pipes, so
/// that nothing is lost, whoever comes first.
struct Gate {
    begun: Pipe,
    end: Pipe,
}

struct Pipe(PathBuf, File);

impl Pipe {
    fn new(path: PathBuf) -> Self {
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        Self(path, file)
    }
}

impl Gate {
    fn new(site: &TestSite) -> Self {
        Self { begun: Pipe::new(site.at("/begun")), end: Pipe::new(site.at("/end")) }
    }

    fn script(&self) -> String {
        format!("echo > {}; read line < {}", self.begun.0.display(), self.end.0.display())
    }

    fn command(&self) -> Resource {
        exec("waits", &self.script())
    }

    /// Waits until it runs.
    fn wait(&self) {
        (&self.begun.1).read_exact(&mut [0]).unwrap();
    }

    fn open(&self) {
        (&self.end.1).write_all(b"\n").unwrap();
    }
}

/// The next run that is told: its report, whether all is as wanted, whether all was applied, and
/// what fails.
fn next_told(events: &Receiver<EnforcerEvent>) -> (Report, bool, bool, Option<String>) {
    loop {
        match events.recv_timeout(PATIENCE).expect("a run is told in time") {
            EnforcerEvent::RunFinished { report, converged, to_end, failing, .. } => {
                return (report, converged, to_end, failing);
            }
            EnforcerEvent::NotApplied { report } => panic!("{}", report.note),
            _ => {}
        }
    }
}

fn ids(report: &Report) -> Vec<String> {
    report.results.iter().map(|r| String::from_utf8_lossy(&r.id).into_owned()).collect()
}

#[test]
fn s2_15_what_drifts_during_a_run_is_back_before_its_end() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let tree = [("", TestEntry::Dir(0o755)), ("t", TestEntry::File(0o644, "t"))];
    let resources = vec![
        site.file("/f", b"managed"),
        site.tree("/srv", &tree).with("purge", &[b"true"]),
        gate.command().needs(&[0, 1]),
    ];
    handle.enforce(site.publish(7, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    std::fs::remove_file(site.at("/f")).unwrap();
    // What the run itself has written is looked at too by now, and is not told.
    let (report, converged, to_end, failing) = next_told(&events);
    assert_eq!((report.trigger, report.revision), (trigger::DRIFT, 7));
    assert_eq!((ids(&report), failing), (vec!["file /f".to_owned()], None));
    assert_eq!(site.read("/f"), "managed");
    // Nobody knows yet how the run will end.
    assert!(!converged && !to_end, "{report:?}");
    let status = handle.status();
    assert!(!status.last_run.unwrap().converged && status.heals == 1);
    let (during, done, of) = match status.activity {
        Activity::Running { trigger, done, total, .. } => (trigger, done, total),
        other => panic!("{other:?}"),
    };
    assert_eq!((during, done, of), (trigger::ASSIGNMENT, 2, 3), "it is the run's");
    std::fs::write(site.at("/srv/stray"), "").unwrap();
    assert_eq!(ids(&next_told(&events).0), ["directory /srv"]);
    assert!(!site.at("/srv/stray").exists());
    gate.open();
    let (report, converged, to_end, _) = next_told(&events);
    assert!(converged && to_end && report.trigger == trigger::ASSIGNMENT, "{report:?}");
    assert_eq!(report.results.len(), 3);
    assert!(handle.status().last_run.unwrap().converged);
}

#[test]
fn what_a_run_writes_itself_is_told_by_it_alone() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let names: Vec<String> = (0..20).map(|n| format!("/d/{n}")).collect();
    let mut resources = vec![resource("directory", "/d")];
    resources.extend(names.iter().map(|name| site.file(name, b"x").needs(&[0])));
    let all: Vec<u32> = (0..21).collect();
    resources.push(gate.command().needs(&all));
    handle.enforce(site.publish(1, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    std::fs::remove_file(site.at("/d/7")).unwrap();
    assert_eq!(ids(&next_told(&events).0), ["file /d/7"]);
    gate.open();
    assert_eq!(next_told(&events).0.trigger, trigger::ASSIGNMENT);
    handle.check_now();
    gate.wait();
    gate.open();
    let (report, converged, ..) = next_told(&events);
    assert!(converged && report.trigger == trigger::COMMAND, "{report:?}");
    assert_eq!((handle.status().heals, report.note), (1, String::new()));
}

#[test]
fn what_the_run_has_not_reached_is_left_to_it() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let resources = vec![
        gate.command(),
        site.file("/late", b"managed").needs(&[0]),
        site.file("/early", b"managed"),
    ];
    handle.enforce(site.publish(1, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    until("it is made", || site.at("/early").exists());
    std::fs::write(site.at("/late"), "foreign").unwrap();
    // Told after the other one, so both are known when it is put right.
    std::fs::remove_file(site.at("/early")).unwrap();
    assert_eq!(ids(&next_told(&events).0), ["file /early"]);
    assert_eq!(site.read("/late"), "foreign");
    gate.open();
    let (report, converged, ..) = next_told(&events);
    assert!(converged && report.trigger == trigger::ASSIGNMENT, "{report:?}");
    assert_eq!(ids(&report), ["exec waits", "file /late", "file /early"]);
    assert_eq!(site.read("/late"), "managed");
    handle.check_now();
    gate.wait();
    gate.open();
    assert_eq!(next_told(&events).0.trigger, trigger::COMMAND, "and nothing was done twice");
}

#[test]
fn a_command_waits_for_the_end_of_the_run() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let made = site.at("/made");
    let makes = exec("makes", &format!("touch {}", made.display())).with("creates", &[b"/made"]);
    let resources = vec![makes, site.file("/f", b"managed"), gate.command().needs(&[0, 1])];
    handle.enforce(site.publish(1, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    std::fs::remove_file(&made).unwrap();
    std::fs::remove_file(site.at("/f")).unwrap();
    assert_eq!(ids(&next_told(&events).0), ["file /f"]);
    assert!(!made.exists());
    gate.open();
    assert_eq!(next_told(&events).0.trigger, trigger::ASSIGNMENT);
    let (report, converged, ..) = next_told(&events);
    assert!(converged && report.trigger == trigger::DRIFT, "{report:?}");
    assert_eq!(ids(&report), ["exec makes"]);
}

#[test]
fn the_rest_is_put_right_beside_a_run_of_a_part() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let made = site.at("/made");
    let script = format!("{}; touch {}", gate.script(), made.display());
    let makes = exec("makes", &script).with("creates", &[b"/made"]);
    let resources = vec![makes, site.file("/f", b"managed")];
    // Nothing has to be done to it, so it is no part of what comes after the first run.
    std::fs::write(site.at("/f"), "managed").unwrap();
    handle.enforce(site.publish(1, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    gate.open();
    assert!(next_told(&events).1);
    std::fs::remove_file(&made).unwrap();
    gate.wait();
    std::fs::remove_file(site.at("/f")).unwrap();
    let (report, converged, to_end, _) = next_told(&events);
    assert_eq!((ids(&report), converged, to_end), (vec!["file /f".to_owned()], false, false));
    gate.open();
    let (report, converged, ..) = next_told(&events);
    assert_eq!((ids(&report), converged), (vec!["exec makes".to_owned()], true));
}

#[test]
fn what_fails_beside_a_run_is_not_as_wanted_at_its_end() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let resources = vec![site.file("/f", b"managed"), gate.command().needs(&[0])];
    handle.enforce(site.publish(1, resources), None, trigger::ASSIGNMENT);
    gate.wait();
    std::fs::remove_file(site.cache().path(BlobHash::of(b"managed"))).unwrap();
    std::fs::remove_file(site.at("/f")).unwrap();
    let (report, .., failing) = next_told(&events);
    assert!(report.results[0].outcome == outcome::FAILED, "{report:?}");
    assert!(failing.is_some_and(|why| why.starts_with("file /f: ")));
    gate.open();
    // Of one removal the system may tell in several steps, each looked at for itself.
    let mut told = std::iter::repeat_with(|| next_told(&events));
    let (report, converged, to_end, failing) =
        told.find(|told| told.0.trigger == trigger::ASSIGNMENT).unwrap();
    // The run made it as wanted, but the later look counts.
    assert_eq!(report.results[0].outcome, outcome::CHANGED, "{report:?}");
    assert!(!converged && to_end && failing.is_some());
    assert_eq!(handle.status().unsettled, 1);
    // Who was told of the failure is told of its end, although the client does nothing then.
    std::fs::write(site.at("/f"), "managed").unwrap();
    while !next_told(&events).1 {}
    assert_eq!(handle.status().unsettled, 0);
}

#[test]
fn what_a_newer_assignment_leaves_out_is_put_right_no_more() {
    let site = TestSite::new();
    let (gate, (handle, events)) = (Gate::new(&site), start_on(&site, LONG));
    let old = vec![site.file("/f", b"managed"), gate.command().needs(&[0])];
    handle.enforce(site.publish(1, old), None, trigger::ASSIGNMENT);
    gate.wait();
    let new = site.publish(2, vec![site.file("/g", b"g")]);
    handle.enforce(new, Some(b"second".to_vec()), trigger::ASSIGNMENT);
    // What was being looked at is done once that is stored.
    let stored = site.state().join("assignment");
    until("it is stored", || std::fs::read(&stored).is_ok_and(|stored| stored == b"second"));
    std::fs::remove_file(site.at("/f")).unwrap();
    gate.open();
    assert_eq!([next_told(&events).0.revision, next_told(&events).0.revision], [1, 2]);
    assert!(!site.at("/f").exists());
}

/// What a course through two files needs, without an enforcer.
struct TwoFiles {
    _site: TestSite,
    assigned: AssignedManifest,
    applier: Applier,
    ready: Ready,
    shared: Shared,
}

impl TwoFiles {
    fn new() -> Self {
        let site = TestSite::new();
        let assigned = site.publish(1, vec![site.file("/f", b"f"), site.file("/g", b"g")]);
        let applier = Applier::new(config(&site, LONG));
        let ready = applier.prepare(&assigned).unwrap();
        let (stop, waker) = (StopSwitch::new().unwrap(), io::pipe().unwrap().1);
        let shared = Shared { stop, wishes: Mutex::default(), waker, status: Mutex::default() };
        Self { _site: site, assigned, applier, ready, shared }
    }
}

#[test]
fn nothing_is_put_right_beside_a_run_that_is_to_end() {
    let TwoFiles { assigned, applier, ready, shared, .. } = &TwoFiles::new();
    let part = BTreeSet::from([1]);
    let course = Course::new(applier, shared, ready, Some(&part));
    let free = || course.poll_free(&[0, 1].into());
    assert_eq!(free(), [0].into());
    lock(&shared.wishes).assigned =
        Some(Wanted { assigned: *assigned, keep: None, trigger: trigger::ASSIGNMENT });
    assert!(free().is_empty(), "something newer is wished for");
    lock(&shared.wishes).assigned = None;
    assert_eq!(free(), [0].into());
    shared.stop.pull(Duration::ZERO);
    assert!(free().is_empty(), "the client stops");
}

#[test]
fn a_part_that_is_known_to_have_drifted_is_not_well_before_it_was_looked_at() {
    let TwoFiles { applier, ready, shared, .. } = &TwoFiles::new();
    let part = BTreeSet::from([1]);
    let (none, failed) = (BTreeSet::new(), BTreeSet::from([0]));
    assert!(!Course::new(applier, shared, ready, Some(&part)).is_well(&none));
    // A check of all has been told of nothing.
    assert!(Course::new(applier, shared, ready, None).is_well(&none));
    assert!(!Course::new(applier, shared, ready, None).is_well(&failed));
}

#[test]
fn what_fails_since_its_directory_went_meanwhile_is_no_failure() {
    let site = TestSite::new();
    let resources = vec![
        resource("directory", "/d"),
        site.file("/d/f", b"f").needs(&[0]),
        site.file("/d/g", b"g").needs(&[1]),
        exec("fails", "false"),
    ];
    let assigned = site.publish(1, resources);
    let applier = Applier::new(config(&site, LONG));
    let ready = applier.prepare(&assigned).unwrap();
    let (stop, waker) = (StopSwitch::new().unwrap(), io::pipe().unwrap().1);
    let shared = Shared { stop, wishes: Mutex::default(), waker, status: Mutex::default() };
    std::fs::create_dir(site.at("/d")).unwrap();
    let part = BTreeSet::from([1, 2, 3]);
    let course = Course::new(&applier, &shared, &ready, Some(&part));
    std::fs::remove_dir(site.at("/d")).unwrap();
    let mut done = course.run(&BTreeSet::new(), trigger::DRIFT);
    assert_eq!(ids(&done.report), ["file /d/f", "file /d/g", "exec fails"]);
    // What waits for it is tried with it.
    assert_eq!(course.take_overtaken(&mut done), [1, 2].into());
    assert_eq!(ids(&done.report), ["exec fails"]);
    assert_eq!((done.unsettled, done.resources), ([3].into(), vec![3]));
    // The next look makes the directory first.
    let course = Course::new(&applier, &shared, &ready, Some(&[1, 2].into()));
    assert!(course.run(&BTreeSet::new(), trigger::DRIFT).is_converged());
    assert_eq!(site.read("/d/f"), "f");
}
