//! A disk under one file that fails a call, or loses what was not synced when its power is cut.
//!
//! The calls of the C library by which LMDB writes are this program's own: they note what is
//! written to the file that is watched, and pass everything on to the kernel. So LMDB, the store
//! and the kernel are the real ones, and what a power cut leaves is computed from the notes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a disk writes as a whole, or not at all.
const SECTOR: usize = 512;

/// Something that was done to the file.
#[derive(Debug, Clone)]
pub enum Op {
    /// Bytes were written; `synced` when the call returned, if the descriptor is of that kind.
    Write { at: u64, bytes: Vec<u8>, synced: bool },
    /// All that was written before is on the disk.
    Sync,
    /// The file got another length.
    Truncate(u64),
}

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Write,
    Sync,
}

/// The `nth` such call from now on fails with this number of the system's.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub call: Call,
    pub nth: usize,
    pub errno: i32,
}

#[derive(Debug, Default)]
struct Disk {
    path: PathBuf,
    ops: Vec<Op>,
    /// How much was done when another file of its directory was first given a length.
    noted_at: Option<usize>,
    fault: Option<Fault>,
    failed: bool,
}

static DISK: Mutex<Option<Disk>> = Mutex::new(None);
/// One test at a time has the disk.
static TURN: Mutex<()> = Mutex::new(());

fn disk() -> MutexGuard<'static, Option<Disk>> {
    DISK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches a file until it is dropped.
#[derive(Debug)]
pub struct Watch(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

impl Watch {
    /// Watches this file, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        *disk() = Some(Disk { path: path.to_owned(), ..Disk::default() });
        Self(turn)
    }

    /// How much was done until now.
    pub fn position(&self) -> usize {
        disk().as_ref().map_or(0, |disk| disk.ops.len())
    }

    /// All that was done.
    pub fn ops(&self) -> Vec<Op> {
        disk().as_ref().map(|disk| disk.ops.clone()).unwrap_or_default()
    }

    /// How much was done when the queue noted beside it that it was made.
    pub fn noted_at(&self) -> Option<usize> {
        disk().as_ref().and_then(|disk| disk.noted_at)
    }

    /// Lets a call fail.
    pub fn fail(&self, fault: Fault) {
        if let Some(disk) = disk().as_mut() {
            (disk.fault, disk.failed) = (Some(fault), false);
        }
    }

    /// Whether it has failed.
    pub fn has_failed(&self) -> bool {
        disk().as_ref().is_some_and(|disk| disk.failed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *disk() = None;
    }
}

/// What is on the disk, and what may be on it.
#[derive(Debug, Default, Clone)]
pub struct Platter {
    synced: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

fn put(file: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Platter {
    /// One more thing was done.
    pub fn take(&mut self, op: &Op) {
        match op {
            Op::Write { at, bytes, synced: true } => put(&mut self.synced, *at, bytes),
            Op::Write { at, bytes, synced: false } => self.pending.push((*at, bytes.clone())),
            Op::Sync => {
                for (at, bytes) in std::mem::take(&mut self.pending) {
                    put(&mut self.synced, at, &bytes);
                }
            }
            Op::Truncate(len) => self.synced.resize(*len as usize, 0),
        }
    }

    /// What a power cut leaves while `op` was under way: all that was synced, and of the rest those
    /// sectors that happen to survive.
    pub fn cut(&self, op: Option<&Op>, mut survives: impl FnMut() -> bool) -> Vec<u8> {
        let mut file = self.synced.clone();
        let under_way = match op {
            Some(Op::Write { at, bytes, .. }) => Some((*at, bytes)),
            _ => None,
        };
        let pending = self.pending.iter().map(|(at, bytes)| (*at, bytes)).chain(under_way);
        for (at, bytes) in pending {
            for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                if survives() {
                    put(&mut file, at + (n * SECTOR) as u64, sector);
                }
            }
        }
        file
    }
}

fn is_watched(disk: &Disk, fd: libc::c_int) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|path| path == disk.path)
}

/// Whether this call is to fail, and with what; notes that it has.
fn fault_of(call: Call, fd: libc::c_int) -> Option<i32> {
    let mut guard = disk();
    let disk = guard.as_mut().filter(|disk| is_watched(disk, fd))?;
    let fault = disk.fault.as_mut().filter(|fault| fault.call == call)?;
    fault.nth -= 1;
    let errno = fault.errno;
    if fault.nth > 0 {
        return None;
    }
    (disk.fault, disk.failed) = (None, true);
    Some(errno)
}

fn note(fd: libc::c_int, op: impl FnOnce() -> Op) {
    if let Some(disk) = disk().as_mut().filter(|disk| is_watched(disk, fd)) {
        disk.ops.push(op());
    }
}

