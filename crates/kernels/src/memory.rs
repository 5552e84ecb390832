//! The allocator's habit of giving memory back between two steps.

/// Tells the C library's allocator to keep freed memory for the next step instead of returning it to
/// the system. A training step frees and allocates the same megabytes again and again; without this
/// each step pays for fresh, zeroed pages, about a tenth of its time. Call it once, at the start of
/// a program that trains. It does nothing where the allocator is not glibc's.
///
/// The thresholds cost at most that much memory at the end of a run: they bound what is kept.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // malloc.h of glibc.
        const M_TRIM_THRESHOLD: i32 = -1;
        const M_MMAP_THRESHOLD: i32 = -3;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // The largest value that glibc accepts on 64 bits, and enough slack for a batch of 1024.
        const MMAP_BYTES: i32 = 32 << 20;
        const TRIM_BYTES: i32 = 128 << 20;
        // SAFETY: `mallopt` takes two integers, is part of glibc, and is safe to call at any time.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
            mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
        }
    }
}
