//! docs/TESTING.md lists every promise with a test, and every such test; and every error that
//! docs/OPERATIONS.md lists has one.

use crate::source::{SourceFile, has_word, root};
use crate::{assert_none, document};
use std::collections::{BTreeMap, BTreeSet};

/// The rows of the table: id → (promise, what stands in backquotes in the column of tests).
fn rows(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, promise, tests, mutation] = cells[..] else { continue };
        if is_id(id) {
            assert!(!promise.is_empty(), "{id} has no promise");
            assert!(!mutation.is_empty(), "{id}: which mutation of the mechanism makes it fail?");
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let old = rows.insert(id.to_owned(), (promise.to_owned(), tests));
            assert!(old.is_none(), "{id} has two rows");
        }
    }
    rows
}

/// `S1-53`, `S2-11`, `E2`.
fn is_id(id: &str) -> bool {
    let number =
        id.strip_prefix("S1-").or_else(|| id.strip_prefix("S2-")).or_else(|| id.strip_prefix('E'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The id that a test's name begins with: `s1_53_…` → `S1-53`.
fn id_of(test: &str) -> Option<String> {
    let (first, rest) = test.split_once('_')?;
    let id = if matches!(first, "s1" | "s2") {
        format!("{}-{}", first.to_uppercase(), rest.split('_').next()?)
    } else {
        first.to_uppercase()
    };
    is_id(&id).then_some(id)
}

/// All functions with a name like a row's test, with their files.
fn tests_by_name() -> BTreeMap<String, BTreeSet<String>> {
    let mut tests: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for file in SourceFile::all_rust() {
        for line in file.text.lines() {
            // A suite that runs on two backends is a macro or a generic function: the name
            // stands behind `fn` all the same.
            let Some((_, after)) = line.split_once("fn ") else { continue };
            let name: String =
                after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if id_of(&name).is_some() {
                tests.entry(name).or_default().insert(file.path.clone());
            }
        }
    }
    tests
}

#[test]
fn every_row_names_tests_that_exist() {
    let sources = SourceFile::all_rust();
    let mut findings = Vec::new();
    for (id, (_, tests)) in rows(&document("docs/TESTING.md")) {
        if tests.is_empty() {
            findings.push(format!("{id} names no test"));
        }
        for test in tests {
            let exists = if test.contains('/') {
                root().join(&test).exists()
            } else {
                sources.iter().any(|file| has_word(&file.text, &format!("fn {test}")))
            };
            if !exists {
                findings.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    assert_none(&findings, "docs/TESTING.md names what does not exist");
}

/// The rows of the tables whose last column is `test`: each with the tests that it names.
fn rows_with_tests(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut is_table = false;
    for line in text.lines() {
        is_table = line.starts_with('|') && (is_table || line.ends_with("| test |"));
        if let Some(row) = line.strip_prefix("| ").filter(|_| is_table)
            && let Some((rest, tests)) = row.trim_end_matches(" |").rsplit_once(" | ")
            && tests != "test"
        {
            rows.push((rest, tests.split('`').skip(1).step_by(2).collect()));
        }
    }
    rows
}

#[test]
fn every_error_that_is_listed_has_a_test() {
    let sources = SourceFile::all_rust();
    let is_test = |name: &str| {
        let head = format!("#[test]\nfn {name}(");
        let inner = format!("#[test]\n    fn {name}(");
        sources.iter().any(|file| file.text.contains(&head) || file.text.contains(&inner))
    };
    let text = document("docs/OPERATIONS.md");
    let rows = rows_with_tests(&text);
    assert!(rows.len() > 40, "only {} errors are listed", rows.len());
    let mut findings = Vec::new();
    for (row, tests) in rows {
        if tests.is_empty() {
            findings.push(format!("no test is named: {row}"));
        }
        let missing = tests.iter().filter(|test| !is_test(test));
        findings.extend(missing.map(|test| format!("there is no test {test}: {row}")));
    }
    assert_none(&findings, "docs/OPERATIONS.md lists errors without a test");
}

#[test]
fn every_test_of_a_row_is_listed() {
    let rows = rows(&document("docs/TESTING.md"));
    let mut missing = Vec::new();
    for (test, files) in tests_by_name() {
        let id = id_of(&test).expect("only such are collected");
        if !rows.get(&id).is_some_and(|(_, tests)| tests.contains(&test)) {
            missing.push(format!("{id}: `{test}` ({})", Vec::from_iter(files).join(", ")));
        }
    }
    assert_none(&missing, "list these tests in docs/TESTING.md, with promise and mutation");
}

#[test]
fn ids_are_read_from_names() {
    assert_eq!(id_of("s1_53_duplicates_are_removed").as_deref(), Some("S1-53"));
    assert_eq!(id_of("e2_stale_close").as_deref(), Some("E2"));
    assert_eq!(id_of("every_link"), None);
    assert_eq!(id_of("e_mail"), None);
    assert_eq!(rows("| S1-2 | it does | `a`, `b` | removed it |\n| x | y | z | w |\n").len(), 1);
}
