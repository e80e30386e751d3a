//! What only a real process shows: descriptors, signals, sockets in the file system.

use super::harness::{MioBackend, Seen, World, frame};
use crate::blocking::{BlockingError, Connection};
use crate::node::io::{CloseReason, Mail, Output, PeerAddr, Verdict};
use crate::reactor::{MioPoller, Signals, poller::Poller, poller::Token};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const CHILD: &str = "DROVER_TEST_CHILD";

/// Runs this same test in a process of its own; true in that process.
fn in_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("1 passed"), "the child ran no test: {text}");
    false
}

/// Leaves this process so many descriptors, and the one that counting took.
fn leave_descriptors(room: u64) {
    let most = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 + room;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: `limit` is a valid rlimit; this process runs nothing but one test.
    #[allow(unsafe_code)]
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(set, 0);
}

#[test]
fn e1_accepting_pauses_without_descriptors_and_resumes() {
    if !in_child("reactor::tests::process::e1_accepting_pauses_without_descriptors_and_resumes") {
        return;
    }
    let mut w = World::<MioBackend>::new();
    let addr = w.addr;
    let mut peers: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    // Room for three of the eight.
    leave_descriptors(2);
    w.settle();
    let taken = w.accepted().len();
    assert!((1..8).contains(&taken), "{taken}");
    let metrics = w.reactor.metrics();
    assert_eq!(metrics.accept_pauses.value(), 1, "it pauses, and does not spin");
    let full = metrics.accept_paused_last().map(|(_, full)| full);
    assert_eq!(full, Some(false), "there are places, and no descriptors");
    while w.accepted().len() < 8 {
        let before = w.accepted().len();
        drop(peers.remove(0));
        w.until("one more", |w| w.accepted().len() > before);
    }
}

#[test]
fn e1_without_descriptors_who_says_nothing_gives_way() {
    if !in_child("reactor::tests::process::e1_without_descriptors_who_says_nothing_gives_way") {
        return;
    }
    let mut w = World::<MioBackend>::new();
    let addr = w.addr;
    let _peers: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
    leave_descriptors(2);
    w.settle();
    let taken = w.accepted().len();
    assert!((1..5).contains(&taken), "{taken}");
    w.advance(Duration::from_secs(2));
    w.until("others come in their places", |w| w.accepted().len() >= 2 * taken);
    let crowded = w.reactor.metrics().closed[CloseReason::Crowded.index()].value();
    assert_eq!(crowded, taken as u64);
}

#[test]
fn signals_become_mail() {
    if !in_child("reactor::tests::process::signals_become_mail") {
        return;
    }
    let mut w = World::<MioBackend>::new();
    w.reactor.watch(Box::new(Signals::install().unwrap())).unwrap();
    signal_hook::low_level::raise(libc::SIGHUP).unwrap();
    w.until("reload", |w| w.seen() == [Seen::Mail]);
    signal_hook::low_level::raise(libc::SIGTERM).unwrap();
    w.until("stop", |w| w.seen() == [Seen::Mail, Seen::Stop]);
}

#[test]
fn who_has_something_to_do_at_a_second_stop_is_told_of_it() {
    if !in_child("reactor::tests::process::who_has_something_to_do_at_a_second_stop_is_told_of_it")
    {
        return;
    }
    let mut w = World::<MioBackend>::new();
    w.reactor.watch(Box::new(Signals::install_patient(2).unwrap())).unwrap();
    signal_hook::low_level::raise(libc::SIGTERM).unwrap();
    signal_hook::low_level::raise(libc::SIGINT).unwrap();
    w.until("stops", |w| w.seen() == [Seen::Stop, Seen::Stop]);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    if std::env::var_os(CHILD).is_none() {
        let test = "reactor::tests::process::a_second_signal_ends_the_process_at_once";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(143));
        return;
    }
    let _signals = Signals::install().unwrap();
    signal_hook::low_level::raise(libc::SIGTERM).unwrap();
    signal_hook::low_level::raise(libc::SIGTERM).unwrap();
    unreachable!("the second signal ends the process");
}

#[test]
fn the_control_socket_is_its_owners_alone_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let mut poller = MioPoller::new().unwrap();
    let first = poller.listen_unix(&path, Token(0)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = poller.listen_unix(&path, Token(1)).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(taken.to_string().contains("is the daemon running?"), "{taken}");
    let _peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let (_, peer) = poller.accept(&first).unwrap();
    let me = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    assert_eq!(peer, PeerAddr::Unix { uid: me.unwrap() });
    // Dropped without being closed, as by a crash: the file stays.
    drop(first);
    assert!(path.exists());
    let second = poller.listen_unix(&path, Token(2)).unwrap();
    poller.close_listener(second);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody's").unwrap();
    assert!(poller.listen_unix(&path, Token(3)).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"a file of somebody's");
}

