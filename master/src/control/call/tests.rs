use super::*;
use crate::control::{NoArgs, PushPiece, PushProgress, PushResult, verb};
use engine::wire::{Decoder, Flow};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

/// A daemon that answers one command with these bytes, then hangs up, and says what it heard.
fn daemon(socket: &Path, answer: Vec<u8>) -> JoinHandle<(String, Vec<u8>)> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = request(&mut stream);
        stream.write_all(&answer).unwrap();
        asked
    })
}

fn request(stream: &mut UnixStream) -> (String, Vec<u8>) {
    let mut decoder = Decoder::new();
    let mut asked = None;
    let mut buffer = [0; 4096];
    while asked.is_none() {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "hung up before the request was whole");
        decoder
            .feed(&buffer[..n], |frame| {
                let request = access::<ControlReq>(&frame).unwrap();
                asked = Some((request.verb.as_str().to_owned(), request.arguments.to_vec()));
                Flow::Next
            })
            .unwrap();
    }
    asked.unwrap()
}

fn piece(last: bool, ok: bool, body: &impl Serialize) -> Vec<u8> {
    let body = serde_json::to_vec(body).unwrap();
    FrameBuf::message(None, &ControlResp { last, ok, body }, |_| ()).to_vec()
}

#[test]
fn pieces_come_in_order_until_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let progress =
        |done| PushPiece::Progress(PushProgress { targets: 2, done, ..Default::default() });
    let end = PushPiece::Result(PushResult { targets: 2, done: 2, ..Default::default() });
    let answer = [
        piece(false, true, &progress(0)),
        piece(false, true, &progress(1)),
        piece(true, true, &end),
    ];
    let daemon = daemon(&socket, answer.concat());
    let mut pieces = Vec::new();
    call(&socket, verb::PUSH, &NoArgs {}, &AtomicBool::new(false), |piece| {
        pieces.push(serde_json::from_slice::<PushPiece>(piece)?);
        Ok(())
    })
    .unwrap();
    assert_eq!(pieces, [progress(0), progress(1), end]);
    assert_eq!(daemon.join().unwrap(), ("push".to_owned(), b"{}".to_vec()));
}

#[test]
fn every_way_to_fail_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = ControlError::new("no host matches \"x\"", "`drover hosts` lists them");
    let whole = piece(true, true, &7);
    for (name, answer, said) in [
        ("refused", piece(true, false, &refusal), "no host matches \"x\""),
        (
            "cut",
            whole[..whole.len() - 1].to_vec(),
            "closed the connection before its answer was complete",
        ),
        ("silent", Vec::new(), "closed the connection before its answer was complete"),
        ("foreign", b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(2), "not a Drover frame"),
        ("not json", piece(true, true, &"seven"), "invalid type"),
        (
            "other kind",
            FrameBuf::bare(engine::wire::Kind::ACK, |_| ()).to_vec(),
            "expected ControlResp, found Ack",
        ),
    ] {
        let socket = dir.path().join(name);
        let daemon = daemon(&socket, answer);
        let error = ask::<u32>(&socket, "status", &NoArgs {}).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
        daemon.join().unwrap();
    }
}

#[test]
fn a_daemon_that_does_not_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let never = dir.path().join("never.sock");
    let left = dir.path().join("left.sock");
    drop(UnixListener::bind(&left).unwrap());
    for socket in [never, left] {
        let error = ask::<u32>(&socket, "status", &NoArgs {}).unwrap_err();
        assert!(matches!(error, CallError::NotRunning { .. }), "{error}");
        assert!(error.to_string().ends_with(&format!("nobody listens on {}", socket.display())));
    }
}

#[test]
fn what_the_socket_says_no_to_is_named() {
    let connect = |reason| BlockingError::Connect { peer: "p".into(), reason };
    let timeout = BlockingError::Timeout { peer: "p".into(), timeout: PIECE_TIMEOUT };
    for (error, said) in [
        (connect(CloseReason::Os(libc::EACCES)), "no permission to use c.sock: it belongs to"),
        (connect(CloseReason::Os(libc::EPERM)), "no permission to use c.sock: it belongs to"),
        (connect(CloseReason::Exhausted), "talking to the master over c.sock: "),
        (timeout, "the master has not answered for 30 s: it hangs or is overloaded"),
    ] {
        let said_now = failure(Path::new("c.sock"), error).to_string();
        assert!(said_now.starts_with(said), "{said_now}");
    }
}

#[test]
fn an_interrupt_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&mut stream);
        let progress = PushPiece::Progress(PushProgress::default());
        stream.write_all(&piece(false, true, &progress)).unwrap();
        // Returns when the command has hung up: that is what cancels a push.
        stream.read(&mut [0; 16]).unwrap()
    });
    let interrupted = AtomicBool::new(false);
    let error = call(&socket, verb::PUSH, &NoArgs {}, &interrupted, |_| {
        interrupted.store(true, Ordering::Relaxed);
        Ok(())
    })
    .unwrap_err();
    assert!(matches!(error, CallError::Interrupted), "{error}");
    assert_eq!(daemon.join().unwrap(), 0);
}
