//! `hosts.yaml` and `groups/*.yaml`: which host gets which policies with which variables.

use super::expand::Vars;
use super::mistake::{Mistakes, Place, did_you_mean};
use super::policy::{entries, vars};
use super::yaml::{Node, Value, write_text};
use engine::release::Pattern;
use std::collections::{BTreeMap, HashMap};

/// What several lines share.
#[derive(Debug, Default)]
pub struct Group {
    policies: Vec<(Place, String)>,
    vars: Vars,
}

/// One line of the inventory, its groups put in.
#[derive(Debug)]
pub struct HostLine {
    /// The hosts.
    pub pattern: Pattern,
    /// Where it stands.
    pub place: Place,
    /// Earlier patterns that may match the same hosts.
    pub excludes: Vec<String>,
    /// Names of policies, each once, and where they are asked for.
    pub policies: Vec<(Place, String)>,
    /// Variables: the line's own win over its groups', and a later group's over an earlier's.
    pub vars: Vars,
}

impl HostLine {
    /// Equal for lines that are given the same.
    pub fn set_key(&self) -> Vec<u8> {
        let mut key = (self.policies.len() as u64).to_le_bytes().to_vec();
        self.policies.iter().for_each(|(_, name)| write_text(name, &mut key));
        for (name, value) in &self.vars {
            write_text(name, &mut key);
            value.write_canonical(&mut key);
        }
        key
    }
}

/// A text or a list of texts.
fn names(key: &str, node: &Node, mistakes: &mut Mistakes) -> Vec<(Place, String)> {
    let items = match &node.value {
        Value::List(items) => &items[..],
        _ if node.is_null() => &[],
        _ => std::slice::from_ref(node),
    };
    let mut names = Vec::with_capacity(items.len());
    for item in items {
        match item.text() {
            Some(text) => names.push((item.place.clone(), text.to_owned())),
            None => mistakes
                .add(&item.place, format!("`{key}` is a list of names, not {}", item.noun())),
        }
    }
    names
}

impl Group {
    /// Reads a group; `root` is `None` for an empty file.
    pub fn read(root: Option<&Node>, mistakes: &mut Mistakes) -> Self {
        let mut group = Self::default();
        let Some(root) = root else { return group };
        let known = ["about", "policies", "vars"];
        for (key, value) in entries(root, "a group", &known, &["groups", "secrets"], mistakes) {
            match key.text.as_str() {
                "policies" => group.policies = names("policies", value, mistakes),
                "vars" => group.vars = vars(value, mistakes),
                _ => {}
            }
        }
        group
    }

    /// The policies it asks for, and where.
    pub fn policies(&self) -> &[(Place, String)] {
        &self.policies
    }
}

/// Reads the inventory; `root` is `None` for an empty file.
pub fn read(
    root: Option<&Node>,
    groups: &BTreeMap<String, Group>,
    mistakes: &mut Mistakes,
) -> Vec<HostLine> {
    let Some(root) = root else { return Vec::new() };
    let mut lines = Vec::new();
    for (key, value) in entries(root, "the inventory", &["hosts"], &[], mistakes) {
        match &value.value {
            Value::List(items) if key.text == "hosts" => {
                items.iter().for_each(|item| read_line(item, groups, &mut lines, mistakes));
            }
            _ if key.text == "hosts" && !value.is_null() => {
                let message = format!("`hosts` is a list (`- host: web-1`), not {}", value.noun());
                mistakes.add(&value.place, message);
            }
            _ => {}
        }
    }
    exclude(&mut lines, mistakes);
    lines
}

fn read_line(
    item: &Node,
    groups: &BTreeMap<String, Group>,
    lines: &mut Vec<HostLine>,
    mistakes: &mut Mistakes,
) {
    let known = ["host", "groups", "vars", "policies"];
    let (mut patterns, mut own_policies, mut all_policies) = (Vec::new(), Vec::new(), Vec::new());
    let (mut own_vars, mut all_vars) = (Vars::new(), Vars::new());
    for (key, value) in
        entries(item, "a line of the inventory", &known, &["mode", "address"], mistakes)
    {
        match key.text.as_str() {
            "host" => patterns = names("host", value, mistakes),
            "policies" => own_policies = names("policies", value, mistakes),
            "vars" => own_vars = vars(value, mistakes),
            "groups" => {
                for (place, name) in names("groups", value, mistakes) {
                    let Some(group) = groups.get(&name) else {
                        let near = did_you_mean(&name, groups.keys().map(String::as_str));
                        let message =
                            format!("there is no group `{name}`: write groups/{name}.yaml{near}");
                        mistakes.add(&place, message);
                        continue;
                    };
                    all_policies.extend(group.policies.iter().cloned());
                    all_vars.extend(group.vars.clone());
                }
            }
            _ => {}
        }
    }
    all_vars.extend(own_vars);
    let mut policies: Vec<(Place, String)> = Vec::new();
    for policy in all_policies.into_iter().chain(own_policies) {
        if !policies.iter().any(|(_, name)| *name == policy.1) {
            policies.push(policy);
        }
    }
    if patterns.is_empty() && matches!(item.value, Value::Map(_)) {
        mistakes
            .add(&item.place, "a line of the inventory needs its hosts: `host: NAME` or a glob");
    }
    for (place, text) in patterns {
        match Pattern::parse(&text) {
            Ok(pattern) => lines.push(HostLine {
                pattern,
                place,
                excludes: Vec::new(),
                policies: policies.clone(),
                vars: all_vars.clone(),
            }),
            Err(e) => mistakes.add(&place, format!("`host: {text}`: {e}")),
        }
    }
}

/// Finds the patterns that each line must exclude, and the lines that no host can reach.
fn exclude(lines: &mut [HostLine], mistakes: &mut Mistakes) {
    let mut globs: Vec<(Pattern, Place)> = Vec::new();
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    for line in lines {
        let pattern = line.pattern.as_str();
        let earlier = match line.pattern.as_host() {
            Some(name) => {
                let glob = globs.iter().find(|(g, _)| g.matches(&name));
                let named = names.get(pattern).map(|place| (pattern, place));
                named.or(glob.map(|(g, place)| (g.as_str(), place)))
            }
            None => globs
                .iter()
                .find(|(g, _)| g.as_str() == "*" || g.as_str() == pattern)
                .map(|(g, place)| (g.as_str(), place)),
        };
        if let Some((earlier, place)) = earlier {
            let message = format!(
                "no host reaches `{pattern}`: `{earlier}` ({place}) stands before it and the first match decides; move this line up or remove it"
            );
            mistakes.add(&line.place, message);
            continue;
        }
        match line.pattern.as_host() {
            Some(_) => {
                names.insert(pattern.to_owned(), line.place.clone());
            }
            None => {
                let hit =
                    names.keys().filter(|n| n.parse().is_ok_and(|n| line.pattern.matches(&n)));
                line.excludes =
                    globs.iter().map(|(g, _)| g.as_str().to_owned()).chain(hit.cloned()).collect();
                globs.push((line.pattern.clone(), line.place.clone()));
            }
        }
    }
}

/// The policies that are asked for but do not exist.
pub fn check_policies<'a>(
    asked: impl Iterator<Item = &'a (Place, String)>,
    known: &HashMap<String, super::policy::Policy>,
    mistakes: &mut Mistakes,
) {
    for (place, name) in asked {
        if !known.contains_key(name) {
            let near = did_you_mean(name, known.keys().map(String::as_str));
            let message =
                format!("there is no policy `{name}`: write policies/{name}/policy.yaml{near}");
            mistakes.add(place, message);
        }
    }
}