fn note_beside(fd: libc::c_int) {
    let mut guard = disk();
    let Some(disk) = guard.as_mut() else { return };
    let beside = disk.path.with_file_name("owner.lock");
    if std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|path| path == beside) {
        disk.noted_at.get_or_insert(disk.ops.len());
    }
}

/// Whether what is written through this descriptor is synced when the call returns.
fn is_synced(fd: libc::c_int) -> bool {
    // SAFETY: it reads a flag of a descriptor, and fails if there is none.
    #[allow(unsafe_code)]
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags & libc::O_DSYNC != 0
}

fn fail(errno: i32) -> libc::ssize_t {
    // SAFETY: the C library gives each thread a place of its own for it.
    #[allow(unsafe_code)]
    unsafe {
        *libc::__errno_location() = errno;
    }
    -1
}

/// A write of these pieces at this offset, through the kernel's call for one piece.
fn write_at(fd: libc::c_int, bytes: &[u8], at: libc::off_t) -> libc::ssize_t {
    if let Some(errno) = fault_of(Call::Write, fd) {
        return fail(errno);
    }
    // SAFETY: the bytes are readable for their length; the kernel checks everything else.
    #[allow(unsafe_code)]
    let written = unsafe {
        libc::syscall(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at) as libc::ssize_t
    };
    if let Ok(written) = usize::try_from(written) {
        let bytes = &bytes[..written];
        note(fd, || Op::Write { at: at as u64, bytes: bytes.to_vec(), synced: is_synced(fd) });
    }
    written
}

/// As the C library has it.
///
/// # Safety
/// `buf` is readable for `count` bytes.
// SAFETY: nothing else in this program has this name, and who calls it means the C library's.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(
    fd: libc::c_int,
    buf: *const libc::c_void,
    count: libc::size_t,
    at: libc::off_t,
) -> libc::ssize_t {
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(buf.cast(), count) };
    write_at(fd, bytes, at)
}

/// As the C library has it.
///
/// # Safety
/// As [`pwrite`].
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    fd: libc::c_int,
    buf: *const libc::c_void,
    count: libc::size_t,
    at: libc::off_t,
) -> libc::ssize_t {
    // SAFETY: as the caller promises.
    unsafe { pwrite(fd, buf, count, at) }
}

/// As the C library has it.
///
/// # Safety
/// `iov` is `count` pieces, each readable for its length.
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(
    fd: libc::c_int,
    iov: *const libc::iovec,
    count: libc::c_int,
) -> libc::ssize_t {
    if let Some(errno) = fault_of(Call::Write, fd) {
        return fail(errno);
    }
    // SAFETY: it asks where a descriptor stands; what cannot stand anywhere says no.
    let at = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
    // SAFETY: as the caller promises.
    let written = unsafe { libc::syscall(libc::SYS_writev, fd, iov, count) as libc::ssize_t };
    if let Ok(mut left) = usize::try_from(written) {
        note(fd, || {
            let mut bytes = Vec::with_capacity(left);
            for n in 0..usize::try_from(count).unwrap_or(0) {
                // SAFETY: as the caller promises.
                let piece: &[u8] = unsafe {
                    let piece = &*iov.add(n);
                    std::slice::from_raw_parts(piece.iov_base.cast(), piece.iov_len.min(left))
                };
                left -= piece.len();
                bytes.extend_from_slice(piece);
            }
            Op::Write { at: at as u64, bytes, synced: is_synced(fd) }
        });
    }
    written
}

fn sync(fd: libc::c_int, call: libc::c_long) -> libc::c_int {
    if let Some(errno) = fault_of(Call::Sync, fd) {
        return fail(errno) as libc::c_int;
    }
    // SAFETY: the kernel checks the descriptor.
    #[allow(unsafe_code)]
    let done = unsafe { libc::syscall(call, fd) };
    if done == 0 {
        note(fd, || Op::Sync);
    }
    done as libc::c_int
}

/// As the C library has it.
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: libc::c_int) -> libc::c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// As the C library has it.
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: libc::c_int) -> libc::c_int {
    sync(fd, libc::SYS_fsync)
}

/// As the C library has it.
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: libc::c_int, len: libc::off_t) -> libc::c_int {
    // SAFETY: the kernel checks both.
    let done = unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) };
    if done == 0 {
        note(fd, || Op::Truncate(len as u64));
        note_beside(fd);
    }
    done as libc::c_int
}

/// As the C library has it.
// SAFETY: as `pwrite`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: libc::c_int, len: libc::off_t) -> libc::c_int {
    ftruncate64(fd, len)
}
