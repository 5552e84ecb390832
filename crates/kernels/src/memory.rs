//! The allocator's habit of giving memory back between two steps.

/// Tells the C library's allocator to keep freed memory for the next step instead of returning it to
/// the system. A training step frees and allocates the same megabytes again and again; without this
/// each step pays for fresh, zeroed pages, about a tenth of its time. Call it once, at the start of
/// a program that trains. It does nothing where the allocator is not glibc's.
///
/// The thresholds cost at most that much memory at the end of a run: they bound what is kept.
pub fn keep_freed_memory() {
    // The largest value that glibc accepts on 64 bits, and enough slack for a batch of 1024.
    configure(32 << 20, 128 << 20, None);
}

/// Tells it to return what is large at once, and to keep little of the rest: for a program that runs for long and whose
/// memory is bounded. A batch's small tensors are still reused. Call it once, before there are other threads.
pub fn give_back_freed_memory() {
    // Each arena keeps pieces that no other uses; one for each thread would be many.
    configure(4 << 20, 8 << 20, Some(4));
}

/// From how many bytes on a piece is taken from the system and given back by itself, how many bytes are kept at the end
/// of an arena, and the number of arenas.
#[cfg_attr(not(all(target_os = "linux", target_env = "gnu")), allow(unused_variables))]
fn configure(mmap_bytes: i32, trim_bytes: i32, arenas: Option<i32>) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // malloc.h of glibc.
        const M_TRIM_THRESHOLD: i32 = -1;
        const M_MMAP_THRESHOLD: i32 = -3;
        const M_ARENA_MAX: i32 = -8;
        unsafe extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: `mallopt` takes two integers, is part of glibc, and is safe to call at any time.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, mmap_bytes);
            mallopt(M_TRIM_THRESHOLD, trim_bytes);
            if let Some(arenas) = arenas {
                mallopt(M_ARENA_MAX, arenas);
            }
        }
    }
}
