//! The programs under test, beside the test's own executable.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The path of `drover`, `drover-client` or `loadgen`, as `cargo build --workspace --bins`
/// made it.
///
/// # Panics
/// It is missing, or older than its sources: a test of it would tell nothing.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let dir = own.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let path = dir.join(name);
    let hint = "run `cargo build --workspace --bins` first";
    let built = modified(&path).unwrap_or_else(|| panic!("there is no {}: {hint}", path.display()));
    // Cargo lists there what the program was made of.
    let sources = std::fs::read_to_string(dir.join(format!("{name}.d"))).unwrap_or_default();
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.split_whitespace().map(Path::new) {
        if modified(source).is_none_or(|changed| changed > built) {
            panic!("{} is older than {}: {hint}", path.display(), source.display());
        }
    }
    path
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}
