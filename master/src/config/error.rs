//! What can be wrong with a configuration file.

use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: {error}; {}", path.display(), unreadable_hint(error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What exactly.
        error: io::Error,
    },
    /// A key that does not exist.
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), meant(nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or no TOML at all.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What exactly.
        problem: String,
    },
    /// Values that do not go together.
    #[error("{}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What exactly, and what to write instead.
        problem: String,
    },
}

fn unreadable_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::IsADirectory => "--config takes the file in it, such as master.toml",
        io::ErrorKind::PermissionDenied => "run drover as the user that it belongs to",
        _ => "name the file with --config, or make one with `drover init DIR`",
    }
}

#[expect(clippy::ref_option, reason = "thiserror hands fields over by reference")]
fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(
        || "; docs/CONFIG.md lists the keys".to_owned(),
        |word| format!(": did you mean `{word}`?"),
    )
}

impl ConfigError {
    pub(super) fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        let path = path.to_owned();
        // serde has the list of keys, and hands it on in its message alone: "unknown field
        // `a`, expected one of `b`, `c`".
        let mut quoted = error.message().split('`').skip(1).step_by(2);
        match quoted.next() {
            Some(key) if error.message().starts_with("unknown field") => {
                let nearest = nearest(key, quoted).map(str::to_owned);
                Self::UnknownKey { path, line, key: key.to_owned(), nearest }
            }
            _ => Self::Line { path, line, problem: error.message().trim().to_owned() },
        }
    }
}

/// The candidate that takes the fewest edits, if they are few.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        .filter(|(edits, candidate)| *edits <= 1 + candidate.len() / 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
