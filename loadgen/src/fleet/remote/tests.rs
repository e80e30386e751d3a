use super::message::{Greeting, PROGRAM, Task, Told, Wire, encode, is_sound, told};
use super::*;
use crate::clients::address::{DEFAULT_SUFFIX, Identities};
use crate::clients::swarm::Acked;
use crate::clients::work::{Churn, Pace, Reports, Work};
use crate::error::{Exit, LoadError};
use crate::fleet::{Beat, Ended, Fleet, FleetConfig, Happening, Order, Second};
use crate::measure::{Standings, Tally, Timed, Took};
use engine::clock::{Clock, SystemClock};
use engine::time::Instant;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

const S: Duration = Duration::from_secs(1);
const LOCAL: &str = "127.0.0.1:0";

fn fleet(workers: u32) -> FleetConfig {
    FleetConfig {
        clients: 10,
        workers,
        identities: Identities::new(DEFAULT_SUFFIX).unwrap(),
        // Nobody listens there: the clients have nothing to do but to fail.
        master: "127.0.0.1:1".parse().unwrap(),
        own_addresses: true,
        port: 0,
        deliveries_max: Some(7),
        seed: 1,
        incarnation: u64::MAX,
    }
}

fn pair() -> (Wire, TcpStream) {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (Wire::new(listener.accept().unwrap().0).unwrap(), other)
}

/// Through a connection and back into a message.
fn sent<T: Serialize + DeserializeOwned>(message: &T) -> T {
    let (mut wire, mut other) = pair();
    other.write_all(&encode(message).unwrap()).unwrap();
    wire.receive(Some(S)).unwrap().unwrap()
}

/// A worker, and what it says.
fn post() -> (Address, Receiver<String>) {
    let (said, hear) = channel();
    let post = Post::open(LOCAL.parse().unwrap(), false).unwrap();
    let address = Address::resolve(&post.addr().to_string()).unwrap();
    thread::spawn(move || post.serve(|what| drop(said.send(what.to_owned()))));
    (address, hear)
}

fn until(hear: &Receiver<String>, text: &str) {
    while !hear.recv_timeout(20 * S).unwrap().contains(text) {}
}

/// A fleet of one worker that says this to who connects, and then this.
fn with_one_that_says(
    greeting: &(impl Serialize + Sync),
    told: &[Told],
) -> Result<Fleet, LoadError> {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let address = Address::resolve(&listener.local_addr().unwrap().to_string()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut wire = Wire::new(listener.accept().unwrap().0).unwrap();
            wire.send(greeting).unwrap();
            if !told.is_empty() {
                assert!(wire.receive::<Task>(Some(S)).unwrap().is_some());
            }
            told.iter().for_each(|told| wire.send(told).unwrap());
        });
        Fleet::connect(&fleet(1), SystemClock::start(), &[address])
    })
}

fn beat() -> Beat {
    Beat {
        at: Instant(u64::MAX),
        standings: Standings { bound: 10, holding: 9, done: 8, awaited: 3 },
        done_at: Some(Instant(3)),
        deliveries: 1,
        waiting: 2,
        acked: vec![Acked {
            client: 9,
            epoch: u64::MAX,
            first: 5,
            digests: vec![NonZeroU32::MIN, NonZeroU32::MAX],
        }],
    }
}

#[test]
fn what_is_told_comes_as_it_was() {
    let mut tally = Tally { polls: 3, ..Tally::default() };
    tally.latencies.record(Timed::Poll, Took { latency: 2 * S, service: S });
    tally.failed("dial", "refused");
    let second = Second { end: Instant(9), last: true, tally, cpu_us: 4, connections: 5 };
    match sent(&told(Happening::Second(Box::new(second.clone())))) {
        Ok(Happening::Second(came)) => assert_eq!(*came, second),
        other => panic!("{other:?}"),
    }
    match sent(&told(Happening::Beat(beat()))) {
        Ok(Happening::Beat(came)) => assert_eq!(came, beat()),
        other => panic!("{other:?}"),
    }
    let ended = Ended { unfinished_first: vec!["a".into()], ..Ended::default() };
    match sent(&told(Happening::Ended(Box::new(ended.clone())))) {
        Ok(Happening::Ended(came)) => assert_eq!(*came, ended),
        other => panic!("{other:?}"),
    }
    match sent(&told(Happening::Ready { port: 7, descriptors: 8 })) {
        Ok(Happening::Ready { port: 7, descriptors: 8 }) => {}
        other => panic!("{other:?}"),
    }
    let failed = told(Happening::Failed(LoadError::NothingPublished));
    assert!(sent(&failed).unwrap_err().contains("drover publish"));
}

