//! Who is to own what: a directory with `recurse` reaches everything below it, so nothing there may
//! be meant for somebody else.

use super::mistake::Mistakes;
use super::plan::Planned;

/// Finds resources that would undo each other's work.
pub fn check(planned: &[Planned], mistakes: &mut Mistakes) {
    for above in planned.iter().filter(|p| p.kind == "directory" && is_set(p, "recurse")) {
        let directory = above.name.trim_end_matches('/');
        let is_below = |p: &&Planned| {
            let rest = p.name.strip_prefix(directory).filter(|_| p.is_path);
            rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
        };
        for below in planned.iter().filter(is_below) {
            for key in ["owner", "group"] {
                if let (Some(all), Some(one)) = (value(above, key), value(below, key))
                    && differ(all, one)
                {
                    let message = format!(
                        "{} {} has another `{key}` than directory {} ({}), which gives its own to everything below: they would undo each other's work; leave one of them out",
                        below.written, below.name, above.name, above.place
                    );
                    mistakes.add(&below.place, message);
                }
            }
        }
    }
}

fn is_set(p: &Planned, key: &str) -> bool {
    p.attributes.contains_key(key)
}

fn value<'a>(p: &'a Planned, key: &str) -> Option<&'a [u8]> {
    p.attributes.get(key)?.first().map(Vec::as_slice)
}

/// A name and a number may be one and the same on the host.
fn differ(one: &[u8], other: &[u8]) -> bool {
    let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    one != other && is_number(one) == is_number(other)
}
