//! Promises of delivery, binding and distribution, each shown on a whole simulated cluster.

mod admission;
mod backlog;
mod binding;
mod delivery;
mod direct;
mod identity;
mod push;

use engine::reactor::sim::Flow;
use engine::wire::message::{ControlReq, ControlResp};
use engine::wire::{Decoder, FrameBuf, Header, access};
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

/// The only piece, or the last, of an answer over the control socket.
fn command(world: &mut World, verb: &str, arguments: &str) -> serde_json::Value {
    let tool = world.control(0);
    let request = ControlReq { verb: verb.to_owned(), arguments: arguments.into() };
    world.tools[tool].send(&FrameBuf::message(None, &request, |_| {}));
    let last = |w: &World| {
        let frame = w.tools[tool].frames().last()?;
        let response = access::<ControlResp>(&frame).expect("an answer");
        response.last.then(|| serde_json::from_slice(&response.body).expect("JSON"))
    };
    world.until("the answer", LONG, |w| last(w).is_some());
    last(world).expect("it was awaited")
}
