//! Every error that a user can cause: one clear message that says what to do, a status that is
//! not zero, and nothing lost. The same messages stand in `docs/OPERATIONS.md`; a test holds the
//! two together.

use engine::blocking::Connection;
use engine::ids::{Epoch, Origin};
use engine::release::{Assignment, CATALOG_SCHEMA};
use engine::sign::SigningKey;
use engine::wire::message::{Manifest, Poll};
use engine::wire::{FrameBuf, RouteBuf, encode};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tests::system::{Cluster, Daemon, PATIENCE, Sender, binary, output, start_client};

/// One mistake.
struct Case {
    /// What was done wrong.
    name: &'static str,
    /// Does it.
    make: fn(&mut Cluster),
    /// The command that meets it.
    run: &'static [&'static str],
    /// Its exit status.
    exit: i32,
    /// What its one message contains: what is wrong, and what to do.
    says: &'static [&'static str],
}

fn check(name: &str, done: &Output, exit: i32, says: &[&str]) {
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(exit), "{name}: {err}");
    for part in says {
        assert!(err.contains(part), "{name}: no {part:?} in: {err}");
    }
    assert!(!err.contains("panicked"), "{name}: {err}");
    documented(name, says);
}

/// What a test expects to be told stands in the table too, word for word.
fn documented(name: &str, says: &[&str]) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let tables = fs::read_to_string(docs.join("OPERATIONS.md")).unwrap();
    for part in says {
        assert!(tables.contains(part), "{name}: {part:?} is not in docs/OPERATIONS.md");
    }
}

fn run_all(cases: &[Case]) {
    for case in cases {
        let mut cluster = Cluster::new();
        (case.make)(&mut cluster);
        check(case.name, &cluster.drover(case.run), case.exit, case.says);
    }
}

fn policy(cluster: &Cluster, resources: &str) {
    cluster.write_policy(&format!("resources:\n{resources}"));
}

#[test]
fn mistakes_in_a_site() {
    run_all(&[
        Case {
            name: "bad YAML",
            make: |c| policy(c, "  - file: /a\n   content: x\n"),
            run: &["publish"],
            exit: 1,
            says: &["this is no YAML"],
        },
        Case {
            name: "unknown key",
            make: |c| policy(c, "  - file: /a\n    contnet: x\n"),
            run: &["publish"],
            exit: 1,
            says: &["is no key of", "did you mean `content`"],
        },
        Case {
            name: "cycle",
            make: |c| {
                policy(
                    c,
                    "  - file: /a\n    content: x\n    requires: [file /b]\n  - file: /b\n    content: x\n    requires: [file /a]\n",
                );
            },
            run: &["publish"],
            exit: 1,
            says: &["these require each other in a circle"],
        },
        Case {
            name: "missing file",
            make: |c| policy(c, "  - file: /a\n    source: nowhere\n"),
            run: &["publish"],
            exit: 1,
            says: &["does not exist"],
        },
        Case {
            name: "a resource that does not exist is required",
            make: |c| policy(c, "  - file: /a\n    content: x\n    requires: [file /b]\n"),
            run: &["publish"],
            exit: 1,
            says: &["this host has no such resource"],
        },
        Case {
            name: "no site",
            make: |c| fs::remove_dir_all(c.path("m/site")).unwrap(),
            run: &["publish"],
            exit: 1,
            says: &["cannot open the site", "name its directory, or set site_dir"],
        },
        Case {
            name: "no signing key",
            make: |c| fs::remove_file(c.path("m/keys/signing.key")).unwrap(),
            run: &["publish"],
            exit: 1,
            says: &["cannot read the signing key", "`drover init` makes one"],
        },
        Case {
            name: "the signing key is none",
            make: |c| c.write("m/keys/signing.key", "ssh-ed25519 AAAA\n"),
            run: &["publish"],
            exit: 1,
            says: &["this is no Drover key", "restore it from a copy"],
        },
        Case {
            name: "the signing key lies open",
            make: |c| {
                let key = c.path("m/keys/signing.key");
                fs::set_permissions(key, Permissions::from_mode(0o640)).unwrap();
            },
            run: &["publish"],
            exit: 1,
            says: &["others than its owner may use the signing key", "run `chmod 600 "],
        },
        Case {
            name: "a variable without a value",
            make: |c| {
                c.write_policy("vars: {v: }\nresources:\n  - file: /a\n    content: \"{{ v }}\"\n");
            },
            run: &["publish"],
            exit: 1,
            says: &["has no value", "give it one, or \"\" for an empty text"],
        },
        Case {
            name: "an empty policy",
            make: |c| c.write("m/site/policies/base/policy.yaml", ""),
            run: &["publish"],
            exit: 1,
            says: &["is empty: write what it manages (`resources:`), or remove policies/"],
        },
        Case {
            name: "the release store cannot be written",
            make: |c| c.write("m/state", "a file"),
            run: &["publish"],
            exit: 1,
            says: &["a file is in the way: move it, or set state_dir"],
        },
    ]);
}