#[test]
fn what_is_ordered_comes_as_it_was() {
    let work = Work {
        active: Some(3),
        reports: Some(Reports::at(Pace::every(S))),
        churn: Some(Churn { permille: 5, away: S }),
        ..Work::storm(S, 20 * S)
    };
    for order in [Order::Begin(work, Instant(u64::MAX)), Order::Close, Order::End] {
        assert!(is_sound(&order));
        assert_eq!(sent(&order), order);
    }
    let task = Task { number: 1, fleet: fleet(2), now: Instant(77) };
    assert!(task.is_sound());
    assert_eq!(sent(&task), task);
    assert_eq!(sent(&Greeting::new(true)), Greeting::new(true));
}

#[test]
fn what_no_client_can_do_is_not_begun() {
    let unsound = [
        Work::steady(Duration::ZERO, S),
        Work::steady(Duration::MAX, S),
        Work::storm(S, Duration::MAX),
        Work {
            reports: Some(Reports { bytes: u32::MAX, ..Reports::at(Pace::once(S)) }),
            ..Work::idle(S)
        },
    ];
    for work in unsound {
        assert!(!is_sound(&Order::Begin(work.clone(), Instant(0))), "{work:?}");
    }
    let task = |number, clients, workers| {
        let fleet = FleetConfig { clients, workers, ..fleet(1) };
        Task { number, fleet, now: Instant(0) }.is_sound()
    };
    assert!(task(1, 2, 2));
    assert!(!task(2, 2, 2) && !task(0, 0, 0) && !task(0, 1, 2) && !task(0, u32::MAX, 1));
}

