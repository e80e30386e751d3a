//! Frames of every kind, right and wrong: kind, lane, epoch, seq, route and body as the input has
//! them, sealed, and then perhaps damaged.

use crate::input::Input;
use engine::ids::{Epoch, HostName, Origin};
use engine::limits::HOPS_MAX;
use engine::release::Assignment;
use engine::sign::SigningKey;
use engine::wire::message::{
    BindAck, BindReq, BindResp, ControlReq, ControlResp, FetchRefused, FetchReq, Heartbeat,
    Manifest, Poll, Report, ResourceResult, StatusReq, StatusResp,
};
use engine::wire::{FrameBuf, Header, Kind, Lane, Nack, NackReason, RouteBuf, encode};
use std::sync::OnceLock;
use std::time::Duration;

/// Names that frames bear: hosts of the inventory, one of a glob, strangers, and the master.
pub const NAMES: [&str; 8] =
    ["a", "b", "web-1", "web-2", "stranger", "master", "A", "a.very-long.name.of.a.host.somewhere"];

/// Why a message may be refused.
pub const REASONS: [NackReason; 10] = [
    NackReason::Busy,
    NackReason::Store,
    NackReason::Unsupported,
    NackReason::Damaged,
    NackReason::Refused,
    NackReason::Stopping,
    NackReason::Unknown,
    NackReason::Untrusted,
    NackReason::Expired,
    NackReason::Older,
];

/// The key that signs what the simulated site publishes.
///
/// # Panics
/// Never: the text is a key.
#[must_use]
pub fn signing_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| {
        let text = format!("drover-signing-key-1 {}", "5a".repeat(32));
        SigningKey::parse(&text).expect("a key is 32 bytes in hexadecimal digits")
    })
}

/// One of [`NAMES`].
///
/// # Panics
/// Never: they are host names.
pub fn name(input: &mut Input<'_>) -> HostName {
    input.choose(&NAMES).parse().expect("each of them is a host name")
}

/// An assignment for a pattern that may match, signed or not.
pub fn assignment(input: &mut Input<'_>, manifests: &[[u8; 32]]) -> Vec<u8> {
    let mut manifest = [input.byte(); 32];
    if !manifests.is_empty() && !input.one_in(4) {
        manifest = *input.choose(manifests);
    }
    let assignment = Assignment {
        schema: 1 + u16::from(input.one_in(16)),
        pattern: (*input.choose(&["*", "a", "web-*", "[ab]", "[", ""])).to_owned(),
        excludes: match input.below(4) {
            0 => vec!["web-1".to_owned(), "*[".to_owned()],
            _ => Vec::new(),
        },
        revision: input.number(1),
        manifest,
        manifest_size: if input.one_in(8) { input.number(8) } else { input.number(1) },
        issued_ms: 0,
        expires_ms: if input.one_in(8) { input.number(8) } else { u64::MAX },
    };
    let mut signed = if input.one_in(16) {
        assignment.sign(signing_key())
    } else {
        engine::release::SignedAssignment {
            assignment: encode(&assignment),
            key_id: [0; 8],
            signature: input.bytes(8).to_vec(),
        }
    };
    if input.one_in(16) {
        damage(&mut signed.assignment, input);
    }
    encode(&signed)
}

/// A report with as many results as the input has.
pub fn report(input: &mut Input<'_>) -> Report {
    let results = (0..input.below(4)).map(|_| ResourceResult {
        id: input.bytes(16).to_vec(),
        outcome: input.byte() % 6,
        before: input.text(8),
        after: input.text(8),
        error: input.text(8),
        duration_us: input.number(2),
        output: input.bytes(32).to_vec(),
    });
    let results = results.collect();
    Report {
        revision: input.number(1),
        trigger: input.byte(),
        started_ms: input.number(4),
        duration_us: input.number(4),
        busy_us: input.number(4),
        checked: input.byte().into(),
        results,
        note: input.text(16),
    }
}

/// A body of this kind that is one; raw bytes for a kind that has none.
pub fn body(kind: Kind, input: &mut Input<'_>) -> Vec<u8> {
    let hash = |input: &mut Input<'_>| [input.byte() % 8; 32];
    match kind {
        Kind::NACK => nack(input).encode().to_vec(),
        Kind::BIND_REQ => encode(&BindReq { nonce: input.number(1), version: input.text(8) }),
        Kind::BIND_RESP => encode(&BindResp { nonce: input.number(8), version: input.text(8) }),
        Kind::BIND_ACK => encode(&BindAck { nonce: input.number(1), parent: input.text(8) }),
        Kind::POLL => encode(&Poll {
            held: input.number(1),
            applied: input.number(1),
            wall_ms: input.number(8),
            version: input.text(8),
            last_error: input.text(32),
        }),
        Kind::HEARTBEAT => encode(&Heartbeat {
            revision: input.number(1),
            checked: input.byte().into(),
            wall_ms: input.number(8),
        }),
        Kind::REPORT => encode(&report(input)),
        Kind::MANIFEST => encode(&Manifest { assignment: assignment(input, &[]) }),
        Kind::FETCH_REQ => encode(&FetchReq {
            name: input.bytes(8).to_vec(),
            hash: hash(input),
            offset: if input.one_in(2) { 0 } else { input.number(8) },
        }),
        Kind::FETCH_REFUSED => encode(&FetchRefused { hash: hash(input) }),
        Kind::CHUNK => [&input.number(8).to_le_bytes()[..], input.bytes(64)].concat(),
        Kind::STATUS_REQ => encode(&StatusReq { detail: input.byte() }),
        Kind::STATUS_RESP => encode(&StatusResp {
            name: name(input).to_string(),
            role: input.text(8),
            version: input.text(8),
            revision: input.number(1),
            bound: input.text(8),
            uptime_ms: input.number(8),
            counters: vec![(input.text(4), input.number(8))],
            last_error: input.text(8),
        }),
        Kind::CONTROL_REQ => encode(&command(input)),
        Kind::CONTROL_RESP => encode(&ControlResp {
            last: input.one_in(2),
            ok: input.one_in(2),
            body: input.bytes(32).to_vec(),
        }),
        _ => input.bytes(24).to_vec(),
    }
}

