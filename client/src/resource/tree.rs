//! All that is in a directory: made as in the tree of the release, and cleared of strays.

use super::directory::{LateMode, WantedDirectory, settle_one};
use super::entry::{EntryOutcome, WantedFile, is_foreign, may_chown, settle_file, settle_symlink};
use super::{Context, DirectorySpec, Owner, ResourceError};
use crate::provider::rooted::{
    Directory, FileType, PathError, Stat, is_relative_path, is_temp_name, join_path, shown,
    split_path,
};
use engine::ids::BlobHash;
use engine::release::{ArchivedTreeEntry, TreeKind};
use std::collections::HashSet;

/// Names that a summary mentions.
pub(super) const NAMED_MAX: usize = 5;
/// Bytes of a dry run's diff of one directory.
const DIFF_SIZE_MAX: usize = 4 * 1024 * 1024;

/// What became of the entries of one directory.
#[derive(Debug)]
pub(super) struct Tally {
    created: usize,
    changed: usize,
    removed: usize,
    /// Entries that are not wanted there, whether they could be removed or not.
    pub(super) strays: usize,
    named: Vec<String>,
    pub(super) unowned: usize,
    pub(super) failed: Vec<String>,
    pub(super) to_fetch: Vec<BlobHash>,
    pub(super) interrupted: Option<ResourceError>,
    dry_run: bool,
    pub(super) diff: String,
}

impl Tally {
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            created: 0,
            changed: 0,
            removed: 0,
            strays: 0,
            named: Vec::new(),
            unowned: 0,
            failed: Vec::new(),
            to_fetch: Vec::new(),
            interrupted: None,
            dry_run,
            diff: String::new(),
        }
    }

    fn name(&mut self, sign: char, path: &[u8]) {
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{sign}{}", shown(path)));
        }
    }

    fn show(&mut self, diff: &str) {
        if self.dry_run && self.diff.len() + diff.len() <= DIFF_SIZE_MAX {
            self.diff.push_str(diff);
        }
    }

    pub(super) fn on_created(&mut self, path: &[u8], what: FileType) {
        self.created += 1;
        self.name('+', path);
        self.show(&format!("{}: absent -> {}\n", shown(path), what.name()));
    }

    pub(super) fn on_changed(&mut self, path: &[u8], what: &str) {
        self.changed += 1;
        self.name('~', path);
        self.show(&format!("{}: {what}\n", shown(path)));
    }

    pub(super) fn on_removed(&mut self, path: &[u8], what: FileType) {
        self.removed += 1;
        self.name('-', path);
        self.show(&format!("{}: {} -> absent\n", shown(path), what.name()));
    }

    fn on_entry(&mut self, path: &[u8], outcome: EntryOutcome) {
        self.unowned += usize::from(outcome.unowned);
        let Some(change) = outcome.change else { return };
        if change.before == "absent" {
            self.created += 1;
            self.name('+', path);
        } else {
            self.changed += 1;
            self.name('~', path);
        }
        self.show(&change.diff);
    }

    fn on_failed(&mut self, error: ResourceError) {
        if matches!(error, ResourceError::Interrupted { .. }) {
            self.interrupted = Some(error);
            return;
        }
        self.to_fetch.extend(error.to_fetch());
        self.failed.push(error.to_string());
    }

    pub(super) fn wrong(&self) -> usize {
        self.created + self.changed
    }

    pub(super) fn is_changed(&self) -> bool {
        self.wrong() + self.removed > 0
    }

    /// `3 created, 1 changed: +/etc/a, ~/etc/b …`
    pub(super) fn in_words(&self) -> String {
        let counts =
            [(self.created, "created"), (self.changed, "changed"), (self.removed, "removed")];
        let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let more = self.wrong() + self.removed > self.named.len();
        let unowned = match self.unowned {
            0 => String::new(),
            n => format!("; {}, for {n} entries", super::entry::UNOWNED),
        };
        format!("{counts}: {}{}{unowned}", self.named.join(", "), if more { " …" } else { "" })
    }
}

