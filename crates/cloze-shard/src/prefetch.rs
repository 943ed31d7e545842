//! Memory that will be needed, asked for beforehand.

/// Has the processor fetch the cache lines of `values`, where it can be told to. What is far away is then waited for once, not line by line.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = values.as_ptr().cast::<i8>();
        let bytes = std::mem::size_of_val(values);
        let into_line = start.addr() % 64;
        for at in (0..bytes + into_line).step_by(64) {
            // SAFETY: a hint, which reads nothing for the program and faults nowhere; every processor of this architecture has it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
