//! SIGTERM, and a disk that is full for a while.

use engine::queue::lmdb;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tests::system::{Cluster, Daemon, PATIENCE, Sender, binary, id_of};

/// The limit of the promise: 30 s from the signal to the end.
const STOP_MAX: Duration = Duration::from_secs(30);

/// During load the master ends with status 0, and what it acked is there after its restart.
#[test]
fn s1_25_s1_26_a_master_stops_under_load_and_loses_nothing() {
    let cluster = Cluster::new();
    cluster.publish();
    let master = cluster.master();
    let addr = cluster.master_addr;
    let stop = AtomicBool::new(false);
    let (told, telling) = std::sync::mpsc::channel();
    let (acked, master) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let (told, stop) = (told.clone(), &stop);
                scope.spawn(move || {
                    let mut sender = Sender::new(&format!("load-{n}.test"), n + 1);
                    while !stop.load(Ordering::Relaxed) || sender.acked < sender.sent {
                        let upto = sender.sent.max(sender.acked + 10);
                        let _ = sender.deliver(addr, upto, PATIENCE);
                        told.send(()).unwrap();
                    }
                    sender
                })
            })
            .collect();
        (0..64).for_each(|_| telling.recv_timeout(PATIENCE).unwrap());
        master.signal(Signal::SIGTERM);
        let ended = master.wait_end(STOP_MAX);
        assert!(ended.status.success(), "{:?}: {}", ended.status, ended.log);
        assert!(ended.log.contains("stopped"), "{}", ended.log);
        let master = cluster.master();
        stop.store(true, Ordering::Relaxed);
        let senders = threads.into_iter().map(|thread| thread.join().unwrap());
        let acked: BTreeSet<_> = senders
            .flat_map(|s| (1..=s.acked).map(move |seq| id_of(&s.name, s.epoch, seq)))
            .collect();
        (acked, master)
    });
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    let stored = cluster.ids();
    let distinct: BTreeSet<_> = stored.iter().cloned().collect();
    assert_eq!(stored.len(), distinct.len(), "an id is stored twice");
    assert_eq!(acked.difference(&distinct).next(), None);
    drop(master);
}

/// Something is under way that does not end: the first signal closes the port and waits, the
/// second one ends the process at once.
#[test]
fn s1_25_a_second_signal_forces() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("mute.test", 9)]);
    let mute = TcpListener::bind(cluster.client_addr(9)).unwrap();
    let mut master = cluster.master();
    cluster.publish();
    let (_held, _) = mute.accept().unwrap();
    let pid = master.pid();
    master.signal(Signal::SIGTERM);
    master.wait_line("stopping: what is under way may take");
    let status = cluster.json(&["status"]);
    assert!(status["warnings"].to_string().contains("the master is stopping"), "{status}");
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(cluster.master_addr) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
            _ => assert!(Instant::now() < until, "the port stays open"),
        }
    }
    assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap(), "it waits for what is under way");
    master.signal(Signal::SIGTERM);
    let ended = master.wait_end(STOP_MAX);
    assert_eq!(ended.status.code(), Some(143), "{:?}: {}", ended.status, ended.log);
}

fn stopped_early(row: &serde_json::Value) -> bool {
    row["note"].as_str().is_some_and(|note| note.contains("the client stopped"))
}

/// An action of 3 s is let finish; its result is on the disk when the client ends, and reaches
/// the master when there are both again. What had not begun is not begun.
#[test]
fn s1_27_a_client_finishes_its_action_before_it_ends() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "allow_exec = true\nparallel = 1\n".to_owned();
    cluster.write_hosts(&[("web-1.test", 2)]);
    let (begun, done) = (cluster.path("begun"), cluster.path("done"));
    mkfifo(&begun, Mode::S_IRWXU).unwrap();
    cluster.write_policy(&format!(
        "resources:\n  - exec: slow\n    command: [sh, -c, \"echo > {}; sleep 3; echo > {}\"]\n    unless: [test, -e, {}]\n  - file: /later\n    content: \"x\\n\"\n    requires: [exec slow]\n",
        begun.display(),
        done.display(),
        done.display()
    ));
    cluster.publish();
    let master = cluster.master();
    let client = cluster.client("web-1.test", 2);
    // Opening blocks until the action opens the other end.
    File::open(&begun).unwrap().read_to_end(&mut Vec::new()).unwrap();
    master.kill();
    client.signal(Signal::SIGTERM);
    let ended = client.wait_end(STOP_MAX);
    assert!(ended.status.success(), "{:?}: {}", ended.status, ended.log);
    assert!(done.exists(), "the action did not finish: {}", ended.log);
    assert!(!cluster.path("web-1.test/root/later").exists(), "new work was begun");
    let queued = lmdb::stat(&cluster.path("web-1.test/state/outbox")).unwrap();
    assert!(queued.records > 0, "its result is not queued: {queued:?}\n{}", ended.log);

    let _master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    let reports = cluster.until(&["reports"], |answer| {
        answer["reports"].as_array().unwrap().iter().any(stopped_early)
    });
    let row = reports["reports"].as_array().unwrap().iter().find(|row| stopped_early(row)).unwrap();
    assert_eq!((&row["result"], &row["failed"]), (&"cut short".into(), &0.into()), "{row}");
    let detail = cluster.json(&["report", &row["id"].to_string()]);
    let slow = detail["results"].as_array().unwrap().iter().find(|r| r["resource"] == "exec slow");
    assert_eq!(slow.unwrap()["outcome"], "changed", "{detail}");
    client.wait_line("converged");
    assert!(cluster.path("web-1.test/root/later").exists());
}

