//! YAML 1.2 as a tree of values that know their line. Scalars stay text: what a value means is
//! decided by the key it belongs to, so `mode: 0755` and `version: 1.10` are never mangled.

use super::mistake::{Mistakes, Place};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::sync::Arc;

/// Values in one file, aliases counted as what they stand for.
const NODES_MAX: usize = 1_000_000;
/// Lists and maps within each other.
const DEPTH_MAX: usize = 32;

/// A value and its line.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Value {
    /// Text.
    Scalar {
        /// As written, escapes resolved.
        text: String,
        /// Written without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file; no key occurs twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

impl Node {
    /// Text.
    pub fn scalar(place: Place, text: String) -> Self {
        Self { place, value: Value::Scalar { text, plain: false } }
    }

    /// Nothing was written: `key:`, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// A word for what it is.
    pub fn noun(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a map.
    pub fn field(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, v)| 1 + v.count()).sum(),
        }
    }

    /// Writes it so that equal values, wherever they stand, give equal bytes.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Scalar { text, plain } => {
                out.extend([b's', u8::from(*plain)]);
                write_text(text, out);
            }
            Value::List(items) => {
                out.push(b'l');
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.write_canonical(out));
            }
            Value::Map(entries) => {
                out.push(b'm');
                out.extend((entries.len() as u64).to_le_bytes());
                for (key, value) in entries {
                    write_text(&key.text, out);
                    value.write_canonical(out);
                }
            }
        }
    }
}

/// Writes a text so that no two lists of texts give the same bytes.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A list or map that is being read.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

struct Builder<'a> {
    file: &'a Arc<str>,
    mistakes: &'a mut Mistakes,
    open: Vec<(Place, usize, Open)>,
    anchors: HashMap<usize, Node>,
    count: usize,
    root: Option<Node>,
    documents: usize,
}

/// Reads a file of one document; `None` if it is empty or no YAML, the latter with a mistake.
pub fn parse(file: &Arc<str>, text: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder {
        file,
        mistakes,
        open: Vec::new(),
        anchors: HashMap::new(),
        count: 0,
        root: None,
        documents: 0,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(e) => {
                let line = e.marker().line().max(1);
                let hint = star_hint(text.lines().nth(line - 1).unwrap_or_default());
                let place = Place::new(file, line);
                Err((place, format!("this is no YAML: {}{hint}", e.info())))
            }
        };
        if let Err((place, message)) = step {
            builder.mistakes.add(&place, message);
            return None;
        }
    }
    builder.root
}

/// A bare `*` begins an alias: the usual mistake in an inventory.
fn star_hint(line: &str) -> &'static str {
    let is_star = |(at, _): (usize, &str)| line[..at].trim_end().ends_with([':', '-', '[', ',']);
    if line.match_indices('*').any(is_star) {
        "; a text that begins with `*` needs quotes: \"*\""
    } else {
        ""
    }
}

type Step = Result<(), (Place, String)>;

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        let place = Place::new(self.file, span.start.line().max(1));
        if let Some(tag) = event.tag() {
            let message = format!("a site has no tags: leave out `{}`", tag.original());
            return Err((place, message));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = Value::Scalar { text: text.into_owned(), plain };
                self.close(Node { place, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.enter(place, anchor, Open::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                self.enter(place, anchor, Open::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((place, anchor, open)) = self.open.pop() else { return Ok(()) };
                let value = match open {
                    Open::List(items) => Value::List(items),
                    Open::Map(entries, _) => Value::Map(self.without_doubles(entries)),
                };
                self.close(Node { place, value }, anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id) else {
                    return Err((place, "this alias stands within its own anchor".into()));
                };
                // Counted before it is copied: aliases of aliases grow without bound.
                self.count = self.count.saturating_add(node.count());
                self.check_count(&place)?;
                let node = node.clone();
                self.close(node, 0)
            }
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err((place, "a file has one document: remove this `---`".into()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, place: Place, anchor: usize, open: Open) -> Step {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} lists and maps within each other");
            return Err((place, message));
        }
        self.open.push((place, anchor, open));
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Step {
        self.count += 1;
        self.check_count(&node.place)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node).filter(|n| !n.is_null()),
            Some((_, _, Open::List(items))) => items.push(node),
            Some((_, _, Open::Map(entries, key))) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(key_of(node)?),
            },
        }
        Ok(())
    }

    fn check_count(&self, place: &Place) -> Step {
        if self.count > NODES_MAX {
            let message = format!("more than {NODES_MAX} values in one file");
            return Err((place.clone(), message));
        }
        Ok(())
    }

    fn without_doubles(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let mut first: HashMap<String, usize> = HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            if let Some(line) = first.get(&key.text) {
                let message = format!("`{}` is written twice; first on line {line}", key.text);
                self.mistakes.add(&key.place, message);
            } else {
                first.insert(key.text.clone(), key.place.line);
                kept.push((key, node));
            }
        }
        kept
    }
}

/// The key that a node is.
fn key_of(node: Node) -> Result<Key, (Place, String)> {
    let place = node.place;
    match node.value {
        Value::Scalar { text, plain: true } if text == "<<" => {
            Err((place, "this version of Drover does not build merge keys (`<<`) yet".into()))
        }
        Value::Scalar { text, .. } => Ok(Key { text, place }),
        Value::List(_) | Value::Map(_) => {
            Err((place, "a key is a text; quote a value that begins with `{{`".into()))
        }
    }
}
