//! What the kernel tells of processes, of the network and of this machine, all of it read from
//! `/proc` and nowhere else. What it does not tell is zero or empty: a load is not refused for it.

mod machine;
mod process;
mod stolen;
mod tcp;

pub use machine::{Machine, SETTINGS, setting};
pub use process::{Process, descriptors_max, own_cpu_us};
pub use stolen::Stolen;
pub use tcp::Tcp;

use std::fs;
use std::path::Path;

/// A file of `/proc`; empty if there is none.
fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What stands behind `key` at the beginning of a line.
fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.trim_start_matches([' ', '\t', ':']))
}

/// The first word behind `key` at the beginning of a line, as a number.
fn number(text: &str, key: &str) -> Option<u64> {
    line(text, key)?.split_whitespace().next()?.parse().ok()
}
