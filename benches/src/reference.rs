//! Counts that are kept in the repository, to be compared with those of today.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;

/// What a count may be beyond the one kept.
pub const GROWTH_MAX: f64 = 0.05;

/// Stands at the head of the file.
const HEAD: &str = "\
# What a message costs the engine's server: the figures that `counts.rs` compares with.
# Written by `cargo bench -p benches --bench counts -- --accept`.

";

/// What something was built with: counts of another one are no measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its version with the commit.
    pub rustc: String,
    /// For what machine.
    pub target: String,
    /// Optimised as a release, or not.
    pub profile: String,
}

impl Build {
    /// Of this program, which cargo has built with the compiler that it would use now.
    ///
    /// # Errors
    /// There is no rustc, or it says nothing.
    pub fn present() -> io::Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).arg("--version").output()?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if rustc.is_empty() {
            return Err(io::Error::other("rustc does not tell its version"));
        }
        let libc = if cfg!(target_env = "gnu") { "gnu" } else { "other" };
        let target = format!("{}-{}-{libc}", std::env::consts::ARCH, std::env::consts::OS);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned();
        Ok(Self { rustc, target, profile })
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.rustc, self.target, self.profile)
    }
}

/// Counts of one kind of message, by name, for each message.
pub type Counts = BTreeMap<String, f64>;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// With what they were counted.
    pub build: Build,
    /// By kind of message.
    pub messages: BTreeMap<String, Counts>,
}

/// What became of a count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Grown by this share, and that is too much.
    Grown(f64),
    /// Changed by this share, which is none, little, or an improvement.
    Fine(f64),
    /// There is nothing to compare it with.
    New,
}

impl Reference {
    /// From the file.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        toml::from_str(&text).map_err(io::Error::other)
    }

    /// Into the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        std::fs::write(path, format!("{HEAD}{text}"))
    }

    /// How a count compares with the one that is kept.
    #[must_use]
    pub fn change(&self, message: &str, name: &str, count: f64) -> Change {
        let kept = self.messages.get(message).and_then(|counts| counts.get(name));
        match kept {
            None => Change::New,
            Some(kept) => match (count - kept) / kept {
                share if share.is_nan() => Change::Fine(0.0),
                share if share > GROWTH_MAX => Change::Grown(share),
                share => Change::Fine(share),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        let build = Build {
            rustc: "rustc 1.95.0".to_owned(),
            target: "x86_64-linux-gnu".to_owned(),
            profile: "release".to_owned(),
        };
        let counts = [("allocations", 4.0), ("nothing", 0.0)];
        let counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
        Reference { build, messages: BTreeMap::from([("volatile".to_owned(), counts)]) }
    }

    #[test]
    fn only_what_grew_by_more_than_a_twentieth_is_too_much() {
        let reference = reference();
        let change = |count| reference.change("volatile", "allocations", count);
        assert_eq!(change(4.0), Change::Fine(0.0));
        assert!(matches!(change(4.19), Change::Fine(_)));
        assert!(matches!(change(4.21), Change::Grown(share) if share > 0.05));
        assert!(matches!(change(1.0), Change::Fine(share) if share < -0.7));
        // One allocation where there was none.
        assert!(matches!(reference.change("volatile", "nothing", 1.0), Change::Grown(_)));
        assert_eq!(reference.change("volatile", "nothing", 0.0), Change::Fine(0.0));
        assert_eq!(reference.change("durable", "allocations", 4.0), Change::New);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counts.toml");
        reference().store(&path).unwrap();
        assert_eq!(Reference::load(&path).unwrap(), reference());
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# What"));
        std::fs::write(&path, "[build]\n").unwrap();
        assert!(Reference::load(&path).is_err());
    }

    #[test]
    fn the_kept_file_is_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.toml");
        let kept = Reference::load(&path).unwrap();
        for (message, counts) in &kept.messages {
            let names: Vec<&str> = counts.keys().map(String::as_str).collect();
            let all = ["allocated_bytes", "allocations", "instructions", "system_calls"];
            assert_eq!(names, all, "{message}");
        }
        assert_eq!(kept.messages.len(), 2);
    }
}
