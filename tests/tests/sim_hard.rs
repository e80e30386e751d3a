//! The cases of delivery that are hardest to get right, each on a whole cluster.

use engine::ids::Epoch;
use engine::node::MasterAddr;
use engine::wire::{Kind, Lane};
use std::time::Duration;
use tests::sim::disk::{Disk, SharedDisk};
use tests::sim::line::Delay;
use tests::sim::master::MasterSettings;
use tests::sim::trace::What;
use tests::sim::{World, ip};

const LONG: Duration = Duration::from_secs(1200);

fn settled(seed: u64, clients: u8) -> World {
    let mut world = World::cluster(seed, clients);
    world.until("current", LONG, World::is_current);
    world.until("drained", LONG, |w| w.is_drained());
    world
}

#[test]
fn a_commit_that_fails_while_the_next_is_gathering_loses_nothing() {
    let mut world = settled(11, 6);
    // The disk is slow, so that one gathering is written while the next one fills.
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(40)));
    for round in 0..6 {
        for at in 0..6 {
            world.act(at, Duration::from_millis(7 * at as u64 + round));
        }
    }
    world.run(Duration::from_millis(130));
    world.behave(|m| m.commits_failing = 1.0);
    world.run(Duration::from_millis(400));
    world.behave(|m| m.commits_failing = 0.0);
    assert!(world.masters[0].disk.borrow().commits_failed > 0, "no commit of the master failed");
    let refused = |w: &What| matches!(w, What::Out(_, s) if s.kind == Kind::NACK);
    assert!(world.count(ip(0, 1), refused) > 0, "nobody was told");
    let failed_at = world.now();
    world.until("drained", LONG, |w| w.is_drained());
    // A refusal names what it refused, so nobody waits for an answer that cannot come.
    assert!(world.now().since(failed_at) < Duration::from_secs(20), "{}", world.tell());
    assert_eq!(world.results.borrow().reports.len(), 6 * 7);
    assert_eq!(world.results.borrow().again, []);
    assert!(world.results.borrow().in_order());
    world.assert_exactly_once();
}

#[test]
fn a_duplicate_that_arrives_before_its_first_copy_is_committed_waits_for_that_commit() {
    let mut world = settled(12, 1);
    let master = ip(0, 1);
    let commits = world.masters[0].disk.borrow().commits;
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(1)));
    let sent = |w: &What| matches!(w, What::Out(_, s) if s.kind == Kind::REPORT);
    let taken = |w: &What| matches!(w, What::In(_, s) if s.kind == Kind::REPORT);
    world.act(0, Duration::from_millis(1));
    world.until("sent", LONG, |w| w.count(ip(1, 1), sent) == 2);
    // The client's disk is fast; this one commit of the master takes a minute.
    world.behave(|m| m.store = Delay::fixed(Duration::from_secs(60)));
    world.until("taken", LONG, |w| w.count(master, taken) == 2);
    world.run(Duration::from_micros(1));
    world.behave(|m| m.store = Delay::fixed(Duration::from_millis(1)));
    // The client dies with its ack outstanding, and offers the same record anew.
    world.kill_client(0);
    world.start_client(0);
    world.until("offered again", LONG, |w| {
        w.master(0).reactor.host().host.parts().counters.duplicates.value() == 1
    });
    assert_eq!(world.masters[0].disk.borrow().commits, commits, "committed too early");
    let acked =
        |w: &What| matches!(w, What::Out(_, s) if s.kind == Kind::ACK && s.lane == Lane::Durable);
    let before = world.count(master, acked);
    world.until("committed", LONG, |w| w.masters[0].disk.borrow().commits > commits);
    assert_eq!(world.count(master, acked), before, "acked before its commit");
    world.until("drained", LONG, |w| w.is_drained());
    // The third is that of the client's new start.
    assert_eq!((world.results.borrow().reports.len(), world.results.borrow().again.len()), (3, 0));
    world.assert_exactly_once();
}

