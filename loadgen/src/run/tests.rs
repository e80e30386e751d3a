use super::judge::PUNCTUAL;
use super::scenario::Return;
use super::*;
use crate::clients::address::{DEFAULT_SUFFIX, Identities};
use crate::clients::work::Pace;
use crate::error::Exit;
use crate::measure::Timed;
use crate::names::NamesConfig;
use crate::report::{Check, Outcome};
use crate::subject::Target;
use master::commands::init::{InitArgs, init};
use master::commands::publish::{PublishArgs, publish};
use master::config::MasterConfig;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc;
use tempfile::TempDir;

const S: Duration = Duration::from_secs(1);

/// How a run ended, but for the generator's own lateness: on a busy machine it is late, which makes
/// the run invalid, and beside the tests of that nothing hangs on it.
fn ended(report: &Report) -> Outcome {
    let sum_up =
        |checks: &[Check]| Check::sum_up(checks).map_or(Outcome::Reached, |(outcome, _)| outcome);
    assert_eq!(report.outcome, sum_up(&report.checks), "{report:#?}");
    let (own, others): (Vec<_>, Vec<_>) =
        report.checks.iter().cloned().partition(|check| check.what == PUNCTUAL);
    assert!(own.iter().all(|check| check.holds() || check.outcome == Outcome::Invalid));
    sum_up(&others)
}

fn config(clients: u32, master: SocketAddr) -> LoadConfig {
    LoadConfig {
        clients,
        workers: Workers::AsNeeded,
        master: running(master),
        port: 0,
        suffix: DEFAULT_SUFFIX.into(),
        hosts_table: None,
        names: None,
        journal: None,
        out: None,
        deliveries_max: None,
        seed: 1,
    }
}

fn running(addr: SocketAddr) -> MasterChoice {
    MasterChoice::Running { addr, foreign_allowed: false, control: None, pid: None }
}

fn storm() -> Scenario {
    Scenario::storm(Return { within: Duration::ZERO, backoff: true, timeout: 20 * S })
}

fn steady(revision: Option<u64>) -> Scenario {
    Scenario::steady(Pace::every(S), Some(2 * S), revision, 1, 20 * S)
}

fn quiet() -> Progress {
    Progress::new(Box::new(std::io::sink()), None)
}

fn start(config: &LoadConfig, scenario: &Scenario) -> Result<Report, LoadError> {
    run(config, scenario, &AtomicBool::new(false), &mut quiet())
}

#[test]
fn foreign_targets_are_refused_without_the_flag() {
    for addr in ["192.0.2.1:7400", "[::1]:7400", "0.0.0.0:7400"] {
        let mut config = config(1, addr.parse().unwrap());
        let error = start(&config, &storm()).unwrap_err();
        assert!(matches!(error, LoadError::ForeignTarget { .. }), "{addr}: {error}");
        assert_eq!(error.exit(), Exit::Usage);
        // With it, only what needs no dial-back can be asked for.
        let addr = addr.parse().unwrap();
        config.master =
            MasterChoice::Running { addr, foreign_allowed: true, control: None, pid: None };
        for scenario in [storm(), steady(Some(1))] {
            let started = start(&config, &scenario);
            assert!(matches!(started, Err(LoadError::NoDialBack { .. })), "{addr}");
        }
    }
}

#[test]
fn what_is_done_to_a_master_is_done_to_an_own_one_alone() {
    let config = config(1, "127.0.0.1:1".parse().unwrap());
    let back = Return { within: Duration::ZERO, backoff: true, timeout: S };
    let mut killed = storm();
    killed.phases[0].kill_every = Some(S);
    for scenario in [Scenario::release(1, 1, back), Scenario::cold_start(1, back), killed] {
        let error = start(&config, &scenario).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{error}");
        assert!(error.to_string().contains("add --own-master"), "{error}");
    }
}