/// A refusal.
pub fn nack(input: &mut Input<'_>) -> Nack {
    let bytes = if input.one_in(8) { 4 } else { 1 };
    let retry_after = Duration::from_millis(input.number(bytes));
    Nack { reason: *input.choose(&REASONS), highest: input.byte().into(), retry_after }
}

/// An operator's command: a verb, and arguments that may fit it.
pub fn command(input: &mut Input<'_>) -> ControlReq {
    use master::control::verb;
    const VERBS: [&str; 9] = [
        verb::STATUS,
        verb::HOSTS,
        verb::REPORTS,
        verb::REPORT,
        verb::IDS,
        verb::PUSH,
        verb::PROBE,
        verb::PUBLISHED,
        "",
    ];
    let verb = match *input.choose(&VERBS) {
        "" => input.text(12),
        known => known.to_owned(),
    };
    let name = input.choose(&["*", "a", "web-1", "stranger", "[", "w[1-0]", "", "A"]);
    let arguments = match (input.below(4), &*verb) {
        (0, _) => input.rest().to_vec(),
        (_, verb::PUSH) => format!("{{\"selector\":\"{name}\"}}").into_bytes(),
        (_, verb::PROBE) => format!("{{\"host\":\"{name}\"}}").into_bytes(),
        (_, verb::PUBLISHED) => format!("{{\"revision\":{}}}", input.byte()).into_bytes(),
        (_, verb::REPORTS) => {
            format!("{{\"host\":\"{name}\",\"limit\":{}}}", input.number(4)).into_bytes()
        }
        (_, verb::REPORT) => format!("{{\"id\":{}}}", input.number(8)).into_bytes(),
        _ => b"{}".to_vec(),
    };
    ControlReq { verb, arguments }
}

/// A whole frame, as its bytes come from a peer. Epochs that mean something to the receiver are
/// taken as often as others.
///
/// # Panics
/// Never: what is built is within the bounds of a frame.
pub fn frame(input: &mut Input<'_>, epochs: &[Epoch]) -> Vec<u8> {
    let kinds: Vec<Kind> = Kind::all().collect();
    let kind = if input.one_in(16) { Kind(input.byte()) } else { *input.choose(&kinds) };
    let mut header = Header::new(kind);
    if input.one_in(8) {
        header.lane = *input.choose(&Lane::ALL);
    }
    if input.one_in(16) {
        header.schema = u16::from(input.byte()) % 4;
    }
    header.epoch = match input.below(4) {
        0 if !epochs.is_empty() => *input.choose(epochs),
        n => Epoch(n as u64),
    };
    header.seq = match input.below(16) {
        0 => u64::MAX - input.number(1) % 4,
        1 => input.number(8),
        _ => input.number(1) % 32,
    };
    if input.one_in(8) {
        header.flags = input.byte() & 0b1100;
        header.hops = input.byte() % (HOPS_MAX + 1);
        header.ttl_s = u32::from(input.byte());
    }
    let route = (!input.one_in(8)).then(|| {
        let origin = Origin { name: name(input), epoch: header.epoch, seq: header.seq };
        let mut route = RouteBuf::from(origin);
        if !input.one_in(4) {
            route.target = Some(name(input));
        }
        if input.one_in(8) {
            route.via = (0..input.below(4)).map(|_| name(input)).collect();
        }
        route
    });
    let mut body = match input.one_in(8) {
        true => input.bytes(64).to_vec(),
        false => body(kind, input),
    };
    if input.one_in(16) {
        // Damaged before it is sealed: the checksum is right.
        damage(&mut body, input);
    }
    body.truncate(kind.body_size_max() as usize);
    let mut bytes = FrameBuf::seal_whole(header, route.as_ref(), &body);
    if input.one_in(16) {
        damage(&mut bytes, input);
    }
    bytes
}

/// Changes a byte, or cuts the end off.
pub fn damage(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = usize::try_from(input.number(2)).unwrap_or(0) % bytes.len().max(1);
    match input.byte() {
        0 => bytes.truncate(at),
        change => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= change;
            }
        }
    }
}
