//! What is wrong with a configuration file, in the words of who writes it: which line and key,
//! what was found there, what is expected, and an example. What parsers say by themselves speaks
//! of types.

use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Characters of a value that are shown.
const FOUND_MAX: usize = 60;

/// What a key of a configuration takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name, with those of the tables around it: `limits.idle_timeout`.
    pub name: &'static str,
    /// What it takes, in words.
    pub expects: &'static str,
    /// One that works, as it stands in a file.
    pub example: &'static str,
}

/// Makes a table of [`Key`]s.
#[must_use]
pub const fn key(name: &'static str, expects: &'static str, example: &'static str) -> Key {
    Key { name, expects, example }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; `None` if what is wrong does not stand in the file.
    pub line: Option<usize>,
    /// What it is.
    pub what: Box<What>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A key that does not exist.
    #[error("unknown key `{key}`{}", meant(nearest.as_deref(), known))]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// The keys that there are.
        known: Vec<String>,
    },
    /// A key that must be there.
    #[error("the key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A value of another kind than its key takes.
    #[error("{name} = {found}: expected {}, such as {}", key.expects, key.example)]
    Value {
        /// The key's name.
        name: String,
        /// What the key takes.
        key: Key,
        /// What stands there.
        found: String,
    },
    /// A value that its own reader has words for.
    #[error("{key}: {words}")]
    Told {
        /// The key.
        key: String,
        /// What its reader says.
        words: String,
    },
    /// A value that makes no sense, alone or beside another; the words name the key.
    #[error("{0}")]
    Senseless(String),
    /// It is no TOML.
    #[error("this is no TOML: {0}")]
    Syntax(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.map_or(Ok(()), |line| write!(f, "{line}:"))?;
        write!(f, " {}", self.what)
    }
}

fn meant(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(word) => format!(": did you mean `{word}`?"),
        None => format!("; the keys here are {}", known.join(", ")),
    }
}

impl Mistake {
    /// What an error of reading this text means, whose keys these are.
    #[must_use]
    pub fn of(error: &toml::de::Error, text: &str, keys: &[Key]) -> Self {
        let span = error.span().unwrap_or(0..0);
        let line = Some(line_at(text, span.start));
        Self { line, what: Box::new(what(error.message().trim(), span, text, keys)) }
    }

    /// What makes no sense though it can be read. It stands at the first of these keys that is in
    /// the text: the others have their defaults.
    #[must_use]
    pub fn senseless(text: &str, keys: &[&str], words: String) -> Self {
        let table = DeTable::parse(text).ok();
        let place = |table: &Spanned<DeTable<'_>>| {
            keys.iter().find_map(|key| place_of(table.get_ref(), key))
        };
        let line = table.as_ref().and_then(place).map(|at| line_at(text, at));
        Self { line, what: Box::new(What::Senseless(words)) }
    }
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

/// Where the key of this name stands.
fn place_of(table: &DeTable<'_>, name: &str) -> Option<usize> {
    let (first, rest) = name.split_once('.').map_or((name, None), |(a, b)| (a, Some(b)));
    let (key, value) = table.iter().find(|(key, _)| *key.get_ref() == first)?;
    match rest {
        None => Some(key.span().start),
        Some(rest) => place_of(value.get_ref().as_table()?, rest),
    }
}

fn what(message: &str, span: Range<usize>, text: &str, keys: &[Key]) -> What {
    // serde has the list of keys, and hands it on in its message alone: "unknown field `a`,
    // expected one of `b`, `c`".
    let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
    // A date in the place of a table is to serde a table with a key of the parser's own.
    if message.starts_with("unknown field")
        && !message.contains("$__toml")
        && let Some(key) = quoted.next()
    {
        let known: Vec<String> = quoted.collect();
        let nearest = nearest(&key, known.iter().map(String::as_str)).map(str::to_owned);
        return What::UnknownKey { key, nearest, known };
    }
    if message.starts_with("missing field")
        && let Some(key) = quoted.next()
    {
        return What::MissingKey { key };
    }
    let name = DeTable::parse(text).ok().and_then(|table| key_at(table.get_ref(), "", span.start));
    let Some(name) = name else { return What::Syntax(message.to_owned()) };
    let is_raw = ["invalid ", "unknown ", "data did not match ", "wanted "]
        .iter()
        .any(|raw| message.starts_with(raw));
    match keys.iter().find(|key| key.name == name) {
        Some(key) if is_raw => {
            What::Value { name, key: *key, found: shown(text.get(span).unwrap_or_default()) }
        }
        _ => What::Told { key: name, words: message.to_owned() },
    }
}

