//! What an operator must hear of although everything goes on: a damaged record, assignments
//! that expire soon, a clock that is off.

use engine::clock;
use engine::ids::{Epoch, Origin};
use engine::time::WallMs;
use engine::wire::message::Poll;
use engine::wire::{FrameBuf, RouteBuf};
use master::commands::publish::{PublishArgs, publish};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use tests::system::{Cluster, Daemon, PATIENCE, Sender, binary, id_of, output};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn warnings(status: &Value) -> String {
    status["warnings"].to_string()
}

/// Flips a byte in each place where a file has this text; returns how many there were.
fn damage(path: &Path, text: &[u8]) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let places: Vec<usize> = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, w)| *w == text)
        .map(|(at, _)| at)
        .collect();
    for at in &places {
        bytes[at + text.len() / 2] ^= 0x20;
    }
    fs::write(path, bytes).unwrap();
    places.len()
}

/// One record in the middle of a stopped master's inbox is damaged: what stands before and
/// behind it arrives in the result store, and the bad one is set aside and shown.
#[test]
fn s1_53_a_damaged_record_of_a_stopped_masters_inbox_blocks_nothing() {
    const REPORTS: u64 = 60;
    const DAMAGED: u64 = 25;
    let cluster = Cluster::new();
    cluster.publish();
    let master = cluster.master();
    // While somebody else writes to the result store, the reports stay in the inbox.
    let results = Connection::open(cluster.path("m/state/results.db")).unwrap();
    results.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sender = Sender::new("load.test", 1);
    sender.filler = "of a report that is long enough to be found".to_owned();
    let done = sender.deliver(cluster.master_addr, REPORTS, PATIENCE);
    assert!(matches!(done, Ok(None)), "{done:?}");
    let waiting = |status: &Value| warnings(status).contains("is locked by another process");
    let _ = cluster.until(&["status"], waiting);
    master.kill();
    results.execute_batch("COMMIT").unwrap();
    drop(results);
    assert_eq!(cluster.json(&["queue", "stat"])["records"], REPORTS);
    let note = format!("{DAMAGED} {}", sender.filler);
    assert!(damage(&cluster.path("m/state/inbox/data.mdb"), note.as_bytes()) > 0);
    let verify = |arguments: &[&str]| {
        let done = cluster.drover(&[&["queue", "verify"], arguments].concat());
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    let (status, text) = verify(&[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("1 damaged") && text.contains(&format!("\n{DAMAGED}: body checksum")));
    let found: Value = serde_json::from_str(&verify(&["--json"]).1).unwrap();
    assert_eq!((&found["pages_checked"], &found["records"]), (&true.into(), &REPORTS.into()));
    assert_eq!(found["damaged_first"][0]["seq"], DAMAGED, "{found}");

    let mut master = cluster.master();
    master.wait_line(&format!("record {DAMAGED} goes to the quarantine"));
    let status = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    assert_eq!(status["counters"]["quarantined"], 1, "{status}");
    assert!(warnings(&status).contains("1 damaged record of the inbox was set aside"), "{status}");
    let whole = (1..=REPORTS).filter(|seq| *seq != DAMAGED);
    let whole: BTreeSet<_> = whole.map(|seq| id_of(&sender.name, sender.epoch, seq)).collect();
    let stored = cluster.ids();
    assert_eq!(stored.len(), whole.len());
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), whole);

    // What is stored is trimmed a moment later.
    let stat = cluster.until(&["queue", "stat"], |stat| stat["records"] == 0);
    assert_eq!(stat["quarantined"], 1, "{stat}");
    let (status, text) = verify(&[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("all whole") && text.contains("since the master runs"), "{text}");
    let shown = cluster.json(&["queue", "dump", "--quarantined"]);
    let record = &shown["records"][0];
    assert_eq!((&record["origin"], &record["origin_seq"]), (&"load.test".into(), &DAMAGED.into()));
    assert!(record["reason"].as_str().unwrap().contains("checksum"), "{shown}");
    // Both go on: what is sent now is stored.
    let done = sender.deliver(cluster.master_addr, REPORTS + 1, PATIENCE);
    assert!(matches!(done, Ok(None)), "{done:?}");
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    assert_eq!(cluster.ids().len() as u64, REPORTS);
}

/// Publishes as if it were `ago_ms` earlier; assignments live for 30 days.
fn publish_earlier(cluster: &Cluster, ago_ms: u64) {
    let (site, state) = (cluster.path("m/site"), cluster.path("m/state"));
    let args = PublishArgs {
        force: true,
        ..PublishArgs::new(&site, &state, cluster.path("m/keys/signing.key"))
    };
    publish(&args, WallMs(clock::wall().0 - ago_ms), &mut |_| {}).unwrap();
}

#[test]
fn assignments_that_expire_soon_or_have_expired_are_warned_of() {
    let cluster = Cluster::new();
    for (days, warning) in [
        (20, None),
        (25, Some("the assignments expire in 4d: run `drover publish --force`")),
        (31, Some("the assignments have expired: ")),
    ] {
        // An hour less: while the test goes on, no day ends.
        publish_earlier(&cluster, days * DAY_MS + DAY_MS / 24);
        let _master = cluster.master();
        let status = cluster.json(&["status"]);
        let expiry = warnings(&status).contains("expire");
        assert_eq!(expiry, warning.is_some(), "{days} days: {status}");
        assert!(warnings(&status).contains(warning.unwrap_or_default()), "{days} days: {status}");
    }
    // What the warning advises helps.
    let _ = cluster.drover_ok(&["publish", "--force"]);
    let _master = cluster.master();
    assert!(!warnings(&cluster.json(&["status"])).contains("expire"));
}

/// Polls once from this address, with this clock, and waits for the ack.
fn poll(cluster: &Cluster, from: u8, name: &str, wall: WallMs) {
    poll_holding(cluster, from, name, wall, 0);
}

fn poll_holding(cluster: &Cluster, from: u8, name: &str, wall: WallMs, held: u64) {
    let origin = Origin { name: name.parse().unwrap(), epoch: Epoch(9), seq: 1 };
    let poll = Poll {
        held,
        applied: held,
        wall_ms: wall.0,
        version: String::new(),
        last_error: String::new(),
    };
    let route = RouteBuf::from(origin);
    let frame = FrameBuf::message(Some(&route), &poll, |header| header.seq = 1);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(cluster.ip(from), 0).into()).unwrap();
    socket.connect(&cluster.master_addr.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame.to_vec()).unwrap();
    stream.read_exact(&mut [0; 44]).unwrap();
}

