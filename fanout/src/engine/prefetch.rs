//! A hint to the processor that a line of memory will be read soon.

/// Begins to load the line of `of[at]`, if the processor has a word for that. An index that is out of bounds is none to
/// the hint.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a prefetch has no effect but on time: it can't fault")
)]
pub(super) fn prefetch<T>(of: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching reads no memory as far as the program can tell, at whatever address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(of.as_ptr().wrapping_add(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (of, at);
}