/// One pass over a directory.
pub(super) struct Walk<'a, 'c> {
    pub(super) context: &'a Context<'c>,
    /// The directory; `None` in a dry run that would make it.
    pub(super) top: Option<&'a Directory>,
    pub(super) spec: &'a DirectorySpec,
    /// What directories in it should be, apart from their modes.
    pub(super) wanted: WantedDirectory,
}

impl Walk<'_, '_> {
    /// Makes what is in the directory as the entries say. Failures of single entries are kept
    /// in the tally: the others go on.
    pub(super) fn settle(
        &self,
        entries: &[ArchivedTreeEntry],
        tally: &mut Tally,
        late: &mut Vec<LateMode>,
    ) -> Result<(), ResourceError> {
        // Entries come sorted, so most have the parent of the one before.
        let mut parent: Option<(Vec<u8>, Directory)> = None;
        for entry in entries.iter().filter(|e| !e.path.is_empty()) {
            if let Err(error) = self.settle_entry(entry, &mut parent, tally, late) {
                tally.on_failed(error);
                if tally.interrupted.is_some() {
                    return Ok(());
                }
            }
        }
        let Some(top) = self.top else { return Ok(()) };
        if self.spec.purge {
            self.purge(top, entries, tally)?;
        }
        if self.spec.recurse && self.spec.tree.is_none() && self.wanted.owner != Owner::default() {
            self.own_all(top, tally)?;
        }
        Ok(())
    }

    fn settle_entry(
        &self,
        entry: &ArchivedTreeEntry,
        parent: &mut Option<(Vec<u8>, Directory)>,
        tally: &mut Tally,
        late: &mut Vec<LateMode>,
    ) -> Result<(), ResourceError> {
        let path = entry.path.as_slice();
        let whole = join_path(&self.spec.path, path);
        if !is_relative_path(path) {
            return Err(PathError::Form { path: shown(&whole) }.into());
        }
        let kind = TreeKind::from_number(entry.kind)
            .ok_or_else(|| PathError::Form { path: shown(&whole) })?;
        let (above, name) = split_path(path);
        let Some(directory) = self.open(above, parent)? else {
            let file_type = match kind {
                TreeKind::Directory => FileType::Directory,
                TreeKind::File => FileType::File,
                TreeKind::Symlink => FileType::Symlink,
            };
            tally.on_created(&whole, file_type);
            return Ok(());
        };
        if kind != TreeKind::Directory && self.spec.purge {
            self.clear_directory(directory, name, tally)?;
        }
        match kind {
            TreeKind::Directory => {
                let wanted = WantedDirectory { mode: Some(entry.mode.to_native()), ..self.wanted };
                late.extend(settle_one(self.context, directory, name, wanted, tally)?);
            }
            TreeKind::File => {
                let wanted = WantedFile {
                    hash: BlobHash(entry.hash),
                    size: entry.size.to_native(),
                    mode: Some(entry.mode.to_native()),
                    owner: self.wanted.owner,
                };
                tally.on_entry(&whole, settle_file(self.context, directory, name, &wanted)?);
            }
            TreeKind::Symlink => {
                let target = entry.target.as_slice();
                let outcome = settle_symlink(self.context, directory, name, target)?;
                tally.on_entry(&whole, outcome);
            }
        }
        Ok(())
    }