#[test]
fn what_is_no_message_is_refused() {
    let received = |bytes: &[u8]| {
        let (mut wire, mut other) = pair();
        other.write_all(bytes).unwrap();
        drop(other);
        wire.receive::<Greeting>(Some(S)).map_err(|error| error.kind())
    };
    assert_eq!(received(b""), Ok(None));
    assert_eq!(received(b"HTTP/1.1 400 Bad Request"), Err(ErrorKind::InvalidData));
    assert_eq!(received(&[3, 0, 0, 0, b'a', b'b', b'c']), Err(ErrorKind::InvalidData));
    let whole = encode(&Greeting::new(false)).unwrap();
    assert_eq!(received(&whole), Ok(Some(Greeting::new(false))));
    for cut in 1..whole.len() {
        assert_eq!(received(&whole[..cut]), Err(ErrorKind::UnexpectedEof), "{cut}");
    }
    // Who says nothing, and who does not come to an end, has as long.
    for some in [&[][..], &whole[..2], &whole[..20]] {
        let (mut wire, mut other) = pair();
        other.write_all(some).unwrap();
        let error = wire.receive::<Greeting>(Some(S / 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn workers_of_other_processes_keep_the_time_of_the_run() {
    let ((one, _), (other, _)) = (post(), post());
    // Another time than their own processes would have.
    let clock = SystemClock::start_at(Instant(0) + 1_000_000 * S);
    let before = clock.now().at;
    let mut fleet = Fleet::connect(&fleet(2), clock, &[one, other]).unwrap();
    assert!(fleet.ports().iter().all(|port| *port != 0), "{:?}", fleet.ports());
    assert!((2..usize::MAX).contains(&fleet.descriptors()));
    let start = clock.now().at + S / 10;
    fleet.begin(&Work { polls: Some(Pace::once(S / 10)), ..Work::idle(S) }, start);
    let mut seconds = 0;
    while seconds < 2 {
        let Some(event) = fleet.next(20 * S).unwrap() else { panic!("nothing came") };
        match event.what {
            Happening::Beat(beat) => {
                // Its clock is late by the way of the task.
                assert!(beat.at >= before && beat.at <= clock.now().at, "{beat:?}");
            }
            Happening::Second(second) => {
                assert!(second.end >= start + S && second.end <= clock.now().at, "{second:?}");
                let failures = second.tally.failures;
                assert!(failures[&("dial".into(), "refused".into())] >= 5, "{failures:?}");
                seconds += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    fleet.end();
    let mut ended = 0;
    while ended < 2 {
        match fleet.next(20 * S).unwrap().expect("a last word").what {
            Happening::Ended(last) => ended += last.unfinished_first.len() / 5,
            Happening::Beat(_) | Happening::Second(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_worker_works_for_one_run_at_a_time() {
    let (worker, hear) = post();
    let start = || Fleet::connect(&fleet(1), SystemClock::start(), std::slice::from_ref(&worker));
    for _ in 0..2 {
        until(&hear, "waits for a controller");
        let first = start().unwrap();
        let error = start().unwrap_err();
        assert!(matches!(error, LoadError::Remote(RemoteError::Busy { .. })), "{error}");
        assert_eq!(error.exit(), Exit::Internal);
        drop(first);
    }
    until(&hear, "waits for a controller");
}

#[test]
fn what_is_no_worker_of_this_version_is_refused() {
    let greeting = |program: &str, protocol, version: &str| Greeting {
        program: program.into(),
        protocol,
        version: version.into(),
        ..Greeting::new(false)
    };
    let ours = Greeting::new(false);
    for (protocol, version) in [(ours.protocol + 1, &ours.version[..]), (ours.protocol, "0.0.0")] {
        let error = with_one_that_says(&greeting(PROGRAM, protocol, version), &[]).unwrap_err();
        let wanted = format!("of version {version} (protocol {protocol})");
        assert!(error.to_string().contains(&wanted), "{error}");
    }
    for error in [
        with_one_that_says(&greeting("other", 1, "1"), &[]).unwrap_err(),
        with_one_that_says(&"hello", &[]).unwrap_err(),
    ] {
        assert!(matches!(error, LoadError::Remote(RemoteError::Stranger { .. })), "{error}");
    }
    let closed = TcpListener::bind(LOCAL).unwrap().local_addr().unwrap().to_string();
    let address = Address::resolve(&closed).unwrap();
    let error = Fleet::connect(&fleet(1), SystemClock::start(), &[address]).unwrap_err();
    assert!(error.to_string().contains("start it there with `loadgen worker"), "{error}");
    let error = Address::resolve("no port").unwrap_err();
    assert!(error.to_string().contains("name it as HOST:PORT"), "{error}");
}

#[test]
fn what_a_worker_cannot_know_is_not_believed() {
    let wrong = |change: fn(&mut Beat)| {
        let mut beat = beat();
        change(&mut beat);
        told(Happening::Beat(beat))
    };
    let second = Second { cpu_us: u64::MAX, ..Second::default() };
    let wrong = [
        wrong(|beat| beat.standings.done = 11),
        wrong(|beat| beat.standings.awaited = u64::MAX),
        wrong(|beat| beat.acked[0].client = 10),
        wrong(|beat| beat.acked[0].first = u64::MAX),
        told(Happening::Second(Box::new(second))),
    ];
    for told in wrong {
        let error = with_one_that_says(&Greeting::new(false), &[told]).unwrap_err();
        assert!(error.to_string().contains("numbers that cannot be"), "{error}");
    }
    let ready = || told(Happening::Ready { port: 1, descriptors: 1 });
    let right = told(Happening::Beat(beat()));
    assert!(with_one_that_says(&Greeting::new(false), &[right, ready()]).is_ok());
    // One that tells why it cannot go on, and one that just goes.
    let error = with_one_that_says(&Greeting::new(false), &[Err("no port".into())]).unwrap_err();
    assert!(error.to_string().ends_with("cannot go on: no port"), "{error}");
    let mut fleet = with_one_that_says(&Greeting::new(false), &[ready()]).unwrap();
    match fleet.next(20 * S).unwrap().unwrap().what {
        Happening::Failed(error) => assert!(error.to_string().contains("has gone"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_listens_for_other_machines_only_if_that_is_allowed() {
    let open = |allowed| Post::open("0.0.0.0:0".parse().unwrap(), allowed);
    let error = open(false).unwrap_err();
    assert!(error.to_string().contains("--i-own-this-network"), "{error}");
    assert_eq!(error.exit(), Exit::Usage);
    let taken = open(true).unwrap().addr();
    let held = TcpListener::bind(taken).unwrap();
    let error = Post::open(held.local_addr().unwrap(), true).unwrap_err();
    assert!(error.to_string().contains("choose another with --listen"), "{error}");
}
