//! One engine, and roles on it: master, client and load generator differ in their table of
//! handlers alone.

use crate::assert_none;
use crate::source::{SourceFile, has_word, root};

/// The programs.
const PROGRAMS: [&str; 3] = ["master", "client", "loadgen"];
/// Who stands behind a reactor: the node, and a swarm of nodes.
const HOSTS: [&str; 2] = ["engine/src/node/mod.rs", "loadgen/src/clients/swarm.rs"];

/// The files of the product that implement a trait, by path.
fn implementors(of: &str) -> Vec<String> {
    let implements = |line: &str| {
        let line = line.trim_start();
        line.starts_with("impl") && line.contains(&format!(" {of} for "))
    };
    let files = SourceFile::product_rust();
    let files = files.iter().filter(|file| file.code().lines().any(implements));
    files.map(|file| file.path.clone()).collect()
}

#[test]
fn s1_31_every_program_is_the_one_engine_with_a_table_of_handlers() {
    for program in PROGRAMS {
        let manifest = std::fs::read_to_string(root().join(program).join("Cargo.toml"));
        let manifest = manifest.expect("each program has a manifest");
        assert!(manifest.contains("\nengine.workspace = true"), "{program} is not on the engine");
    }
    let mut roles = implementors("Role");
    roles.retain(|path| !path.contains("/testing"));
    let expected: Vec<String> =
        ["client/src/daemon/role.rs", "loadgen/src/clients/role.rs", "master/src/daemon/role.rs"]
            .map(str::to_owned)
            .into();
    assert_eq!(roles, expected, "one role a program, and none in the engine");
    assert_eq!(implementors("Host"), HOSTS, "frames are sorted by the node alone");
}

#[test]
fn s1_31_what_is_common_is_done_in_the_engine_alone() {
    // Whoever needs these builds a node, a loop or a wire format of its own.
    const ENGINE_ONLY: [&str; 6] =
        ["Decoder", "Header", "Outbound", "Inbound", "Verdict", "NackReason::Busy"];
    let mut found = Vec::new();
    for file in SourceFile::product_rust() {
        // Bad peers are made to be no nodes.
        let is_program = PROGRAMS.iter().any(|p| file.path.starts_with(&format!("{p}/")))
            && !file.path.starts_with("loadgen/src/peers/");
        if is_program && !HOSTS.contains(&file.path.as_str()) {
            let code = file.code();
            let words = ENGINE_ONLY.iter().filter(|word| has_word(&code, word));
            found.extend(words.map(|word| format!("{}: {word}", file.path)));
        }
    }
    assert_none(&found, "this is the engine's: let a role ask its Context for it");
}
