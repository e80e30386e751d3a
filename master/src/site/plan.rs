//! From declarations to resources: loops unrolled, variables put in, every value checked.

use super::expand::{Scope, Vars};
use super::fields::{Fields, check_path};
use super::mistake::{Mistakes, Place};
use super::policy::{Declaration, Policy};
use super::yaml::{Node, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Items of one loop.
const LOOP_MAX: usize = 10_000;
/// How long a command may run unless its policy says otherwise.
const EXEC_TIMEOUT_MS: u64 = 300_000;

/// A resource, its files not yet looked at.
#[derive(Debug)]
pub struct Planned {
    /// Its kind in the policy: what references to it say.
    pub written: &'static str,
    /// Its kind in the catalog.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether that is a path.
    pub is_path: bool,
    /// Where it begins.
    pub place: Place,
    /// Its attributes by key.
    pub attributes: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// What it says it requires: `KIND NAME`.
    pub requires: Vec<(Place, String)>,
    /// Where its bytes come from.
    pub content: Content,
    /// The policy it is from.
    pub policy: Arc<str>,
}

/// Where a resource's bytes come from.
#[derive(Debug)]
pub enum Content {
    /// It has none.
    None,
    /// The policy.
    Inline(String),
    /// A file below `files/`.
    File(Place, String),
    /// A directory below `files/`.
    Tree(Place, String),
}

/// Plans all resources of a policy with a line's variables.
pub fn plan(policy: &Policy, line: &Vars, mistakes: &mut Mistakes, planned: &mut Vec<Planned>) {
    for declaration in &policy.declarations {
        let scope = Scope { line, policy: &policy.vars, item: None };
        let looped = declaration.fields.iter().find(|(key, _)| key.text == "loop");
        match looped {
            None => plan_item(policy, declaration, scope, mistakes, planned),
            Some((_, node)) => {
                let items = loop_items(node, scope, mistakes);
                for item in &items {
                    let scope = Scope { item: Some(item), ..scope };
                    plan_item(policy, declaration, scope, mistakes, planned);
                }
            }
        }
    }
}

/// The name of a list, or a list.
fn loop_items(node: &Node, scope: Scope<'_>, mistakes: &mut Mistakes) -> Vec<Node> {
    let named = node.text().filter(|text| !text.contains("{{"));
    let reference = named.map(|name| Node::scalar(node.place.clone(), format!("{{{{ {name} }}}}")));
    let Some(list) = scope.expand(reference.as_ref().unwrap_or(node), mistakes) else {
        return Vec::new();
    };
    match list.value {
        Value::List(items) if items.len() <= LOOP_MAX => items,
        Value::List(items) => {
            let message = format!("a loop has at most {LOOP_MAX} items, this one {}", items.len());
            mistakes.add(&node.place, message);
            Vec::new()
        }
        _ => {
            let message = format!("`loop` is a list or the name of one, not {}", list.noun());
            mistakes.add(&node.place, message);
            Vec::new()
        }
    }
}

fn plan_item(
    policy: &Policy,
    declaration: &Declaration,
    scope: Scope<'_>,
    mistakes: &mut Mistakes,
    planned: &mut Vec<Planned>,
) {
    let Some(names) = scope.expand(&declaration.names, mistakes) else { return };
    let names = match &names.value {
        Value::List(names) => &names[..],
        _ => std::slice::from_ref(&names),
    };
    if names.is_empty() {
        mistakes.add(&declaration.place, format!("`{}` needs a name", declaration.kind.name));
    }
    for name in names {
        match check_name(declaration, name) {
            Ok(name) => {
                let fields = Fields { declaration, scope, mistakes };
                planned.push(resource(policy, name, fields));
            }
            Err(message) => mistakes.add(&name.place, message),
        }
    }
}

fn check_name(declaration: &Declaration, name: &Node) -> Result<String, String> {
    let kind = declaration.kind;
    let text = name
        .text()
        .ok_or_else(|| format!("the name of `{}` is a text, not {}", kind.name, name.noun()))?;
    if kind.is_path {
        check_path(text).map_err(|message| format!("`{}`: {message}", kind.name))?;
        if text == "/" {
            return Err(format!("`/` can be no `{}`", kind.name));
        }
    } else if text.trim().is_empty() || text.contains(['\0', '\n']) {
        return Err(format!("the name of `{}` is one line of text", kind.name));
    }
    Ok(text.to_owned())
}

fn resource(policy: &Policy, name: String, mut fields: Fields<'_>) -> Planned {
    let declaration = fields.declaration;
    let mut planned = Planned {
        written: declaration.kind.name,
        kind: declaration.kind.name,
        name,
        is_path: declaration.kind.is_path,
        place: declaration.place.clone(),
        attributes: BTreeMap::new(),
        requires: fields.list("requires"),
        content: Content::None,
        policy: policy.name.clone(),
    };
    match planned.kind {
        "file" => file(&mut planned, &mut fields),
        "directory" => directory(&mut planned, &mut fields),
        "symlink" => symlink(&mut planned, &mut fields),
        "exec" => exec(&mut planned, &mut fields),
        _ => {}
    }
    planned
}

impl Planned {
    fn set(&mut self, key: &'static str, value: Option<String>) {
        self.attributes.extend(value.map(|v| (key, vec![v.into_bytes()])));
    }

    fn set_list(&mut self, key: &'static str, values: Option<Vec<String>>) {
        let bytes = |values: Vec<String>| values.into_iter().map(String::into_bytes).collect();
        self.attributes.extend(values.map(|v| (key, bytes(v))));
    }

    fn set_owner(&mut self, fields: &mut Fields<'_>) {
        self.set("mode", fields.mode());
        self.set("owner", fields.account("owner"));
        self.set("group", fields.account("group"));
    }
}

fn file(planned: &mut Planned, fields: &mut Fields<'_>) {
    if let Some((place, ensure)) = fields.text("ensure") {
        match ensure.as_str() {
            "absent" => {
                planned.kind = "absent";
                for key in ["source", "content", "mode", "owner", "group"] {
                    if let Some(place) = fields.place(key).cloned() {
                        let message = format!("`{key}` has no meaning beside `ensure: absent`");
                        fields.mistakes.add(&place, message);
                    }
                }
                return;
            }
            "present" => {}
            other => {
                let message = format!("`ensure` is `present` or `absent`, not {other:?}");
                fields.mistakes.add(&place, message);
            }
        }
    }
    planned.set_owner(fields);
    match (fields.has("source"), fields.has("content")) {
        (true, true) => {
            let place = fields.place("content").unwrap_or(&planned.place).clone();
            fields.mistakes.add(&place, "a file has `source` or `content`, not both");
        }
        (false, false) if !fields.declaration.is_misspelt => {
            let message = format!(
                "the file {} needs its content: `source: NAME` (below policies/{}/files/) or `content: TEXT`",
                planned.name, planned.policy
            );
            fields.mistakes.add(&planned.place, message);
        }
        (false, false) => {}
        (true, false) => {
            if let Some((place, source)) = fields.text("source") {
                planned.content = Content::File(place, source);
            }
        }
        (false, true) => {
            // With nothing behind it, most likely something was forgotten.
            if fields.node("content").is_some_and(|node| node.is_null()) {
                let place = fields.place("content").unwrap_or(&planned.place).clone();
                let message = "`content` is empty: write `content: \"\"` for an empty file";
                fields.mistakes.add(&place, message);
            } else if let Some((_, text)) = fields.text("content") {
                planned.content = Content::Inline(text);
            }
        }
    }
}

fn directory(planned: &mut Planned, fields: &mut Fields<'_>) {
    planned.set_owner(fields);
    let recurse = fields.flag("recurse");
    let purges = fields.flag("purge") == Some(true);
    if let Some((place, source)) = fields.text("source") {
        planned.content = Content::Tree(place, source);
        if recurse == Some(false) {
            let place = fields.place("recurse").unwrap_or(&planned.place).clone();
            let message = "a `source` is copied with all below it: leave out `recurse: false`";
            fields.mistakes.add(&place, message);
        }
    }
    let recurses = recurse == Some(true) || matches!(planned.content, Content::Tree(..));
    planned.set("recurse", recurses.then(|| "true".into()));
    planned.set("purge", purges.then(|| "true".into()));
}

fn symlink(planned: &mut Planned, fields: &mut Fields<'_>) {
    if fields.lacks("target") {
        let message = format!("the symlink {} needs a `target`", planned.name);
        fields.mistakes.add(&planned.place, message);
    }
    planned.set("target", fields.word("target"));
}

fn exec(planned: &mut Planned, fields: &mut Fields<'_>) {
    if fields.lacks("command") {
        let message = format!("the exec {:?} needs a `command`: a list of words", planned.name);
        fields.mistakes.add(&planned.place, message);
    }
    planned.set_list("command", fields.argv("command"));
    planned.set("creates", fields.path("creates"));
    planned.set_list("unless", fields.argv("unless"));
    planned.set_list("only_if", fields.argv("only_if"));
    let timeout_ms =
        fields.duration("timeout").map_or(u128::from(EXEC_TIMEOUT_MS), |t| t.as_millis());
    planned.set("timeout_ms", Some(timeout_ms.to_string()));
    planned.set("cwd", fields.path("cwd"));
    planned.set_list("env", fields.env());
}
