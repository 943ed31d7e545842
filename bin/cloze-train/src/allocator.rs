//! An allocator that keeps what it was given.
//!
//! The reference engine allocates and frees every activation of every step. The system's allocator gives such blocks back to
//! the kernel, which clears their pages anew: 40 % of the time of a step.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3, for which the bindings have no name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Never gives memory back before the process ends.
pub fn keep_memory() {
    // SAFETY: the option exists in both versions that the pinned bindings can build, and may be set at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
