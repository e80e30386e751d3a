//! Promises of delivery, binding and distribution, each shown on a whole simulated cluster.

mod binding;
mod delivery;
mod direct;
mod identity;
mod push;

use engine::reactor::sim::Flow;
use engine::wire::{Decoder, Header};
use std::time::Duration;
use tests::sim::World;

const LONG: Duration = Duration::from_secs(1200);

/// A cluster at rest: all enforce the newest revision, and every report is stored.
fn settled(seed: u64, clients: u8) -> World {
    let mut world = World::cluster(seed, clients);
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    world.until("current", LONG, World::is_current);
    world.until("drained", LONG, |w| w.is_drained());
}

/// Headers and lengths of all frames that one end of a connection has written.
fn frames(flow: &Flow) -> Vec<(Header, usize)> {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    let fed = decoder.feed(&flow.bytes, |frame| {
        frames.push((frame.header, frame.bytes().len()));
        engine::wire::Flow::Next
    });
    fed.expect("what is written are frames");
    frames
}
