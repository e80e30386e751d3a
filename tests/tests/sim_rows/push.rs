//! How a release gets to its hosts: by polls, by a push, and by a push that an operator watches.

use crate::{LONG, command, settle};
use engine::ids::ConnId;
use engine::node::DownstreamLimits;
use engine::wire::message::{ControlReq, ControlResp};
use engine::wire::{FrameBuf, Kind, access};
use master::control::{PushArgs, PushPiece, verb};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::What;
use tests::sim::{World, ip};

const HOUR: Duration = Duration::from_secs(3600);

/// A cluster at rest that was set up like this.
fn cluster(seed: u64, clients: u8, settings: MasterSettings, interval: Duration) -> World {
    let mut world = World::new(seed);
    world.add_master(ip(0, 1), settings);
    world.publish(0, &["*"], 1000);
    world.start_master(0);
    for n in 0..clients {
        let at = world.add_client(&format!("c{n}"), ip(1, n + 1));
        world.clients[at].settings.poll_interval = interval;
        world.start_client(at);
    }
    settle(&mut world);
    world
}

fn current(world: &mut World) -> usize {
    let newest = world.newest().0;
    (0..world.clients.len()).filter(|at| world.revision(*at) == newest).count()
}

#[test]
fn s1_14_without_a_push_all_are_current_within_the_interval_and_its_jitter() {
    let settings = MasterSettings { push: false, ..MasterSettings::default() };
    let interval = Duration::from_secs(60);
    let mut world = cluster(61, 40, settings, interval);
    for _ in 0..3 {
        world.run(Duration::from_secs(17));
        world.publish(0, &["*"], 50_000);
        let published = world.now();
        world.until("current", interval * 2, World::is_current);
        // A tenth of jitter, and some moments to fetch and apply.
        let took = world.now().since(published);
        assert!(took <= interval.mul_f64(1.1) + Duration::from_secs(2), "{took:?}");
        assert!(took > interval / 2, "{took:?}: that was no poll");
    }
}

#[test]
fn s1_14_a_push_takes_seconds_and_who_was_away_catches_up_at_its_next_poll() {
    const CLIENTS: u8 = 100;
    let mut world = cluster(62, CLIENTS, MasterSettings::default(), HOUR);
    world.run(HOUR / 2);
    // One is cut off, and knows nothing of it.
    let away = ip(1, 1);
    world.site.net.set_black_hole(away, true);
    world.publish(0, &["*"], 50_000);
    let online = usize::from(CLIENTS) - 1;
    world.until("pushed", Duration::from_secs(10), |w| current(w) >= online);
    world.run(Duration::from_secs(60));
    assert_eq!(current(&mut world), online);
    world.site.net.set_black_hole(away, false);
    let back = world.now();
    let polls = |w: &World| w.count(away, |w| matches!(w, What::Out(_, s) if s.kind == Kind::POLL));
    let before = polls(&world);
    world.until("it polls", HOUR.mul_f64(1.1), |w| polls(w) > before);
    assert_eq!(current(&mut world), online, "not before its poll");
    world.until("current", Duration::from_secs(10), World::is_current);
    assert!(world.now().since(back) < HOUR.mul_f64(1.1) + Duration::from_secs(10));
}

fn push(world: &mut World) -> usize {
    let tool = world.control(0);
    let arguments = serde_json::to_vec(&PushArgs { selector: "*".to_owned() }).expect("JSON");
    let request = ControlReq { verb: verb::PUSH.to_owned(), arguments };
    world.tools[tool].send(&FrameBuf::message(None, &request, |_| {}));
    tool
}

fn pieces(world: &World, tool: usize) -> Vec<PushPiece> {
    let piece = |frame| {
        let response = access::<ControlResp>(&frame).expect("an answer");
        serde_json::from_slice(&response.body).expect("a piece")
    };
    world.tools[tool].frames().map(piece).collect()
}

