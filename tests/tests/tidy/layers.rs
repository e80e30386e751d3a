//! The engine's modules lie in layers: each uses those below it, and no circle is among them.

use crate::assert_none;
use crate::source::SourceFile;
use std::collections::{BTreeMap, BTreeSet};

/// From the lowest to the highest; modules of one layer may use each other, but in no circle.
const LAYERS: [&[&str]; 5] = [
    &["time", "clock", "ids", "limits", "config", "metrics", "sign", "logging"],
    &["wire", "wheel", "appointments"],
    &["release", "queue", "delivery", "blob"],
    &["node"],
    &["reactor", "resolver", "blocking"],
];

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Which of the engine's modules use which: (user, used) → one place.
fn edges() -> BTreeMap<(String, String), String> {
    let mut edges = BTreeMap::new();
    for file in SourceFile::product_rust() {
        let Some(inner) = file.path.strip_prefix("engine/src/") else { continue };
        let user = inner.split(['/', '.']).next().unwrap_or_default().to_owned();
        if user == "lib" {
            continue;
        }
        for (number, line) in crate_paths(&file.code()) {
            for used in line {
                if used != user {
                    let place = format!("{}:{number}", file.path);
                    edges.entry((user.clone(), used)).or_insert(place);
                }
            }
        }
    }
    assert!(edges.len() > 10, "the engine's modules use each other: {edges:?}");
    edges
}

/// The first names behind each `crate::`, with its line number.
fn crate_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            paths.push((line, vec![word(rest)]));
            continue;
        };
        // `crate::{a::b, c::{d, e}}`: the names at the outermost level.
        let (mut depth, mut names, mut from) = (1, Vec::new(), 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == ',' && depth == 1) || depth == 0 {
                names.push(word(&group[from..i]));
                from = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
        names.retain(|name| !name.is_empty());
        paths.push((line, names));
    }
    paths
}

#[test]
fn every_module_of_the_engine_has_a_layer() {
    let modules: BTreeSet<String> = SourceFile::product_rust()
        .iter()
        .filter_map(|file| file.path.strip_prefix("engine/src/"))
        .map(|inner| inner.split(['/', '.']).next().unwrap_or_default().to_owned())
        .filter(|module| module != "lib" && rank(module).is_none())
        .collect();
    assert_none(
        &Vec::from_iter(modules),
        "give these a place in LAYERS and in docs/ARCHITECTURE.md",
    );
}

#[test]
fn no_module_uses_a_higher_layer() {
    let climbing: Vec<String> = edges()
        .into_iter()
        .filter(|((user, used), _)| rank(used) > rank(user))
        .map(|((user, used), place)| format!("{place}: {user} uses {used}"))
        .collect();
    assert_none(&climbing, "these use what lies above them");
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let edges = edges();
    let mut circles = Vec::new();
    for (user, used) in edges.keys() {
        // Whether there is a way back.
        let (mut reached, mut todo) = (BTreeSet::new(), vec![used.clone()]);
        while let Some(module) = todo.pop() {
            if reached.insert(module.clone()) {
                todo.extend(
                    edges.keys().filter(|(from, _)| *from == module).map(|(_, to)| to.clone()),
                );
            }
        }
        if reached.contains(user) {
            circles.push(format!(
                "{}: {user} → {used} → … → {user}",
                edges[&(user.clone(), used.clone())]
            ));
        }
    }
    assert_none(&circles, "these modules use each other in a circle");
}

#[test]
fn paths_are_found_in_groups_too() {
    let code = "use crate::{a::b, c::{d, e}};\nlet x = crate::f::g();";
    let found: Vec<String> = crate_paths(code).into_iter().flat_map(|(_, names)| names).collect();
    assert_eq!(found, ["a", "c", "f"]);
}
