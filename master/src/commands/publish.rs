//! `drover publish`: compiles a site and puts it in force, or says what that would change.

use crate::release::{
    Changes, Collected, Counted, HostChange, Intake, Line, Measure, RELEASE_SCHEMA, Release,
    ReleaseStore, StoreError, Writer, compare,
};
use crate::site::{CompileError, Compiled, Progress, compile};
use crate::table::words::plural;
use engine::ids::HostName;
use engine::release::{Assignment, CATALOG_SCHEMA};
use engine::sign::{KeyError, SigningKey};
use engine::time::WallMs;
use engine::wire::{Kind, encode};
use serde::Serialize;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Releases kept unless said otherwise: the one in force and two that clients may still fetch.
pub const KEEP_RELEASES_DEFAULT: usize = 3;
/// Nobody publishes so often: a number that is as much higher is a typing mistake, and one that
/// hosts have accepted can never be taken back.
const REVISION_JUMP_MAX: u64 = 1_000_000_000;
/// What a `Manifest` message needs beside the assignment.
const MANIFEST_SIZE_MARGIN: usize = 1024;

/// What `drover publish` is told.
#[derive(Debug, Clone)]
pub struct PublishArgs {
    /// The site's directory.
    pub site: PathBuf,
    /// The master's state directory.
    pub state_dir: PathBuf,
    /// The file of the secret key.
    pub signing_key: PathBuf,
    /// Only say what would change; nothing is written, and the key is not needed.
    pub dry_run: bool,
    /// Publish even if nothing has changed: new assignments with a new expiry.
    pub force: bool,
    /// The revision is at least this: after a lost state directory, above what clients hold.
    pub revision_min: u64,
    /// Releases to keep, with the blobs they need; at least 1.
    pub keep_releases: usize,
    /// Hosts that are known beside those in the inventory.
    pub known_hosts: Vec<HostName>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A new release is in force.
    Published,
    /// The release in force says the same already.
    Unchanged,
    /// A dry run: nothing was written.
    DryRun,
}

/// What a publish did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishResult {
    /// What came of it.
    pub outcome: Outcome,
    /// The site's id.
    pub site: String,
    /// The release in force now; after a dry run, the one there would be.
    pub revision: u64,
    /// The release in force before.
    pub previous: Option<u64>,
    /// Until when its assignments may be accepted, milliseconds since 1970.
    pub expires_ms: u64,
    /// Lines of the inventory.
    pub lines: usize,
    /// Distinct sets of policies and variables.
    pub sets: usize,
    /// What was read.
    pub read: Progress,
    /// Blobs that the store did not have.
    pub blobs_new: u64,
    /// Their bytes.
    pub bytes_new: u64,
    /// What differs from the release before.
    pub changes: Changes,
    /// What was removed as needed no more.
    pub collected: Collected,
    /// What the operator should know beside it.
    pub warnings: Vec<String>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The site was not compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file could not be read.
    #[error("cannot read the signing key {}: {source}; {}", path.display(), key_hint(source))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or write the key file.
    #[error(
        "others than its owner may use the signing key {path}, and with it decide what every host does (its mode is {mode:04o}): run `chmod 600 {path}`", path = path.display()
    )]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file is no key.
    #[error("{}: {source}; restore it from a copy: clients trust no other key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The state directory has another site's releases.
    #[error(
        "the state directory holds releases of the site {found:?}, not of {expected:?}: give each site a state directory of its own, or correct `site` in site.toml"
    )]
    OtherSite {
        /// This site.
        expected: String,
        /// The one in the state directory.
        found: String,
    },
    /// An assignment would not fit a message.
    #[error(
        "{source_line}: the assignment of `{pattern}` must name {excludes} earlier lines that it excludes, and would be {size} bytes; {size_max} fit one message: write globs in place of single names above it"
    )]
    AssignmentSize {
        /// The line of the inventory.
        source_line: String,
        /// Its pattern.
        pattern: String,
        /// Patterns it excludes.
        excludes: usize,
        /// Its bytes.
        size: usize,
        /// Bytes that fit.
        size_max: usize,
    },
    /// Every host would leave at once.
    #[error(
        "the inventory has no host any more, and had {lines} in revision {revision}: hosts.yaml may have been emptied by mistake; `drover publish --force` publishes it all the same"
    )]
    Emptied {
        /// How many it had.
        lines: String,
        /// When.
        revision: u64,
    },
    /// The revision asked for is far beyond any that there is.
    #[error(
        "--revision-min {wanted} is far above {revision}, the last revision, and hosts that hold it refuse all that is below, for good: `drover hosts` shows what they hold"
    )]
    RevisionJump {
        /// What was asked for.
        wanted: u64,
        /// The last.
        revision: u64,
    },
    /// The counter is at its end.
    #[error("there is no revision after {0}")]
    Revision(u64),
}

