//! A table of file descriptors for one thread alone.

use std::io;

/// Gives this thread a copy of the process's table of file descriptors. From then on what it
/// opens is known to it alone, and its limit counts by itself; what others opened before is
/// there too, under the same numbers.
///
/// # Errors
/// The kernel refuses.
#[allow(unsafe_code)]
pub(super) fn unshare() -> io::Result<()> {
    // SAFETY: the call touches no memory of ours. No descriptor that is opened from here on
    // leaves this thread: its reactor is made, used and dropped in it, and channels carry none.
    if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// CPU time of this thread, microseconds; 0 if the kernel does not say.
#[allow(unsafe_code)]
pub(super) fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return 0;
    }
    let us = time.tv_sec * 1_000_000 + time.tv_nsec / 1000;
    u64::try_from(us).unwrap_or(0)
}
