//! The process's table of file descriptors.

use std::io;

/// Descriptors for all that is no connection: stores, blobs, listeners, wakers.
pub const BESIDE_CONNECTIONS: usize = 128;

/// Raises the limit to `wanted` as far as the hard limit allows, and makes the table that
/// large at once; says how many descriptors there may be. To be called before the first
/// thread starts: in a process with threads each doubling of the table stalls `accept` by
/// milliseconds, since the kernel waits for every core to have seen the new one.
#[allow(unsafe_code)]
#[must_use]
pub fn reserve(wanted: usize) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        log::warn!("the limit of file descriptors is unknown: {}", io::Error::last_os_error());
        return wanted;
    }
    let wanted = wanted as libc::rlim_t;
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
        // SAFETY: `raised` is a valid rlimit, which the kernel only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    // Not the limit itself: where that is a billion, the kernel would be asked for gigabytes.
    let granted = wanted.min(limit.rlim_cur);
    let last = libc::c_int::try_from(granted).unwrap_or(libc::c_int::MAX) - 1;
    // SAFETY: duplicating standard input touches no memory of ours; where it is closed the
    // call fails, and the table only grows later.
    let copy = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, last) };
    if copy >= 0 {
        // SAFETY: `copy` was made above and is known to nobody else.
        unsafe { libc::close(copy) };
    }
    usize::try_from(granted).unwrap_or(usize::MAX)
}
