//! Reading the values of one resource, each as what its key means.

use super::expand::Scope;
use super::mistake::{Mistakes, Place};
use super::policy::Declaration;
use super::yaml::{Node, Value};
use engine::config::parse_duration;
use std::time::Duration;

/// Longest path, and longest name within one, that Linux takes.
const PATH_SIZE_MAX: usize = 4095;
const NAME_SIZE_MAX: usize = 255;

/// The keys of a declaration under one item of its loop.
pub struct Fields<'a> {
    pub declaration: &'a Declaration,
    pub scope: Scope<'a>,
    pub mistakes: &'a mut Mistakes,
}

impl Fields<'_> {
    /// Where a key stands.
    pub fn place(&self, key: &str) -> Option<&Place> {
        self.declaration.fields.iter().find(|(k, _)| k.text == key).map(|(k, _)| &k.place)
    }

    pub fn has(&self, key: &str) -> bool {
        self.place(key).is_some()
    }

    /// Whether a key that is needed is missing, and not just misspelt.
    pub fn lacks(&self, key: &str) -> bool {
        !self.has(key) && !self.declaration.is_misspelt
    }

    /// The value of a key with variables put in.
    pub fn node(&mut self, key: &str) -> Option<Node> {
        let (_, node) = self.declaration.fields.iter().find(|(k, _)| k.text == key)?;
        self.scope.expand(node, self.mistakes)
    }

    fn wrong(&mut self, key: &str, node: &Node, wanted: &str) {
        self.mistakes.add(&node.place, format!("`{key}` is {wanted}, not {}", node.noun()));
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<(Place, String)> {
        let node = self.node(key)?;
        match node.text() {
            Some(text) => Some((node.place.clone(), text.to_owned())),
            None => {
                self.wrong(key, &node, "a text");
                None
            }
        }
    }

    /// A text without NUL that is not empty.
    pub fn word(&mut self, key: &str) -> Option<String> {
        let (place, text) = self.text(key)?;
        if text.is_empty() || text.contains('\0') {
            self.mistakes.add(&place, format!("`{key}` is empty or has a NUL byte"));
            return None;
        }
        Some(text)
    }

    /// The name or number of a user or group.
    pub fn account(&mut self, key: &str) -> Option<String> {
        let (place, text) = self.text(key)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-$@\\".contains(c);
        if text.is_empty() || !text.chars().all(fits) {
            let message = format!("`{key}` is a name or a number, not {text:?}");
            self.mistakes.add(&place, message);
            return None;
        }
        // The highest of 32 bits means "as it is" to the system.
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        if is_number && !text.parse().is_ok_and(|id: u32| id < u32::MAX) {
            let message = format!("`{key}` as a number is at most {}, not {text}", u32::MAX - 1);
            self.mistakes.add(&place, message);
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                let message = format!("`{key}` is true or false, without quotes");
                self.mistakes.add(&node.place, message);
                None
            }
        }
    }

    /// Permission bits: quoted octal digits; given back as four of them.
    pub fn mode(&mut self) -> Option<String> {
        let node = self.node("mode")?;
        let Value::Scalar { text, plain } = &node.value else {
            self.wrong("mode", &node, "a quoted text like \"0644\"");
            return None;
        };
        if *plain {
            let message = format!(
                "a mode must be quoted, or YAML readers take it for a number: write mode: \"{}\"",
                if text.len() == 3 { format!("0{text}") } else { text.clone() }
            );
            self.mistakes.add(&node.place, message);
            return None;
        }
        match u32::from_str_radix(text, 8) {
            Ok(mode)
                if mode <= 0o7777 && (3..=5).contains(&text.len()) && !text.starts_with('+') =>
            {
                Some(format!("{mode:04o}"))
            }
            _ => {
                let message =
                    format!("a mode is three or four octal digits like \"0644\", not {text:?}");
                self.mistakes.add(&node.place, message);
                None
            }
        }
    }

    /// An absolute path.
    pub fn path(&mut self, key: &str) -> Option<String> {
        let (place, text) = self.text(key)?;
        match check_path(&text) {
            Ok(()) => Some(text),
            Err(message) => {
                self.mistakes.add(&place, format!("`{key}`: {message}"));
                None
            }
        }
    }

    /// A command: its words; there is no shell.
    pub fn argv(&mut self, key: &str) -> Option<Vec<String>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            self.wrong(key, &node, "a list of words like [systemctl, reload, nginx] (no shell reads it; for one write [sh, -c, \"…\"])");
            return None;
        };
        let words = self.texts(key, items)?;
        if words.first().is_none_or(String::is_empty) {
            self.mistakes.add(&node.place, format!("`{key}` needs a program as its first word"));
            return None;
        }
        Some(words)
    }

    fn texts(&mut self, key: &str, items: &[Node]) -> Option<Vec<String>> {
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.text() {
                Some(text) if !text.contains('\0') => texts.push(text.to_owned()),
                Some(_) => {
                    self.mistakes.add(&item.place, format!("`{key}` has a NUL byte"));
                    return None;
                }
                None => {
                    self.wrong(key, item, "a list of texts");
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// A text or a list of texts, each with its place.
    pub fn list(&mut self, key: &str) -> Vec<(Place, String)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let items = match &node.value {
            Value::List(items) => &items[..],
            Value::Scalar { .. } => std::slice::from_ref(&node),
            Value::Map(_) => {
                self.wrong(key, &node, "a list of texts");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.text() {
                Some(text) => texts.push((item.place.clone(), text.to_owned())),
                None => self.wrong(key, item, "a list of texts"),
            }
        }
        texts
    }

    /// The environment of a command: a map, or a list of `NAME=VALUE`; given back as the latter.
    pub fn env(&mut self) -> Option<Vec<String>> {
        let node = self.node("env")?;
        let pairs: Vec<(Place, String)> = match &node.value {
            Value::Map(entries) => {
                let mut pairs = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    match value.text() {
                        Some(text) => {
                            pairs.push((key.place.clone(), format!("{}={text}", key.text)))
                        }
                        None if value.is_null() => {
                            pairs.push((key.place.clone(), format!("{}=", key.text)))
                        }
                        None => self.wrong(&key.text, value, "a text"),
                    }
                }
                pairs
            }
            _ => self.list("env"),
        };
        for (place, pair) in &pairs {
            let name = pair.split_once('=').map_or("", |(name, _)| name);
            if name.is_empty() || pair.contains('\0') {
                let message = format!(
                    "`env` is a map of names to texts, or a list of NAME=VALUE, not {pair:?}"
                );
                self.mistakes.add(place, message);
            }
        }
        Some(pairs.into_iter().map(|(_, pair)| pair).collect())
    }

    /// A duration like `90s`.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        let (place, text) = self.text(key)?;
        match parse_duration(&text) {
            Ok(duration) if !duration.is_zero() => Some(duration),
            _ => {
                let message =
                    format!("`{key}` is a duration like 500ms, 90s, 10m or 2h, not {text:?}");
                self.mistakes.add(&place, message);
                None
            }
        }
    }
}

/// Whether a text is a plain absolute path.
pub fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} is no absolute path: it must begin with `/`"));
    }
    if path.contains('\0') {
        return Err(format!("{path:?} has a NUL byte"));
    }
    if path.len() > PATH_SIZE_MAX {
        return Err(format!("a path has at most {PATH_SIZE_MAX} bytes, this one {}", path.len()));
    }
    let plain: Vec<_> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if plain.contains(&"..") {
        return Err(format!("{path:?} has a `..`: write the path without"));
    }
    if let Some(name) = plain.iter().find(|name| name.len() > NAME_SIZE_MAX) {
        return Err(format!("a name in a path has at most {NAME_SIZE_MAX} bytes: {name:?}"));
    }
    let written = format!("/{}", plain.join("/"));
    if written != path {
        return Err(format!("write {written} instead of {path}: a path has one spelling here"));
    }
    Ok(())
}