/// Told by a poll; which host it is, and by how much, is in the list of hosts.
#[test]
fn a_clients_clock_that_is_off_is_shown() {
    let cluster = Cluster::new();
    cluster.publish();
    let _master = cluster.master();
    let now = clock::wall();
    poll(&cluster, 2, "right.test", now);
    // An hour more: what passes until it arrives makes no other number of days.
    poll(&cluster, 3, "slow.test", WallMs(now.0 - 2 * DAY_MS - DAY_MS / 24));
    poll(&cluster, 4, "fast.test", WallMs(now.0 + 3 * DAY_MS + DAY_MS / 24));
    let status = cluster.json(&["status"]);
    let told = warnings(&status);
    assert!(told.contains("the clocks of 2 hosts are off by more than 60 s"), "{status}");
    assert!(!told.contains("two addresses"), "{status}");
    let hosts = cluster.drover_ok(&["hosts"]);
    let line = |name: &str| hosts.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("slow.test").contains("2d behind"), "{hosts}");
    assert!(line("fast.test").contains("3d ahead"), "{hosts}");
    assert!(line("right.test").contains("ok"), "{hosts}");
}

/// Two machines with one name, as from a cloned image.
#[test]
fn s1_11_a_name_claimed_from_two_addresses_is_warned_of() {
    let cluster = Cluster::new();
    cluster.publish();
    let _master = cluster.master();
    for from in [2, 3, 2] {
        poll(&cluster, from, "cloned.test", clock::wall());
    }
    let told = warnings(&cluster.json(&["status"]));
    assert!(told.contains("names were claimed from two addresses 2 times"), "{told}");
}

