//! Licences of all dependencies are among those allowed, and no direct dependency is there in
//! two versions.

use crate::assert_none;
use crate::source::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences under which a dependency may come.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "OLDAP-2.8",
    "Unicode-3.0",
    "Zlib",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether an SPDX expression can be met with the licences allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = any_of(&words, &mut at);
    allowed && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        allowed |= all_of(words, at);
    }
    allowed
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut allowed = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let allowed = any_of(words, at);
        *at += 1;
        return allowed;
    }
    if words.get(*at) == Some(&"WITH") {
        let with = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
        return LICENCES.contains(&with.as_str());
    }
    LICENCES.contains(word)
}

#[test]
fn every_licence_is_allowed() {
    let metadata = metadata();
    let packages = list(&metadata["packages"]);
    assert!(packages.len() > 20, "only {} packages", packages.len());
    let foreign: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(text(package, "license")))
        .map(|p| format!("{} {}: {:?}", text(p, "name"), text(p, "version"), text(p, "license")))
        .collect();
    assert_none(
        &foreign,
        "these licences are not allowed; take another crate, or decide on the list",
    );
}

#[test]
fn no_direct_dependency_comes_in_two_versions() {
    let metadata = metadata();
    let members: BTreeSet<&str> =
        list(&metadata["workspace_members"]).iter().filter_map(Value::as_str).collect();
    let (mut direct, mut versions) = (BTreeSet::new(), BTreeMap::<&str, BTreeSet<&str>>::new());
    for package in list(&metadata["packages"]) {
        if members.contains(text(package, "id")) {
            direct.extend(list(&package["dependencies"]).iter().map(|d| text(d, "name")));
        }
        versions
            .entry(text(package, "name"))
            .or_default()
            .insert(compatible(text(package, "version")));
    }
    let doubled: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| direct.contains(*name) && versions.len() > 1)
        .map(|(name, versions)| {
            format!("{name}: {}", Vec::from_iter(versions.iter().copied()).join(", "))
        })
        .collect();
    assert_none(
        &doubled,
        "each of these is built twice; bring users to one version (`cargo tree -d`)",
    );
}

/// The part of a version within which versions replace each other: `1`, `0.23`, `0.0.3`.
fn compatible(version: &str) -> &str {
    let parts = version.split('.').take_while(|part| *part == "0").count() + 1;
    let end = version.match_indices('.').nth(parts - 1).map_or(version.len(), |(at, _)| at);
    &version[..end]
}

#[test]
fn expressions_and_versions_are_read() {
    for allowed in
        ["MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0 WITH other", "(GPL-3.0 OR AGPL-3.0)"]
    {
        assert!(!is_allowed(refused), "{refused}");
    }
    assert_eq!(["1.2.3", "0.23.1", "0.0.3"].map(compatible), ["1", "0.23", "0.0.3"]);
}
