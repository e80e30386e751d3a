//! Rules of this repository that no compiler checks: layers, who may touch what, sizes of
//! files, and that the documents say what the code does.

mod config_docs;
mod dependencies;
mod fuzz;
mod layers;
mod links;
mod paths;
mod protocol_docs;
mod roles;
mod source;
mod testing_docs;
mod touch;

use source::{SourceFile, root};

/// Longest Rust file, in lines: beyond it a file is more than one noun.
const LINES_MAX: usize = 700;

#[test]
fn no_rust_file_is_longer_than_one_noun() {
    let long: Vec<String> = SourceFile::all_rust()
        .iter()
        .filter(|file| file.text.lines().count() > LINES_MAX)
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    assert_none(&long, "split these by noun");
}

/// Fails with all findings at once, one a line, and what to do about them.
#[track_caller]
fn assert_none(findings: &[String], advice: &str) {
    assert!(findings.is_empty(), "{advice}:\n  {}\n", findings.join("\n  "));
}

/// The text of a document; empty if there is none, so that the test says what is missing in it.
fn document(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}