/// A master that was restored from a copy begins to count where the copy ends.
#[test]
fn hosts_that_hold_later_revisions_are_shown_and_publish_warns() {
    let cluster = Cluster::new();
    cluster.publish();
    let _master = cluster.master();
    poll_holding(&cluster, 2, "ahead.test", clock::wall(), 8);
    let cure = "run `drover publish --revision-min 9`";
    let hosts = cluster.json(&["hosts"]);
    let error = hosts["hosts"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("it holds revision 8, and 1 is published") && error.contains(cure));
    let told = cluster.drover_ok(&["publish"]);
    assert!(told.contains("hold revision 8, and refuse revision 1") && told.contains(cure));
    let told = cluster.drover_ok(&["publish", "--revision-min", "9"]);
    assert!(told.contains("published revision 9") && !told.contains("refuse"), "{told}");
    let error = &cluster.json(&["hosts"])["hosts"][0]["last_error"];
    assert_eq!(error, "", "it takes it now");
}

/// Several clients on one machine are told apart by the loopback address that each listens on: it
/// dials from there, so nobody seems to claim its name from elsewhere.
#[test]
fn s1_12_clients_on_loopback_addresses_of_their_own_claim_nobodys_name() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2), ("web-2.test", 3)]);
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"x\\n\"\n");
    cluster.publish();
    let _master = cluster.master();
    let mut clients = [cluster.client("web-1.test", 2), cluster.client("web-2.test", 3)];
    clients.iter_mut().for_each(|client| drop(client.wait_converged(1)));
    let all_applied = |hosts: &Value| {
        let hosts = hosts["hosts"].as_array().unwrap();
        hosts.len() == 2 && hosts.iter().all(|host| host["applied"] == 1)
    };
    let _ = cluster.until(&["hosts"], all_applied);
    let status = cluster.json(&["status"]);
    assert_eq!(status["counters"]["identity_conflict"], 0, "{status}");
    assert!(!warnings(&status).contains("claimed"), "{status}");
}

/// What fails is told until it does not fail any more, whatever else is put right meanwhile.
#[test]
fn a_failure_is_shown_until_it_is_over() {
    let mut cluster = Cluster::new();
    cluster.client_extra = "allow_exec = true\n".to_owned();
    let condition = cluster.path("condition");
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy(&format!(
        "resources:\n  - exec: check\n    command: [test, -e, {}]\n  - file: /motd\n    content: \"x\\n\"\n",
        condition.display()
    ));
    cluster.publish();
    let _master = cluster.master();
    let _client = cluster.client("web-1.test", 2);
    let error = |hosts: &Value| hosts["hosts"][0]["last_error"].as_str().unwrap().to_owned();
    let fails = |hosts: &Value| error(hosts).starts_with("exec check: ");
    let _ = cluster.until(&["hosts"], fails);
    let motd = cluster.root("web-1.test").join("motd");
    fs::remove_file(&motd).unwrap();
    let healed = |reports: &Value| {
        reports["reports"].as_array().unwrap().iter().any(|run| run["trigger"] == "drift")
    };
    let _ = cluster.until(&["reports"], healed);
    // The poll that tells it follows the report on the same connection.
    let _ = cluster.until(&["hosts"], fails);
    fs::write(&condition, "").unwrap();
    fs::remove_file(&motd).unwrap();
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"y\\n\"\n");
    cluster.publish();
    let _ = cluster
        .until(&["hosts"], |hosts| error(hosts).is_empty() && hosts["hosts"][0]["applied"] == 2);
}

