//! `drover init`: keys, configuration files and an empty site.

use engine::sign::{KeyError, SigningKey};
use serde::Serialize;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MASTER_TOML: &str = include_str!("init/master.toml");
const CLIENT_TOML: &str = include_str!("init/client.toml");
const SITE_TOML: &str = include_str!("init/site.toml");
const HOSTS_YAML: &str = include_str!("init/hosts.yaml");
const GROUP_YAML: &str = include_str!("init/group.yaml");
const POLICY_YAML: &str = include_str!("init/policy.yaml");

/// What `drover init` is told.
#[derive(Debug, Clone)]
pub struct InitArgs {
    /// The directory to fill; it is made if it does not exist.
    pub dir: PathBuf,
    /// The site's id; by default the directory's name, as far as it can be one.
    pub site: Option<String>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitResult {
    /// The directory.
    pub dir: PathBuf,
    /// The site's id.
    pub site: String,
    /// The public key, as clients' configuration names it.
    pub public_key: String,
    /// The files, relative to the directory.
    pub files: Vec<PathBuf>,
}

/// Why nothing, or not all, was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Files are there already; nothing was written.
    #[error("{} has {} already: nothing was written; choose another directory or move that away", dir.display(), path.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
        /// The first of them.
        path: PathBuf,
    },
    /// The site's id is none.
    #[error("{0:?} is no site id: write 1 to 64 letters, digits, '-', '_' or '.'")]
    SiteId(String),
    /// The machine gave no random numbers.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operating system refused.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

struct NewFile {
    path: &'static str,
    mode: u32,
    text: String,
}

/// Makes keys, configuration and an empty site, and overwrites nothing.
///
/// # Errors
/// [`InitError`].
pub fn init(args: &InitArgs) -> Result<InitResult, InitError> {
    let site = match &args.site {
        Some(id) if crate::site::is_site_id(id) => id.clone(),
        Some(id) => return Err(InitError::SiteId(id.clone())),
        None => default_id(&args.dir),
    };
    let key = SigningKey::generate()?;
    let public_key = key.public().to_string();
    let fill = |text: &str| text.replace("@SITE@", &site).replace("@PUBLIC_KEY@", &public_key);
    let file = |path, mode, text: &str| NewFile { path, mode, text: fill(text) };
    let files = [
        file("keys/signing.key", 0o600, &key.to_text()),
        file("keys/signing.pub", 0o644, "@PUBLIC_KEY@\n"),
        file("master.toml", 0o644, MASTER_TOML),
        file("client.toml", 0o644, CLIENT_TOML),
        file("site/site.toml", 0o644, SITE_TOML),
        file("site/hosts.yaml", 0o644, HOSTS_YAML),
        file("site/groups/everyone.yaml", 0o644, GROUP_YAML),
        file("site/policies/base/policy.yaml", 0o644, POLICY_YAML),
    ];
    for new in &files {
        // A dangling symlink is something too.
        if args.dir.join(new.path).symlink_metadata().is_ok() {
            let path = new.path.into();
            return Err(InitError::Exists { dir: args.dir.clone(), path });
        }
    }
    make_dir(&args.dir, 0o755)?;
    make_dir(&args.dir.join("keys"), 0o700)?;
    make_dir(&args.dir.join("site/policies/base/files"), 0o755)?;
    for new in &files {
        write(&args.dir.join(new.path), new)?;
    }
    Ok(InitResult {
        dir: args.dir.clone(),
        site,
        public_key,
        files: files.iter().map(|f| f.path.into()).collect(),
    })
}

fn default_id(dir: &Path) -> String {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = absolute.file_name().map(|n| n.to_string_lossy().into_owned());
    name.filter(|name| crate::site::is_site_id(name)).unwrap_or_else(|| "site".into())
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), InitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|source| InitError::Write { path: dir.to_owned(), source })
}

fn write(path: &Path, new: &NewFile) -> Result<(), InitError> {
    path.parent().map_or(Ok(()), |dir| make_dir(dir, 0o755))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(new.mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(new.text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| InitError::Write { path: path.to_owned(), source })
}

impl InitResult {
    /// What was made and what comes next, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let dir = self.dir.display().to_string();
        // A path has no zero byte, which alone cannot be quoted.
        let word = shlex::try_quote(&dir).unwrap_or((&*dir).into());
        let files: String = self.files.iter().map(|f| format!("  {}\n", f.display())).collect();
        format!(
            "made the site {} in {dir}:\n{files}\nkeep keys/signing.key secret: who has it decides what every host does\n\nnext:\n  drover publish --config {word}/master.toml\n  drover master --config {word}/master.toml\n  on each host: copy {word}/client.toml to /etc/drover/client.toml, set `master` in it, and run drover-client run\n",
            self.site
        )
    }
}

#[cfg(test)]
mod tests;