#[test]
fn mistakes_with_the_masters_configuration() {
    run_all(&[
        Case {
            name: "unknown key in master.toml",
            make: |c| c.master_extra = "silent_afer = \"1h\"\n".into(),
            run: &["master"],
            exit: 2,
            says: &["unknown key", "did you mean `silent_after`?"],
        },
        Case {
            name: "a bad value in master.toml",
            make: |c| c.master_extra = "inbox_bytes_low = \"2GiB\"\n".into(),
            run: &["master"],
            exit: 2,
            says: &["must be less than inbox_bytes_high"],
        },
        Case {
            name: "a bad line in the hosts table",
            make: |c| c.write("m/hosts", "web-1.test 300.1.1.1\n"),
            run: &["master"],
            exit: 2,
            says: &["is no address; write 192.0.2.1"],
        },
        Case {
            name: "the state directory cannot be made",
            make: |c| c.write("m/state", "a file"),
            run: &["master"],
            exit: 1,
            says: &["the state directory", "set state_dir"],
        },
        Case {
            name: "the first pages of the inbox are broken",
            make: |c| {
                c.master().kill();
                scribble(&c.path("m/state/inbox/data.mdb"));
            },
            run: &["master"],
            exit: 1,
            says: &["cannot be opened", "move the directory away to begin with an empty queue"],
        },
        Case {
            name: "the inbox is cut short",
            make: |c| {
                fill_inbox(c);
                cut(&c.path("m/state/inbox/data.mdb"));
            },
            run: &["master"],
            exit: 1,
            says: &["cannot be opened", "move the directory away to begin with an empty queue"],
        },
        Case {
            name: "the result store is broken",
            make: |c| {
                c.master().kill();
                for file in ["results.db", "results.db-wal", "results.db-shm"] {
                    let path = c.path("m/state").join(file);
                    if path.exists() {
                        scribble(&path);
                    }
                }
            },
            run: &["master"],
            exit: 1,
            says: &[
                "is damaged",
                "Move it away to begin with an empty one, or restore it from a copy",
            ],
        },
        Case {
            name: "the release is damaged",
            make: |c| {
                c.publish();
                for entry in walk(&c.path("m/state/releases")) {
                    if entry.is_file() {
                        fs::write(entry, "damaged").unwrap();
                    }
                }
            },
            run: &["master"],
            exit: 1,
            says: &["is damaged", "`drover publish` writes a new release, which repairs it"],
        },
        Case {
            name: "no master runs",
            make: |_| {},
            run: &["status"],
            exit: 3,
            says: &["the master is not running", "start it with `drover master"],
        },
        Case {
            name: "no inbox yet",
            make: |_| {},
            run: &["queue", "stat"],
            exit: 1,
            says: &["the master makes its inbox when it first starts"],
        },
    ]);
    let missing =
        output(Command::new(binary("drover")).args(["status", "--config", "/nowhere.toml"]));
    check(
        "no configuration",
        &missing,
        2,
        &["name the file with --config, or make one with `drover init DIR`"],
    );
    let cluster = Cluster::new();
    let status = |config: &Path| {
        output(Command::new(binary("drover")).args(["status", "--config"]).arg(config))
    };
    check(
        "a directory for a configuration",
        &status(&cluster.path("m")),
        2,
        &["--config takes the file in it, such as master.toml"],
    );
    for (name, text, says) in [
        ("a port alone", "listen = 7400\n", "is no address with a port: write one such as"),
        ("a name", "listen = \"here:7400\"\n", "is no address with a port: write one such as"),
        ("a bare number", "silent_after = 30\n", "is no duration: write a whole number and a unit"),
        ("no port", "client_port = 70000\n", ": expected a TCP port, 1 to 65535, such as 7401"),
    ] {
        cluster.write("bad.toml", text);
        check(name, &status(&cluster.path("bad.toml")), 2, &[says]);
    }
    let loud = cluster.drover(&["master", "--log", "loud"]);
    check("no level", &loud, 2, &["for '--log <LEVEL>': write error, warn, info, debug or trace"]);
    let again = output(Command::new(binary("drover")).arg("init").arg(cluster.path("m")));
    check("init over something", &again, 1, &["nothing was written"]);
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Writes over the first two pages.
pub(crate) fn scribble(path: &Path) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0xa5; 8192]).unwrap();
}

