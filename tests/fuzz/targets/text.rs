//! What people write: configurations, tables, keys, names, quantities, and a whole site. Whatever
//! it is, the answer is a value or a mistake with its place.

#![no_main]

use client::config::Config;
use engine::config::{format_duration, parse_addr, parse_duration, parse_size};
use engine::ids::{BlobHash, HostName};
use engine::resolver::Table;
use engine::sign::{PublicKey, SigningKey};
use libfuzzer_sys::fuzz_target;
use master::config::MasterConfig;
use master::release::Measure;
use master::site::{CompileError, compile};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    if which % 8 == 0 {
        return table(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match which % 8 {
        1 => {
            if let Err(error) = MasterConfig::parse(text, Path::new("/etc/drover/master.toml")) {
                assert!(error.to_string().contains("master.toml"), "{error} names no file");
            }
        }
        2 => {
            if let Err(error) = Config::parse(text, Path::new("/etc/drover/client.toml")) {
                assert!(error.to_string().contains("client.toml"), "{error} names no file");
            }
        }
        3 => small(text),
        _ => site(text),
    }
});

fn table(text: &[u8]) {
    match Table::parse(text) {
        Ok(table) => {
            assert_eq!(table.len(), table.iter().count());
            for (name, addrs) in table.iter() {
                assert_eq!(table.addrs(name), Some(addrs));
                assert!(!addrs.is_empty());
            }
            let _ = table.shared();
        }
        Err((line, problem)) => {
            let lines = text.split(|b| *b == b'\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        }
    }
}

fn small(text: &str) {
    if let Ok(name) = HostName::parse(text.as_bytes()) {
        assert_eq!(HostName::parse(name.as_str().as_bytes()), Ok(name));
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    let _ = parse_size(text);
    if let Ok(addr) = parse_addr(text) {
        assert_eq!(parse_addr(&addr.to_string()), Ok(addr));
    }
    if let Some(hash) = BlobHash::from_hex(text) {
        assert_eq!(hash.to_hex(), text.to_ascii_lowercase());
    }
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(PublicKey::parse(&key.to_string()), Ok(key));
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(SigningKey::parse(&key.to_text()).map(|again| again.public()), Ok(key.public()));
    }
}

/// A site of four files, separated by form feeds: inventory, a policy, a group, settings. What is
/// left out is as in [`DEFAULTS`].
fn site(text: &str) {
    const NAMES: [&str; 4] = ["hosts.yaml", "policies/p/policy.yaml", "groups/g.yaml", "site.toml"];
    const DEFAULTS: [&str; 4] = [
        "hosts:\n  - {host: web-1, groups: [g]}\n  - {host: \"*\", policies: [p]}\n",
        "resources:\n  - file: /etc/motd\n    content: \"hello\\n\"\n",
        "policies: [p]\n",
        "site = \"fuzz\"\n",
    ];
    let dir = directory();
    let mut parts = text.split('\u{c}');
    for (name, default) in NAMES.iter().zip(DEFAULTS) {
        let part = parts.next().filter(|part| !part.is_empty()).unwrap_or(default);
        fs::write(dir.join(name), part).expect("there is room in the temporary directory");
    }
    match compile(dir, &mut Measure::default(), &mut |_| {}) {
        Ok(compiled) => assert!(compiled.sets.len() <= compiled.lines.len().max(1)),
        Err(CompileError::Mistakes(mistakes)) => {
            assert!(!mistakes.is_empty(), "refused, and nobody knows why");
            for mistake in mistakes.iter() {
                assert!(!mistake.to_string().is_empty());
            }
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Where the site is written. A process that aborts removes nothing: `run.sh` does, and has it in
/// memory where there is such a place.
fn directory() -> &'static Path {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = TempDir::new().expect("a temporary directory can be made");
        for below in ["policies/p/files", "groups"] {
            fs::create_dir_all(dir.path().join(below)).expect("it was made just now");
        }
        dir
    });
    dir.path()
}
