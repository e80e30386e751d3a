//! One name in one directory: a file, a symlink, or nothing. Used by the resources of these
//! kinds, and by trees for what is in them.

use super::{Change, Context, FileSpec, Owner, ResourceError, Settled};
use crate::diff;
use crate::policy::BlobError;
use crate::provider::rooted::{Directory, FileType, PathError, Stat, shown};
use engine::clock;
use engine::ids::BlobHash;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};

/// Bytes that are copied and hashed at a time.
const COPY_SIZE: usize = 128 * 1024;

/// What should be at a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedFile {
    pub(super) hash: BlobHash,
    pub(super) size: u64,
    pub(super) mode: Option<u32>,
    pub(super) owner: Owner,
}

/// What was found and done at a name.
#[derive(Debug, Default)]
pub(super) struct EntryOutcome {
    /// `None`: it was as wanted.
    pub(super) change: Option<Change>,
    /// Its owner is not as wanted, and that needs a privilege that is missing.
    pub(super) unowned: bool,
}

pub(super) const UNOWNED: &str = "owner and group are left as they are: changing them needs root";

impl EntryOutcome {
    pub(super) fn into_settled(self) -> Settled {
        match self.change {
            Some(mut change) => {
                if self.unowned {
                    change.after = format!("{}; {UNOWNED}", change.after);
                }
                Settled::Changed(change)
            }
            None if self.unowned => Settled::Skipped(UNOWNED.to_owned()),
            None => Settled::Unchanged,
        }
    }
}

/// Whether owner or group differ from what is wanted.
pub(super) fn is_foreign(stat: &Stat, owner: Owner) -> bool {
    owner.uid.is_some_and(|u| u != stat.uid) || owner.gid.is_some_and(|g| g != stat.gid)
}

/// Whether a new file of this process would have another owner or group.
fn is_not_ours(owner: Owner) -> bool {
    owner.uid.is_some_and(|u| u != nix::unistd::geteuid().as_raw())
        || owner.gid.is_some_and(|g| g != nix::unistd::getegid().as_raw())
}

/// Whether this process could give files away: what a dry run goes by.
pub(super) fn may_chown() -> bool {
    nix::unistd::geteuid().is_root()
}

fn describe(stat: &Stat, hash: Option<BlobHash>) -> String {
    let content = match (stat.file_type, hash) {
        (FileType::File, Some(hash)) => format!("{} bytes {hash:?}", stat.size),
        (FileType::File, None) => format!("{} bytes", stat.size),
        (other, _) => other.name().to_owned(),
    };
    format!("{content}, mode {:04o}, owner {}:{}", stat.mode, stat.uid, stat.gid)
}

/// The file as it will be, with this owner, or where that leaves it open, that of what is there.
fn describe_wanted(wanted: &WantedFile, owner: Owner, mode: u32, stat: Option<&Stat>) -> String {
    let id = |wanted: Option<u32>, found: Option<u32>| match wanted.or(found) {
        Some(id) => id.to_string(),
        None => "-".to_owned(),
    };
    let uid = id(owner.uid, stat.map(|s| s.uid));
    let gid = id(owner.gid, stat.map(|s| s.gid));
    format!("{} bytes {:?}, mode {mode:04o}, owner {uid}:{gid}", wanted.size, wanted.hash)
}

/// The content of a file: by its unchanged state, or by reading it; `None` if it was removed since
/// its state was asked for.
fn content_of(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    stat: &Stat,
) -> Result<Option<BlobHash>, ResourceError> {
    if let Some(hash) = context.signatures.find(stat) {
        return Ok(Some(hash));
    }
    // The clock is read before the file, so that a change while it is read makes it unsure.
    let wall_ns = i128::from(clock::wall().0) * 1_000_000;
    let mut file = match directory.open_file(name) {
        Err(error) if error.is_gone() => return Ok(None),
        opened => opened?,
    };
    let mut hasher = blake3::Hasher::new();
    copy(context, &mut file, |bytes| {
        hasher.update(bytes);
        Ok(())
    })?
    .map_err(|source| PathError::System {
        operation: "read",
        path: shown(&directory.path_of(name)),
        source,
    })?;
    let hash = BlobHash(*hasher.finalize().as_bytes());
    context.signatures.remember(stat, hash, wall_ns);
    Ok(Some(hash))
}

