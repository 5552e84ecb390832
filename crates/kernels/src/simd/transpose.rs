//! Between Burn's layout (a plane per channel) and the kernels' (channels last).

use super::vector::Simd;

/// Values of a cache line.
const LINE: usize = 16;

/// `to[c * to_stride + r] = from[r * from_stride + c]` for `rows` and `columns`.
///
/// # Safety
/// The processor supports `S`; both pointers are valid for the whole range, without overlap.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    rows: usize,
    columns: usize,
) {
    let block_rows = rows - rows % S::BLOCK;
    let block_columns = columns - columns % S::BLOCK;
    // SAFETY: all indices stay below `rows` and `columns`, which the caller promises.
    unsafe {
        // The short side first, so that few cache lines are open on either side, and along the long one a
        // whole line at a time: with a plane of 4 KiB all its lines share a set of the cache.
        let is_wide = columns > rows;
        let (long, short) = if is_wide { (block_columns, block_rows) } else { (block_rows, block_columns) };
        for line in (0..long).step_by(LINE) {
            for inner in (0..short).step_by(S::BLOCK) {
                for outer in (line..(line + LINE).min(long)).step_by(S::BLOCK) {
                    let (row, column) = if is_wide { (inner, outer) } else { (outer, inner) };
                    S::transpose(
                        from.add(row * from_stride + column),
                        from_stride,
                        to.add(column * to_stride + row),
                        to_stride,
                    );
                }
            }
        }
        let copy = |row: usize, column: usize| {
            *to.add(column * to_stride + row) = *from.add(row * from_stride + column);
        };
        for column in block_columns..columns {
            for row in 0..rows {
                copy(row, column);
            }
        }
        for row in block_rows..rows {
            for column in 0..block_columns {
                copy(row, column);
            }
        }
    }
}
