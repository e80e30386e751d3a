//! The C library's heap: between runs the client should be small.

/// Has all threads share one heap. Each would have its own otherwise, and what one of them has
/// left in it for the next run, here and there, keeps whole pages that nobody else can use.
pub fn share() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt changes a number that the allocator alone reads.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Gives what was freed back to the system.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim may be called at any time, from any thread.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