/// Reads to the end in pieces, and gives up when the client has to stop. The outer error is
/// the taker's or the stop, the inner one the reader's.
fn copy(
    context: &Context<'_>,
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> Result<(), ResourceError>,
) -> Result<std::io::Result<u64>, ResourceError> {
    let length = file.metadata().map_or(0, |m| m.len());
    let room = usize::try_from(length.saturating_add(1)).unwrap_or(COPY_SIZE).min(COPY_SIZE);
    let mut buffer = vec![0; room.max(512)];
    let mut copied = 0;
    loop {
        if context.stop.is_over() {
            return Err(ResourceError::Interrupted { output: Vec::new() });
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Ok(copied)),
            Ok(n) => {
                take(&buffer[..n])?;
                copied += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Ok(Err(e)),
        }
    }
}

/// Something other than a file or a symlink stands where one should be: an empty directory may go,
/// since nothing is lost with it. What is in another one is not ours to remove.
fn check_place(
    directory: &Directory,
    name: &[u8],
    stat: Option<Stat>,
    wanted: FileType,
) -> Result<(), ResourceError> {
    let is_directory = stat.is_some_and(|s| s.file_type == FileType::Directory);
    match is_directory && !directory.descend(name)?.names()?.is_empty() {
        true => Err(not_empty(directory, name, wanted)),
        false => Ok(()),
    }
}

/// Removes the empty directory that stands there.
fn clear_place(
    directory: &Directory,
    name: &[u8],
    stat: Option<Stat>,
    wanted: FileType,
) -> Result<(), ResourceError> {
    let is_directory = stat.is_some_and(|s| s.file_type == FileType::Directory);
    match is_directory && !directory.remove_empty(name)? {
        true => Err(not_empty(directory, name, wanted)),
        false => Ok(()),
    }
}

fn not_empty(directory: &Directory, name: &[u8], wanted: FileType) -> ResourceError {
    PathError::WrongType {
        path: shown(&directory.path_of(name)),
        found: "a directory with something in it",
        wanted: wanted.name(),
        hint: "move that away, or let the directory around it be purged",
    }
    .into()
}

/// Makes a name a file with this content.
pub(super) fn settle_file(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    wanted: &WantedFile,
) -> Result<EntryOutcome, ResourceError> {
    let stat = directory.stat(name)?;
    check_place(directory, name, stat, FileType::File)?;
    let found = stat.filter(|s| s.file_type == FileType::File);
    let mode = wanted.mode.or(found.map(|s| s.mode)).unwrap_or(0o644);
    let hash = match &found {
        Some(s) if s.size == wanted.size => content_of(context, directory, name, s)?,
        _ => None,
    };
    let same_content = hash == Some(wanted.hash);
    let foreign = found.is_none_or(|s| is_foreign(&s, wanted.owner));
    if let (Some(s), true) = (&found, same_content)
        && s.mode == mode
        && !foreign
    {
        return Ok(EntryOutcome::default());
    }
    let mut outcome = EntryOutcome::default();
    let change = Change {
        before: stat.map_or("absent".to_owned(), |s| describe(&s, hash)),
        ..Change::default()
    };
    let after = |unowned: bool, stat: Option<&Stat>| {
        let owner = if unowned { Owner::default() } else { wanted.owner };
        describe_wanted(wanted, owner, mode, stat)
    };
    match (found, same_content) {
        // Only the metadata differ: the file stays the one it is.
        (Some(s), true) => {
            let mut changed = s.mode != mode;
            if foreign {
                outcome.unowned = !set_owner(context, directory, name, wanted.owner)?;
                changed |= !outcome.unowned;
            }
            if !changed {
                return Ok(outcome);
            }
            if !context.dry_run {
                // Again even if it was right: the system drops setuid when the owner changes.
                directory.set_mode(name, mode)?;
            }
            let mut change = Change { after: after(outcome.unowned, Some(&s)), ..change };
            change.diff = metadata_diff(directory, name, &change);
            outcome.change = Some(change);
        }
        (found, _) if context.dry_run => {
            let foreign = found.map_or_else(|| is_not_ours(wanted.owner), |_| foreign);
            outcome.unowned = foreign && !may_chown();
            let change = Change { after: after(outcome.unowned, found.as_ref()), ..change };
            let diff = content_diff(context, directory, name, found, wanted, &change)?;
            outcome.change = Some(Change { diff, ..change });
        }
        _ => {
            let placed = write_file(context, directory, name, stat, wanted, mode)?;
            outcome.unowned = is_foreign(&placed, wanted.owner);
            outcome.change =
                Some(Change { after: after(outcome.unowned, Some(&placed)), ..change });
        }
    }
    Ok(outcome)
}

