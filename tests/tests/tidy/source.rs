//! The files of the repository, and Rust source without what is no code.

use std::path::{Path, PathBuf};

/// A text file of the repository.
pub struct SourceFile {
    /// Its path from the top, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The top directory of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies below the top").to_owned()
}

impl SourceFile {
    /// All text files that a clone has; build output and files that are no UTF-8 are left out.
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        collect(&root(), &root(), &mut found);
        assert!(found.len() > 50, "the walk found only {} files", found.len());
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// All Rust files.
    pub fn all_rust() -> Vec<Self> {
        Self::all().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
    }

    /// Rust files of the product: no test, no bench, nothing below `tests/`.
    pub fn product_rust() -> Vec<Self> {
        const CRATES: [&str; 4] = ["engine/src/", "master/src/", "client/src/", "loadgen/src/"];
        let of_product = |file: &Self| {
            CRATES.iter().any(|of| file.path.starts_with(of))
                && !file.path.ends_with("/tests.rs")
                && !file.path.contains("/tests/")
        };
        Self::all_rust().into_iter().filter(of_product).collect()
    }

    /// Its code: comments, text in quotes and `#[cfg(test)]` modules are blanked, lines kept.
    pub fn code(&self) -> String {
        without_tests(&blanked(&self.text))
    }
}

fn collect(dir: &Path, top: &Path, found: &mut Vec<SourceFile>) {
    let entries = std::fs::read_dir(dir).expect("the repository can be read");
    for entry in entries.map(|entry| entry.expect("the repository can be read")) {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().expect("the repository can be read");
        if kind.is_dir() {
            if name != "target" && name != ".git" {
                collect(&path, top, found);
            }
        } else if kind.is_file()
            && name != ".git"
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let path = path.strip_prefix(top).expect("it lies below the top");
            found.push(SourceFile { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// The same text with comments and the insides of literals turned to spaces.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(chars[from..to].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end > at {
            blank(&mut out, at, end);
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let peek = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let find = |from: usize, stop: &str| {
        let stop: Vec<char> = stop.chars().collect();
        let found = chars[from..].windows(stop.len()).position(|w| w == stop);
        found.map_or(chars.len(), |i| from + i + stop.len())
    };
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (peek(0), peek(1)) {
        ('/', '/') => find(at, "\n") - 1,
        ('/', '*') => find(at + 2, "*/"),
        ('"', _) => quoted_end(chars, at + 1),
        ('r', '"' | '#') if !in_word => raw_end(chars, at + 1).unwrap_or(at),
        ('b', 'r') if !in_word && matches!(peek(2), '"' | '#') => {
            raw_end(chars, at + 2).unwrap_or(at)
        }
        // A character, not a lifetime: an escape, or one character and the closing quote.
        ('\'', '\\') => find(at + 3, "'"),
        ('\'', _) if peek(2) == '\'' => at + 3,
        _ => at,
    }
}

fn quoted_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_end(chars: &[char], hashes_from: usize) -> Option<usize> {
    let hashes = chars[hashes_from..].iter().take_while(|c| **c == '#').count();
    (chars.get(hashes_from + hashes) == Some(&'"')).then(|| {
        let stop: String = std::iter::once('"').chain("#".repeat(hashes).chars()).collect();
        let stop: Vec<char> = stop.chars().collect();
        let from = hashes_from + hashes + 1;
        let found = chars[from..].windows(stop.len()).position(|w| w == stop);
        found.map_or(chars.len(), |i| from + i + stop.len())
    })
}

/// Blanks `#[cfg(test)] mod name { … }`; the text must be blanked already, so braces count.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let open = rest.find('{');
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let end = match open {
            Some(open) if open < semicolon => start + open + block_len(&rest[open..]),
            _ => start + (semicolon + 1).min(rest.len()),
        };
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn block_len(block: &str) -> usize {
    let mut depth = 0;
    for (at, c) in block.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    block.len()
}

/// Lines of code that hold one of these words, as `path:line: word`.
pub fn lines_with(file: &SourceFile, words: &[&str]) -> Vec<String> {
    let code = file.code();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        if let Some(word) = words.iter().find(|word| has_word(line, word)) {
            found.push(format!("{}:{}: {word}", file.path, number + 1));
        }
    }
    found
}

/// Whether the line has `word` with no letter, digit or underscore next to it.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !(before.is_some_and(is_part) || after.is_some_and(is_part))
    })
}

#[test]
fn only_code_is_left_of_source() {
    let text = "use a; // x\nlet s = \"mio::\"; /* y */ let c = '\"'; let l: &'a str = r#\"z\"#;\n#[cfg(test)]\nmod tests { fn f() { { } } }\nfn g() {}\n";
    let file = SourceFile { path: "x.rs".into(), text: text.into() };
    let code = file.code();
    assert_eq!(code.lines().count(), text.lines().count());
    for gone in ["x", "mio", "y", "z", "tests", "fn f"] {
        assert!(!has_word(&code, gone), "{gone:?} is still in {code:?}");
    }
    for kept in ["use a", "let s", "let c", "let l", "&'a str", "fn g"] {
        assert!(code.contains(kept), "{kept:?} is not in {code:?}");
    }
}
