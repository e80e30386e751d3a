//! The main road: publish, converge, heal, publish again, and every reading command.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::system::{Cluster, Daemon, PATIENCE};

const HOSTS: [(&str, u8); 3] = [("web-1.test", 2), ("web-2.test", 3), ("db-1.test", 4)];

fn converged(cluster: &Cluster) -> Vec<Daemon> {
    let mut clients: Vec<_> = HOSTS.iter().map(|(name, ip)| cluster.client(name, *ip)).collect();
    clients.iter_mut().for_each(|client| {
        client.wait_line("revision 1: 1 checked, 1 changed, 0 failed, converged");
    });
    clients
}

fn rows<'a>(answer: &'a Value, list: &str) -> &'a Vec<Value> {
    answer[list].as_array().unwrap_or_else(|| panic!("no list {list} in {answer}"))
}

#[test]
fn s2_12_s2_25_publish_converge_heal_report() {
    let cluster = Cluster::new();
    cluster.write_hosts(&HOSTS);
    cluster.publish();
    let master = cluster.master();
    let mut clients = converged(&cluster);
    for (name, _) in HOSTS {
        assert_eq!(cluster.read(&format!("{name}/root/motd")), "one\n");
    }

    // Drift is healed, and reported with its before and after (S1-59).
    fs::write(cluster.path("web-1.test/root/motd"), "by hand\n").unwrap();
    clients[0].wait_line("revision 1: 1 checked, 1 changed, 0 failed, converged");
    assert_eq!(cluster.read("web-1.test/root/motd"), "one\n");
    let drift = cluster.until(&["reports", "--host", "web-1.test"], |answer| {
        rows(answer, "reports").iter().any(|row| row["trigger"] == "drift")
    });
    let id = rows(&drift, "reports").iter().find(|row| row["trigger"] == "drift").unwrap();
    let detail = cluster.json(&["report", &id["id"].to_string()]);
    let result = &detail["results"][0];
    assert_eq!(result["resource"], "file /motd");
    assert_eq!(result["outcome"], "changed");
    assert_ne!(result["before"], result["after"], "{detail}");

    // A second revision goes to all of them by push.
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"two\\n\"\n");
    let _ = cluster.drover_ok(&["publish", "--dry-run"]);
    cluster.publish();
    clients.iter_mut().for_each(|client| {
        client.wait_line("revision 2: 1 checked, 1 changed, 0 failed, converged");
    });
    for (name, _) in HOSTS {
        assert_eq!(cluster.read(&format!("{name}/root/motd")), "two\n");
    }
    let hosts = cluster.until(&["hosts"], |answer| {
        rows(answer, "hosts").len() == 3 && rows(answer, "hosts").iter().all(|h| h["applied"] == 2)
    });
    assert!(rows(&hosts, "hosts").iter().all(|host| host["silent"] == false), "{hosts}");

    // Every reading command prints a table, and JSON that parses.
    let status = cluster.json(&["status"]);
    assert_eq!((&status["revision"], &status["hosts_current"]), (&2.into(), &3.into()));
    for command in [
        &["hosts", "--silent"][..],
        &["reports", "--failed"],
        &["queue", "stat"],
        &["queue", "dump"],
        &["probe", "db-1.test"],
        &["ids"],
    ] {
        assert!(cluster.json(command).is_object(), "{command:?}");
        assert!(!cluster.drover_ok(command).is_empty(), "{command:?}");
    }
    let _ = cluster.drover_ok(&["status"]);
    let of_client = |arguments: &[&str]| {
        let done = tests::system::output(&mut cluster.client_command("web-1.test", 2, arguments));
        assert!(done.status.success(), "{done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    assert_eq!(of_client(&["status", "--json"])["held_revision"], 2);

    let ended = clients.into_iter().map(|client| {
        client.signal(Signal::SIGTERM);
        client.wait_end(PATIENCE)
    });
    for ended in ended {
        assert!(ended.status.success(), "{}", ended.log);
    }
    master.signal(Signal::SIGTERM);
    let ended = master.wait_end(PATIENCE);
    assert!(ended.status.success(), "{}", ended.log);
}

#[test]
fn probe_names_the_step_that_fails() {
    let cluster = Cluster::new();
    // .2 runs an older revision, .3 runs under another name, at .4 nobody listens, at .5
    // somebody does who knows nothing of Drover, at .6 one that hangs, and one name has no address.
    cluster.write_hosts(&[
        ("ok.test", 2),
        ("other.test", 3),
        ("gone.test", 4),
        ("odd.test", 5),
        ("hung.test", 6),
    ]);
    let _hung = TcpListener::bind(cluster.client_addr(6)).unwrap();
    cluster.write("m/site/hosts.yaml", "hosts:\n  - host: nameless.invalid\n    groups: [everyone]\n  - host: \"*\"\n    groups: [everyone]\n");
    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("ok.test", 2);
    client.wait_line("converged");
    let _misnamed = cluster.client("impostor.test", 3);
    let odd = TcpListener::bind(cluster.client_addr(5)).unwrap();
    let odd_addr = odd.local_addr().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&ended);
    let answers = std::thread::spawn(move || {
        // The push of the start comes here too; each gets a greeting as long as a header.
        for mut stream in odd.incoming().map_while(Result::ok) {
            if until.load(Ordering::SeqCst) {
                return;
            }
            // The master hangs up as soon as it sees that this is no frame.
            let _ = stream.write_all(&b"SSH-2.0-OpenSSH_9.9 ".repeat(4));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let failed_step = |host: &str| {
        let done = cluster.drover(&["probe", host, "--json"]);
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        let steps = rows(&answer, "steps");
        let failed = steps.iter().find(|step| step["ok"] == false);
        assert_eq!(done.status.code(), Some(i32::from(failed.is_some())), "{answer}");
        failed.map_or(String::new(), |step| step["name"].as_str().unwrap().to_owned())
    };
    assert_eq!(failed_step("ok.test"), "");
    assert_eq!(failed_step("nameless.invalid"), "resolve");
    assert_eq!(failed_step("gone.test"), "dial");
    assert_eq!(failed_step("other.test"), "version");
    assert_eq!(failed_step("odd.test"), "version");
    assert_eq!(failed_step("hung.test"), "version");
    let told = String::from_utf8(cluster.drover(&["probe", "hung.test"]).stdout).unwrap();
    assert!(told.contains("no answer within 5 s: drover-client hangs there, or another"), "{told}");
    ended.store(true, Ordering::SeqCst);
    drop(TcpStream::connect(odd_addr).unwrap());
    answers.join().unwrap();

    // The client does not trust what comes now, so that its revision stays behind.
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"two\\n\"\n");
    client.kill();
    cluster.publish();
    let _still_old = {
        let config = cluster.client_config("ok.test", 2);
        let other =
            "drover-public-key-1 5083f7acc2315af3c4e0bcd14a6d891292439fee332ff2e4091503cf6cc68658";
        let text = fs::read_to_string(&config).unwrap();
        let key = cluster.read("m/keys/signing.pub");
        fs::write(&config, text.replace(key.trim(), other)).unwrap();
        let mut client = Daemon::spawn(
            std::process::Command::new(tests::system::binary("drover-client"))
                .args(["run", "--config"])
                .arg(config),
        );
        client.wait_line("listens on");
        client
    };
    assert_eq!(failed_step("ok.test"), "revision");
    let told = "1 host tells of an error: `drover hosts --failed` shows which";
    let _ = cluster.until(&["status"], |status| status["warnings"].to_string().contains(told));
    let failed = cluster.json(&["hosts", "--failed"]);
    let [host] = &rows(&failed, "hosts")[..] else { panic!("{failed}") };
    assert_eq!(host["name"], "ok.test", "{failed}");
}

#[test]
fn push_shows_progress_and_ctrl_c_cancels_it() {
    let cluster = Cluster::new();
    // At .9 somebody takes the connection and never answers: the push cannot end by itself.
    cluster.write_hosts(&[("web-1.test", 2), ("mute.test", 9), ("gone.test", 8)]);
    let mute = TcpListener::bind(cluster.client_addr(9)).unwrap();
    let mut master = cluster.master();
    cluster.publish();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    let (_held, _) = mute.accept().unwrap();

    let reached = cluster.drover(&["push", "web-*"]);
    assert!(reached.status.success(), "{reached:?}");
    let unreached = cluster.drover(&["push", "gone.test"]);
    assert_eq!(unreached.status.code(), Some(1), "{unreached:?}");
    assert!(String::from_utf8_lossy(&unreached.stdout).contains("gone.test"), "{unreached:?}");

    let mut push = Daemon::spawn(&mut cluster.command(&["push"]));
    push.wait_line("1/3 hosts");
    push.signal(Signal::SIGINT);
    let ended = push.wait_end(PATIENCE);
    assert_eq!(ended.status.code(), Some(130), "{}", ended.log);
    assert!(ended.log.contains("cancelled"), "{}", ended.log);
    master.wait_line("a push was cancelled");
}

/// The master's memory of who lacks what comes from what the hosts last said, so a client
/// that was away catches up with its next poll; without a master it goes on enforcing.
#[test]
fn s2_22_without_a_master_a_client_goes_on() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.publish();
    let master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    master.kill();
    client.kill();
    fs::remove_file(cluster.path("web-1.test/root/motd")).unwrap();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("1 changed, 0 failed, converged");
    fs::remove_file(cluster.path("web-1.test/root/motd")).unwrap();
    client.wait_line("1 changed, 0 failed, converged");
    assert_eq!(cluster.read("web-1.test/root/motd"), "one\n");
}

/// The site of the documentation, on a host that has nothing at all: its policies make the
/// directories that their files need.
#[test]
fn the_example_site_applies_below_an_empty_root() {
    let cluster = Cluster::new();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/example-site");
    fs::remove_dir_all(cluster.path("m/site")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(site).arg(cluster.path("m/site")).status();
    assert!(copied.unwrap().success());
    cluster.write_hosts(&[("web-1.example", 2), ("db-1.example", 3)]);
    let revision = cluster.publish();
    let _master = cluster.master();
    for (name, host, file) in [
        ("web-1.example", 2, "etc/nginx/sites-enabled/shop.conf"),
        ("db-1.example", 3, "etc/ssh/sshd_config.d/50-drover.conf"),
    ] {
        let mut client = cluster.client(name, host);
        client.wait_converged(revision);
        assert!(cluster.root(name).join(file).is_file(), "{name} has no {file}");
        assert!(cluster.root(name).join("etc/motd").is_file());
    }
}

/// What the master could not bring to a host that did not run is no sign of a bad way to it;
/// what it cannot bring to one that runs is, until it can.
#[test]
fn a_host_that_cannot_be_dialled_hears_of_it_and_one_that_was_away_does_not() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "poll_interval = \"200ms\"\n".to_owned();
    cluster.write_hosts(&[("late.test", 2), ("lost.test", 9)]);
    let master = cluster.master();
    cluster.publish();
    // Both were dialled, and do not run yet.
    let pushed = cluster.drover(&["push"]);
    assert_eq!(pushed.status.code(), Some(1), "{pushed:?}");
    let mut late = cluster.client("late.test", 2);
    late.wait_converged(1);
    assert_eq!(late.count_lines("cannot dial"), 0, "{}", late.log());

    // The table names another address than that where it listens.
    let mut lost = cluster.client("lost.test", 3);
    lost.wait_line("the master has a newer assignment, but cannot dial lost.test");
    let status = || {
        let done = tests::system::output(&mut cluster.client_command("lost.test", 3, &["status"]));
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(status().contains("warning: the master has a newer assignment"), "{}", status());
    cluster.write_hosts(&[("late.test", 2), ("lost.test", 3)]);
    master.signal(Signal::SIGHUP);
    lost.wait_converged(1);
    assert!(!status().contains("warning"), "{}", status());
}
