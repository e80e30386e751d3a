//! How a release gets to its hosts: by polls, by a push, and by a push that an operator watches.

use crate::{LONG, settle};
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
    let arguments = serde_json::to_vec(&PushArgs { selector: String::new() }).expect("JSON");
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