#[test]
fn a_master_elsewhere_says_itself_whether_it_may_be_loaded() {
    for load_tests in [false, true] {
        let mut world = World::new(1);
        world.start_master_with(MasterConfig { load_tests, ..MasterConfig::default() });
        let here = Target::ask(world.addr).unwrap();
        assert_eq!(here.load_tests, load_tests);
        here.permit().expect("whoever is on this machine needs no leave");
        let elsewhere = Target { addr: "192.0.2.1:7400".parse().unwrap(), ..here };
        match elsewhere.permit() {
            Ok(()) => assert!(load_tests),
            Err(error) => {
                assert!(!load_tests);
                assert_eq!(error.exit(), Exit::Usage);
                assert!(error.to_string().contains("set `load_tests = true`"), "{error}");
            }
        }
    }
}

/// [::1] counts as elsewhere, since no client can be dialled back from there.
#[test]
fn a_run_elsewhere_needs_the_masters_own_leave() {
    let settled = Scenario::steady(Pace::every(S), Some(S), None, 0, 20 * S);
    let mut world = World::new(1);
    world.addr = "[::1]:0".parse().unwrap();
    world.start_master();
    let mut config = config(1, world.addr);
    config.master =
        MasterChoice::Running { addr: world.addr, foreign_allowed: true, control: None, pid: None };
    let error = start(&config, &settled).unwrap_err();
    assert!(matches!(error, LoadError::LoadTestsOff { .. }), "{error}");
}

#[test]
fn with_a_name_service_there_is_one_port_that_the_master_knows() {
    let mut config = config(2, "127.0.0.1:1".parse().unwrap());
    config.names = Some(NamesConfig::default());
    let error = start(&config, &storm()).unwrap_err();
    assert!(matches!(error, LoadError::NamesPort { .. }), "{error}");
    assert!(error.to_string().contains("--dns-port"), "{error}");
    config.workers = Workers::Threads(2);
    let error = start(&config, &storm()).unwrap_err();
    assert!(matches!(error, LoadError::NamesHaveNoPorts { workers: 2 }), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
}

#[test]
fn a_port_of_the_name_service_that_is_taken_is_named() {
    let mut world = World::new(1);
    world.publish();
    world.start_master();
    let taken = crate::names::NameService::start(
        NamesConfig::default(),
        Identities::new(DEFAULT_SUFFIX).unwrap(),
        1,
        1,
    )
    .unwrap();
    let names = NamesConfig { port: taken.addr().port(), ..NamesConfig::default() };
    let error = start(&LoadConfig { names: Some(names), ..world.config(1) }, &storm()).unwrap_err();
    assert!(matches!(error, LoadError::Names { .. }), "{error}");
    assert!(error.to_string().contains("--dns-port"), "{error}");
}

#[test]
fn a_worker_elsewhere_does_not_reach_a_master_on_loopback() {
    let mut config = config(1, "127.0.0.1:7400".parse().unwrap());
    config.workers = Workers::At(vec!["127.0.0.1:7500".into(), "192.0.2.1:7500".into()]);
    let error = start(&config, &steady(None)).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("192.0.2.1:7500 is not on this machine"), "{error}");
    // Nor can a master elsewhere dial the clients of one.
    let addr = "192.0.2.2:7400".parse().unwrap();
    config.master = MasterChoice::Running { addr, foreign_allowed: true, control: None, pid: None };
    assert!(matches!(start(&config, &storm()), Err(LoadError::NoDialBack { .. })));
}

#[test]
fn a_master_that_is_not_there_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = start(&config(1, addr), &storm()).unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(error.to_string().contains("is the daemon running?"), "{error}");
}

/// A master as a thread, with a release for all clients of a swarm.
struct World {
    dir: TempDir,
    addr: SocketAddr,
    port: u16,
}