/// Cuts a file to its first two pages and a bit.
fn cut(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(9000).unwrap();
}

/// Makes the inbox's file as long as some hundred reports need.
fn fill_inbox(cluster: &Cluster) {
    cluster.publish();
    let master = cluster.master();
    let mut sender = Sender::new("load.test", 1);
    sender.filler = "x".repeat(2000);
    assert!(matches!(sender.deliver(cluster.master_addr, 100, PATIENCE), Ok(None)));
    master.kill();
}

#[test]
fn mistakes_with_a_running_master() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.publish();
    let _master = cluster.master();
    for (name, run, exit, says) in [
        (
            "a second master on one state directory",
            &["master"][..],
            1,
            "; is the daemon already running?",
        ),
        (
            "push to nobody",
            &["push", "nobody.test"],
            1,
            "`drover hosts` lists the hosts that are known",
        ),
        ("push to an empty variable", &["push", ""], 1, "a host pattern has 1 to 253 characters"),
        (
            "probe of a name that is none",
            &["probe", "a..b"],
            1,
            "give the host's name as hosts.yaml has it",
        ),
        (
            "a report that does not exist",
            &["report", "4711"],
            1,
            "there is no report of this number; `drover reports` lists them",
        ),
        (
            "reports of a host that nobody knows",
            &["reports", "--host", "nosuch.test"],
            1,
            " is known; `drover hosts` lists the hosts that are known",
        ),
        ("an unknown command", &["pubish"], 2, "unrecognized subcommand"),
    ] {
        check(name, &cluster.drover(run), exit, &[says]);
    }
    // Another master's state, and this one's port.
    let mut other = Cluster::new();
    other.master_addr = cluster.master_addr;
    let taken = other.drover(&["master"]);
    check("the port is taken", &taken, 1, &["cannot listen on", "is a master already running?"]);
    // The inventory that has not everyone.
    cluster.write("m/site/hosts.yaml", "hosts:\n  - host: web-1.test\n    groups: [everyone]\n");
    cluster.publish();
    let unknown = cluster.drover(&["probe", "nobody.test"]);
    check(
        "probe of an unknown host",
        &unknown,
        1,
        &["the inventory has no host", "add it to hosts.yaml and publish"],
    );
}

