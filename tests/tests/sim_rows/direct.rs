//! Requests that any two parties exchange.

use crate::{frames, settled};
use engine::wire::message::{ControlReq, FetchReq, Manifest, StatusReq, StatusResp};
use engine::wire::{Body, Class, Frame, FrameBuf, Kind, Nack, NackReason, RouteBuf, access};
use std::net::IpAddr;
use std::time::Duration;
use tests::sim::trace::What;
use tests::sim::{World, ip};

fn message<B: Body>(body: &B) -> FrameBuf {
    FrameBuf::message(None, body, |_| {})
}

fn status() -> FrameBuf {
    message(&StatusReq { detail: 0 })
}

/// Sends a frame on a tool's connection; the answer.
fn ask(world: &mut World, tool: usize, frame: &FrameBuf) -> Vec<u8> {
    let before = world.tools[tool].frames().count();
    world.tools[tool].send(frame);
    let answered = |w: &mut World| w.tools[tool].frames().count() > before;
    world.until("an answer", Duration::from_secs(10), answered);
    world.tools[tool].frames().last().expect("it was awaited").bytes().to_vec()
}

fn name_in(status: &[u8]) -> (String, String) {
    let frame = Frame::parse(status).expect("a frame");
    let status = access::<StatusResp>(&frame).expect("a status");
    (status.role.as_str().to_owned(), status.name.as_str().to_owned())
}

#[test]
fn s1_21_any_two_parties_exchange_the_same_frames() {
    let mut world = settled(51, 2);
    world.site.net.record();
    let (master, clients) = (world.masters[0].addr, [world.clients[0].addr, world.clients[1].addr]);
    let timeout = Duration::from_secs(5);
    let now = world.site.net.now();
    // From client to client, from client to master, and from master to client.
    for to in [clients[1], master] {
        let node = &mut world.client(0).reactor.host_mut().host;
        node.with_role(now, |_, cx| cx.exchange(to, status(), timeout));
    }
    let node = &mut world.master(0).reactor.host_mut().host;
    node.with_role(now, |_, cx| cx.exchange(clients[0], status(), timeout));
    // From a tool, which is no node, to both.
    let mut answers = Vec::new();
    for to in [clients[0], master] {
        let tool = world.dial(ip(0, 200), to);
        answers.push(name_in(&ask(&mut world, tool, &status())));
    }
    assert_eq!(answers, [("client".into(), "c0".into()), ("master".into(), "m0".into())]);
    let answered = |world: &World, at: IpAddr| {
        world.count(at, |w| matches!(w, What::In(_, seen) if seen.kind == Kind::STATUS_RESP))
    };
    world.until("answers", timeout, |w| answered(w, ip(1, 1)) == 2 && answered(w, ip(0, 1)) == 1);
    // Whoever asked whom, it was asked in the same bytes, and answered by frames of one kind.
    let flows = world.site.net.flows();
    let status = status().to_vec();
    let asked: Vec<_> = flows.iter().filter(|flow| flow.bytes == status).collect();
    assert_eq!(asked.len(), 5, "five exchanges");
    for flow in asked {
        let back = flows.iter().find(|f| f.from == flow.to && f.to == flow.from);
        let back = frames(back.expect("an answer on the same connection"));
        let kinds: Vec<Kind> = back.iter().map(|(header, _)| header.kind).collect();
        assert_eq!(kinds, [Kind::STATUS_RESP], "{} asked {}", flow.from, flow.to);
        assert_eq!(kinds[0].class(), Class::Direct);
    }
}

#[test]
fn s1_20_what_goes_the_wrong_way_is_refused_and_counted() {
    let mut world = settled(53, 1);
    let (master, client) = (world.masters[0].addr, world.clients[0].addr);
    let origin = |name: &str| engine::ids::Origin {
        name: name.parse().expect("a host name"),
        epoch: engine::ids::Epoch(9),
        seq: 1,
    };
    fn sent<B: Body>(route: RouteBuf, body: &B) -> FrameBuf {
        FrameBuf::message(Some(&route), body, |header| {
            (header.epoch, header.seq) = (engine::ids::Epoch(9), 1);
        })
    }
    let assignment = world.masters[0].releases[0].lines[0].assignment.clone();
    let manifest = Manifest { assignment };
    let report = tests::sim::client::report(1, 99);
    let (down, up) = (RouteBuf::from(origin("m0")), RouteBuf::from(origin("c0")));
    // An assignment to a master, and a report to a client, each well formed.
    for (to, frame) in [(master, sent(down, &manifest)), (client, sent(up, &report))] {
        let tool = world.dial(ip(0, 200), to);
        let answer = ask(&mut world, tool, &frame);
        let answer = Frame::parse(&answer).expect("a frame");
        assert_eq!(Nack::decode(&answer).map(|nack| nack.reason), Ok(NackReason::Refused));
    }
    let wrong = |parts: u64| assert_eq!(parts, 1, "it was not counted");
    wrong(world.see_master(0).reactor.host().host.parts().counters.wrong_direction.value());
    wrong(world.client(0).reactor.host().host.parts().counters.wrong_direction.value());
    world.run(Duration::from_secs(60));
    assert_eq!(world.results.borrow().reports.len(), 1, "nothing was taken");
}

#[test]
fn s1_22_one_tool_asks_master_and_client_how_they_are_and_for_files() {
    let mut world = settled(52, 2);
    let release = world.masters[0].releases.last().expect("one is published");
    let file = release.blobs.iter().find(|blob| blob.name.starts_with(b"policies/"));
    let file = file.expect("it has a file").clone();
    let fetch = message(&FetchReq { name: file.name.clone(), hash: file.hash, offset: 0 });
    let (master, client) = (world.masters[0].addr, world.clients[0].addr);
    let nacked =
        |bytes: &[u8]| Nack::decode(&Frame::parse(bytes).expect("a frame")).map(|n| n.reason);

    let tool = world.dial(ip(0, 200), master);
    assert_eq!(name_in(&ask(&mut world, tool, &status())), ("master".into(), "m0".into()));
    let chunk = ask(&mut world, tool, &fetch);
    let chunk = Frame::parse(&chunk).expect("a frame");
    assert_eq!(chunk.header.kind, Kind::CHUNK);
    assert_eq!(chunk.body().len() as u64, 8 + file.size);
    assert_eq!(engine::ids::BlobHash::of(&chunk.body()[8..]).0, file.hash);

    // A client serves no files in this version, and says so; the connection lives on.
    let tool = world.dial(ip(0, 200), client);
    assert_eq!(name_in(&ask(&mut world, tool, &status())), ("client".into(), "c0".into()));
    assert_eq!(nacked(&ask(&mut world, tool, &fetch)), Ok(NackReason::Unsupported));
    assert_eq!(name_in(&ask(&mut world, tool, &status())), ("client".into(), "c0".into()));

    // Control is for the machine's own socket: over the network neither obeys.
    let push = ControlReq { verb: "push".to_owned(), arguments: b"{}".to_vec() };
    for addr in [master, client] {
        let tool = world.dial(ip(0, 200), addr);
        assert_eq!(nacked(&ask(&mut world, tool, &message(&push))), Ok(NackReason::Unsupported));
    }
    let control = world.control(0);
    let answer = ask(&mut world, control, &message(&ControlReq { verb: "status".into(), ..push }));
    assert_eq!(Frame::parse(&answer).expect("a frame").header.kind, Kind::CONTROL_RESP);
}
