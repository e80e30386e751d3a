//! Every link in a document leads somewhere: to a file, or to a heading.

use crate::assert_none;
use crate::source::{SourceFile, root};
use std::path::{Component, Path, PathBuf};

/// Targets of `[text](target)` outside code, with their line numbers.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target: String = line[at + 2..].chars().take_while(|c| *c != ')').collect();
            links.push((number, target));
        }
    }
    links
}

/// Lines outside of code fences, without `code`.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside: String = line.split('`').step_by(2).collect();
            lines.push((number + 1, outside));
        }
    }
    lines
}

/// The anchors that a document's headings have.
fn anchors(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let (mut broken, mut seen) = (Vec::new(), 0);
    for file in SourceFile::all().iter().filter(|file| file.path.ends_with(".md")) {
        for (number, target) in links(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let here = Path::new(&file.path);
            let aim = if path.is_empty() {
                here.to_owned()
            } else {
                normal(&here.parent().unwrap_or(Path::new("")).join(path))
            };
            let aim_text = std::fs::read_to_string(root().join(&aim)).unwrap_or_default();
            let found = root().join(&aim).exists()
                && (anchor.is_empty() || anchors(&aim_text).iter().any(|a| a == anchor));
            if !found {
                broken.push(format!("{}:{number}: {target}", file.path));
            }
        }
    }
    assert!(seen > 10, "only {seen} links were found");
    assert_none(&broken, "these links lead nowhere");
}

#[test]
fn links_and_headings_are_found() {
    let text = "# A `b` c\n[x](y.md#z) `[n](o)`\n```\n[p](q)\n# no\n```\n";
    assert_eq!(links(text), [(2, "y.md#z".to_owned())]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