/// The most deliveries that a master had under way at once: from a dial to its failure, or to
/// the end that the master puts to it.
fn most_under_way(world: &World) -> usize {
    let (mut dialling, mut open, mut most) = (0, BTreeSet::<ConnId>::new(), 0);
    for event in world.events(ip(0, 1)) {
        match event.what {
            What::Dial(_) => dialling += 1,
            What::DialFailed(_) => dialling -= 1,
            What::Dialed(conn) => {
                dialling -= 1;
                open.insert(conn);
            }
            What::Close(conn) | What::Closed(conn, _) => drop(open.remove(&conn)),
            _ => {}
        }
        most = most.max(dialling + open.len());
    }
    most
}

const LIMIT: usize = 5;

fn limited(seed: u64, clients: u8) -> World {
    let downstream = DownstreamLimits { in_flight_max: LIMIT, ..DownstreamLimits::default() };
    let settings = MasterSettings { push: false, downstream, ..MasterSettings::default() };
    let mut world = cluster(seed, clients, settings, 24 * HOUR);
    // Long enough for every name's bucket of dials to be full again.
    world.run(Duration::from_secs(60));
    world.behave(|m| m.resolver = Delay::fixed(Duration::from_millis(50)));
    world.publish(0, &["*"], 1000);
    world
}

fn in_flight(world: &World) -> (usize, usize) {
    let down = world.see_master(0).reactor.host().host.parts().downstream.as_ref();
    down.map_or((0, 0), |down| (down.in_flight(), down.queued()))
}

#[test]
fn s1_57_a_push_keeps_to_its_limit_and_tells_how_far_it_is() {
    const CLIENTS: u8 = 60;
    let mut world = limited(63, CLIENTS);
    // One refuses connections, and more than may be under way at once swallow them.
    world.kill_client(7);
    (10..17).for_each(|n| world.site.net.set_black_hole(ip(1, n + 1), true));
    let tool = push(&mut world);
    let mut most = 0;
    world.until("the push has ended", LONG, |w| {
        most = most.max(in_flight(w).0);
        matches!(pieces(w, tool).last(), Some(PushPiece::Result(_)))
    });
    assert_eq!(most, LIMIT, "it uses its limit, and keeps to it");
    assert_eq!(most_under_way(&world), LIMIT);
    let mut done = Vec::new();
    for piece in pieces(&world, tool) {
        match piece {
            PushPiece::Progress(progress) => {
                assert_eq!(progress.targets, u64::from(CLIENTS));
                assert!(progress.in_flight <= LIMIT as u64, "{progress:?}");
                done.push(progress.done);
            }
            PushPiece::Result(result) => {
                assert_eq!((result.targets, result.done, result.failed), (60, 52, 8));
                let failed: Vec<&str> =
                    result.failures.iter().map(|failure| failure.host.as_str()).collect();
                assert_eq!(failed.len(), 8);
                assert!(failed.contains(&"c7") && failed.contains(&"c10"), "{failed:?}");
            }
        }
    }
    assert!(done.is_sorted() && done.len() >= 5, "{done:?}");
    let distinct: BTreeSet<_> = done.iter().collect();
    assert!(distinct.len() >= 5, "it can be seen to go on: {done:?}");
    world.run(Duration::from_secs(5));
    assert_eq!(current(&mut world), 52);
}

#[test]
fn s1_57_a_push_that_is_cancelled_goes_to_nobody_more() {
    let mut world = limited(64, 60);
    let tool = push(&mut world);
    world.until(
        "it has begun",
        LONG,
        |w| matches!(pieces(w, tool).last(), Some(PushPiece::Progress(p)) if p.done >= 10),
    );
    let (under_way, queued) = in_flight(&world);
    assert!(queued > 20, "it was nearly over");
    let reached = current(&mut world) + under_way;
    // The operator presses Ctrl-C.
    world.tools.remove(tool);
    world.run(Duration::from_secs(2));
    assert_eq!(in_flight(&world), (0, 0));
    world.run(HOUR);
    let got = current(&mut world);
    assert!(got <= reached + LIMIT, "{got} hosts, {reached} when it was cancelled");
    // Nothing is left of it: the next one reaches the rest.
    let tool = push(&mut world);
    world.until("the push has ended", LONG, |w| {
        matches!(pieces(w, tool).last(), Some(PushPiece::Result(_)))
    });
    world.until("current", LONG, World::is_current);
}