fn set_owner(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    owner: Owner,
) -> Result<bool, ResourceError> {
    match context.dry_run {
        true => Ok(may_chown()),
        false => Ok(directory.set_owner(name, owner.uid, owner.gid)?),
    }
}

/// Copies a blob into place. What it became says whether the owner could be set.
fn write_file(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    stat: Option<Stat>,
    wanted: &WantedFile,
    mode: u32,
) -> Result<Stat, ResourceError> {
    let hash = wanted.hash;
    let mut blob = context.cache.open(hash)?;
    let mut new = directory.new_file(name)?;
    let mut hasher = blake3::Hasher::new();
    let path = directory.path_of(name);
    let copied = copy(context, &mut blob, |bytes| {
        hasher.update(bytes);
        new.writer().write_all(bytes).map_err(|source| {
            PathError::System { operation: "write", path: shown(&path), source }.into()
        })
    })?
    .map_err(|source| BlobError::Read { hash, source })?;
    if copied != wanted.size || BlobHash(*hasher.finalize().as_bytes()) != hash {
        return Err(BlobError::Broken { hash }.into());
    }
    if wanted.owner != Owner::default() {
        // Where nothing has to be given away, a refusal makes no difference.
        let _ = new.set_owner(wanted.owner.uid, wanted.owner.gid)?;
    }
    if let Some(s) = stat.filter(|s| s.file_type == FileType::File) {
        // What the policy does not say stays as it was; without the privilege it cannot, and
        // nobody asked for it.
        let keep = |wanted: Option<u32>, found| wanted.is_none().then_some(found);
        let _ = new.set_owner(keep(wanted.owner.uid, s.uid), keep(wanted.owner.gid, s.gid))?;
    }
    clear_place(directory, name, stat, FileType::File)?;
    Ok(new.place(mode, context.fsync)?)
}

fn metadata_diff(directory: &Directory, name: &[u8], change: &Change) -> String {
    format!("{}: {} -> {}\n", shown(&directory.path_of(name)), change.before, change.after)
}

fn content_diff(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    found: Option<Stat>,
    wanted: &WantedFile,
    change: &Change,
) -> Result<String, ResourceError> {
    let line = metadata_diff(directory, name, change);
    let small = |size: u64| size <= diff::TEXT_SIZE_MAX;
    if !small(wanted.size) || found.is_some_and(|s| !small(s.size)) {
        return Ok(line);
    }
    let mut before = Vec::new();
    if found.is_some() {
        let read = directory.open_file(name)?.take(diff::TEXT_SIZE_MAX).read_to_end(&mut before);
        read.map_err(|source| PathError::System {
            operation: "read",
            path: shown(&directory.path_of(name)),
            source,
        })?;
    }
    let after = context.cache.read(wanted.hash, wanted.size)?;
    let path = directory.path_of(name);
    Ok(diff::unified(&path, found.map(|_| &before[..]), Some(&after)).unwrap_or(line))
}

