//! What lies beside the database: the lock that keeps a second process out, and the reserve
//! that is given up when the disk is full, so that trimming can go on.

use crate::queue::store::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Takes the lock of a queue's directory, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.display().to_string();
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("owner.lock"));
    locked(open, path)
}

fn locked(open: io::Result<File>, path: String) -> Result<File, StoreError> {
    let file = open.map_err(|error| io_error(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path, holder: holder(&file) }),
        Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
    }
}

/// Whether a process owns a queue; none can begin to while what is returned lives, unless nothing
/// can be written there at all.
pub(super) fn look(dir: &Path) -> Result<Option<File>, StoreError> {
    match lock(dir) {
        Err(StoreError::Io { path, .. }) => {
            match locked(File::open(dir.join("owner.lock")), path) {
                Ok(file) => Ok(Some(file)),
                Err(owned @ StoreError::InUse { .. }) => Err(owned),
                // It was never owned, or it cannot be told.
                Err(_) => Ok(None),
            }
        }
        locked => locked.map(Some),
    }
}

/// Who has a file locked, in words, as far as the kernel tells: not who is in another namespace
/// of processes.
fn holder(file: &File) -> String {
    let found = || {
        let meta = file.metadata().ok()?;
        let (major, minor) = (libc::major(meta.dev()), libc::minor(meta.dev()));
        let wanted = format!("{major:02x}:{minor:02x}:{}", meta.ino());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
            let pid = words.next()?.parse::<u32>().ok().filter(|pid| *pid > 0)?;
            (words.next()? == wanted).then_some(pid)
        })
    };
    found().map_or_else(
        || "another process".to_owned(),
        |pid| match command_line(pid) {
            Some(command) => format!("process {pid} ({command})"),
            None => format!("process {pid}"),
        },
    )
}

/// A process's command line, without the directory of its program.
fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    let program = words.first()?.rsplit('/').next().filter(|name| !name.is_empty())?;
    Some([&[program], &words[1..]].concat().join(" "))
}

/// A database with more transactions than this was not left behind by its making, which is one,
/// and perhaps was tried again.
pub(super) const UNFINISHED_TRANSACTIONS_MAX: u64 = 8;

/// A file that is larger than this was not left behind by its making, which writes six pages of at
/// most 32 KiB.
const UNFINISHED_MAX: u64 = 192 * 1024;

/// Notes in the lock's file that the database was made: by its length, which takes no space. From
/// then on all that leads to it outlasts a power cut.
pub(super) fn note_made(lock: &File, dir: &Path) -> io::Result<()> {
    if lock.metadata()?.len() > 0 {
        return Ok(());
    }
    File::open(dir)?.sync_all()?;
    lock.set_len(1)?;
    lock.sync_all()
}

/// Takes that back: another database is to be made.
pub(super) fn note_unmade(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.sync_all()
}

/// Moves a database out of the way whose making was never finished: nothing was committed to it.
/// Returns where it is now; `None` if it is too large to be that.
pub(super) fn move_unfinished(dir: &Path) -> io::Result<Option<PathBuf>> {
    let file = dir.join("data.mdb");
    if file.metadata()?.len() > UNFINISHED_MAX {
        return Ok(None);
    }
    let free = (1..).map(|n| dir.join(format!("data.mdb.unfinished-{n}"))).find(|to| !to.exists());
    let Some(to) = free else { return Ok(None) };
    std::fs::rename(file, &to)?;
    Ok(Some(to))
}

/// Whether a queue's database was ever made, as far as it was noted.
pub(super) fn was_made(dir: &Path) -> bool {
    dir.join("owner.lock").metadata().is_ok_and(|meta| meta.len() > 0)
}

/// Makes a queue's directory, its owner's alone, if it is missing; one that was made outlasts a power
/// cut.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    let above = dir.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    std::fs::create_dir_all(above)?;
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| File::open(above)?.sync_all()),
    }
}

/// Bytes of LMDB's table of readers: more than it takes for ours.
const READERS_SIZE: usize = 8192;

/// Gives LMDB's table of readers its space. LMDB itself only sizes the file and maps it: on a full
/// disk the first touch of it would end the process without a word.
pub(super) fn allocate_readers(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("lock.mdb"))?;
    let meta = file.metadata()?;
    if meta.len() >= READERS_SIZE as u64 && meta.blocks() * 512 >= meta.len() {
        return Ok(());
    }
    // Who opens it first makes it anew, and nobody has it open: `owner.lock` is ours.
    file.write_all(&[0; READERS_SIZE])
}

/// Keeps every descriptor that this process has of the file from the programs that it starts.
pub(super) fn close_on_exec(file: &File) -> io::Result<()> {
    let identity = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    let wanted = identity(&file.metadata()?);
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let same = std::fs::metadata(entry.path()).is_ok_and(|meta| identity(&meta) == wanted);
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(fd)) = (same, number) {
            set_close_on_exec(fd)?;
        }
    }
    Ok(())
}

fn set_close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: it changes nothing but a flag of a descriptor, and fails if there is none.
    #[allow(unsafe_code)]
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which of our errors the operating system's is.
pub(super) fn io_error(path: &str, error: &io::Error) -> StoreError {
    // Where a file system has room for a part of a write, LMDB makes an I/O error of it.
    let is_full = || free_bytes(Path::new(path)).is_some_and(|free| free < FULL_BELOW);
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::EIO) if is_full() => StoreError::DiskFull { path },
        // A quota, or a limit on the size of files, is a full disk to whoever meets it.
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => StoreError::DiskFull { path },
        Some(libc::EROFS) => {
            let detail = "its file system is mounted read-only: make it writable, or set state_dir";
            StoreError::Io { path, detail: detail.to_owned() }
        }
        _ => StoreError::Io { path, detail: error.to_string() },
    }
}

/// A file system with less than this left took only a part of what was written.
const FULL_BELOW: u64 = 64 * 1024;

/// Space that is kept for the time when there is none.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// The reserve of a directory; it may be smaller than wanted after a crash.
    pub(super) fn find(dir: &Path, bytes: u64) -> Self {
        let path = dir.join("reserve");
        let held = path.metadata().is_ok_and(|meta| meta.len() == bytes);
        Self { path, bytes, held }
    }

    /// Sets the space aside again if four times as much is free.
    pub(super) fn refill(&mut self) {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.held || self.bytes == 0 || free_bytes(dir).unwrap_or(0) < 4 * self.bytes {
            return;
        }
        match self.fill() {
            Ok(()) => self.held = true,
            Err(error) => {
                log::warn!("no space can be kept in reserve in {}: {error}", self.path.display());
                self.release();
            }
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        // Written, not only sized: a hole reserves nothing.
        let zeros = vec![0; 1 << 20];
        let mut left = self.bytes;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all(&zeros[..piece])?;
            left -= piece as u64;
        }
        file.sync_all()
    }

    /// Gives the space up; whether there was any.
    pub(super) fn release(&mut self) -> bool {
        self.held = false;
        std::fs::remove_file(&self.path).is_ok()
    }
}

/// Bytes that the file system of this directory has left for us, if it says so.
fn free_bytes(dir: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let dir = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `dir` is a C string and `stat` has room for what is written; std has no call for it.
    #[allow(unsafe_code)]
    let stat = unsafe {
        if libc::statvfs(dir.as_ptr(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
