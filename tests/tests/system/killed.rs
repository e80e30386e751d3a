//! SIGKILL: whatever was acked is in the result store, once.

use engine::blocking::BlockingError;
use engine::ids::Epoch;
use engine::queue::lmdb;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;
use tests::system::{Cluster, PATIENCE, Sender, id_of};

const SENDERS: u64 = 24;
/// Reports of one delivery.
const STEP: u64 = 20;

/// How often each is killed; `DROVER_KILLS=1000` for a long run.
fn kills() -> usize {
    std::env::var("DROVER_KILLS").map_or(5, |n| n.parse().expect("DROVER_KILLS is a number"))
}

type Id = (String, String, u64);

/// Senders that never stop until they are told, each with a new delivery whenever one has
/// ended, however it ended; returns every acked id.
fn load(
    master: &Mutex<SocketAddr>,
    stop: &AtomicBool,
    acks: &AtomicU64,
    acked_some: &std::sync::mpsc::Sender<u64>,
) -> BTreeSet<Id> {
    let one = |n: u64| {
        let mut sender = Sender::new(&format!("load-{n}.test"), 7_000 + n);
        while !stop.load(Ordering::Relaxed) || sender.acked < sender.sent {
            let upto = sender.sent.max(sender.acked + STEP);
            let before = sender.acked;
            let addr = *master.lock().unwrap();
            match sender.deliver(addr, upto, PATIENCE) {
                // Refused while the master begins or ends; again at once is impolite, and legal.
                Ok(_) => {}
                Err(BlockingError::Wire { .. }) => panic!("the master broke the protocol"),
                Err(_) => std::thread::yield_now(),
            }
            let new = sender.acked - before;
            if new > 0 {
                acked_some.send(acks.fetch_add(new, Ordering::Relaxed) + new).unwrap();
            }
        }
        let ids = (1..=sender.acked).map(|seq| id_of(&sender.name, sender.epoch, seq));
        ids.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SENDERS).map(|n| scope.spawn(move || one(n))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Each acked id is there, none twice.
fn check(cluster: &Cluster, acked: &BTreeSet<Id>) {
    let total = acked.len() as u64;
    let _ = cluster.until(&["status"], |status| status["inbox_records"] == 0);
    let stored = cluster.ids();
    let distinct: BTreeSet<Id> = stored.iter().cloned().collect();
    assert_eq!(stored.len(), distinct.len(), "an id is stored twice");
    let lost: Vec<_> = acked.difference(&distinct).take(5).collect();
    assert!(lost.is_empty(), "{total} acked, lost among them {lost:?}");
}

/// S1-26, S1-53: no acked report is lost and none is stored twice, however often the master
/// dies; and S1-1: senders need nothing but to send again.
#[test]
fn s1_1_s1_26_the_master_is_killed_five_times() {
    let kills = kills();
    let cluster = Cluster::new();
    cluster.publish();
    let mut master = cluster.master();
    let addr = Mutex::new(cluster.master_addr);
    let (stop, acks) = (AtomicBool::new(false), AtomicU64::new(0));
    let (told, telling) = channel();
    let (acked, master) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&addr, &stop, &acks, &told));
        let await_acks = |goal: u64| {
            while acks.load(Ordering::Relaxed) < goal {
                telling.recv_timeout(PATIENCE).expect("the load goes on");
            }
        };
        for _ in 0..kills {
            await_acks(acks.load(Ordering::Relaxed) + SENDERS * STEP);
            master.kill();
            master = cluster.master();
        }
        await_acks(acks.load(Ordering::Relaxed) + SENDERS * STEP);
        stop.store(true, Ordering::Relaxed);
        (load.join().unwrap(), master)
    });
    assert!(acked.len() as u64 >= (kills as u64 + 1) * SENDERS * STEP);
    check(&cluster, &acked);
    drop(master);
}

/// The clients' own processes too: what a client had queued before it was killed is sent by
/// the next one, and each of its reports is stored once.
#[test]
fn s1_26_clients_are_killed_with_reports_queued() {
    let kills = kills();
    let cluster = Cluster::new();
    let names = [("web-1.test", 2), ("web-2.test", 3)];
    cluster.write_hosts(&names);
    cluster.publish();
    let mut master = cluster.master();
    let mut clients = names.map(|(name, ip)| cluster.client(name, ip));
    for client in &mut clients {
        client.wait_line("revision 1: 1 checked, 1 changed, 0 failed, converged");
    }
    let queue = |name: &str| {
        let dir = cluster.path(&format!("{name}/state/outbox"));
        lmdb::stat(&dir).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    for round in 0..kills {
        // The master is away: what is healed now waits in the client's queue.
        master.kill();
        let before = names.map(|(name, _)| queue(name).next);
        for ((name, _), client) in names.iter().zip(&mut clients) {
            fs::write(cluster.path(&format!("{name}/root/motd")), format!("{round}\n")).unwrap();
            client.wait_line("1 changed, 0 failed, converged");
        }
        // Written, as only the queue itself tells.
        let until = Instant::now() + PATIENCE;
        for ((name, _), before) in names.iter().zip(before) {
            while queue(name).next == before {
                assert!(Instant::now() < until, "{name}: no report in its queue");
                std::thread::yield_now();
            }
        }
        clients = clients
            .into_iter()
            .zip(names)
            .map(|(client, (name, ip))| {
                client.kill();
                cluster.client(name, ip)
            })
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        master = cluster.master();
    }
    let queued: BTreeSet<Id> = names
        .iter()
        .flat_map(|(name, _)| {
            let queue = queue(name);
            let host = name.parse().unwrap();
            (queue.first.min(1)..queue.next)
                .map(move |seq| id_of(&host, Epoch(queue.epoch), seq))
                .collect::<Vec<_>>()
        })
        .filter(|(_, _, seq)| *seq > 0)
        .collect();
    assert!(queued.len() >= 2 * (kills + 1), "{queued:?}");
    let until = Instant::now() + PATIENCE;
    for (name, _) in names {
        while queue(name).records > 0 {
            assert!(Instant::now() < until, "{name}: {:?}\n{}", queue(name), clients[0].log());
            std::thread::yield_now();
        }
    }
    check(&cluster, &queued);
    drop(master);
}