impl PublishArgs {
    /// What is usual.
    pub fn new(
        site: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
        signing_key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            site: site.into(),
            state_dir: state_dir.into(),
            signing_key: signing_key.into(),
            dry_run: false,
            force: false,
            revision_min: 0,
            keep_releases: KEEP_RELEASES_DEFAULT,
            known_hosts: Vec::new(),
        }
    }
}

/// Publishes a site, or says what publishing would change. `progress` is told how much has
/// been read.
///
/// # Errors
/// [`PublishError`]; the release in force is then the one it was.
pub fn publish(
    args: &PublishArgs,
    now: WallMs,
    progress: &mut dyn FnMut(Progress),
) -> Result<PublishResult, PublishError> {
    let store = ReleaseStore::new(&args.state_dir);
    if args.dry_run {
        let before = Before::read(&store)?;
        let (compiled, mut result) =
            prepare(args, &before, now, &mut Measure::default(), progress)?;
        let lines = unsigned(&compiled);
        compare_with(&before, &store, &lines, &compiled, args, &mut result);
        match read_key(args) {
            Ok(key) => result.warnings.extend(before.other_key(&key)),
            // A dry run may be made where the key is not.
            Err(PublishError::KeyFile { .. }) => {}
            Err(error) => result.warnings.push(format!("a publish would be refused: {error}")),
        }
        return Ok(result);
    }
    let key = read_key(args)?;
    let lock = store.lock()?;
    let before = Before::read(&store)?;
    let mut writer = Writer::begin(&store, &lock)?;
    let (compiled, mut result) = prepare(args, &before, now, &mut writer, progress)?;
    if !args.force
        && let Some(current) = before.says_the_same(&compiled, key.public().id(), args)
    {
        result.outcome = Outcome::Unchanged;
        result.revision = current.revision;
        result.expires_ms = current.expires_ms;
        (result.blobs_new, result.bytes_new) = writer.staged();
        if result.blobs_new > 0 {
            let files = plural(result.blobs_new, "blob", "blobs");
            let warning = format!("{files} of it, missing or damaged, written again");
            writer.repair()?;
            result.warnings.push(warning);
        }
        return Ok(result);
    }
    result.outcome = Outcome::Published;
    result.warnings.extend(before.other_key(&key));
    let release = sign(&compiled, &key, &result, now)?;
    compare_with(&before, &store, &release.lines, &compiled, args, &mut result);
    (result.blobs_new, result.bytes_new) = writer.staged();
    writer.publish(&release)?;
    match store.collect(&lock, args.keep_releases) {
        Ok(collected) => result.collected = collected,
        // The new release stands; what is needed no more stays until the next one.
        Err(e) => result.warnings.push(format!("nothing was cleaned up: {e}")),
    }
    Ok(result)
}

fn key_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run drover as the user that it belongs to",
        _ => "`drover init` makes one",
    }
}

fn read_key(args: &PublishArgs) -> Result<SigningKey, PublishError> {
    let path = args.signing_key.clone();
    let mut text = String::new();
    let read = File::open(&path).and_then(|mut file| {
        file.read_to_string(&mut text)?;
        Ok(file.metadata()?.mode() & 0o7777)
    });
    match read {
        // As ssh does: a secret that lies open is none, and the cure is one command.
        Ok(mode) if mode & 0o077 != 0 => Err(PublishError::KeyMode { path, mode }),
        Ok(_) => SigningKey::parse(&text).map_err(|source| PublishError::Key { path, source }),
        Err(source) => Err(PublishError::KeyFile { path, source }),
    }
}

/// What was published before.
struct Before {
    release: Option<Release>,
    revision_max: u64,
    warning: Option<String>,
}

