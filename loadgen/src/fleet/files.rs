//! A table of file descriptors for one thread alone.

use std::io;

/// Gives this thread a copy of the process's table of file descriptors. From then on what it
/// opens is known to it alone, and its limit counts by itself; what others opened before is
/// there too, under the same numbers.
///
/// # Errors
/// The kernel refuses.
#[allow(unsafe_code)]
pub(crate) fn unshare() -> io::Result<()> {
    // SAFETY: the call touches no memory of ours. Descriptors opened before it stay valid here
    // under the same numbers, and the copies end with the thread. None that is opened from here on
    // leaves this thread.
    if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
