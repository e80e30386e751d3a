//! docs/PROTOCOL.md lists every kind as the code has it.

use crate::{assert_none, document};
use engine::ids::{Epoch, HostName, Origin};
use engine::wire::message::{BindResp, Heartbeat};
use engine::wire::{Class, FrameBuf, Header, Kind, Lane, Nack, NackReason, RouteBuf};
use std::time::Duration;

#[test]
fn every_kind_is_in_the_protocol_document() {
    let text = document("docs/PROTOCOL.md");
    let mut missing = Vec::new();
    for kind in Kind::all() {
        let class = match kind.class() {
            Class::Hop => "hop",
            Class::Uplink => "uplink",
            Class::Downstream => "downstream",
            Class::Direct => "direct",
        };
        let lane = kind.lane().map(|lane| format!("{lane:?}").to_lowercase()).unwrap_or_default();
        let newest = if kind.newest_wins() { "yes" } else { "no" };
        let row = format!(
            "| `{:#04x}` | {kind} | {class} | {lane} | {} | {} | {newest} |",
            kind.0,
            kind.schema().unwrap_or_default(),
            kind.body_size_max(),
        );
        if !text.contains(&row) {
            missing.push(row);
        }
    }
    assert_none(&missing, "docs/PROTOCOL.md must have these rows (and may say more behind them)");
}

/// The document's golden frames, built by the code.
fn golden_frames() -> [(&'static str, Vec<u8>); 4] {
    let origin = Origin { name: host("web-1"), epoch: Epoch(0x1122_3344_5566_7788), seq: 7 };
    let place = |lane: Lane| {
        move |header: &mut Header| {
            header.lane = lane;
            header.epoch = Epoch(0x1122_3344_5566_7788);
            header.seq = 7;
        }
    };
    let mut refused = Header::new(Kind::NACK);
    place(Lane::Durable)(&mut refused);
    let nack =
        Nack { reason: NackReason::Busy, highest: 1, retry_after: Duration::from_millis(1500) };
    let heartbeat = Heartbeat { revision: 3, checked: 42, wall_ms: 1_700_000_000_000 };
    let routed = RouteBuf::from(origin.clone());
    let answer = BindResp { nonce: 9, version: "0.1.0".into() };
    let to_host = RouteBuf::from(Origin { name: host("master"), ..origin }).to(host("web-1"));
    [
        ("Ack", FrameBuf::bare(Kind::ACK, place(Lane::Durable)).to_vec()),
        ("Nack", FrameBuf::seal_whole(refused, None, &nack.encode())),
        ("Heartbeat", FrameBuf::message(Some(&routed), &heartbeat, place(Lane::Volatile)).to_vec()),
        ("BindResp", FrameBuf::message(Some(&to_host), &answer, place(Lane::Urgent)).to_vec()),
    ]
}

fn host(name: &str) -> HostName {
    name.parse().expect("these are letters and digits")
}

/// Offset, sixteen bytes a line.
fn dump(bytes: &[u8]) -> String {
    let line = |(i, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04x}  {}\n", i * 16, hex.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[test]
fn the_golden_frames_of_the_protocol_document_hold() {
    let text = document("docs/PROTOCOL.md");
    let missing: Vec<String> = golden_frames()
        .into_iter()
        .filter(|(_, bytes)| !text.contains(&dump(bytes)))
        .map(|(name, bytes)| format!("{name}:\n{}", dump(&bytes)))
        .collect();
    assert_none(
        &missing,
        "docs/PROTOCOL.md must show these bytes; a released format does not change, it gets a new schema",
    );
}
