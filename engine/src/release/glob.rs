//! Host patterns: a name, or a glob of `*` (any run within the name), `?` (one character) and
//! `[a-z0]` (one of these).

use crate::ids::HostName;

/// A host name or a glob over host names, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty or longer than a name may be.
    #[error("a host pattern has 1 to 253 characters")]
    Length,
    /// It has a character that host names do not have.
    #[error("a host pattern has letters, digits, '-', '_', '.', '*', '?' and '[...]', not {0:?}")]
    Character(char),
    /// It is a name that begins or ends with a dot, or has two in a row.
    #[error("a host name has no empty label: no dot at its ends, nor two in a row")]
    EmptyLabel,
    /// A `[` without `]`, an empty `[]`, or a range that runs backwards.
    #[error("a '[' in a host pattern needs characters or ascending ranges and a ']'")]
    Class,
}

impl Pattern {
    /// Checks a pattern and folds it to lower case.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > 253 {
            return Err(PatternError::Length);
        }
        let text = text.to_ascii_lowercase();
        let mut rest = text.as_bytes();
        while let Some((&c, tail)) = rest.split_first() {
            rest = tail;
            if c == b'[' {
                let (class, tail) = split_class(rest).ok_or(PatternError::Class)?;
                let ordered = class.split(|b| *b == b'-').count() <= 1
                    || class.windows(3).all(|w| w[1] != b'-' || w[0] <= w[2]);
                if class.is_empty() || !ordered {
                    return Err(PatternError::Class);
                }
                rest = tail;
            } else if !(c.is_ascii_alphanumeric() || b"-_.*?".contains(&c)) {
                let at = text.len() - rest.len() - 1;
                let found = text[at..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                return Err(PatternError::Character(found));
            }
        }
        // What is no glob has to be a name.
        let is_plain = !text.contains(['*', '?', '[']);
        if is_plain && HostName::parse(text.as_bytes()).is_err() {
            return Err(PatternError::EmptyLabel);
        }
        Ok(Self(text))
    }

    /// The host, if the pattern is a plain name.
    #[must_use]
    pub fn as_host(&self) -> Option<HostName> {
        HostName::parse(self.0.as_bytes()).ok()
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        matches(self.0.as_bytes(), host.as_str().as_bytes())
    }
}

fn split_class(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|b| *b == b']')?;
    let class = &rest[..end];
    class
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        .then_some((class, &rest[end + 1..]))
}

fn in_class(class: &[u8], c: u8) -> bool {
    let mut i = 0;
    while i < class.len() {
        if i + 2 < class.len() && class[i + 1] == b'-' {
            if (class[i]..=class[i + 2]).contains(&c) {
                return true;
            }
            i += 3;
        } else {
            if class[i] == c {
                return true;
            }
            i += 1;
        }
    }
    false
}

/// Backtracks to the last `*` only: at worst pattern times name, both bounded by 253.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            Some(b'[') if n < name.len() => split_class(&pattern[p + 1..])
                .and_then(|(class, _)| in_class(class, name[n]).then_some(class.len() + 2)),
            Some(&c) if n < name.len() && (c == b'?' || c == name[n]) => Some(1),
            _ => None,
        };
        if let Some(width) = step {
            p += width;
            n += 1;
        } else if let Some((after, from)) = star {
            if from == name.len() {
                return false;
            }
            star = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&name.parse().unwrap())
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name) in [
            ("*", "a"),
            ("web-*", "web-01.example"),
            ("*.example", "web.example"),
            ("w?b", "web"),
            ("web-[0-9][0-9]", "web-07"),
            ("[ab]x", "bx"),
            ("a*b*c", "axxbyyc"),
            ("WEB", "web"),
        ] {
            assert!(hit(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("web", "web1"),
            ("web-*", "db-1"),
            ("w?b", "wb"),
            ("web-[0-9]", "web-x"),
            ("a*b", "abc"),
            ("?", "ab"),
        ] {
            assert!(!hit(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Length));
        assert_eq!(Pattern::parse("a b"), Err(PatternError::Character(' ')));
        assert_eq!(Pattern::parse("müller"), Err(PatternError::Character('ü')));
        for bad in [".", "a..b", "a.", ".a"] {
            assert_eq!(Pattern::parse(bad), Err(PatternError::EmptyLabel), "{bad}");
        }
        for bad in ["web-[", "web-[]", "web-[9-0]", "[a/b]"] {
            assert_eq!(Pattern::parse(bad), Err(PatternError::Class), "{bad}");
        }
    }
}
