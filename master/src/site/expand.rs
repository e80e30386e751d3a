//! `{{ }}`: variables and the item of a loop, put into texts. No filter, no statement, no
//! arithmetic; a variable that does not exist is a mistake.

use super::mistake::{Mistakes, Place, did_you_mean};
use super::yaml::{Node, Value};
use std::collections::BTreeMap;

/// Variables by name.
pub type Vars = BTreeMap<String, Node>;

/// Variables that refer to variables, at most this deep.
const DEPTH_MAX: usize = 16;

/// What a text may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The line's variables: they win.
    pub line: &'a Vars,
    /// The policy's own: the defaults.
    pub policy: &'a Vars,
    /// The item of the loop, within one.
    pub item: Option<&'a Node>,
}

impl Scope<'_> {
    /// Puts values in, in all texts of a value; `None` after a mistake.
    pub fn expand(&self, node: &Node, mistakes: &mut Mistakes) -> Option<Node> {
        match self.expand_node(node, 0) {
            Ok(node) => Some(node),
            Err((place, message)) => {
                mistakes.add(&place, message);
                None
            }
        }
    }

    fn expand_node(&self, node: &Node, depth: usize) -> Result<Node, (Place, String)> {
        let value = match &node.value {
            Value::Scalar { text, .. } => {
                let expanded = self.expand_text(text, depth);
                return match expanded.map_err(|message| (node.place.clone(), message))? {
                    None => Ok(node.clone()),
                    Some(Expanded::Value(value)) => Ok(value),
                    Some(Expanded::Text(text)) => Ok(Node::scalar(node.place.clone(), text)),
                };
            }
            Value::List(items) => Value::List(
                items.iter().map(|i| self.expand_node(i, depth)).collect::<Result<_, _>>()?,
            ),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), self.expand_node(v, depth)?)))
                    .collect::<Result<_, (Place, String)>>()?,
            ),
        };
        Ok(Node { place: node.place.clone(), value })
    }

    /// `None`: nothing to put in.
    fn expand_text(&self, text: &str, depth: usize) -> Result<Option<Expanded>, String> {
        let literal = |text: &str| {
            match text.contains("{%") {
            true => Err("statements (`{% %}`) belong in template files, which this version of Drover does not build yet; a literal one is written {{ '{%' }}".to_owned()),
            false => Ok(()),
        }
        };
        if !text.contains("{{") {
            return literal(text).map(|()| None);
        }
        // Alone, an expression may be a list or a map; beside white space it is a part of a text.
        if let Some(inner) = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}"))
            && !inner.contains("{{")
            && !inner.contains("}}")
        {
            return Ok(Some(self.evaluate(inner, depth)?));
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some(start) = rest.find("{{") {
            literal(&rest[..start])?;
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let end = after.find("}}").ok_or("a `{{` without `}}`")?;
            match self.evaluate(&after[..end], depth)? {
                Expanded::Text(text) => out.push_str(&text),
                Expanded::Value(node) => match node.text() {
                    Some(text) => out.push_str(text),
                    None => {
                        let name = after[..end].trim();
                        let noun = node.noun();
                        return Err(format!("`{name}` is {noun}: only a text can stand in a text"));
                    }
                },
            }
            rest = &after[end + 2..];
        }
        literal(rest)?;
        out.push_str(rest);
        Ok(Some(Expanded::Text(out)))
    }

    fn evaluate(&self, expression: &str, depth: usize) -> Result<Expanded, String> {
        let expression = expression.trim();
        for quote in ['\'', '"'] {
            if let Some(text) = expression.strip_prefix(quote).and_then(|t| t.strip_suffix(quote))
                && !text.contains(quote)
            {
                return Ok(Expanded::Text(text.to_owned()));
            }
        }
        let is_word = |w: &str| is_variable_name(w) || w.bytes().all(|b| b.is_ascii_digit());
        if expression.is_empty() || !expression.split('.').all(|w| !w.is_empty() && is_word(w)) {
            return Err(format!(
                "`{{{{ {expression} }}}}`: this version of Drover builds plain variables only, as in {{{{ port }}}} or {{{{ item.name }}}}"
            ));
        }
        if depth >= DEPTH_MAX {
            return Err(format!("the variable behind `{expression}` refers to itself"));
        }
        let found = self.find(expression)?;
        // A variable's own text may refer to others.
        let value = self.expand_node(&found, depth + 1).map_err(|(place, message)| {
            if message.contains(" refers to itself") {
                message
            } else {
                format!("{message} (in a variable, {place})")
            }
        })?;
        if value.is_null() {
            // Most likely its value was forgotten, and what it is put into would be emptied by it.
            return Err(format!(
                "the variable `{expression}` has no value ({}): give it one, or \"\" for an empty text",
                value.place
            ));
        }
        Ok(Expanded::Value(value))
    }

    fn find(&self, expression: &str) -> Result<Node, String> {
        let (root, path) = expression.split_once('.').unwrap_or((expression, ""));
        if matches!(root, "facts" | "secrets") {
            return Err(format!("this version of Drover does not build `{root}` in values yet"));
        }
        let mut node = match (root, self.item) {
            ("item", Some(item)) => item,
            ("item", None) => return Err("`item` stands only beside a `loop`".into()),
            _ => self.line.get(root).or_else(|| self.policy.get(root)).ok_or_else(|| {
                let known = self.line.keys().chain(self.policy.keys()).map(String::as_str);
                let known = known.chain(self.item.map(|_| "item"));
                format!("there is no variable `{root}`{}", did_you_mean(root, known))
            })?,
        };
        for word in path.split('.').filter(|w| !w.is_empty()) {
            node = match &node.value {
                Value::List(items) => word.parse().ok().and_then(|at: usize| items.get(at)),
                _ => node.field(word),
            }
            .ok_or_else(|| {
                format!("`{expression}` does not exist: nothing is called `{word}` there")
            })?;
        }
        Ok(node.clone())
    }
}

enum Expanded {
    Text(String),
    /// The text was one `{{ }}`: what it stands for keeps its type and its line.
    Value(Node),
}

/// Whether a variable may be called that.
pub fn is_variable_name(word: &str) -> bool {
    let mut bytes = word.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