#[test]
fn s1_29_mail_wakes_a_loop_that_sleeps_in_the_kernel() {
    let mut w = World::<MioBackend>::new();
    w.settle();
    let mailbox = w.reactor.mailbox();
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let stat = std::path::Path::new("/proc").join(thread).join("stat");
    let (turned, turn) = std::sync::mpsc::channel();
    let poster = std::thread::spawn(move || {
        let sleeps = || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S'))
        };
        while !sleeps() {
            std::thread::yield_now();
        }
        mailbox.post(Mail::Stop);
        turn.recv_timeout(Duration::from_secs(10)).is_ok()
    });
    // Nothing else ends this sleep in time.
    w.reactor.turn_within(Some(Duration::from_secs(30))).unwrap();
    let _ = turned.send(());
    assert!(poster.join().unwrap(), "the mail lay there, and the loop slept on");
    assert_eq!(w.seen(), [Seen::Stop]);
}

#[test]
fn s1_36_the_blocking_codec_talks_to_the_reactor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let mut w = World::<MioBackend>::new();
    w.reactor.listen_unix(&path).unwrap();
    w.react(|conn, f, outputs| {
        use crate::wire::message::{ControlReq, ControlResp};
        let request = crate::wire::access::<ControlReq>(f).unwrap();
        for n in 0..3u8 {
            let body = [request.verb.as_bytes(), &[n]].concat();
            let answer = ControlResp { last: n == 2, ok: true, body };
            let frame = crate::wire::FrameBuf::message(None, &answer, |_| {});
            outputs.push_back(Output::Send { conn, frame });
        }
        Verdict::Taken
    });
    let addr = w.addr;
    let client = std::thread::spawn(move || {
        let timeout = Duration::from_secs(10);
        for mut conversation in [
            Connection::connect_unix(&path, timeout).unwrap(),
            Connection::connect(addr, timeout).unwrap(),
        ] {
            let mut pieces = Vec::new();
            conversation
                .control("x", vec![], |ok, body| {
                    assert!(ok);
                    pieces.push(body.to_vec());
                    Ok::<_, BlockingError>(())
                })
                .unwrap();
            assert_eq!(pieces, [[b'x', 0], [b'x', 1], [b'x', 2]]);
        }
    });
    w.until("both served", |w| w.frames().len() == 2 && w.reactor.connections() == 0);
    client.join().unwrap();
}

#[test]
fn the_blocking_codec_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let timeout = Duration::from_millis(50);
    let text = |r: Result<Connection, BlockingError>| r.unwrap_err().to_string();
    assert!(
        text(Connection::connect_unix(&dir.path().join("no"), timeout))
            .contains("is the daemon running")
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut silent = Connection::connect(addr, timeout).unwrap();
    assert!(matches!(silent.receive(), Err(BlockingError::Timeout { .. })));
    let mut cut = Connection::connect(addr, Duration::from_secs(5)).unwrap();
    let _ = listener.accept().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut stream, &frame(1, 10).to_vec()[..20]).unwrap();
    drop(stream);
    assert!(matches!(cut.receive(), Err(BlockingError::Truncated { .. })));
    let mut foreign = Connection::connect(addr, Duration::from_secs(5)).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut stream, &[b'H'; 100]).unwrap();
    assert!(matches!(foreign.receive(), Err(BlockingError::Wire { .. })));
    drop(listener);
    assert!(text(Connection::connect(addr, timeout)).contains("nobody listens there"));
}

#[test]
fn a_unix_socket_whose_queue_is_full_keeps_nobody_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    socket2::SockRef::from(&listener).listen(0).unwrap();
    // One may wait, and the next would wait for its place.
    let timeout = Duration::from_millis(50);
    let mut first = Connection::connect_unix(&path, timeout).unwrap();
    let second = Connection::connect_unix(&path, timeout).unwrap_err();
    assert!(matches!(second, BlockingError::Timeout { .. }), "{second}");
    assert!(second.to_string().ends_with("its log may say"), "{second}");
    // A connection that nobody takes, and one that is taken and not answered, are alike.
    assert!(matches!(first.receive(), Err(BlockingError::Timeout { .. })));
    let _taken = listener.accept().unwrap();
    assert!(matches!(first.receive(), Err(BlockingError::Timeout { .. })));
    assert!(Connection::connect_unix(&path, timeout).is_ok(), "there is room again");
}

#[test]
fn s1_37_what_the_system_says_becomes_a_reason_of_its_own() {
    let dial = |code| CloseReason::of_dial(&std::io::Error::from_raw_os_error(code));
    assert_eq!(dial(libc::ECONNREFUSED), CloseReason::Refused);
    assert_eq!(dial(libc::ETIMEDOUT), CloseReason::ConnectTimeout);
    assert_eq!(dial(libc::EHOSTUNREACH), CloseReason::Unreachable);
    assert_eq!(dial(libc::ENETUNREACH), CloseReason::Unreachable);
    assert_eq!(dial(libc::EMFILE), CloseReason::Exhausted);
    assert_eq!(dial(libc::EADDRNOTAVAIL), CloseReason::Exhausted);
    assert_eq!(dial(libc::EACCES), CloseReason::Os(libc::EACCES));
    let labels: std::collections::BTreeSet<_> = CloseReason::LABELS.iter().collect();
    assert_eq!(labels.len(), CloseReason::LABELS.len());
}