impl World {
    fn new(clients: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site");
        init(&InitArgs { dir: dir.path().to_owned(), site: Some("load".into()) }).unwrap();
        std::fs::write(site.join("hosts.yaml"), "hosts:\n  - host: 'lg-*'\n").unwrap();
        let world = Self { addr: ([127, 0, 0, 1], 0).into(), port: free_port(), dir };
        let identities = Identities::new(DEFAULT_SUFFIX).unwrap();
        identities.write_hosts_table(&world.path("hosts"), [(0..clients, world.port)]).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn publish(&self) {
        let mut args =
            PublishArgs::new(self.path("site"), self.path("state"), self.path("keys/signing.key"));
        args.force = true;
        publish(&args, engine::clock::wall(), &mut |_| {}).unwrap();
    }

    fn start_master(&mut self) {
        self.start_master_with(MasterConfig::default());
    }

    fn start_master_with(&mut self, config: MasterConfig) {
        let config = MasterConfig {
            listen: self.addr,
            control_socket: self.path("control.sock"),
            state_dir: self.path("state"),
            site_dir: self.path("site"),
            hosts_table: Some(self.path("hosts")),
            ..config
        };
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let (sender, receiver) = mpsc::channel();
        // It ends with the process of the test: a daemon's thread is stopped by signals alone.
        std::thread::spawn(move || {
            let started = master::daemon::start(config, false, |addr| {
                let _ = sender.send(addr);
            });
            if let Err(failure) = started {
                panic!("the master: {failure}");
            }
        });
        self.addr = receiver.recv_timeout(30 * S).expect("the master starts");
    }

    fn config(&self, clients: u32) -> LoadConfig {
        LoadConfig {
            port: self.port,
            master: MasterChoice::Running {
                addr: self.addr,
                foreign_allowed: false,
                control: Some(self.path("control.sock")),
                pid: Some(std::process::id()),
            },
            journal: Some(self.path("journal")),
            ..config(clients, self.addr)
        }
    }
}

/// A port below those that the kernel hands out, which nobody here has.
fn free_port() -> u16 {
    let first = u16::try_from(std::process::id() % 8000).unwrap() + 20_000;
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    (first..30_000).find(is_free).expect("some port is free")
}

#[test]
fn a_storm_reaches_everybody_and_loses_nothing() {
    let mut world = World::new(200);
    world.publish();
    world.start_master();
    let report = start(&world.config(200), &storm()).unwrap();
    assert_eq!(ended(&report), Outcome::Reached, "{report:#?}");
    assert_eq!(report.phases[0].latencies[&Timed::Assignment].count, 200);
    let truth = report.truth.unwrap();
    assert!(truth.holds());
    assert_eq!((truth.acked, truth.stored), (200, 200));
    // The journal says the same, later and by itself.
    let again = check_journal(&world.path("journal"), &world.path("control.sock")).unwrap();
    assert_eq!(again, truth);

    // Somebody forges an entry: a report that was never sent is one that was lost.
    let forged = format!("lg-00001.{DEFAULT_SUFFIX} 00000000deadbeef 1\n");
    let journal = std::fs::read_to_string(world.path("journal")).unwrap() + &forged;
    std::fs::write(world.path("journal"), journal).unwrap();
    let again = check_journal(&world.path("journal"), &world.path("control.sock")).unwrap();
    assert_eq!(again.lost_first, [forged.trim_end()]);
}

#[test]
fn steady_clients_poll_and_report_at_their_slots() {
    let mut world = World::new(100);
    world.publish();
    world.start_master();
    let report = start(&world.config(100), &steady(Some(1))).unwrap();
    assert_eq!(ended(&report), Outcome::Reached, "{report:#?}");
    // Two intervals, a poll and a report in each, and one more report for the manifest.
    assert_eq!(
        (report.phases[0].messages.polls, report.phases[0].messages.polls_acked),
        (200, 200)
    );
    assert_eq!(
        (report.phases[0].messages.reports, report.phases[0].messages.reports_acked),
        (300, 300)
    );
    assert_eq!(report.truth.map(|truth| truth.stored), Some(300));
}

#[test]
fn without_a_release_a_storm_says_what_to_do() {
    let mut world = World::new(1);
    world.start_master();
    let error = start(&world.config(1), &storm()).unwrap_err();
    assert!(matches!(error, LoadError::NothingPublished), "{error}");
    assert!(error.to_string().contains("drover publish"));
}

#[test]
fn hosts_outside_the_inventory_miss_the_goal_and_it_says_why() {
    let mut world = World::new(3);
    std::fs::write(world.path("site/hosts.yaml"), "hosts:\n  - host: 'web-*'\n").unwrap();
    world.publish();
    world.start_master();
    let hurried = Scenario::storm(Return { within: Duration::ZERO, backoff: true, timeout: S });
    let report = start(&world.config(3), &hurried).unwrap();
    assert_eq!(ended(&report), Outcome::Missed, "{report:#?}");
    assert!(report.phases[0].failures["nack: not in the inventory"] > 0, "{report:#?}");
    assert_eq!(report.unfinished_first[0], "lg-00001.load.test");
}

/// With a crowd that comes back within a minute, and a minute for each, the last ones were late.
/// What was found out is told, whether the disk takes it or not.
#[test]
fn a_report_that_cannot_be_left_behind_is_told_all_the_same() {
    let mut world = World::new(20);
    world.publish();
    world.start_master();
    let out = world.dir.path().join("out");
    std::fs::create_dir_all(out.join("report.json")).unwrap();
    for name in ["report.html", "notes.txt"] {
        std::fs::write(out.join(name), "of another run").unwrap();
    }
    let config = LoadConfig { out: Some(out.clone()), ..world.config(20) };
    let report = start(&config, &storm()).unwrap();
    assert_eq!(ended(&report), Outcome::Reached, "{report:#?}");
    let told = report.unwritten.unwrap();
    assert!(told.starts_with("cannot leave the report in "), "{told}");
    // Nothing of another run lies beside what this one could leave.
    assert!(!out.join("report.html").exists());
    assert!(out.join("notes.txt").exists() && out.join("latency.hlog").exists());
}

#[test]
fn a_master_whose_process_is_not_there_is_told_before_the_load() {
    let mut config = config(1, "127.0.0.1:1".parse().unwrap());
    let MasterChoice::Running { pid, .. } = &mut config.master else { panic!("{config:?}") };
    // Above the highest that a kernel gives.
    *pid = Some(4_194_305);
    let error = start(&config, &storm()).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().starts_with("there is no process 4194305 on this"), "{error}");
}