#[test]
fn mistakes_with_a_client() {
    let refused = |name: &str, extra: &str, arguments: &[&str], exit: i32, says: &[&str]| {
        let mut cluster = Cluster::new();
        cluster.client_extra = extra.to_owned();
        check(name, &output(&mut cluster.client_command("web-1.test", 2, arguments)), exit, says);
    };
    refused(
        "unknown key in client.toml",
        "mastre = \"a\"\n",
        &["run"],
        2,
        &["unknown key `mastre`: did you mean `master`?"],
    );
    refused("no number", "parallel = \"x\"\n", &["run"], 2, &[": expected ", ", such as "]);
    refused(
        "no assignment yet",
        "",
        &["apply", "--once"],
        2,
        &["this client has no assignment yet"],
    );

    let missing =
        output(Command::new(binary("drover-client")).args(["run", "--config", "/nowhere.toml"]));
    check("no configuration", &missing, 2, &["name another with --config FILE"]);
    let directory = output(Command::new(binary("drover-client")).args(["status", "--config", "/"]));
    let says = "--config takes the file in it, such as client.toml";
    check("a directory for a configuration", &directory, 2, &[says]);

    let cluster = Cluster::new();
    let config = cluster.client_config("web-1.test", 2);
    let run =
        || output(Command::new(binary("drover-client")).args(["run", "--config"]).arg(&config));
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, good.replace("drover-public-key-1", "ssh-ed25519")).unwrap();
    check(
        "a trusted key is none",
        &run(),
        2,
        &["trusted_keys", "write the line of the master's signing.pub"],
    );
    fs::write(&config, &good).unwrap();
    let port = TcpListener::bind(cluster.client_addr(2)).unwrap();
    check(
        "the client's port is taken",
        &run(),
        2,
        &["is a client already running? `ss -ltnp` shows who has the port"],
    );
    drop(port);
    // Of the range for documentation, which nobody has.
    let listens = format!("{:?}", cluster.client_addr(2).to_string());
    assert!(good.contains(&listens), "{good}");
    fs::write(&config, good.replace(&listens, "\"192.0.2.7:7401\"")).unwrap();
    let says = "no interface of this machine has that address: set `listen` to one that it has";
    check("another machine's address to listen on", &run(), 2, &[says]);
    fs::write(&config, &good).unwrap();
    fs::remove_dir_all(cluster.path("web-1.test/state")).unwrap();
    cluster.write("web-1.test/state", "a file");
    check(
        "the client's state directory cannot be made",
        &run(),
        2,
        &["run as a user who may write there, or set `state_dir`"],
    );

    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.publish();
    let _master = cluster.master();
    let config = cluster.client_config("web-1.test", 2);
    fs::remove_dir(cluster.root("web-1.test")).unwrap();
    let line = start_client(&config).wait_line("cannot open the root directory");
    let advice = "make it, or correct `root`";
    assert!(line.ends_with(advice), "{line}");
    documented(&line, &["cannot open the root directory", advice]);
}

