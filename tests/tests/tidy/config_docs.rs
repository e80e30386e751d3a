//! docs/CONFIG.md lists every key of both configuration files, with default and unit.

use crate::source::root;
use crate::{assert_none, document};
use std::collections::BTreeMap;

/// A key of a configuration, as the source has it.
struct Key {
    name: String,
    /// From its comment, where that ends with "Default: `x`."; master.toml only.
    default: Option<String>,
}

/// The fields of one struct.
fn keys(path: &str, of: &str) -> Vec<Key> {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let from = text
        .find(&format!("struct {of} {{"))
        .unwrap_or_else(|| panic!("{path} has no struct {of}"));
    let (mut keys, mut comment) = (Vec::new(), String::new());
    for line in text[from..].lines().skip(1).map(str::trim).take_while(|line| *line != "}") {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
        } else if !line.starts_with("#[") && line.contains(": ") {
            let name = line.trim_start_matches("pub ").split(':').next().unwrap_or_default();
            keys.push(Key { name: name.to_owned(), default: stated(&comment) });
            comment.clear();
        }
    }
    assert!(keys.len() > 3, "{path}: {of} has keys");
    keys
}

/// `10m` of "… Default: `10m`."
fn stated(comment: &str) -> Option<String> {
    let (_, after) = comment.split_once("Default:")?;
    Some(after.trim().trim_end_matches('.').trim_matches('`').to_owned())
}

/// The rows of one section: key → (default, unit).
fn rows(text: &str, section: &str) -> BTreeMap<String, (String, String)> {
    text.lines()
        .skip_while(|line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
            let [key, default, unit, ..] = cells[..] else { return None };
            let plain = |cell: &str| cell.trim_matches('`').to_owned();
            Some((key.trim_end_matches('`').to_owned(), (plain(default), plain(unit))))
        })
        .collect()
}

fn compare(section: &str, keys: &[Key]) -> Vec<String> {
    let text = document("docs/CONFIG.md");
    let mut rows = rows(&text, section);
    let mut findings = Vec::new();
    for Key { name, default } in keys {
        match rows.remove(name) {
            None => findings.push(format!("{section}: {name} is not listed")),
            Some((shown, unit)) if shown.is_empty() || unit.is_empty() => {
                findings.push(format!("{section}: {name} lacks its default or its unit"));
            }
            Some((shown, _)) if default.as_ref().is_some_and(|d| *d != shown) => {
                findings.push(format!(
                    "{section}: {name} has the default {shown}, the code says {default:?}"
                ));
            }
            Some(_) => {}
        }
    }
    findings.extend(rows.keys().map(|key| format!("{section}: {key} is no key")));
    findings
}

#[test]
fn every_key_of_the_master_is_listed() {
    let path = "master/src/config.rs";
    let mut all = keys(path, "MasterConfig");
    all.retain(|key| key.name != "limits");
    all.extend(
        keys(path, "LimitsConfig")
            .into_iter()
            .map(|key| Key { name: format!("limits.{}", key.name), ..key }),
    );
    assert_none(&compare("## master.toml", &all), "docs/CONFIG.md and the code differ");
}

#[test]
fn every_key_of_the_client_is_listed() {
    let all = keys("client/src/config.rs", "ConfigFile");
    assert_none(&compare("## client.toml", &all), "docs/CONFIG.md and the code differ");
}
