//! Writes the seeds of all targets into `corpus/`: what a right peer, operator or disk says, so
//! that the fuzzer need not guess checksums and formats. From here on it finds its own way.
//!
//! `cargo run --bin seeds`, without the fuzzer's flags; what is there already is left alone.

use engine::ids::Epoch;
use engine::queue::marks::{Marks, SenderKey};
use engine::release::{
    Assignment, Attribute, Catalog, FileEntry, ManifestBlob, Resource, Tree, TreeEntry,
};
use engine::wire::{Frame, encode};
use fuzz::frames::signing_key;
use master::release::{Line, Listed, Release};
use std::fs;
use std::io;
use std::path::Path;

/// The bytes of every kind, as the wire's tests pin them.
const GOLDEN: &str = include_str!("../../../engine/src/wire/tests/golden.txt");
const BODIES: [&str; 14] = [
    "BindReq",
    "BindAck",
    "BindResp",
    "Poll",
    "Heartbeat",
    "Report",
    "Manifest",
    "FetchReq",
    "FetchRefused",
    "StatusReq",
    "StatusResp",
    "ControlReq",
    "ControlResp",
    "Nack",
];

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), bytes)
    };
    let mut stream = Vec::new();
    for line in GOLDEN.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, bytes) = (words[0], from_hex(words[2]));
        write("header", kind, &bytes)?;
        stream.extend_from_slice(&bytes);
        let frame = Frame::parse(&bytes).expect("golden bytes are frames");
        if let Some(which) = (0..).zip(BODIES).find_map(|(n, name)| (name == kind).then_some(n)) {
            write("bodies", kind, &[&[which], frame.body()].concat())?;
        }
        if kind == "Report" {
            write("bodies", "record", &[&[20], &bytes[..]].concat())?;
        }
    }
    // Cut here and there, one frame in two parked; then the stream as it is.
    let how = [10, 20, 40, 80, 120, 160, 200, 240, 0xaa, 0xaa, 0xaa, 0x2a, 1];
    write("decoder", "every-kind", &[&how[..], &stream].concat())?;
    for (name, which, archive) in archives() {
        write("bodies", name, &[&[which], &archive[..]].concat())?;
    }
    write("bodies", "pattern", b"\x15web-[0-9]*.example\nweb-1.example")?;
    commands(&write)?;
    texts(&write)?;
    // A node's input is a list of choices: any bytes are one.
    let mut rng = fastrand::Rng::with_seed(4);
    for (role, name) in [(0, "master"), (1, "client")] {
        for n in 0..24 {
            let mut choices: Vec<u8> = (0..rng.usize(64..512)).map(|_| rng.u8(..)).collect();
            choices[0] = role;
            write("node", &format!("{name}-{n:02}"), &choices)?;
        }
    }
    Ok(())
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits are ASCII");
        u8::from_str_radix(pair, 16).expect("golden bytes are hexadecimal")
    };
    digits.map(byte).collect()
}

fn archives() -> Vec<(&'static str, u8, Vec<u8>)> {
    let assignment = Assignment {
        schema: 1,
        pattern: "web-*".to_owned(),
        excludes: vec!["web-9".to_owned()],
        revision: 7,
        manifest: [3; 32],
        manifest_size: 100,
        issued_ms: 1_000,
        expires_ms: u64::MAX,
    };
    let signed = encode(&assignment.sign(signing_key()));
    let file = FileEntry { name: b"files/motd".to_vec(), hash: [2; 32], size: 12, mode: 0o644 };
    let manifest =
        ManifestBlob { schema: 1, catalog: [1; 32], catalog_size: 10, files: vec![file] };
    let attribute = |key: &str, value: &str| Attribute {
        key: key.to_owned(),
        values: vec![value.as_bytes().to_vec()],
    };
    let resource =
        |kind: &str, name: &str, requires: &[u32], attributes: &[(&str, &str)]| Resource {
            kind: kind.to_owned(),
            name: name.as_bytes().to_vec(),
            attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
            requires: requires.to_vec(),
            source: "policies/p/policy.yaml:1".to_owned(),
        };
    let hash = "ab".repeat(32);
    let resources = vec![
        resource("directory", "/etc", &[], &[("mode", "0755")]),
        resource("file", "/etc/motd", &[0], &[("hash", &hash), ("size", "12"), ("mode", "0644")]),
        resource("symlink", "/etc/link", &[0], &[("target", "motd")]),
        resource("exec", "look", &[1, 2], &[("command", "true"), ("timeout_ms", "100")]),
        resource("absent", "/etc/gone", &[], &[]),
    ];
    let entry = |path: &str, kind: u8, target: &str| TreeEntry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o755,
        hash: [0; 32],
        size: 0,
        target: target.as_bytes().to_vec(),
    };
    let entries = vec![entry("", 1, ""), entry("a", 2, ""), entry("b", 3, "a")];
    let line = |pattern: &str| Line {
        pattern: pattern.to_owned(),
        assignment: signed.clone(),
        manifest: [3; 32],
        manifest_size: 100,
    };
    let release = Release {
        schema: 1,
        site: "example".to_owned(),
        revision: 7,
        issued_ms: 1_000,
        expires_ms: u64::MAX,
        key_id: [0; 8],
        lines: vec![line("web-*"), line("a")],
        blobs: vec![Listed { name: b"@manifest".to_vec(), hash: [3; 32], size: 100 }],
    };
    let mut marks = Marks::default();
    for (n, name) in (1..).zip(["a", "b", "web-1"]) {
        marks.gather(SenderKey::of(name.as_bytes()), Epoch(n), 5);
        marks.commit(SenderKey::of(name.as_bytes()), Epoch(n), 5);
    }
    let page = marks.changed_pages().remove(0).1;
    vec![
        ("assignment", 14, signed),
        ("manifest", 15, encode(&manifest)),
        ("catalog", 16, encode(&Catalog { schema: 1, resources })),
        ("tree", 17, encode(&Tree { schema: 1, entries })),
        ("release", 18, encode(&release)),
        ("marks", 19, [&[0, 1][..], &page].concat()),
    ]
}