#[test]
fn a_record_acked_by_one_parent_whose_successors_went_to_another_is_stored_once_and_in_place() {
    let mut world = World::new(13);
    for n in 1..=2 {
        let at = world.add_master(ip(0, n), MasterSettings::default());
        world.publish(at, &["*"], 100);
        world.start_master(at);
    }
    let at = world.add_client("c0", ip(1, 1));
    world.clients[at].settings.masters =
        world.masters.iter().map(|m| MasterAddr::Fixed(m.addr)).collect();
    world.start_client(at);
    world.until("current", LONG, World::is_current);
    world.until("drained", LONG, |w| w.is_drained());
    let parent = |w: &World| {
        usize::from(
            w.count(ip(0, 2), |w| matches!(w, What::In(_, s) if s.kind == Kind::REPORT)) > 0,
        )
    };
    let first = parent(&world);
    // Its result store is slow: what the first parent has acked lies in its inbox.
    world.behave(|m| m.sink = Delay::fixed(Duration::from_secs(30)));
    world.act(at, Duration::from_millis(1));
    world.run(Duration::from_secs(5));
    assert_eq!(world.unacked(at), 0, "the first parent has acked it");
    world.kill_master(first);
    world.behave(|m| m.sink = Delay::fixed(Duration::from_millis(1)));
    for _ in 0..5 {
        world.act(at, Duration::from_millis(1));
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.unacked(at), 0, "the other parent has acked what followed");
    assert_eq!(world.results.borrow().reports.len(), 6);
    world.start_master(first);
    world.until("drained", LONG, |w| w.is_drained());
    world.assert_exactly_once();
    assert_eq!(world.results.borrow().again, []);
    // It came last, and its origin's number says where it belongs.
    assert!(!world.results.borrow().in_order());
    let seqs: Vec<u64> = world.results.borrow().reports.keys().map(|o| o.seq).collect();
    assert_eq!(seqs, (1..=7).collect::<Vec<_>>());
}

#[test]
fn a_queue_drained_to_nothing_goes_on_with_its_numbers_after_a_restart() {
    let mut world = settled(14, 2);
    for round in 1..=3 {
        for at in 0..2 {
            world.act(at, Duration::from_millis(1));
        }
        world.run(Duration::from_secs(10));
        assert!(world.is_drained(), "{}", world.tell());
        let left = |disk: &SharedDisk| disk.borrow().store.records().count();
        assert_eq!(left(&world.masters[0].disk), 0);
        assert!(world.clients.iter().all(|c| left(&c.disk) == 0), "something is left");
        world.kill_master(0);
        world.kill_client(0);
        world.kill_client(1);
        world.start_master(0);
        world.start_client(0);
        world.start_client(1);
        // One of each start and one of each action.
        assert_eq!(world.results.borrow().reports.len(), 4 * round);
    }
    world.act(0, Duration::from_millis(1));
    world.run(Duration::from_secs(30));
    world.assert_exactly_once();
    // Numbers are never used twice: the last is the eighth of its log.
    let last = world.results.borrow().reports.keys().rfind(|o| o.name.as_str() == "c0").cloned();
    assert_eq!(last.map(|o| o.seq), Some(8));
    assert_eq!(world.results.borrow().again, []);
}

#[test]
fn a_cloned_machine_image_has_a_log_of_its_own() {
    let mut world = settled(15, 1);
    // The image: same name and assignment. Its store has found another machine's identity,
    // renewed its epoch and set aside what it held.
    let clone = world.add_client("c0", ip(1, 99));
    world.clients[clone].disk = Disk::new(0xc10e);
    let held = world.clients[0].disk.borrow().held.clone();
    world.clients[clone].disk.borrow_mut().held = held;
    world.start_client(clone);
    for _ in 0..10 {
        world.act(0, Duration::from_millis(1));
        world.act(clone, Duration::from_millis(1));
        world.run(Duration::from_secs(1));
    }
    world.until("drained", LONG, |w| w.is_drained());
    world.assert_exactly_once();
    let results = world.results.borrow();
    let of = |epoch: Epoch| results.reports.keys().filter(|o| o.epoch == epoch).count();
    assert_eq!(of(Epoch(0xc10e)), 11, "the clone's reports were taken for the original's");
    assert_eq!(results.reports.len(), 22);
    drop(results);
    let conflicts = world.master(0).reactor.host().host.role().hosts().claims().count;
    assert!(conflicts > 0, "nobody was told of the clone");
}