/// LMDB would map a file that has no blocks, and the first touch of it would be a SIGBUS.
#[test]
fn a_start_on_a_full_disk_says_so() {
    let cluster = Cluster::new();
    let state = cluster.path("m/state");
    fs::create_dir_all(&state).unwrap();
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$1\"; cat /dev/zero > \"$1/filler\" || exec \"$2\" master --config \"$3\"";
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]).args([
        &state,
        &binary("drover"),
        &cluster.master_config(),
    ]);
    let ended = Daemon::spawn(&mut command).wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.log.contains("is full; free some space"), "{}", ended.log);
}

/// The inbox lies on a file system of its own, in a mount namespace of the master's; it fills
/// up, says so, refuses, and goes on by itself when there is room again. Needs root or user
/// namespaces, and says so if there are neither.
#[test]
fn s1_53_a_full_disk_is_back_pressure() {
    let cluster = Cluster::new();
    cluster.publish();
    let inbox = cluster.path("m/state/inbox");
    fs::create_dir_all(&inbox).unwrap();
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=24m tmpfs \"$1\" && exec \"$2\" master --config \"$3\"")
        .arg("sh")
        .args([&inbox, &binary("drover"), &cluster.master_config()]);
    // `unshare` replaces itself: its process id is the master's.
    let mut master = Daemon::spawn(&mut command);
    master.wait_line("listens on");
    let addr = cluster.master_addr;
    let mut sender = Sender::new("load.test", 5);
    assert!(matches!(sender.deliver(addr, 10, PATIENCE), Ok(None)));

    // Its view of the file system: there we take all that is left.
    let seen = format!("/proc/{}/root{}", master.pid(), inbox.display());
    let filler = format!("{seen}/filler");
    let mut file = File::create(&filler).unwrap();
    let block = vec![7; 64 * 1024];
    while let Ok(n) = file.write(&block) {
        assert!(n > 0);
    }
    while file.write(&[7]).is_ok() {}
    sender.filler = "x".repeat(4000);
    let goal = 4_000;
    let refused = loop {
        // 400 kB each: the log has some pages of its own left before it meets the disk.
        let acked = sender.acked;
        match sender.deliver(addr, acked + 100, PATIENCE) {
            Ok(None) => assert!(sender.acked < goal, "the disk never filled up"),
            other => break other,
        }
        // What the reserve gave back, we take too.
        while let Ok(n) = file.write(&block) {
            assert!(n > 0);
        }
    };
    assert!(matches!(refused, Ok(Some(_))), "a clear refusal, and not {refused:?}");
    master.wait_line("is full");
    let acked_when_full = sender.acked;
    let status = cluster.json(&["status"]);
    assert!(status["warnings"].to_string().contains("no reports are accepted"), "{status}");

    let until = Instant::now() + PATIENCE;
    while cluster.json(&["status"])["counters"]["commits_failed"].as_u64() < Some(3) {
        let _ = sender.deliver(addr, acked_when_full + 1, PATIENCE);
        assert!(Instant::now() < until, "{}", master.log());
    }
    let told = master.log().matches("nothing was committed").count();
    assert_eq!(told, 1, "told once, not once a second:\n{}", master.log());

    drop(file);
    fs::remove_file(&filler).unwrap();
    let until = Instant::now() + PATIENCE;
    let upto = sender.sent;
    while sender.acked < upto {
        let _ = sender.deliver(addr, upto, PATIENCE);
        assert!(Instant::now() < until, "still {} of {upto}:\n{}", sender.acked, master.log());
    }
    assert!(sender.acked > acked_when_full);
    master.wait_line("is committed again");
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    assert_eq!(cluster.ids().len() as u64, upto, "each once, none lost");
    master.signal(Signal::SIGTERM);
    assert!(master.wait_end(STOP_MAX).status.success());
}