#[test]
fn mistakes_with_the_load_generator() {
    let cluster = Cluster::new();
    cluster.write("journal", "no journal\n");
    // Scenarios, each with one mistake.
    let scenario = |file: &str, top: &str, phase: &str| {
        let text = format!("name = \"x\"\n{top}\n[[phase]]\nname = \"a\"\n{phase}\n");
        cluster.write(file, &text);
        cluster.path(file).display().to_string()
    };
    let misspelt = scenario("misspelt.toml", "", "pols = {}");
    let endless = scenario("endless.toml", "", "reports = { rate = 100 }");
    let empty = scenario("empty.toml", "", "");
    let unbound = scenario("unbound.toml", "", "for = \"1s\"");
    let crowd = scenario("crowd.toml", "clients = 99999999", "polls = {}");
    let hurried = scenario("hurried.toml", "", "polls = {}\nkill_master = \"0s\"");
    let [nowhere, journal, socket] =
        ["none/hosts", "journal", "none.sock"].map(|file| cluster.path(file).display().to_string());
    let master = cluster.master_addr.to_string();
    for (name, arguments, exit, says) in [
        (
            "a master elsewhere",
            &["storm", "--master", "192.0.2.1:7400"][..],
            2,
            "name it only with --i-own-this-master",
        ),
        (
            "a master by its name",
            &["storm", "--master", "localhost:7400"],
            2,
            "is no address with a port: write one such as",
        ),
        (
            "a number that is none",
            &["storm", "--master-pid", "x"],
            2,
            "write a whole number, 0 or more",
        ),
        (
            "no master",
            &["storm", "--master", &master],
            6,
            "nobody listens there; is the daemon running?",
        ),
        (
            "a hosts table that cannot be written",
            &["hosts", "--hosts-table", &nowhere],
            1,
            "name a file in a directory that is there",
        ),
        (
            "a journal that is none",
            &["check", "--journal", &journal, "--control", &socket],
            1,
            "expected `name incarnation number digest`; is this a journal of loadgen?",
        ),
        (
            "a scenario with an unknown key",
            &["run", &misspelt, "--own-master"],
            2,
            "unknown key `pols`: did you mean `polls`?",
        ),
        (
            "a scenario that never ends",
            &["run", &endless, "--own-master"],
            2,
            "has no end: write how long it goes on, such as `for = \"30s\"`, or what all clients are to reach (`revision`, `newer`)",
        ),
        (
            "a scenario in which nothing happens",
            &["run", &empty, "--own-master"],
            2,
            "nothing happens in it: write what does, such as `polls = {}`, or `for = \"30s\"` for a pause",
        ),
        (
            "a scenario that binds nobody",
            &["run", &unbound, "--own-master"],
            2,
            "no client is started in it, or before it, so none gets bound: write `restart = \"5s\"` or `polls = {}` there",
        ),
        (
            "a scenario with more clients than there can be",
            &["run", &crowd, "--own-master"],
            2,
            "clients: write a number from 1 to 1000000",
        ),
        (
            "a scenario that kills the master without a pause",
            &["run", &hurried, "--own-master"],
            2,
            "kill_master: this cannot be zero; write 1ms or more",
        ),
    ] {
        check(name, &output(Command::new(binary("loadgen")).args(arguments)), exit, &[says]);
    }
}

/// No file may grow: what a full disk is to a process without root. The release before stays.
#[test]
fn a_full_disk_under_publish() {
    let cluster = Cluster::new();
    cluster.publish();
    cluster.write_policy("resources:\n  - file: /motd\n    content: \"two\\n\"\n");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" publish --config \"$1\""]);
    let done = output(limited.arg(binary("drover")).arg(cluster.master_config()));
    check(
        "a full disk under publish",
        &done,
        1,
        &["free some space and run it again, nothing is lost"],
    );
    let _master = cluster.master();
    assert_eq!(cluster.json(&["status"])["revision"], 1);
    cluster.publish();
    assert_eq!(cluster.json(&["status"])["revision"], 2);
}

/// What the messages about broken files advise does help, and until then nothing is touched.
#[test]
fn what_the_messages_advise_helps() {
    let cluster = Cluster::new();
    cluster.publish();
    cluster.master().kill();
    let (inbox, releases) = (cluster.path("m/state/inbox"), cluster.path("m/state/releases"));
    scribble(&inbox.join("data.mdb"));
    let broken = fs::read(inbox.join("data.mdb")).unwrap();
    assert_eq!(cluster.drover(&["master"]).status.code(), Some(1));
    assert_eq!(fs::read(inbox.join("data.mdb")).unwrap(), broken, "it was written to");
    fs::rename(&inbox, cluster.path("m/state/inbox.broken")).unwrap();
    cluster.master().kill();
    for file in walk(&releases) {
        fs::write(file, "damaged").unwrap();
    }
    assert_eq!(cluster.drover(&["master"]).status.code(), Some(1));
    cluster.publish();
    let _master = cluster.master();
    assert!(cluster.json(&["status"])["revision"].as_u64() > Some(0));
}

