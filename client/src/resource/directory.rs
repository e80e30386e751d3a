//! A directory itself; what is in it is `tree`'s.

use super::entry::{is_foreign, may_chown, would_appear};
use super::tree::{self, Tally};
use super::{Change, Context, DirectorySpec, Owner, ResourceError, Settled};
use crate::policy::LoadedTree;
use crate::provider::rooted::{Directory, FileType, PathError, shown};

/// Bits that a directory has while it is being filled.
const OWN_ACCESS: u32 = 0o700;
const MODE_DEFAULT: u32 = 0o755;

/// What a directory should be.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedDirectory {
    pub(super) mode: Option<u32>,
    pub(super) owner: Owner,
    /// Whether what is no directory gives way.
    pub(super) purge: bool,
}

/// A mode that is set once the directory is filled: a narrower one would be in the way.
#[derive(Debug)]
pub(super) struct LateMode {
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
}

/// Makes a name a directory. `None`: it would have been made, were this not a dry run.
pub(super) fn settle_one(
    context: &Context<'_>,
    parent: &Directory,
    name: &[u8],
    wanted: WantedDirectory,
    tally: &mut Tally,
) -> Result<Option<LateMode>, ResourceError> {
    let path = parent.path_of(name);
    let mut stat = parent.stat(name)?;
    if let Some(s) = stat
        && s.file_type != FileType::Directory
    {
        if !wanted.purge {
            return Err(PathError::WrongType {
                path: shown(&path),
                found: s.file_type.name(),
                wanted: FileType::Directory.name(),
                hint: "remove it, or manage the directory with purge",
            }
            .into());
        }
        tally.on_removed(&path, s.file_type);
        if !context.dry_run {
            parent.remove_tree(name)?;
        }
        stat = None;
    }
    let Some(stat) = stat else {
        let mode = wanted.mode.unwrap_or(MODE_DEFAULT);
        tally.on_created(&path, FileType::Directory);
        if context.dry_run {
            return Ok(None);
        }
        parent.make_directory(name, mode | OWN_ACCESS)?;
        if wanted.owner != Owner::default()
            && !parent.set_owner(name, wanted.owner.uid, wanted.owner.gid)?
        {
            tally.unowned += 1;
        }
        return Ok(Some(LateMode { path, mode }));
    };
    let mode = wanted.mode.unwrap_or(stat.mode);
    let mut late = (mode != stat.mode).then_some(mode);
    if late.is_some() {
        tally.on_changed(&path, &format!("mode {:04o} -> {mode:04o}", stat.mode));
    }
    if is_foreign(&stat, wanted.owner) {
        let done = match context.dry_run {
            true => may_chown(),
            false => parent.set_owner(name, wanted.owner.uid, wanted.owner.gid)?,
        };
        if done {
            tally.on_changed(&path, "owner");
            // The system drops setgid when the owner changes.
            late = Some(mode);
        } else {
            tally.unowned += 1;
        }
    }
    Ok(late.map(|mode| LateMode { path, mode }))
}

/// Sets the modes that had to wait, the deepest first.
pub(super) fn set_late_modes(
    context: &Context<'_>,
    mut late: Vec<LateMode>,
) -> Result<(), ResourceError> {
    if context.dry_run {
        return Ok(());
    }
    late.sort_by(|a, b| b.path.cmp(&a.path));
    for LateMode { path, mode } in late {
        let (parent, name) = context.root.parent(&path)?;
        parent.set_mode(name, mode)?;
    }
    Ok(())
}

pub(super) fn settle(
    context: &Context<'_>,
    spec: &DirectorySpec,
) -> Result<Settled, ResourceError> {
    let owner = context.owner(&spec.owner)?;
    let loaded = spec.tree.map(|hash| LoadedTree::load(context.cache, hash)).transpose()?;
    let entries = loaded.as_ref().map(|t| t.archived().entries.as_slice()).unwrap_or_default();
    let tree_mode = entries.first().filter(|e| e.path.is_empty()).map(|e| e.mode.to_native());
    let wanted = WantedDirectory { mode: spec.mode.or(tree_mode), owner, purge: spec.purge };
    let Some((parent, name)) = context.parent(&spec.path)? else {
        let what = format!("a directory with {} entries", entries.len());
        return Ok(would_appear(context, &spec.path, what, None));
    };
    let mut tally = Tally::new(context.dry_run);
    let existed = parent.stat(name)?.is_some_and(|s| s.file_type == FileType::Directory);
    let mut late: Vec<LateMode> =
        settle_one(context, &parent, name, wanted, &mut tally)?.into_iter().collect();
    let directory = match existed || !context.dry_run {
        true => Some(parent.descend(name)?),
        false => None,
    };
    if spec.reaches_below() {
        let inside_owner =
            if spec.recurse || spec.tree.is_some() { owner } else { Owner::default() };
        let wanted = WantedDirectory { mode: None, owner: inside_owner, purge: spec.purge };
        let walk = tree::Walk { context, top: directory.as_ref(), spec, wanted };
        walk.settle(entries, &mut tally, &mut late)?;
    }
    // What could be done is done before the failures are told.
    set_late_modes(context, late)?;
    tally.into_settled(entries.len().max(1))
}

impl Tally {
    /// What became of the whole directory.
    fn into_settled(self, entries: usize) -> Result<Settled, ResourceError> {
        if let Some(first) = self.interrupted {
            return Err(first);
        }
        if !self.failed.is_empty() {
            let shown = self.failed.iter().take(super::tree::NAMED_MAX).cloned();
            return Err(ResourceError::Entries {
                failed: self.failed.len(),
                entries: entries + self.strays,
                first: shown.collect::<Vec<_>>().join("; "),
                to_fetch: self.to_fetch,
            });
        }
        if !self.is_changed() {
            return Ok(match self.unowned {
                0 => Settled::Unchanged,
                n => Settled::Skipped(format!("{}, for {n} entries", super::entry::UNOWNED)),
            });
        }
        Ok(Settled::Changed(Change {
            before: format!(
                "{} of {entries} entries as wanted",
                entries.saturating_sub(self.wrong())
            ),
            after: self.in_words(),
            output: Vec::new(),
            diff: self.diff,
        }))
    }
}