    /// The directory that an entry is in; `None` in a dry run that would have made it.
    fn open<'p>(
        &self,
        above: &[u8],
        parent: &'p mut Option<(Vec<u8>, Directory)>,
    ) -> Result<Option<&'p Directory>, ResourceError> {
        let Some(top) = self.top else { return Ok(None) };
        if parent.as_ref().is_none_or(|(path, _)| path != above) {
            let opened = match above.is_empty() {
                true => self
                    .context
                    .root
                    .directory(&top.path)?
                    .ok_or_else(|| PathError::NoParent { path: shown(&top.path) }),
                false => top.descend(above),
            };
            *parent = match opened {
                Ok(directory) => Some((above.to_vec(), directory)),
                Err(PathError::NoParent { .. }) if self.context.dry_run => return Ok(None),
                // Something that a purge would have cleared away stands there.
                Err(PathError::NotDirectory { .. }) if self.context.dry_run && self.spec.purge => {
                    return Ok(None);
                }
                Err(e) => return Err(e.into()),
            };
        }
        Ok(parent.as_ref().map(|(_, directory)| directory))
    }

    /// A purge clears a directory away where a file or a symlink should be.
    fn clear_directory(
        &self,
        directory: &Directory,
        name: &[u8],
        tally: &mut Tally,
    ) -> Result<(), ResourceError> {
        let path = directory.path_of(name);
        let stat = directory.stat(name)?;
        if stat.is_some_and(|s| s.file_type == FileType::Directory)
            && !self.context.managed.concern(&path)
            && !self.context.dry_run
        {
            directory.remove_tree(name)?;
            tally.on_removed(&path, FileType::Directory);
        }
        Ok(())
    }

    fn purge(
        &self,
        top: &Directory,
        entries: &[ArchivedTreeEntry],
        tally: &mut Tally,
    ) -> Result<(), ResourceError> {
        let wanted: HashSet<&[u8]> = entries.iter().map(|e| e.path.as_slice()).collect();
        let is_directory = |e: &&ArchivedTreeEntry| e.kind == TreeKind::Directory as u8;
        let below = entries.iter().filter(is_directory).map(|e| e.path.as_slice());
        for above in below.filter(|p| !p.is_empty()).chain([&b""[..]]) {
            let opened;
            let directory = match above {
                b"" => top,
                _ => match top.descend(above) {
                    Ok(directory) => {
                        opened = directory;
                        &opened
                    }
                    // It failed before, or is only made by a run that is none.
                    Err(_) => continue,
                },
            };
            for name in directory.names()? {
                let path = match above {
                    b"" => name.clone(),
                    _ => join_path(above, &name),
                };
                let whole = join_path(&self.spec.path, &path);
                let managed = self.context.managed;
                if wanted.contains(&path[..])
                    || managed.concern(&whole)
                    // What is managed in here may be written at this moment.
                    || managed.write_at(&whole)
                {
                    continue;
                }
                let Some(stat) = directory.stat(&name)? else { continue };
                tally.strays += 1;
                let removed = match (self.context.dry_run, stat.file_type) {
                    (false, _) => directory.remove_tree(&name),
                    (true, FileType::Directory) => directory.descend_within(&name).map(drop),
                    (true, _) => Ok(()),
                };
                match removed {
                    Ok(()) => tally.on_removed(&whole, stat.file_type),
                    Err(error) => tally.on_failed(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives everything below to one owner. What goes meanwhile needs none.
    fn own_all(&self, top: &Directory, tally: &mut Tally) -> Result<(), ResourceError> {
        let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(above) = pending.pop() {
            let opened;
            let directory = match above.is_empty() {
                true => top,
                false => match top.descend(&above) {
                    Err(error) if error.is_gone() => continue,
                    found => {
                        opened = found?;
                        &opened
                    }
                },
            };
            for name in directory.names()? {
                // Whoever writes it at this moment gives it its owner.
                if is_temp_name(&name) {
                    continue;
                }
                let Some(stat) = directory.stat(&name)? else { continue };
                match self.own(directory, &name, &stat, tally) {
                    Err(error) if error.is_gone() => continue,
                    done => done?,
                }
                if stat.file_type == FileType::Directory {
                    pending.push(match above.is_empty() {
                        true => name,
                        false => join_path(&above, &name),
                    });
                }
            }
        }
        Ok(())
    }

    fn own(
        &self,
        directory: &Directory,
        name: &[u8],
        stat: &Stat,
        tally: &mut Tally,
    ) -> Result<(), PathError> {
        let owner = self.wanted.owner;
        if !is_foreign(stat, owner) {
            return Ok(());
        }
        let done = match self.context.dry_run {
            true => may_chown(),
            false => directory.set_owner(name, owner.uid, owner.gid)?,
        };
        if !done {
            tally.unowned += 1;
            return Ok(());
        }
        tally.on_changed(&directory.path_of(name), "owner");
        // The system drops setuid and setgid when the owner changes.
        let lost = stat.mode & 0o6000 != 0 && stat.file_type != FileType::Symlink;
        if lost && !self.context.dry_run {
            directory.set_mode(name, stat.mode)?;
        }
        Ok(())
    }
}
