//! How much memory something takes: a length that a peer names must not be believed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted per thread.
#[derive(Debug)]
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; only sums are kept beside it. `realloc` is the
// default one, which allocates anew: moving counts as holding both for a moment, as it does.
#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counters any more.
        let held = HELD.try_with(|held| {
            held.set(held.get().wrapping_add(layout.size()));
            held.get()
        });
        // Memory freed by another thread than took it wraps below zero: no peak.
        let is_peak = |held: usize, peak: usize| held > peak && held < usize::MAX / 2;
        if let Ok(held) = held {
            PEAK.try_with(|peak| {
                peak.set(if is_peak(held, peak.get()) { held } else { peak.get() })
            })
            .ok();
        }
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.try_with(|held| held.set(held.get().wrapping_sub(layout.size()))).ok();
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Carries something out; what it returns, and the most bytes that were held at once for it.
pub fn peak<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = act();
    (result, PEAK.get().saturating_sub(before))
}