/// The name of the key whose value stands at this place.
fn key_at(table: &DeTable<'_>, prefix: &str, at: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = format!("{prefix}{}", key.get_ref());
        let below = |value: &Spanned<DeValue<'_>>| {
            value.get_ref().as_table().and_then(|t| key_at(t, &format!("{name}."), at))
        };
        // The span of a table is that of its header alone: what is in it is looked at anyhow.
        below(value)
            .or_else(|| value.get_ref().as_array()?.iter().find_map(below))
            .or_else(|| value.span().contains(&at).then(|| name.clone()))
    })
}

/// A value on one line.
fn shown(found: &str) -> String {
    let mut line = found.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(FOUND_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// The known word that was probably meant: the one that takes the fewest edits, if they are few.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let few = (word.chars().count() / 3).max(1);
    let best = known.into_iter().map(|known| (strsim::osa_distance(word, known), known)).min();
    best.filter(|(edits, _)| *edits <= few).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[expect(dead_code, reason = "it is only read")]
        port: u16,
        #[serde(default)]
        #[expect(dead_code, reason = "it is only read")]
        phase: Vec<Phase>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Phase {
        #[expect(dead_code, reason = "it is only read")]
        length: super::super::DurationValue,
        #[serde(default)]
        #[expect(dead_code, reason = "it is only read")]
        every: Vec<u8>,
    }

    const KEYS: [Key; 3] = [
        key("port", "a TCP port", "7400"),
        key("phase.length", "a duration", "\"10s\""),
        key("phase.every", "a list of numbers", "[1, 2]"),
    ];

    #[test]
    fn what_makes_no_sense_is_told_with_its_line_if_it_has_one() {
        let text = "a = 1\n[b]\n\nc = 2\n[[d]]\nc = 3\n";
        let told = |keys: &[&str]| Mistake::senseless(text, keys, "no".to_owned()).to_string();
        assert_eq!(told(&["a"]), "1: no");
        assert_eq!(told(&["b.c", "a"]), "4: no");
        assert_eq!(told(&["b.e", "b"]), "2: no");
        assert_eq!(told(&["a.c", "d.c", "e"]), " no");
    }

    #[test]
    fn what_is_wrong_is_told_with_key_value_and_example() {
        for (text, told) in [
            ("port = 70000", "1: port = 70000: expected a TCP port, such as 7400"),
            ("\nport = \"x\"", "2: port = \"x\": expected a TCP port, such as 7400"),
            (
                "port = 1\n[[phase]]\nlength = [\n]",
                "3: phase.length = [ ]: expected a duration, such as \"10s\"",
            ),
            (
                "port = 1\nphase = [{ length = \"1s\", every = [1, -2] }]",
                "2: phase.every = -2: expected a list of numbers, such as [1, 2]",
            ),
            ("pord = 1", "1: unknown key `pord`: did you mean `port`?"),
            ("port = 1\nxxxxxx = 1", "2: unknown key `xxxxxx`; the keys here are port, phase"),
            ("[[phase]]", "1: the key `length` is missing"),
        ] {
            let error = toml::from_str::<File>(text).unwrap_err();
            assert_eq!(Mistake::of(&error, text, &KEYS).to_string(), told, "{text}");
        }
        let told = |text: &str| {
            let error = toml::from_str::<File>(text).unwrap_err();
            Mistake::of(&error, text, &KEYS).to_string()
        };
        let own = told("port = 1\n[[phase]]\nlength = \"10\"");
        assert!(own.starts_with("3: phase.length: \"10\" is no duration: write"), "{own}");
        assert!(told("port = = 1").starts_with("1: this is no TOML: "));
        let long = told(&format!("port = \"{}\"", "é".repeat(100)));
        assert!(long.contains("é…: expected a TCP port"), "{long}");
    }
}