/// A run that found all as wanted again changes nothing, and ends what was wrong all the same.
#[test]
fn a_root_that_comes_back_as_it_was_is_no_error_any_more() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"x\\n\"\n");
    cluster.publish();
    let _master = cluster.master();
    let _client = cluster.client("web-1.test", 2);
    let error = |hosts: &Value| hosts["hosts"][0]["last_error"].as_str().unwrap().to_owned();
    let _ = cluster.until(&["hosts"], |hosts| hosts["hosts"][0]["applied"] == 1);
    let (root, taken) = (cluster.root("web-1.test"), cluster.path("taken"));
    fs::rename(&root, &taken).unwrap();
    let _ = cluster.until(&["hosts"], |hosts| error(hosts).contains("the root"));
    let config = cluster.path("web-1.test/client.toml");
    let mut status = Command::new(binary("drover-client"));
    let told = output(status.args(["status", "--config"]).arg(config));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("converged then") && told.contains("warning: "), "{told}");
    let told = output(status.arg("--json"));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["converged"], &told["last_run"]["converged"]), (&false.into(), &true.into()));
    assert!(told["daemon"]["last_error"].as_str().unwrap().contains("the root"), "{told}");
    fs::rename(&taken, &root).unwrap();
    let _ = cluster.until(&["hosts"], |hosts| error(hosts).is_empty());
}

/// Each of these words stands in the line behind the one before it, and a file's with its line number.
fn assert_led(line: &str, words: &[&str]) {
    let mut rest = line;
    for word in words {
        let Some((_, behind)) = rest.split_once(word) else {
            panic!("{word:?} of {words:?}: {line}")
        };
        let is_numbered = behind.starts_with(|c: char| c.is_ascii_digit());
        assert!(!word.ends_with(".rs:") || is_numbered, "{word}: {line}");
        rest = behind;
    }
}

/// A host polls, is dialled back and is not there: the line of the log leads from the poll to the
/// failure, with the places in the code that asked for something on the way.
#[test]
fn s1_40_a_delivery_that_fails_says_what_led_there() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web.test", 9)]);
    cluster.publish();
    let mut master = cluster.master();
    poll(&cluster, 9, "web.test", clock::wall());
    let line = master.wait_line("web.test cannot be reached with");
    assert_led(
        &line,
        &[
            "connection refused",
            "what led there, in ",
            &format!("{}:", cluster.ip(9)),
            " connected > ",
            "Poll 1 came > ",
            "wanted (master/src/daemon/role.rs:",
            "name looked up (engine/src/node/mod.rs:",
            "name found > ",
            &format!("dial to {} (engine/src/node/mod.rs:", cluster.client_addr(9)),
            "no connection: connection refused",
        ],
    );
}

/// One handler that panics costs its connection and nothing else, and the line of the log names the
/// peer and the message, and what had happened on that connection before.
#[test]
fn s1_40_a_handler_that_fails_says_what_led_there() {
    let cluster = Cluster::new();
    cluster.publish();
    let config = cluster.master_config();
    let mut faulty = Command::new(binary("faulty-master"));
    faulty.args(["master", "--config"]).arg(config).env("FAULT", "panic:3");
    let mut master = Daemon::spawn(faulty.env_remove("JOURNAL_STREAM"));
    master.wait_line("listens on");
    let mut sender = Sender::new("load.test", 1);
    assert!(sender.deliver(cluster.master_addr, 5, PATIENCE).is_err(), "the handler failed");
    let line = master.wait_line("the handler failed");
    let led = [
        "on a Report",
        "what led there, in ",
        " connected > ",
        "Report 2 (durable) came > ",
        "Report 3 (durable) came",
    ];
    assert_led(&line, &led);
    let done = sender.deliver(cluster.master_addr, 5, PATIENCE);
    assert!(matches!(done, Ok(None)), "{done:?}");
    let _ = cluster.until(&["status"], |status| status["sink_cursor"].as_u64() >= Some(5));
    assert_eq!(cluster.ids().len(), 5, "none is lost, and none is there twice");
    assert_eq!(cluster.counter("handler_failures"), 1);
}