impl Before {
    /// A damaged release is none: publishing is what repairs it.
    fn read(store: &ReleaseStore) -> Result<Self, StoreError> {
        let on_disk = store.revisions()?.last().map_or(0, |r| r.0);
        let (release, warning) = match store.open_current() {
            Ok(release) => (release, None),
            Err(e @ StoreError::Damaged { .. }) => (None, Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let revision_max = release.as_ref().map_or(0, |r| r.revision).max(on_disk);
        Ok(Self { release, revision_max, warning })
    }

    /// What to say if another key signed the release in force.
    fn other_key(&self, key: &SigningKey) -> Option<String> {
        let release = self.release.as_ref().filter(|old| old.key_id != key.public().id())?;
        Some(format!(
            "the signing key is another than that of revision {}: hosts refuse this unless their trusted_keys have it",
            release.revision
        ))
    }

    /// The release in force, if a new one would differ in nothing but its number and its dates.
    fn says_the_same(
        &self,
        compiled: &Compiled,
        key_id: [u8; 8],
        args: &PublishArgs,
    ) -> Option<&Release> {
        let release = self.release.as_ref()?;
        let lifetime_ms = u64::try_from(compiled.assignment_lifetime.as_millis()).ok()?;
        let lines = unsigned(compiled);
        let old = release.lines.iter().map(|l| (&l.pattern, l.manifest));
        let is_same = old.eq(lines.iter().map(|l| (&l.pattern, l.manifest)))
            && release.blobs == compiled.blobs
            && release.key_id == key_id
            && release.expires_ms.saturating_sub(release.issued_ms) == lifetime_ms
            && release.revision >= args.revision_min;
        is_same.then_some(release)
    }
}

/// Compiles, and fills in what is known before anything is written.
fn prepare(
    args: &PublishArgs,
    before: &Before,
    now: WallMs,
    intake: &mut dyn Intake,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Compiled, PublishResult), PublishError> {
    let compiled = compile(&args.site, intake, progress)?;
    if let Some(old) = &before.release
        && old.site != compiled.site
    {
        let (expected, found) = (compiled.site, old.site.clone());
        return Err(PublishError::OtherSite { expected, found });
    }
    if let Some(old) = &before.release
        && compiled.lines.is_empty()
        && !old.lines.is_empty()
        && !args.force
    {
        let lines = plural(old.lines.len() as u64, "line", "lines");
        return Err(PublishError::Emptied { lines, revision: old.revision });
    }
    let revision = before.revision_max;
    if args.revision_min.saturating_sub(revision) > REVISION_JUMP_MAX {
        return Err(PublishError::RevisionJump { wanted: args.revision_min, revision });
    }
    let next = revision.checked_add(1).ok_or(PublishError::Revision(u64::MAX))?;
    let lifetime_ms = u64::try_from(compiled.assignment_lifetime.as_millis()).unwrap_or(u64::MAX);
    let result = PublishResult {
        outcome: Outcome::DryRun,
        site: compiled.site.clone(),
        revision: next.max(args.revision_min),
        previous: before.release.as_ref().map(|r| r.revision),
        expires_ms: now.0.saturating_add(lifetime_ms),
        lines: compiled.lines.len(),
        sets: compiled.sets.len(),
        read: compiled.progress,
        blobs_new: 0,
        bytes_new: 0,
        changes: Changes::default(),
        collected: Collected::default(),
        warnings: before.warning.iter().cloned().collect(),
    };
    Ok((compiled, result))
}

fn compare_with(
    before: &Before,
    store: &ReleaseStore,
    lines: &[Line],
    compiled: &Compiled,
    args: &PublishArgs,
    result: &mut PublishResult,
) {
    let old = before.release.as_ref();
    match compare(store, old, lines, &compiled.blobs, &compiled.digests, &args.known_hosts) {
        Ok(changes) => result.changes = changes,
        // That the old release is damaged must not keep a new one from replacing it.
        Err(e) => result.warnings.push(format!("what changes cannot be told: {e}")),
    }
}

/// The lines as they will be, their assignments left out.
fn unsigned(compiled: &Compiled) -> Vec<Line> {
    compiled
        .lines
        .iter()
        .map(|line| {
            let manifest = compiled.sets[line.set].manifest;
            Line {
                pattern: line.pattern.clone(),
                assignment: Vec::new(),
                manifest: manifest.hash.0,
                manifest_size: manifest.size,
            }
        })
        .collect()
}

fn sign(
    compiled: &Compiled,
    key: &SigningKey,
    result: &PublishResult,
    now: WallMs,
) -> Result<Release, PublishError> {
    let mut lines = unsigned(compiled);
    for (line, from) in lines.iter_mut().zip(&compiled.lines) {
        let assignment = Assignment {
            schema: CATALOG_SCHEMA,
            pattern: from.pattern.clone(),
            excludes: from.excludes.clone(),
            revision: result.revision,
            manifest: line.manifest,
            manifest_size: line.manifest_size,
            issued_ms: now.0,
            expires_ms: result.expires_ms,
        };
        line.assignment = encode(&assignment.sign(key));
        let size_max = Kind::MANIFEST.body_size_max() as usize - MANIFEST_SIZE_MARGIN;
        if line.assignment.len() > size_max {
            return Err(PublishError::AssignmentSize {
                source_line: from.source.clone(),
                pattern: from.pattern.clone(),
                excludes: from.excludes.len(),
                size: line.assignment.len(),
                size_max,
            });
        }
    }
    Ok(Release {
        schema: RELEASE_SCHEMA,
        site: compiled.site.clone(),
        revision: result.revision,
        issued_ms: now.0,
        expires_ms: result.expires_ms,
        key_id: key.public().id(),
        lines,
        blobs: compiled.blobs.clone(),
    })
}

/// Names printed of one list.
const SHOWN_MAX: usize = 20;

impl PublishResult {
    /// What happened, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let (site, revision) = (&self.site, self.revision);
        let files = plural(self.read.files, "file", "files");
        let read = format!("{files} below files/, {}", bytes_text(self.read.bytes));
        let _ = match self.outcome {
            Outcome::Unchanged => writeln!(
                out,
                "nothing changed: revision {revision} of site {site} stays in force ({read}); --force publishes anyway and renews its assignments"
            ),
            Outcome::DryRun => {
                writeln!(out, "dry run: site {site} is good ({read}); nothing was written")
            }
            Outcome::Published => writeln!(
                out,
                "published revision {revision} of site {site}: {read} read, {} new; {} of the inventory, {}",
                bytes_text(self.bytes_new),
                plural(self.lines as u64, "line", "lines"),
                plural(self.sets as u64, "distinct catalog", "distinct catalogs")
            ),
        };
        if self.outcome != Outcome::Unchanged {
            let _ = write_counted(&mut out, "files", &self.changes.files);
            let _ = write_counted(&mut out, "resources", &self.changes.resources);
            let _ = write_hosts(&mut out, "inventory lines", &self.changes.lines);
            let _ = write_hosts(&mut out, "hosts", &self.changes.hosts);
            if self.changes.is_empty() {
                out.push_str("nothing changes for any host\n");
            }
        }
        if self.lines == 0 {
            out.push_str("the inventory is empty: add hosts to hosts.yaml\n");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "warning: {warning}");
        }
        out
    }
}

