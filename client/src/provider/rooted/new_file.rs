//! A file that is written under another name, and takes its place when it is whole.

use super::path::system;
use super::{Directory, PathError, Stat, shown};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Names of files that are being written begin with this.
pub const TEMP_PREFIX: &[u8] = b".drover-";
const TEMP_SUFFIX: &[u8] = b".tmp";

/// The name under which a file is written before it takes its place. It depends on the name
/// alone, so that what a crash left behind is replaced by the next attempt.
#[must_use]
pub fn temp_name(name: &[u8]) -> OsString {
    let hash = blake3::hash(name).to_hex();
    OsString::from_vec([TEMP_PREFIX, &hash.as_bytes()[..16], TEMP_SUFFIX].concat())
}

/// Whether a name is one that files have while they are written.
#[must_use]
pub fn is_temp_name(name: &[u8]) -> bool {
    name.len() == TEMP_PREFIX.len() + 16 + TEMP_SUFFIX.len()
        && name.starts_with(TEMP_PREFIX)
        && name.ends_with(TEMP_SUFFIX)
}

impl Directory {
    /// Begins to write a file: it has another name until [`NewFile::place`].
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn new_file(&self, name: &[u8]) -> Result<NewFile<'_>, PathError> {
        let failed = |e| system("write", &self.path_of(name), e);
        let temp = temp_name(name);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let create = || nix::fcntl::openat(&self.fd, temp.as_os_str(), flags, private);
        let fd = match create() {
            Err(Errno::EEXIST) => {
                self.remove_tree(temp.as_bytes())?;
                create().map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        Ok(NewFile { directory: self, name: name.to_vec(), temp: Some(temp), file: File::from(fd) })
    }
}

/// A file that is being written. Dropped before [`NewFile::place`], it is gone.
pub struct NewFile<'a> {
    directory: &'a Directory,
    name: Vec<u8>,
    temp: Option<OsString>,
    file: File,
}

impl NewFile<'_> {
    /// Where to write the content.
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// Sets owner and group; `false` if this needs a privilege that the client does not have.
    ///
    /// # Errors
    /// [`PathError::System`].
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<bool, PathError> {
        match nix::unistd::fchown(&self.file, uid.map(Uid::from_raw), gid.map(Gid::from_raw)) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM) => Ok(false),
            Err(e) => Err(self.failed("set the owner of", e)),
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> PathError {
        system(operation, &self.directory.path_of(&self.name), errno)
    }

    /// Gives the file its mode and its name, in the place of whatever is no directory there.
    /// The owner must be set before: the system drops setuid when the owner changes.
    ///
    /// # Errors
    /// [`PathError::System`]; nothing has changed then.
    pub fn place(mut self, mode: u32, fsync: bool) -> Result<Stat, PathError> {
        let mode = Mode::from_bits_truncate(mode);
        nix::sys::stat::fchmod(&self.file, mode).map_err(|e| self.failed("set the mode of", e))?;
        if fsync {
            self.file.sync_all().map_err(|source| PathError::System {
                operation: "sync",
                path: shown(&self.directory.path_of(&self.name)),
                source,
            })?;
        }
        if let Some(temp) = self.temp.as_deref() {
            let (fd, name) = (&self.directory.fd, OsStr::from_bytes(&self.name));
            nix::fcntl::renameat(fd, temp, fd, name).map_err(|e| self.failed("replace", e))?;
        }
        self.temp = None;
        if fsync {
            // An O_PATH descriptor cannot be synced itself.
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::openat(&self.directory.fd, ".", flags, Mode::empty())
                .and_then(nix::unistd::fsync)
                .map_err(|e| self.failed("sync the directory of", e))?;
        }
        match nix::sys::stat::fstat(&self.file) {
            Ok(stat) => Ok(stat.into()),
            Err(e) => Err(self.failed("look at", e)),
        }
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            // Nothing can be done about an error here; the next attempt replaces the leftover.
            let at = &self.directory.fd;
            let _ = nix::unistd::unlinkat(at, temp.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}
