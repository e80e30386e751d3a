//! What every program tells of itself: its version, help with examples, and how its daemon is.

use serde_json::Value;
use socket2::SockRef;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use tests::system::{Cluster, PATIENCE, binary, output};

const PROGRAMS: [&str; 3] = ["drover", "drover-client", "loadgen"];

fn stdout_of(done: &Output) -> String {
    String::from_utf8(done.stdout.clone()).unwrap()
}

#[test]
fn every_program_tells_its_version() {
    for program in PROGRAMS {
        for flag in ["--version", "-V"] {
            let done = output(Command::new(binary(program)).arg(flag));
            assert!(done.status.success(), "{done:?}");
            assert_eq!(stdout_of(&done), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        }
    }
}

/// The commands that a help text lists: behind `Commands:`, or as lines of usage.
fn commands_in(help: &str, program: &str) -> Vec<String> {
    let listed = help.split_once("Commands:\n").map_or("", |(_, behind)| behind);
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let usage = format!("  {program} ");
    let used = help.lines().take_while(|line| !line.starts_with("Examples:"));
    let used = used.filter_map(|line| line.strip_prefix(&usage));
    let words = listed.chain(used).filter_map(|line| line.split_whitespace().next());
    let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase()) && *word != "help";
    words.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_examples() {
    for program in PROGRAMS {
        let mut open = vec![Vec::new()];
        let mut seen = 0;
        while let Some(command) = open.pop() {
            let done = output(Command::new(binary(program)).args(&command).arg("--help"));
            let help = stdout_of(&done);
            assert!(done.status.success(), "{done:?}");
            assert!(help.contains("\nExample"), "{program} {command:?}: no example in\n{help}");
            assert!(help.contains(program), "{program} {command:?}:\n{help}");
            seen += 1;
            let below = commands_in(&help, program).into_iter();
            open.extend(
                below
                    .filter(|word| !command.contains(word))
                    .map(|word| command.iter().cloned().chain([word]).collect()),
            );
        }
        assert!(seen > 4, "{program}: only {seen} commands were found");
    }
}

/// The client's `status` as JSON, and its exit status.
fn status(cluster: &Cluster) -> (Value, Option<i32>) {
    let done = output(&mut cluster.client_command("web-1.test", 2, &["status", "--json"]));
    (serde_json::from_slice(&done.stdout).unwrap(), done.status.code())
}

fn status_text(cluster: &Cluster, exit: i32) -> String {
    let done = output(&mut cluster.client_command("web-1.test", 2, &["status"]));
    assert_eq!(done.status.code(), Some(exit), "{done:?}");
    stdout_of(&done)
}

/// A daemon that was stopped takes no connection, and the queue of those that wait is full; another
/// takes it and says nothing.
#[test]
fn no_command_waits_for_ever_for_a_daemon_that_hangs() {
    let cluster = Cluster::new();
    let start = |mut command: Command| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let listen = |path: &str, backlog| {
        let path = cluster.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        SockRef::from(&listener).listen(backlog).unwrap();
        // With a queue of none, one may wait.
        (UnixStream::connect(path).unwrap(), listener)
    };
    let _full = [listen("m/control.sock", 0), listen("full.test/state/control.sock", 0)];
    let _silent = listen("silent.test/state/control.sock", 8);
    // All at the same time: each waits for its 10 s.
    let began = Instant::now();
    let master = start(cluster.command(&["status"]));
    let clients = ["full.test", "silent.test"]
        .map(|name| start(cluster.client_command(name, 2, &["status"])));
    let done = master.wait_with_output().unwrap();
    let says = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    assert!(says.contains("the master has not answered for 10 s"), "{says}");
    assert!(says.contains("look at its log and at the machine's load"), "{says}");
    for client in clients {
        let done = client.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        let says = stdout_of(&done);
        assert!(
            says.contains("did not answer within 10 s; is it overloaded or stopped?"),
            "{says}"
        );
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// With a daemon it tells what that says; without one, that there is none, and what it left.
#[test]
fn status_asks_the_daemon_or_shows_what_it_left() {
    let cluster = Cluster::new();
    cluster.write_hosts(&[("web-1.test", 2)]);
    let text = status_text(&cluster, 3);
    assert!(text.contains("not running; start it with `drover-client run`"), "{text}");
    assert!(text.contains("this client has no assignment yet"), "{text}");
    assert!(text.contains("outbox:     none yet"), "{text}");

    cluster.publish();
    let _master = cluster.master();
    let mut client = cluster.client("web-1.test", 2);
    client.wait_line("converged");
    let (running, exit) = status(&cluster);
    assert_eq!((exit, &running["running"]), (Some(0), &true.into()), "{running}");
    let daemon = &running["daemon"];
    assert_eq!(daemon["bound"], cluster.master_addr.to_string(), "{running}");
    assert_eq!(daemon["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(daemon["held_revision"], 1);
    assert_eq!(daemon["counters"]["revision_applied"], 1);
    assert_eq!(running["held_revision"], 1);
    assert_eq!(running["last_run"]["converged"], true);
    let text = status_text(&cluster, 0);
    for part in ["daemon:     running for", "bound to", "revision 1, converged", "outbox:"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }

    // Its socket's file is still there: nobody listens on it.
    client.kill();
    let (left, exit) = status(&cluster);
    assert_eq!((exit, &left["running"]), (Some(3), &false.into()), "{left}");
    assert_eq!(left["daemon"], Value::Null);
    assert!(left["outbox"]["records"].is_u64() && running["outbox"]["records"].is_u64(), "{left}");
    assert_eq!((&left["held_revision"], &left["last_run"]), (&1.into(), &running["last_run"]));
    let text = status_text(&cluster, 3);
    assert!(text.contains("not running") && text.contains("revision 1, converged"), "{text}");

    // Somebody else listens there, and the file of the last run is damaged.
    let state = cluster.path("web-1.test/state");
    fs::write(state.join("status.json"), "{").unwrap();
    fs::remove_file(state.join("control.sock")).unwrap();
    let foreign = UnixListener::bind(state.join("control.sock")).unwrap();
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = foreign.accept().unwrap();
        stream.write_all(&[b'?'; 100]).unwrap();
        // With the question unread the answer would be lost too.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let text = status_text(&cluster, 3);
    answer.join().unwrap();
    assert!(text.contains("unknown: ") && text.contains("protocol"), "{text}");
    assert!(text.contains("the next run of the daemon writes it anew"), "{text}");
}