/// What a push by hand says: hosts that have their assignment, and the others with the reason.
fn pushed(world: &mut World) -> (u64, Vec<(String, String)>) {
    let tool = push(world);
    let mut result = None;
    world.until("the push has ended", LONG, |w| {
        if let Some(PushPiece::Result(end)) = pieces(w, tool).pop() {
            result = Some(end);
        }
        result.is_some()
    });
    let result = result.expect("it was awaited");
    let failures = result.failures.into_iter().map(|f| (f.host, f.reason));
    (result.done, failures.collect())
}

#[test]
fn a_push_by_hand_dials_also_who_is_thought_to_have_it() {
    let mut world = cluster(65, 4, MasterSettings::default(), HOUR);
    assert_eq!(pushed(&mut world), (4, Vec::new()));
    world.kill_client(1);
    let (done, failures) = pushed(&mut world);
    assert_eq!((done, failures.len()), (3, 1));
    assert_eq!(failures[0].0, "c1");
    assert!(failures[0].1.contains("nobody listens there"), "{failures:?}");
    // One has lost its disk, and nobody knows it yet.
    world.clients[1].disk = tests::sim::disk::Disk::new(7);
    world.start_client(1);
    world.until("it is there", LONG, |w| w.client_runs(1));
    let _ = pushed(&mut world);
    world.until("current", Duration::from_secs(60), World::is_current);
}

#[test]
fn a_push_says_in_words_why_a_host_refuses() {
    let mut world = cluster(66, 3, MasterSettings::default(), Duration::from_secs(60));
    let strangers = format!("drover-signing-key-1 {}", "77".repeat(32));
    let strangers = engine::sign::SigningKey::parse(&strangers).expect("a key").public();
    world.kill_client(2);
    world.clients[2].settings.trusted_keys = engine::release::TrustedKeys::Only(vec![strangers]);
    world.start_client(2);
    world.publish(0, &["*"], 1000);
    world.run(Duration::from_secs(120));
    let (done, failures) = pushed(&mut world);
    assert_eq!((done, failures.len()), (2, 1), "{failures:?}");
    assert_eq!(failures[0].0, "c2");
    let untrusted = "refused by the host: it trusts no key that has signed the assignment";
    assert!(failures[0].1.starts_with(untrusted), "{failures:?}");
}

/// The state directory was lost, or an old one put back: its revisions begin anew.
#[test]
fn hosts_that_hold_more_than_is_published_are_an_error_that_names_its_cure() {
    let mut world = cluster(67, 2, MasterSettings::default(), Duration::from_secs(60));
    world.publish(0, &["*"], 1000);
    world.publish(0, &["*"], 2000);
    settle(&mut world);
    world.kill_master(0);
    world.masters[0].releases.truncate(1);
    world.start_master(0);
    world.run(Duration::from_secs(120));

    let cure = "`drover publish --revision-min";
    let status = command(&mut world, verb::STATUS, "{}");
    assert_eq!((&status["hosts_current"], &status["hosts_ahead"]), (&0.into(), &2.into()));
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("2 hosts hold a later revision than 1"), "{warnings}");
    assert!(warnings.contains(&format!("{cure} 4`")), "{warnings}");
    let (done, failures) = pushed(&mut world);
    assert_eq!((done, failures.len()), (0, 2));
    assert!(failures.iter().all(|(_, why)| why.contains(cure)), "{failures:?}");
    let probed = command(&mut world, verb::PROBE, "{\"host\":\"c0\"}").to_string();
    assert!(probed.contains("it holds revision 3, and 1 is published"), "{probed}");
    assert!(probed.contains("\"ok\":false") && probed.contains(cure), "{probed}");
}
