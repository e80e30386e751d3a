//! Random faults on small clusters: seeds are fixed, and a failure prints its own.

use std::time::Duration;
use tests::sim::line::Delay;
use tests::sim::{World, ip};

/// One random fault, or its end.
fn harm(world: &mut World) {
    let clients = world.clients.len();
    let at = world.rng.usize(..clients);
    let address = world.clients[at].addr.ip();
    match world.rng.u8(..12) {
        0 if world.master_runs(0) => world.kill_master(0),
        1 if world.client_runs(at) => world.kill_client(at),
        2 if world.master_runs(0) => world.stop_master(0),
        3 if world.client_runs(at) => world.stop_client(at),
        4 => world.site.net.cut(address, ip(0, 1)),
        5 => world.site.net.heal(address, ip(0, 1)),
        6 => {
            let on = world.rng.bool();
            world.site.net.set_black_hole(address, on);
        }
        7 => {
            let failing = world.rng.f64();
            world.behave(|m| m.commits_failing = failing * failing);
        }
        8 => {
            let ms = world.rng.u64(1..400);
            world.behave(|m| m.store = Delay::micros(100, ms * 1000));
        }
        9 => {
            let failing = world.rng.f64();
            world.behave(|m| m.batches_failing = failing);
        }
        10 => {
            let days = world.rng.i64(-5..5);
            if world.client_runs(at) {
                world.client(at).skew_ms.set(days * 86_400_000);
            }
        }
        _ => {
            let size = world.rng.usize(..200_000);
            if world.newest().0 < 4 {
                world.publish(0, &["*"], size);
            }
        }
    }
}

fn revive(world: &mut World) {
    if !world.master_runs(0) {
        world.start_master(0);
    }
    for at in 0..world.clients.len() {
        if !world.client_runs(at) {
            world.start_client(at);
        }
    }
}

fn soak(seed: u64) {
    let mut world = World::cluster(seed, 4);
    for _ in 0..60 {
        for _ in 0..3 {
            let at = world.rng.usize(..4);
            if world.client_runs(at) {
                world.act(at, Duration::from_millis(2));
            }
        }
        harm(&mut world);
        if world.rng.u8(..4) == 0 {
            revive(&mut world);
        }
        let pause = world.rng.u64(1..3000);
        world.run(Duration::from_millis(pause));
    }
    for at in 0..4 {
        let address = world.clients[at].addr.ip();
        world.site.net.heal(address, ip(0, 1));
        world.site.net.set_black_hole(address, false);
        if world.client_runs(at) {
            world.client(at).skew_ms.set(0);
        }
    }
    *world.site.manners.borrow_mut() = Default::default();
    world.run(Duration::from_secs(30));
    revive(&mut world);
    let within = Duration::from_secs(1800);
    world.until("current", within, World::is_current);
    world.until("drained", within, |w| w.is_drained());
    world.assert_exactly_once();
    assert!(world.results.borrow().in_order(), "seed {seed:#x}: out of order");
    assert!(world.results.borrow().reports.len() > 20, "seed {seed:#x}: hardly anything happened");
}

macro_rules! soaks {
    ($($name:ident: $from:literal;)*) => {$(
        #[test]
        fn $name() {
            for seed in $from..$from + 32 {
                soak(seed);
            }
        }
    )*};
}

soaks! {
    soak_seeds_from_0x1000: 0x1000;
    soak_seeds_from_0x2000: 0x2000;
    soak_seeds_from_0x3000: 0x3000;
    soak_seeds_from_0x4000: 0x4000;
}