/// What arrives and must not be taken: the client says so in its log and to the master.
#[test]
fn s1_15_a_client_refuses_what_it_must_not_take() {
    // A key that it does not trust.
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    cluster.publish();
    let _master = cluster.master();
    let config = cluster.client_config("web-1.test", 2);
    let text = fs::read_to_string(&config).unwrap();
    let other = format!("drover-public-key-1 {}", "1".repeat(64));
    fs::write(&config, text.replace(cluster.read("m/keys/signing.pub").trim(), &other)).unwrap();
    let mut run = Command::new(binary("drover-client"));
    let mut client = Daemon::spawn(run.args(["run", "--config"]).arg(&config));
    client.wait_line("trust");
    let hosts = cluster.until(&["hosts"], |answer| answer["hosts"][0]["last_error"] != "");
    assert!(hosts["hosts"][0]["last_error"].to_string().contains("trust"), "{hosts}");
    assert!(!cluster.path("web-1.test/root/motd").exists());

    // One that has expired; it is signed well, and for this host.
    let cluster = Cluster::new();
    let key = SigningKey::parse(&cluster.read("m/keys/signing.key")).unwrap();
    let expired = Assignment {
        schema: CATALOG_SCHEMA,
        pattern: "*".to_owned(),
        excludes: Vec::new(),
        revision: 1,
        manifest: [1; 32],
        manifest_size: 1,
        issued_ms: 1,
        expires_ms: 2,
    };
    let body = Manifest { assignment: encode(&expired.sign(&key)).to_vec() };
    let origin = Origin { name: "master.test".parse().unwrap(), epoch: Epoch(1), seq: 1 };
    let route = RouteBuf::from(origin).to("web-1.test".parse().unwrap());
    let frame = FrameBuf::message(Some(&route), &body, |header| header.seq = 1);
    let mut client = cluster.client("web-1.test", 2);
    let addr = cluster.client_addr(2);
    let mut connection = Connection::connect(addr, PATIENCE).unwrap();
    connection.send(&frame).unwrap();
    let line = client.wait_line("expired");
    documented(&line, &["the assignment has expired"]);
    assert!(!cluster.path("web-1.test/root/motd").exists());
}

/// Bytes that are no frame end their connection, are counted, and disturb nobody else; what
/// was stored stays stored.
#[test]
fn frames_that_are_none() {
    let cluster = Cluster::new();
    cluster.publish();
    let _master = cluster.master();
    let mut sender = Sender::new("load.test", 1);
    assert!(matches!(sender.deliver(cluster.master_addr, 3, PATIENCE), Ok(None)));
    let origin = Origin { name: "load.test".parse().unwrap(), epoch: Epoch(9), seq: 1 };
    let poll = |wall_ms| Poll {
        held: 0,
        applied: 0,
        wall_ms,
        version: String::new(),
        last_error: String::new(),
    };
    let frame = |wall_ms| {
        let route = RouteBuf::from(origin.clone());
        FrameBuf::message(Some(&route), &poll(wall_ms), |header| header.seq = 1).to_vec()
    };
    let whole = frame(1);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut later = whole.clone();
    later[4] = 9;
    for (name, bytes) in [
        (
            "foreign",
            &b"GET / HTTP/1.1\r\nHost: drover.example\r\nAccept: */*\r\nConnection: x\r\n\r\n"[..],
        ),
        ("cut short", &whole[..whole.len() - 1]),
        ("of a later version", &later),
    ] {
        let mut stream = TcpStream::connect(cluster.master_addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The end, by FIN or by reset.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{name}: {answer:?}");
    }
    assert!(matches!(sender.deliver(cluster.master_addr, 6, PATIENCE), Ok(None)));
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    assert_eq!(cluster.ids().len(), 6);
}
