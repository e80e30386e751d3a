//! The kinds of resources and their keys: those built, and those of the format that are not yet.

/// A kind that this version builds.
#[derive(Debug)]
pub struct Kind {
    /// What a policy calls it.
    pub name: &'static str,
    /// Its keys, beside [`COMMON`].
    pub keys: &'static [&'static str],
    /// Keys of the format that are not built yet, beside [`COMMON_LATER`].
    pub later: &'static [&'static str],
    /// Its name is a path.
    pub is_path: bool,
}

/// Keys of every kind.
pub const COMMON: &[&str] = &["requires", "loop"];
/// Keys of every kind that are not built yet.
pub const COMMON_LATER: &[&str] = &["when", "notify", "optional_requires", "sensitive"];

/// What this version builds.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "file",
        keys: &["source", "content", "mode", "owner", "group", "ensure"],
        later: &["validate", "backup", "create_only"],
        is_path: true,
    },
    Kind { name: "absent", keys: &[], later: &[], is_path: true },
    Kind {
        name: "directory",
        keys: &["source", "mode", "owner", "group", "recurse", "purge"],
        later: &["exclude", "file_mode", "ensure"],
        is_path: true,
    },
    Kind { name: "symlink", keys: &["target"], later: &["owner", "group"], is_path: true },
    Kind {
        name: "exec",
        keys: &["command", "creates", "unless", "only_if", "timeout", "cwd", "env"],
        later: &["user", "umask", "refresh_only", "retries"],
        is_path: false,
    },
];

/// Kinds of the format that are not built yet.
pub const LATER: &[&str] = &[
    "package",
    "service",
    "template",
    "user",
    "group",
    "ssh_authorized_key",
    "line",
    "block",
    "sysctl",
    "cron",
    "mount",
    "timer",
    "repository",
    "archive",
    "git",
    "host",
    "module",
];

impl Kind {
    /// The kind of this name.
    pub fn find(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|k| k.name == name)
    }

    /// Whether a key belongs to it.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(&key) || COMMON.contains(&key)
    }

    /// Whether a key of it is not built yet.
    pub fn has_later(&self, key: &str) -> bool {
        self.later.contains(&key) || COMMON_LATER.contains(&key)
    }

    /// All its keys, for finding the nearest.
    pub fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        [self.keys, COMMON, self.later, COMMON_LATER].into_iter().flatten().copied()
    }
}

/// The names of all kinds, for finding the nearest.
pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|k| k.name).chain(LATER.iter().copied())
}
