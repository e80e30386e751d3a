//! `tests/fuzz` is a workspace of its own: what it shares with this one is compared here.

use crate::source::root;
use crate::{assert_none, document};
use std::collections::{BTreeMap, BTreeSet};

/// Seeds and what was kept of what runs have found, in bytes.
const CORPUS_SIZE_MAX: u64 = 500_000;

/// The lines of a table of a manifest, without blank ones.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]"));
    let lines = lines.skip(1).take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Versions of each package of a lock file.
fn versions(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let value = |line: &'_ str, key: &str| -> Option<(usize, usize)> {
        let from = line.strip_prefix(key).map(|_| key.len() + 1)?;
        Some((from, line.len() - 1))
    };
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some((from, to)) = value(line, "name = ") {
            name = &line[from..to];
        } else if let Some((from, to)) = value(line, "version = ")
            && !name.is_empty()
        {
            found.entry(name).or_default().insert(&line[from..to]);
        }
    }
    found
}

#[test]
fn the_fuzzing_targets_are_held_to_the_same_lints() {
    let (ours, theirs) = (document("Cargo.toml"), document("tests/fuzz/Cargo.toml"));
    for of in ["rust", "clippy"] {
        let lints = table(&ours, &format!("workspace.lints.{of}"));
        assert!(lints.len() > 3, "{lints:?}");
        assert_eq!(table(&theirs, &format!("lints.{of}")), lints, "lints.{of}");
    }
}

#[test]
fn what_is_fuzzed_has_the_dependencies_that_are_shipped() {
    let (ours, theirs) = (document("Cargo.lock"), document("tests/fuzz/Cargo.lock"));
    let (ours, theirs) = (versions(&ours), versions(&theirs));
    assert!(ours.len() > 100 && theirs.len() > 50, "{} and {}", ours.len(), theirs.len());
    let other = theirs.iter().filter_map(|(name, versions)| {
        let ours = ours.get(name)?;
        (!versions.is_subset(ours)).then(|| format!("{name} {versions:?}, here {ours:?}"))
    });
    assert_none(
        &other.collect::<Vec<_>>(),
        "bring tests/fuzz/Cargo.lock to these versions (`cargo update -p NAME --precise VERSION` there)",
    );
}

#[test]
fn every_fuzzing_target_is_run_and_has_seeds() {
    let (manifest, script) = (document("tests/fuzz/Cargo.toml"), document("tests/fuzz/run.sh"));
    let run = script.lines().find_map(|line| line.strip_prefix("targets=("));
    let run = run.and_then(|line| line.strip_suffix(')')).expect("run.sh lists the targets");
    let run: BTreeSet<&str> = run.split(' ').collect();
    let path = |line: &'_ str| line.strip_prefix("path = \"targets/").map(str::len);
    let built: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| path(line).map(|len| &line[line.len() - len..]))
        .map(|name| name.trim_end_matches(".rs\""))
        .collect();
    assert_eq!(run, built);
    let mut size = 0;
    for target in run {
        let seeds = std::fs::read_dir(root().join("tests/fuzz/corpus").join(target));
        let seeds = seeds.unwrap_or_else(|e| panic!("{target} has no seeds: {e}"));
        let sizes = seeds.map(|seed| seed.and_then(|seed| seed.metadata()).map(|meta| meta.len()));
        let sizes: Vec<u64> = sizes.collect::<Result<_, _>>().expect("seeds can be read");
        assert!(!sizes.is_empty(), "{target} has no seeds");
        size += sizes.iter().sum::<u64>();
    }
    assert!(size < CORPUS_SIZE_MAX, "the corpus has {size} bytes");
}