fn write_counted(out: &mut String, what: &str, counted: &Counted) -> std::fmt::Result {
    if counted.is_empty() {
        return Ok(());
    }
    let (added, changed, removed) = (&counted.added, &counted.changed, &counted.removed);
    writeln!(
        out,
        "{what}: {} added, {} changed, {} removed",
        added.len(),
        changed.len(),
        removed.len()
    )?;
    let signed = [('+', added), ('~', changed), ('-', removed)];
    let all: Vec<_> =
        signed.iter().flat_map(|(sign, names)| names.iter().map(move |n| (sign, n))).collect();
    for (sign, name) in all.iter().take(SHOWN_MAX) {
        writeln!(out, "  {sign} {}", name.escape_debug())?;
    }
    write_rest(out, all.len())
}

fn write_hosts(out: &mut String, what: &str, changes: &[HostChange]) -> std::fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(out, "{what} affected: {}", changes.len())?;
    for change in changes.iter().take(SHOWN_MAX) {
        writeln!(out, "  {} ({})", change.name, change.change)?;
    }
    write_rest(out, changes.len())
}

fn write_rest(out: &mut String, len: usize) -> std::fmt::Result {
    if len > SHOWN_MAX {
        writeln!(out, "  … and {} more (--json shows all)", len - SHOWN_MAX)?;
    }
    Ok(())
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests;
