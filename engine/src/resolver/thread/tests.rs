use super::*;
use crate::time::{Now, WallMs};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds, moved by the test.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Now {
        Now { at: Instant(self.0.load(Ordering::Relaxed) * 1_000_000_000), wall: WallMs(0) }
    }
}

/// Hands every look-up to the test.
struct Manual(Sender<(HostName, Done)>);

impl Lookup for Manual {
    fn begin(&mut self, name: HostName, done: Done) {
        self.0.send((name, done)).unwrap();
    }
}

struct Bench {
    resolver: Resolver,
    clock: Hand,
    lookups: Receiver<(HostName, Done)>,
    answers: Receiver<(HostName, Resolution)>,
}

fn start(table: Option<&Path>) -> Bench {
    let clock = Hand::default();
    let (begin, lookups) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let table = table.map(|path| TableFile::open(path).unwrap());
    let tell = move |name, resolution| answer.send((name, resolution)).unwrap();
    let settings = NameSettings::default();
    let resolver = Resolver::start(table, Manual(begin), settings, clock.clone(), tell).unwrap();
    Bench { resolver, clock, lookups, answers }
}

/// What comes, or a failed test instead of one that never ends.
fn next<T>(inbox: &Receiver<T>) -> T {
    inbox.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

fn addr(text: &str) -> Resolution {
    Ok(vec![text.parse::<SocketAddr>().unwrap()])
}

fn found(ip: &str, ttl_s: u64) -> Result<Answer, ResolveError> {
    Ok(Answer { addrs: vec![ip.parse().unwrap()], ttl: Duration::from_secs(ttl_s) })
}

#[test]
fn e8_a_look_up_that_takes_long_delays_no_other() {
    let bench = start(None);
    let handle = bench.resolver.handle();
    handle.resolve(name("slow"));
    let (_, slow) = next(&bench.lookups);
    handle.resolve(name("fast"));
    let (asked, fast) = next(&bench.lookups);
    assert_eq!(asked, name("fast"));
    fast.answer(found("192.0.2.2", 60));
    assert_eq!(next(&bench.answers), (name("fast"), addr("192.0.2.2:0")));
    slow.answer(found("192.0.2.1", 60));
    assert_eq!(next(&bench.answers), (name("slow"), addr("192.0.2.1:0")));
}

#[test]
fn names_that_were_gathered_are_asked_for_together_and_each_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    fs::write(&path, "a 192.0.2.1\n").unwrap();
    let Bench { mut resolver, lookups, answers, .. } = start(Some(&path));
    for host in ["b", "a", "b"] {
        resolver.gather(name(host));
    }
    // The thread is asked for another one meanwhile, and has heard of none of these.
    resolver.handle().resolve(name("c"));
    next(&lookups).1.answer(found("192.0.2.3", 60));
    assert_eq!(next(&answers).0, name("c"));
    assert!(answers.try_recv().is_err() && lookups.try_recv().is_err());
    resolver.hand_over();
    assert_eq!(next(&answers), (name("a"), addr("192.0.2.1:0")));
    next(&lookups).1.answer(found("192.0.2.2", 60));
    for _ in 0..2 {
        assert_eq!(next(&answers), (name("b"), addr("192.0.2.2:0")));
    }
    // What was gathered last is answered too, if only by the end.
    resolver.gather(name("d"));
    drop(resolver);
    assert_eq!(next(&answers).0, name("d"));
}

#[test]
fn a_look_up_that_is_dropped_fails_instead_of_never_ending() {
    let bench = start(None);
    bench.resolver.handle().resolve(name("a"));
    drop(next(&bench.lookups));
    assert!(matches!(next(&bench.answers).1, Err(ResolveError::Failed(_))));
}

#[test]
fn e18_a_resolver_that_stops_answers_everybody_who_waits() {
    let Bench { resolver, lookups, answers, .. } = start(None);
    let handle = resolver.handle();
    for host in ["a", "b", "a", "c"] {
        handle.resolve(name(host));
    }
    let under_way: Vec<_> = (0..3).map(|_| next(&lookups)).collect();
    drop(resolver);
    let mut told: Vec<_> = (0..4).map(|_| next(&answers)).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["a", "a", "b", "c"]
    );
    assert!(told.iter().all(|(_, answer)| matches!(answer, Err(ResolveError::Failed(_)))));
    // What a look-up finds afterwards is for nobody, and the thread is gone.
    under_way.into_iter().for_each(|(_, done)| done.answer(found("192.0.2.1", 60)));
    assert!(answers.recv().is_err(), "each is told once");
}

#[test]
fn s1_10_after_its_ttl_a_name_is_asked_for_again() {
    let bench = start(None);
    let handle = bench.resolver.handle();
    handle.resolve(name("a"));
    next(&bench.lookups).1.answer(found("192.0.2.1", 30));
    assert_eq!(next(&bench.answers).1, addr("192.0.2.1:0"));
    bench.clock.0.store(29, Ordering::Relaxed);
    handle.resolve(name("a"));
    assert_eq!(next(&bench.answers).1, addr("192.0.2.1:0"));
    assert!(bench.lookups.try_recv().is_err());
    bench.clock.0.store(30, Ordering::Relaxed);
    handle.resolve(name("a"));
    next(&bench.lookups).1.answer(found("192.0.2.2", 30));
    assert_eq!(next(&bench.answers).1, addr("192.0.2.2:0"));
}

#[test]
fn s1_10_the_table_goes_first_and_is_read_again_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts");
    fs::write(&path, "a 192.0.2.1:7400").unwrap();
    let bench = start(Some(&path));
    let handle = bench.resolver.handle();
    let ask = || {
        handle.resolve(name("a"));
        next(&bench.answers).1
    };
    assert_eq!(ask(), addr("192.0.2.1:7400"));
    fs::write(&path, "a 192.0.2.22:7400").unwrap();
    assert_eq!(ask(), addr("192.0.2.1:7400"), "looked at once a second at most");
    bench.clock.0.store(1, Ordering::Relaxed);
    assert_eq!(ask(), addr("192.0.2.22:7400"));
    fs::write(&path, "a nonsense").unwrap();
    bench.clock.0.store(2, Ordering::Relaxed);
    assert_eq!(ask(), addr("192.0.2.22:7400"), "the last good one stays");
    fs::write(&path, "a 192.0.2.3").unwrap();
    handle.reload();
    assert_eq!(ask(), addr("192.0.2.3:0"), "at once when told so");
    handle.resolve(name("b"));
    assert_eq!(next(&bench.lookups).0, name("b"));
}