#[test]
fn a_control_socket_that_is_not_there_is_told_before_the_load() {
    let mut world = World::new(1);
    world.publish();
    world.start_master();
    let mut config = world.config(1);
    let MasterChoice::Running { control, .. } = &mut config.master else { panic!("{config:?}") };
    *control = Some("/nonexistent/control.sock".into());
    let error = start(&config, &storm()).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().starts_with("there is no socket /nonexistent"), "{error}");
}

#[test]
fn whoever_comes_back_last_has_as_long_as_the_first() {
    let mut world = World::new(20);
    world.publish();
    world.start_master();
    let slow = Scenario::storm(Return { within: 2 * S, backoff: true, timeout: S });
    let report = start(&world.config(20), &slow).unwrap();
    assert_eq!(report.phases[0].clients.done, 20, "{report:#?}");
    assert_eq!(ended(&report), Outcome::Reached, "{report:#?}");
}

#[test]
fn an_interrupted_run_reports_how_far_it_came() {
    let mut world = World::new(10);
    world.publish();
    world.start_master();
    let stop = AtomicBool::new(true);
    let report = run(&world.config(10), &steady(None), &stop, &mut quiet()).unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert_eq!(report.outcome.exit() as u8, 130);
    assert_eq!(report.truth, None);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let mut world = World::new(1);
    world.publish();
    world.start_master();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut config = world.config(1);
    config.port = taken.local_addr().unwrap().port();
    let error = start(&config, &storm()).unwrap_err();
    assert!(matches!(error, LoadError::Listen { .. }));
    assert!(error.to_string().contains("--port"), "{error}");
}

#[test]
fn a_journal_that_cannot_be_checked_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    std::fs::write(&journal, "lg-1.x 1 1\n").unwrap();
    let socket = dir.path().join("control.sock");
    // A socket that somebody left behind, and nobody listens on.
    drop(UnixListener::bind(&socket).unwrap());
    let error = check_journal(&journal, &socket).unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
}