type Write<'a> = &'a dyn Fn(&str, &str, &[u8]) -> io::Result<()>;

fn commands(write: Write<'_>) -> io::Result<()> {
    // The length of the verb, the verb, and its arguments as they are.
    for (verb, arguments) in [
        ("status", "{}"),
        ("hosts", "{\"silent\":true,\"after\":\"a\"}"),
        ("reports", "{\"host\":\"a\",\"failed\":true,\"limit\":10,\"since_ms\":5}"),
        ("report", "{\"id\":3}"),
        ("ids", "{\"after\":3}"),
        ("push", "{\"selector\":\"web-*\"}"),
        ("probe", "{\"host\":\"a\"}"),
        ("published", "{\"revision\":3}"),
    ] {
        let len = u8::try_from(verb.len()).expect("verbs are short");
        write("control", verb, &[&[1, len], verb.as_bytes(), arguments.as_bytes()].concat())?;
    }
    write("control", "refusal", b"\x00\x00{\"error\":\"no\",\"hint\":\"ask again\"}")?;
    write(
        "control",
        "progress",
        b"\x00\x06{\"progress\":{\"targets\":3,\"in_flight\":1,\"done\":1,\"failed\":1}}",
    )?;
    write(
        "control",
        "probed",
        b"\x00\x07{\"steps\":[{\"name\":\"dial\",\"ok\":true,\"detail\":\"\"}]}",
    )?;
    write("control", "several", &[2, 5, 1, 1, 6, 1, 1, 7, 1, 9, 0, 1, 1, 4, 2, 1])
}

fn texts(write: Write<'_>) -> io::Result<()> {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/example-site");
    let read = |name: &str| fs::read_to_string(site.join(name));
    write("text", "table", b"\x00# a table\na 127.0.0.1\nb [::1]:7401\nb 127.0.0.2:80\n")?;
    write("text", "master", b"\x01listen = \"0.0.0.0:7400\"\nsilent_after = \"30m\"\ninbox_bytes_high = \"1GiB\"\ndns_servers = [\"127.0.0.1:53\"]\n[limits]\nidle_timeout = \"60s\"\n")?;
    write("text", "client", b"\x02name = \"a\"\nmaster = [\"m1\", \"m2:7400\"]\nroot = \"/srv\"\ncheck_interval = \"30m\"\nlog_level = \"warn\"\n")?;
    for (n, small) in (0..).zip(["web-1.example", "90m", "64MiB", "[::1]:7400", "127.0.0.1:80"]) {
        write("text", &format!("small-{n}"), &[b"\x03", small.as_bytes()].concat())?;
    }
    let public = format!("\x03{}", signing_key().public());
    write("text", "small-key", public.as_bytes())?;
    for policy in ["base", "kernel", "ssh", "web"] {
        // The policy alone, with the inventory, group and settings that the target has.
        let policy_yaml = read(&format!("policies/{policy}/policy.yaml"))?;
        let text = format!("\x04\u{c}{policy_yaml}");
        write("text", &format!("policy-{policy}"), text.as_bytes())?;
    }
    let all = format!("\x05{}\u{c}\u{c}{}", read("hosts.yaml")?, read("groups/everyone.yaml")?);
    write("text", "inventory", all.as_bytes())?;
    write("text", "settings", format!("\x06\u{c}\u{c}\u{c}{}", read("site.toml")?).as_bytes())
}