/// Makes a name a symlink.
pub(super) fn settle_symlink(
    context: &Context<'_>,
    directory: &Directory,
    name: &[u8],
    target: &[u8],
) -> Result<EntryOutcome, ResourceError> {
    let stat = directory.stat(name)?;
    let before = match stat {
        Some(s) if s.file_type == FileType::Symlink => {
            let found = directory.read_link(name)?;
            if found == target {
                return Ok(EntryOutcome::default());
            }
            format!("symlink to {}", shown(&found))
        }
        Some(s) => describe(&s, None),
        None => "absent".to_owned(),
    };
    check_place(directory, name, stat, FileType::Symlink)?;
    let mut change =
        Change { before, after: format!("symlink to {}", shown(target)), ..Change::default() };
    if context.dry_run {
        change.diff = metadata_diff(directory, name, &change);
    } else {
        clear_place(directory, name, stat, FileType::Symlink)?;
        directory.place_symlink(name, target)?;
    }
    Ok(EntryOutcome { change: Some(change), unowned: false })
}

pub(super) fn settle_file_resource(
    context: &Context<'_>,
    spec: &FileSpec,
) -> Result<Settled, ResourceError> {
    let owner = context.owner(&spec.owner)?;
    let wanted = WantedFile { hash: spec.hash, size: spec.size, mode: spec.mode, owner };
    let Some((directory, name)) = context.parent(&spec.path)? else {
        let after = describe_wanted(&wanted, wanted.owner, spec.mode.unwrap_or(0o644), None);
        return Ok(would_appear(context, &spec.path, after, Some(&wanted)));
    };
    Ok(settle_file(context, &directory, name, &wanted)?.into_settled())
}

pub(super) fn settle_symlink_resource(
    context: &Context<'_>,
    path: &[u8],
    target: &[u8],
) -> Result<Settled, ResourceError> {
    let Some((directory, name)) = context.parent(path)? else {
        let after = format!("symlink to {}", shown(target));
        return Ok(would_appear(context, path, after, None));
    };
    Ok(settle_symlink(context, &directory, name, target)?.into_settled())
}

/// In a dry run: what would be made in a directory that is not there yet.
pub(super) fn would_appear(
    context: &Context<'_>,
    path: &[u8],
    after: String,
    content: Option<&WantedFile>,
) -> Settled {
    let small = content.filter(|w| w.size <= diff::TEXT_SIZE_MAX);
    let text = small.and_then(|w| context.cache.read(w.hash, w.size).ok());
    let diff = text.and_then(|t| diff::unified(path, None, Some(&t)));
    let diff = diff.unwrap_or_else(|| format!("{}: absent -> {after}\n", shown(path)));
    Settled::Changed(Change { before: "absent".to_owned(), after, output: Vec::new(), diff })
}

pub(super) fn settle_absent(context: &Context<'_>, path: &[u8]) -> Result<Settled, ResourceError> {
    let (directory, name) = match context.root.parent(path) {
        Ok(found) => found,
        // Where there is no directory, or something else in its place, nothing is in it.
        Err(PathError::NoParent { .. } | PathError::NotDirectory { .. }) => {
            return Ok(Settled::Unchanged);
        }
        Err(e) => return Err(e.into()),
    };
    let Some(stat) = directory.stat(name)? else { return Ok(Settled::Unchanged) };
    let mut change =
        Change { before: describe(&stat, None), after: "absent".to_owned(), ..Change::default() };
    if context.dry_run {
        if stat.file_type == FileType::Directory {
            directory.descend_within(name)?;
        }
        change.diff = metadata_diff(&directory, name, &change);
    } else {
        directory.remove_tree(name)?;
    }
    Ok(Settled::Changed(change))
}
