//! The release that is in force: which line of the inventory decides for a host, and the
//! message that each line's hosts are sent.

use engine::ids::{BlobHash, HostName, Revision};
use engine::node::Outgoing;
use engine::release::Pattern;
use engine::time::WallMs;
use std::collections::HashMap;

/// One line of the inventory.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its hosts.
    pub pattern: Pattern,
    /// Its signed assignment, as a message; a fan-out shares the bytes.
    pub message: Outgoing,
}

/// A release, ready to be served.
#[derive(Debug, Default)]
pub struct Published {
    /// Its number; 0 before the first.
    pub revision: Revision,
    /// When it was published.
    pub issued: WallMs,
    /// Until when its assignments may be accepted.
    pub expires: WallMs,
    /// In the order of the inventory.
    lines: Vec<Line>,
    /// Plain names, which most lines of a large inventory are.
    names: HashMap<HostName, usize>,
    /// The other lines.
    globs: Vec<usize>,
    /// All that clients may fetch: name, hash, size; of every release that is kept.
    pub listing: Vec<(Vec<u8>, BlobHash, u64)>,
}

impl Published {
    /// Indexes the lines of a release.
    #[must_use]
    pub fn new(
        revision: Revision,
        issued: WallMs,
        expires: WallMs,
        lines: Vec<Line>,
        listing: Vec<(Vec<u8>, BlobHash, u64)>,
    ) -> Self {
        let mut names = HashMap::new();
        let mut globs = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            match line.pattern.as_host() {
                Some(host) => drop(names.entry(host).or_insert(at)),
                None => globs.push(at),
            }
        }
        Self { revision, issued, expires, lines, names, globs, listing }
    }

    /// The line that decides for a host: the first that matches.
    #[must_use]
    pub fn line_of(&self, host: &HostName) -> Option<usize> {
        let named = self.names.get(host).copied();
        let before = named.unwrap_or(usize::MAX);
        let glob = self.globs.iter().copied().take_while(|at| *at < before);
        glob.into_iter().find(|at| self.lines[*at].pattern.matches(host)).or(named)
    }

    /// What the hosts of a line are sent.
    #[must_use]
    pub fn message(&self, line: usize) -> Option<Outgoing> {
        self.lines.get(line).map(|line| line.message.clone())
    }

    /// Hosts that the inventory names one by one.
    pub fn named_hosts(&self) -> impl Iterator<Item = &HostName> {
        self.names.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::wire::message::Manifest;

    fn published(patterns: &[&str]) -> Published {
        let line = |p: &&str| Line {
            pattern: Pattern::parse(p).unwrap(),
            message: Outgoing::of(&Manifest { assignment: p.as_bytes().to_vec() }),
        };
        let lines = patterns.iter().map(line).collect();
        Published::new(Revision(1), WallMs(0), WallMs(1), lines, Vec::new())
    }

    #[test]
    fn the_first_line_that_matches_decides() {
        let p = published(&["web-9", "web-*", "db-1", "*", "web-1"]);
        let line = |name: &str| p.line_of(&name.parse().unwrap());
        assert_eq!(line("web-9"), Some(0));
        assert_eq!(line("web-1"), Some(1), "the glob stands before the name");
        assert_eq!(line("db-1"), Some(2));
        assert_eq!(line("mail"), Some(3));
        assert_eq!(published(&["web-1"]).line_of(&"web-2".parse().unwrap()), None);
    }
}
