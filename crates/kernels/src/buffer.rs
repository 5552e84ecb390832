//! Memory for the kernels: aligned scratch, and output vectors that threads fill in parts.

use std::cell::RefCell;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Scratch memory whose start is aligned to a cache line, so that rows of packed weights do not straddle
/// two.
pub(crate) struct Scratch {
    lines: Vec<Line>,
    /// Whether the next task of the thread may have the memory as it is.
    is_lent: bool,
}

/// The most pieces of memory that a thread keeps for its next task, and the most lines of one.
const MOST_SPARE: usize = 8;
const MOST_SPARE_LINES: usize = 1 << 14;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    /// Zeros: room for `len` values, and for one vector read past the last of them.
    pub(crate) fn new(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16) + 1], is_lent: false }
    }

    /// The same room, with whatever an earlier task of the thread has left in it.
    pub(crate) fn lent(len: usize) -> Self {
        let lines = len.div_ceil(16) + 1;
        let spare = SPARE.with_borrow_mut(|spare| {
            let fits = spare.iter().position(|spare| spare.len() >= lines);
            fits.map(|index| spare.swap_remove(index))
        });
        let lines = spare.unwrap_or_else(|| vec![Line([0.0; 16]); lines]);
        Self { lines, is_lent: true }
    }

    pub(crate) fn pointer(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn pointer_mut(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn values(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen `f32` without padding.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.lines.len() * 16) }
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `values`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(), self.lines.len() * 16) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_lent || self.lines.len() > MOST_SPARE_LINES {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        // The thread may be about to end: then the memory is simply freed.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut() {
                if spare.len() == MOST_SPARE {
                    spare.remove(0);
                }
                spare.push(lines);
            }
        });
    }
}

/// A vector that is written in full, in disjoint parts, before anyone reads it.
pub(crate) struct Output<T> {
    values: Vec<T>,
    len: usize,
}

/// A pointer that may cross threads: each thread writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct Part<T>(*mut T);

// SAFETY: the pointer is only used to write disjoint ranges (see `Output::part`), and `T` is plain data.
unsafe impl<T: Send> Send for Part<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Part<T> {}

impl<T> Part<T> {
    /// The pointer to `index`.
    ///
    /// # Safety
    /// `index` lies within the vector, and no other thread writes the range used.
    pub(crate) unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: the caller promises the index.
        unsafe { self.0.add(index) }
    }
}

impl<T: Copy> Output<T> {
    /// Room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        Self { values: Vec::with_capacity(len), len }
    }

    pub(crate) fn part(&mut self) -> Part<T> {
        Part(self.values.as_mut_ptr())
    }

    /// The finished vector.
    ///
    /// # Safety
    /// All `len` values have been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: the capacity is `len`, and the caller promises that the values are written.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}
