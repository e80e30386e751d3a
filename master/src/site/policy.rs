//! `policy.yaml`: its form is checked whether or not a host uses it; values are looked at when
//! the variables are known.

use super::expand::{Vars, is_variable_name};
use super::kinds::{self, Kind, LATER};
use super::mistake::{Mistakes, Place, did_you_mean};
use super::yaml::{Key, Node, Value};
use std::sync::Arc;

/// A policy.
#[derive(Debug)]
pub struct Policy {
    /// Its directory's name.
    pub name: Arc<str>,
    /// Defaults of its variables.
    pub vars: Vars,
    /// Its resources, loops not yet unrolled.
    pub declarations: Vec<Declaration>,
}

/// One entry of `resources`.
#[derive(Debug)]
pub struct Declaration {
    /// Its kind.
    pub kind: &'static Kind,
    /// Where it begins.
    pub place: Place,
    /// The value of its first key: a name or a list of names.
    pub names: Node,
    /// The other keys.
    pub fields: Vec<(Key, Node)>,
    /// A key is unknown: that another is missing may be the same mistake, and is not told.
    pub is_misspelt: bool,
}

/// Checks that a node is a map and that all its keys are known.
pub fn entries<'a>(
    node: &'a Node,
    what: &str,
    known: &[&str],
    later: &[&str],
    mistakes: &mut Mistakes,
) -> &'a [(Key, Node)] {
    let Value::Map(entries) = &node.value else {
        let found = node.noun();
        let message = format!("{what} is a map of {}, not {found}", quoted(known));
        mistakes.add(&node.place, message);
        return &[];
    };
    for (key, _) in entries {
        if later.contains(&key.text.as_str()) {
            mistakes.add(&key.place, not_yet(&key.text));
        } else if !known.contains(&key.text.as_str()) {
            let near = did_you_mean(&key.text, known.iter().chain(later).copied());
            let has = quoted(known);
            let message = format!("`{}` is no key of {what}, which has {has}{near}", key.text);
            mistakes.add(&key.place, message);
        }
    }
    entries
}

/// The message for what the format has and this version does not.
pub fn not_yet(word: &str) -> String {
    format!("this version of Drover does not build `{word}` yet")
}

/// `a`, `b`, `c`.
pub fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// Reads a `vars` map.
pub fn vars(node: &Node, mistakes: &mut Mistakes) -> Vars {
    let entries = match &node.value {
        Value::Map(entries) => &entries[..],
        _ if node.is_null() => &[],
        _ => {
            mistakes.add(
                &node.place,
                format!("`vars` is a map of names to values, not {}", node.noun()),
            );
            &[]
        }
    };
    let mut vars = Vars::new();
    for (key, value) in entries {
        if matches!(key.text.as_str(), "item" | "facts" | "secrets") {
            let message =
                format!("no variable can be called `{}`: it has a meaning of its own", key.text);
            mistakes.add(&key.place, message);
        } else if !is_variable_name(&key.text) {
            let message =
                format!("`{}` is no name of a variable: write letters, digits and `_`", key.text);
            mistakes.add(&key.place, message);
        } else {
            vars.insert(key.text.clone(), value.clone());
        }
    }
    vars
}

impl Policy {
    /// Reads a policy; `root` is `None` for a file that is empty or cannot be read.
    pub fn read(name: &str, root: Option<&Node>, mistakes: &mut Mistakes) -> Self {
        let mut policy = Self { name: name.into(), vars: Vars::new(), declarations: Vec::new() };
        let Some(root) = root else { return policy };
        let known = ["about", "vars", "resources"];
        for (key, value) in entries(root, "a policy", &known, &["secrets", "include"], mistakes) {
            match key.text.as_str() {
                "vars" => policy.vars = vars(value, mistakes),
                "resources" => policy.declarations = declarations(value, mistakes),
                _ => {}
            }
        }
        policy
    }
}

fn declarations(node: &Node, mistakes: &mut Mistakes) -> Vec<Declaration> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(|item| declaration(item, mistakes)).collect(),
        _ => {
            if !node.is_null() {
                let message =
                    format!("`resources` is a list (`- file: /etc/motd`), not {}", node.noun());
                mistakes.add(&node.place, message);
            }
            Vec::new()
        }
    }
}

fn declaration(node: &Node, mistakes: &mut Mistakes) -> Option<Declaration> {
    let first = match &node.value {
        Value::Map(entries) => entries.first(),
        _ => None,
    };
    let Some((first, names)) = first else {
        let message = format!(
            "a resource is a map that begins with its kind (`- file: /etc/motd`), not {}",
            node.noun()
        );
        mistakes.add(&node.place, message);
        return None;
    };
    let Value::Map(entries) = &node.value else { return None };
    let Some(kind) = Kind::find(&first.text) else {
        mistakes.add(&first.place, unknown_kind(&first.text, &entries[1..]));
        return None;
    };
    let mut is_misspelt = false;
    for (key, _) in &entries[1..] {
        let word = key.text.as_str();
        if kind.has(word) {
            continue;
        }
        is_misspelt = true;
        let message = if kind.has_later(word) {
            not_yet(word)
        } else if kinds::names().any(|k| k == word) {
            format!(
                "a second kind in one resource: `{}` and `{word}`; write two resources",
                kind.name
            )
        } else {
            let keys: Vec<_> = kind.keys.iter().chain(kinds::COMMON).copied().collect();
            let near = did_you_mean(word, kind.all_keys());
            format!("`{word}` is no key of `{}`, which has {}{near}", kind.name, quoted(&keys))
        };
        mistakes.add(&key.place, message);
    }
    Some(Declaration {
        kind,
        place: first.place.clone(),
        names: names.clone(),
        fields: entries[1..].to_vec(),
        is_misspelt,
    })
}

fn unknown_kind(word: &str, others: &[(Key, Node)]) -> String {
    if LATER.contains(&word) {
        return not_yet(word);
    }
    if let Some((kind, _)) = others.iter().find(|(k, _)| Kind::find(&k.text).is_some()) {
        return format!("a resource begins with its kind: write `{}` before `{word}`", kind.text);
    }
    let built: Vec<_> = kinds::KINDS.iter().map(|k| k.name).collect();
    let near = did_you_mean(word, kinds::names());
    format!("`{word}` is no kind of resource; there are {}{near}", quoted(&built))
}
