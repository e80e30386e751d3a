//! docs/PROTOCOL.md lists every kind as the code has it.

use crate::{assert_none, document};
use engine::wire::{Class, Kind};

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
