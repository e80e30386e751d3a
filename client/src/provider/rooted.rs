//! Files below a root directory: no path, and no symlink on the way, leads out of it.

mod new_file;
mod path;

pub use new_file::{NewFile, TEMP_PREFIX, is_temp_name, temp_name};
pub use path::{
    PathError, is_absolute_path, is_relative_path, is_within, join_path, shown, split_path,
};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use path::system;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The directory that all managed paths are inside of.
#[derive(Debug)]
pub struct Rooted {
    root: OwnedFd,
    is_system: bool,
}

/// A directory inside the root, held open: what happens to its path does not matter any more.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// Its path inside the root, for messages.
    pub path: Vec<u8>,
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A device, a pipe or a socket.
    Other,
}

impl FileType {
    /// With its article, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symlink",
            Self::Other => "a device, pipe or socket",
        }
    }
}

/// What the system says of a name, the last symlink not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Device and inode.
    pub id: (u64, u64),
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of the inode, nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl From<FileStat> for Stat {
    fn from(stat: FileStat) -> Self {
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let file_type = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => FileType::File,
            SFlag::S_IFDIR => FileType::Directory,
            SFlag::S_IFLNK => FileType::Symlink,
            _ => FileType::Other,
        };
        Self {
            file_type,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            id: (stat.st_dev, stat.st_ino),
            mtime_ns: nanos(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanos(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Rooted {
    /// Opens a root directory.
    ///
    /// # Errors
    /// [`PathError::NoRoot`] if it is not there or no directory.
    pub fn open(root: &Path) -> Result<Self, PathError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(root, flags, Mode::empty()).map_err(|e| PathError::NoRoot {
            path: root.display().to_string(),
            source: e.into(),
        })?;
        Ok(Self { root: fd, is_system: root == Path::new("/") })
    }

    /// Whether the root is the machine's own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.is_system
    }

    /// Opens a directory; symlinks on the way are followed inside the root. `None` if it does
    /// not exist.
    ///
    /// # Errors
    /// [`PathError`]: among others if a part of the path is no directory.
    pub fn directory(&self, path: &[u8]) -> Result<Option<Directory>, PathError> {
        if !is_absolute_path(path) {
            return Err(PathError::Form { path: shown(path) });
        }
        let below = if path == b"/" { &b"."[..] } else { &path[1..] };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match confined(self.root.as_fd(), below, flags, ResolveFlag::RESOLVE_IN_ROOT) {
            Ok(fd) => Ok(Some(Directory { fd, path: path.to_vec() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOTDIR) => Err(PathError::NotDirectory { path: shown(path) }),
            Err(Errno::ENOSYS) if self.is_system => {
                let fd = nix::fcntl::open(OsStr::from_bytes(path), flags, Mode::empty());
                match fd {
                    Ok(fd) => Ok(Some(Directory { fd, path: path.to_vec() })),
                    Err(Errno::ENOENT) => Ok(None),
                    Err(e) => Err(system("open", path, e)),
                }
            }
            Err(Errno::ENOSYS) => Err(PathError::CannotConfine),
            Err(e) => Err(system("open", path, e)),
        }
    }

    /// Opens the directory that contains a path.
    ///
    /// # Errors
    /// [`PathError::NoParent`] if there is none, [`PathError::Form`] for `/`.
    pub fn parent<'a>(&self, path: &'a [u8]) -> Result<(Directory, &'a [u8]), PathError> {
        if !is_absolute_path(path) || path == b"/" {
            return Err(PathError::Form { path: shown(path) });
        }
        let (parent, name) = split_path(path);
        let parent = self.directory(parent)?;
        Ok((parent.ok_or_else(|| PathError::NoParent { path: shown(path) })?, name))
    }
}

/// `openat2`, again while a rename elsewhere disturbs it.
fn confined(
    at: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    for _ in 0..64 {
        match nix::fcntl::openat2(at, OsStr::from_bytes(path), how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done,
        }
    }
    Err(Errno::EAGAIN)
}

impl Directory {
    /// Its descriptor.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The full path of a name in it.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join_path(&self.path, name)
    }

    /// The directory's own state.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn own_stat(&self) -> Result<Stat, PathError> {
        match nix::sys::stat::fstat(&self.fd) {
            Ok(stat) => Ok(stat.into()),
            Err(e) => Err(system("look at", &self.path, e)),
        }
    }

    /// The state of a name; `None` if there is none.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, PathError> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match nix::sys::stat::fstatat(&self.fd, OsStr::from_bytes(name), flags) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(system("look at", &self.path_of(name), e)),
        }
    }

    /// Opens a directory in it by a relative path on which nothing is a symlink.
    ///
    /// # Errors
    /// [`PathError`]; a missing one is [`PathError::NoParent`].
    pub fn descend(&self, below: &[u8]) -> Result<Directory, PathError> {
        self.open_below(below, ResolveFlag::empty())
    }

    /// The same for a directory that is to be emptied: nothing that is mounted on the way, or
    /// there, is entered.
    ///
    /// # Errors
    /// As [`Directory::descend`]; [`PathError::Mounted`].
    pub fn descend_within(&self, below: &[u8]) -> Result<Directory, PathError> {
        let directory = self.open_below(below, ResolveFlag::RESOLVE_NO_XDEV)?;
        // Where openat2 is missing, the device still tells other file systems.
        match directory.own_stat()?.id.0 == self.own_stat()?.id.0 {
            true => Ok(directory),
            false => Err(PathError::Mounted { path: shown(&directory.path) }),
        }
    }

    fn open_below(&self, below: &[u8], also: ResolveFlag) -> Result<Directory, PathError> {
        let path = self.path_of(below);
        if !is_relative_path(below) {
            return Err(PathError::Form { path: shown(&path) });
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | also;
        let opened = match confined(self.as_fd(), below, flags, resolve) {
            // Part by part does the same where openat2 is missing.
            Err(Errno::ENOSYS) => self.descend_by_parts(below, flags),
            other => other,
        };
        match opened {
            Ok(fd) => Ok(Directory { fd, path }),
            Err(Errno::EXDEV) => Err(PathError::Mounted { path: shown(&path) }),
            Err(Errno::ENOENT) => Err(PathError::NoParent { path: shown(&path) }),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                Err(PathError::NotDirectory { path: shown(&path) })
            }
            Err(e) => Err(system("open", &path, e)),
        }
    }

    fn descend_by_parts(&self, below: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let mut at: Option<OwnedFd> = None;
        for part in below.split(|b| *b == b'/') {
            let from = at.as_ref().map_or(self.as_fd(), AsFd::as_fd);
            at = Some(nix::fcntl::openat(from, OsStr::from_bytes(part), flags, Mode::empty())?);
        }
        at.ok_or(Errno::ENOENT)
    }

    /// Opens a regular file for reading, without following a symlink or waiting for a pipe.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn open_file(&self, name: &[u8]) -> Result<File, PathError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let open =
            |flags| nix::fcntl::openat(&self.fd, OsStr::from_bytes(name), flags, Mode::empty());
        // Checking should leave no trace; only the owner may ask for that.
        let opened = match open(flags | OFlag::O_NOATIME) {
            Err(Errno::EPERM) => open(flags),
            other => other,
        };
        opened.map(File::from).map_err(|e| system("read", &self.path_of(name), e))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, PathError> {
        match nix::fcntl::readlinkat(&self.fd, OsStr::from_bytes(name)) {
            Ok(target) => Ok(target.into_vec()),
            Err(e) => Err(system("read the symlink", &self.path_of(name), e)),
        }
    }

    /// The names in it, in no order.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn names(&self) -> Result<Vec<Vec<u8>>, PathError> {
        let mut names = Vec::new();
        self.list(|name, _| {
            names.push(name.to_vec());
            Ok(())
        })?;
        Ok(names)
    }

    /// The directories in it, symlinks to directories not counted.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn directories(&self) -> Result<Vec<Vec<u8>>, PathError> {
        let mut names = Vec::new();
        self.list(|name, file_type| {
            let is_directory = match file_type {
                Some(known) => known == nix::dir::Type::Directory,
                // Some file systems do not say.
                None => self.stat(name)?.is_some_and(|s| s.file_type == FileType::Directory),
            };
            if is_directory {
                names.push(name.to_vec());
            }
            Ok(())
        })?;
        Ok(names)
    }

    fn list(
        &self,
        mut take: impl FnMut(&[u8], Option<nix::dir::Type>) -> Result<(), PathError>,
    ) -> Result<(), PathError> {
        let failed = |e| system("list", &self.path, e);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing =
            nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?;
        for entry in listing.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                take(name, entry.file_type())?;
            }
        }
        Ok(())
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn make_directory(&self, name: &[u8], mode: u32) -> Result<(), PathError> {
        nix::sys::stat::mkdirat(&self.fd, OsStr::from_bytes(name), Mode::from_bits_truncate(mode))
            .map_err(|e| system("make the directory", &self.path_of(name), e))
    }

    /// Puts a symlink in the place of whatever is no directory there.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn place_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), PathError> {
        let failed = |e| system("make the symlink", &self.path_of(name), e);
        let temp = temp_name(name);
        let make = || nix::unistd::symlinkat(OsStr::from_bytes(target), &self.fd, temp.as_os_str());
        match make() {
            Err(Errno::EEXIST) => {
                self.remove_tree(temp.as_bytes())?;
                make().map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let name = OsStr::from_bytes(name);
        nix::fcntl::renameat(&self.fd, temp.as_os_str(), &self.fd, name).map_err(|e| {
            // The rename's error is the one to tell; the leftover is replaced next time.
            let _ = nix::unistd::unlinkat(&self.fd, temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
            failed(e)
        })
    }

    /// Sets the permission bits of a name that is no symlink.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn set_mode(&self, name: &[u8], mode: u32) -> Result<(), PathError> {
        let failed = |e| system("set the mode of", &self.path_of(name), e);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(&self.fd, OsStr::from_bytes(name), flags, Mode::empty())
            .map_err(failed)?;
        set_mode_of(fd.as_fd(), mode).map_err(failed)
    }

    /// Sets the directory's own permission bits.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn set_own_mode(&self, mode: u32) -> Result<(), PathError> {
        set_mode_of(self.as_fd(), mode).map_err(|e| system("set the mode of", &self.path, e))
    }

    /// Sets owner and group of a name, symlinks not followed. `false` if this needs a
    /// privilege that the client does not have.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn set_owner(
        &self,
        name: &[u8],
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<bool, PathError> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match nix::unistd::fchownat(&self.fd, OsStr::from_bytes(name), uid, gid, flags) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM) => Ok(false),
            Err(e) => Err(system("set the owner of", &self.path_of(name), e)),
        }
    }

    /// Removes a name that is no directory; `false` if there was none.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn remove_file(&self, name: &[u8]) -> Result<bool, PathError> {
        match nix::unistd::unlinkat(&self.fd, OsStr::from_bytes(name), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(system("remove", &self.path_of(name), e)),
        }
    }

    /// Removes an empty directory; `false` if there is something in it.
    ///
    /// # Errors
    /// [`PathError::System`], also for a mount point.
    pub fn remove_empty(&self, name: &[u8]) -> Result<bool, PathError> {
        match nix::unistd::unlinkat(&self.fd, OsStr::from_bytes(name), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
            Err(e) => Err(system("remove", &self.path_of(name), e)),
        }
    }

    /// Removes a name, and all below it if it is a directory. No symlink is followed, and no
    /// other file system is entered.
    ///
    /// # Errors
    /// [`PathError`]; what is mounted there or below is [`PathError::Mounted`] and stays.
    pub fn remove_tree(&self, name: &[u8]) -> Result<(), PathError> {
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        if stat.file_type != FileType::Directory {
            self.remove_file(name)?;
            return Ok(());
        }
        // A list of its own instead of recursion: depth is the attacker's choice.
        let mut pending = vec![(name.to_vec(), false)];
        while let Some((path, emptied)) = pending.pop() {
            if emptied {
                let os = OsStr::from_bytes(&path);
                match nix::unistd::unlinkat(&self.fd, os, UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => continue,
                    Err(e) => return Err(system("remove", &self.path_of(&path), e)),
                }
            }
            let directory = self.descend_within(&path)?;
            pending.push((path.clone(), true));
            for child in directory.names()? {
                match directory.stat(&child)?.map(|s| s.file_type) {
                    Some(FileType::Directory) => pending.push((join_path(&path, &child), false)),
                    Some(_) => {
                        directory.remove_file(&child)?;
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// `fchmod` by way of `/proc`, since a descriptor opened with `O_PATH` (which needs no read
/// permission) takes it no other way.
fn set_mode_of(fd: BorrowedFd<'_>, mode: u32) -> nix::Result<()> {
    let path =
        CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    let flag = nix::sys::stat::FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        path.as_c_str(),
        Mode::from_bits_truncate(mode),
        flag,
    )
}

#[cfg(test)]
mod tests;
