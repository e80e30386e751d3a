//! The graph of resources: who requires whom, in which order, and that no circle is in it.

use super::mistake::{Mistakes, did_you_mean};
use super::plan::Planned;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

/// Resources and, for each, the places of what it requires.
pub type Edges = Vec<BTreeSet<usize>>;

/// Finds the edges: what the policies say, and parent directories.
pub fn edges(planned: &[Planned], mistakes: &mut Mistakes) -> Edges {
    let mut by_id = HashMap::new();
    let mut by_path = HashMap::new();
    for (at, p) in planned.iter().enumerate() {
        // `file X` with `ensure: absent` answers to both of its kinds.
        for kind in [p.written, p.kind] {
            by_id.entry(format!("{kind} {}", p.name)).or_insert(at);
        }
        if p.is_path {
            by_path.entry(p.name.as_str()).or_insert(at);
        }
    }
    let mut edges = Edges::new();
    for (at, p) in planned.iter().enumerate() {
        let mut required = BTreeSet::new();
        for (place, reference) in &p.requires {
            match by_id.get(reference) {
                Some(found) if *found == at => {
                    mistakes.add(place, format!("`{reference}` requires itself"));
                }
                Some(found) => {
                    required.insert(*found);
                }
                None => mistakes.add(place, unknown(reference, by_id.keys())),
            }
        }
        required.extend(parent(p, planned, &by_path, mistakes));
        edges.push(required);
    }
    edges
}

fn unknown<'a>(reference: &str, known: impl Iterator<Item = &'a String>) -> String {
    let near = did_you_mean(reference, known.map(String::as_str));
    format!("`requires: {reference}`: this host has no such resource; write KIND NAME{near}")
}

/// The nearest managed path above this one.
fn parent(
    p: &Planned,
    planned: &[Planned],
    by_path: &HashMap<&str, usize>,
    mistakes: &mut Mistakes,
) -> Option<usize> {
    if !p.is_path {
        return None;
    }
    let mut path = p.name.as_str();
    while path != "/" {
        path = match path.rsplit_once('/') {
            Some(("", _)) | None => "/",
            Some((above, _)) => above,
        };
        let Some(found) = by_path.get(path) else { continue };
        let above = &planned[*found];
        let contradicts = match above.kind {
            "absent" => p.kind != "absent",
            "file" => true,
            _ => false,
        };
        if contradicts {
            let message = format!(
                "{} {} lies below {} {} ({}), which is no directory",
                p.written, p.name, above.written, above.name, above.place
            );
            mistakes.add(&p.place, message);
            return None;
        }
        return Some(*found);
    }
    None
}

/// An order in which each stands behind all that it requires, and else as in the policies;
/// `None`, with every circle as a mistake, if there is none.
pub fn order(planned: &[Planned], edges: &Edges, mistakes: &mut Mistakes) -> Option<Vec<usize>> {
    let mut missing: Vec<_> = edges.iter().map(BTreeSet::len).collect();
    let mut dependents = vec![Vec::new(); edges.len()];
    for (at, required) in edges.iter().enumerate() {
        required.iter().for_each(|r| dependents[*r].push(at));
    }
    let mut ready: BinaryHeap<_> =
        (0..edges.len()).filter(|at| missing[*at] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for dependent in &dependents[at] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                ready.push(Reverse(*dependent));
            }
        }
    }
    if order.len() == edges.len() {
        return Some(order);
    }
    let mut left: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in (0..edges.len()).filter(|at| missing[*at] > 0) {
        let required = edges[at].iter().copied().filter(|r| missing[*r] > 0);
        left.insert(at, required.collect());
    }
    report_circles(planned, left, mistakes);
    None
}

/// Each of `left` requires another of them, so following the edges must come back.
fn report_circles(
    planned: &[Planned],
    mut left: BTreeMap<usize, Vec<usize>>,
    mistakes: &mut Mistakes,
) {
    while let Some(start) = left.keys().next().copied() {
        let mut path = vec![start];
        let mut seen = BTreeSet::from([start]);
        let circle = loop {
            let next =
                path.last().and_then(|at| left.get(at)?.iter().find(|r| left.contains_key(r)));
            let Some(next) = next.copied() else { break None };
            if !seen.insert(next) {
                let begin = path.iter().position(|at| *at == next).unwrap_or(0);
                break Some(path.split_off(begin));
            }
            path.push(next);
        };
        if let Some(circle) = &circle {
            let first = circle.iter().min().copied().unwrap_or(start);
            let turn = circle.iter().position(|at| *at == first).unwrap_or(0);
            let names = |at: &usize| {
                let p = &planned[*at];
                format!("{} {} ({})", p.written, p.name, p.place)
            };
            let round = circle.iter().cycle().skip(turn).take(circle.len() + 1);
            let shown = round.map(names).collect::<Vec<_>>().join(" → ");
            let message = format!("these require each other in a circle: {shown}");
            mistakes.add(&planned[first].place, message);
        }
        for at in circle.unwrap_or(path) {
            left.remove(&at);
        }
    }
}
