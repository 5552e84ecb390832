//! Convolution with stride 1 in Burn's own layout. The lanes of a vector are neighbouring positions
//! of a plane: nothing is transposed, and no number of channels leaves lanes empty.

use crate::{
    buffer::Scratch,
    simd::{
        Kernel, Simd,
        tile::{most_sums, split_evenly},
    },
};

/// The sizes of one convolution; the gradient of the image is another of the same kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) kernel: [usize; 2],
    /// `[height, width]` of an input plane.
    pub(crate) size: [usize; 2],
    /// Rows and columns of zeros before the first.
    pub(crate) border: [usize; 2],
    /// `[height, width]` of an output plane.
    pub(crate) output: [usize; 2],
}

/// Bytes of weights that are read again and again for all positions: half a first-level cache.
const WEIGHT_BYTES: usize = 24 * 1024;

/// How a convolution is cut into tiles, made once for all images.
pub(crate) struct Plan {
    pub(crate) sizes: Sizes,
    /// `[height, width]` of a plane with its zeros.
    pub(crate) padded: [usize; 2],
    /// Distance between two padded planes.
    pub(crate) plane: usize,
    /// Where each tap of each input lies.
    offsets: Vec<u32>,
    cut: Cut,
    /// The most outputs and vectors of a tile.
    outputs: usize,
    vectors: usize,
    lanes: usize,
}

/// Positions as vectors: each row by itself, straight into the output; or all rows as one, with what
/// lies between them computed and dropped, where that takes fewer vectors.
#[derive(Clone, Copy)]
struct Cut {
    by_rows: bool,
    /// Vectors of a row, or of the whole plane.
    vectors: usize,
}

impl Cut {
    fn new(sizes: &Sizes, width: usize, lanes: usize) -> Self {
        let [rows, columns] = sizes.output;
        let of_a_row = columns.div_ceil(lanes);
        let of_all = ((rows - 1) * width + columns).div_ceil(lanes);
        // What is dropped costs a copy of the rest.
        let by_rows = 24 * rows * of_a_row <= 25 * of_all;
        Self { by_rows, vectors: if by_rows { of_a_row } else { of_all } }
    }

    /// Whether a row is a single vector, so that the vectors of a tile are rows.
    fn is_stacked(&self) -> bool {
        self.by_rows && self.vectors == 1
    }
}

impl Sizes {
    fn padded(&self) -> [usize; 2] {
        std::array::from_fn(|axis| self.output[axis] + self.kernel[axis] - 1)
    }

    fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Share of the lanes that hold a position which is kept.
    pub(crate) fn use_of_lanes(&self, lanes: usize) -> f64 {
        let [rows, columns] = self.output;
        let cut = Cut::new(self, self.padded()[1], lanes);
        let vectors = if cut.by_rows { rows * cut.vectors } else { cut.vectors };
        (rows * columns) as f64 / (vectors * lanes) as f64
    }
}

impl Plan {
    pub(crate) fn new(sizes: Sizes, lanes: usize) -> Self {
        let padded = sizes.padded();
        let cut = Cut::new(&sizes, padded[1], lanes);
        // The last vector may read past the last row. An odd number of cache lines between planes
        // keeps their rows from falling into the same set of the cache.
        let plane = ((padded[0] * padded[1] + lanes).div_ceil(16) | 1) * 16;
        let offsets = (0..sizes.inputs * sizes.area())
            .map(|tap| {
                let (input, tap) = (tap / sizes.area(), tap % sizes.area());
                (input * plane + tap / sizes.kernel[1] * padded[1] + tap % sizes.kernel[1]) as u32
            })
            .collect();
        let sums = if lanes == 16 { 24 } else { 12 };
        let most = if lanes == 16 { 12 } else { 6 };
        let outputs = sizes.outputs.div_ceil(sizes.outputs.div_ceil(most));
        let most = (sums / outputs).min(4);
        let along = if cut.is_stacked() { sizes.output[0] } else { cut.vectors };
        let vectors = along.div_ceil(along.div_ceil(most));
        Self { sizes, padded, plane, offsets, cut, outputs, vectors, lanes }
    }

    /// Values of the padded planes of one image.
    pub(crate) fn padded_len(&self) -> usize {
        self.sizes.inputs * self.plane
    }

    /// Values that [`convolve`] needs besides its input and output.
    pub(crate) fn spare_len(&self) -> usize {
        if self.cut.by_rows { 0 } else { self.outputs * self.cut.vectors * self.lanes }
    }

    /// Weights in the order of the tiles, `[part of the outputs][input][tap][output]`. `index` says
    /// where the weight of an output, an input and a tap lies.
    pub(crate) fn pack(&self, weight: &[f32], index: impl Fn(usize, usize, usize) -> usize) -> Scratch {
        let Sizes { inputs, outputs, .. } = self.sizes;
        let mut packed = Scratch::new(self.offsets.len() * outputs);
        let mut to = packed.values_mut().iter_mut();
        split_evenly(outputs, self.outputs, |first, count| {
            for input in 0..inputs {
                for tap in 0..self.sizes.area() {
                    for (output, to) in (first..first + count).zip(&mut to) {
                        *to = weight[index(output, input, tap)];
                    }
                }
            }
        });
        packed
    }

    /// Copies planes, row by row through `change`, into padded ones, whose borders are left alone.
    ///
    /// # Safety
    /// The processor supports `S`; `from` holds the planes of one image, `to` has room for
    /// [`Plan::padded_len`] values. `change` is given the index of the vector in `from` and its
    /// length.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, from: *const f32, to: *mut f32) {
        let [height, width] = self.sizes.size;
        let rows = height.min(self.padded[0] - self.sizes.border[0]);
        let columns = width.min(self.padded[1] - self.sizes.border[1]);
        for input in 0..self.sizes.inputs {
            for row in 0..rows {
                // SAFETY: the row lies within the plane, and within the padded one.
                unsafe {
                    let from = from.add((input * height + row) * width);
                    map_row::<S>(from, self.row(to, input, row), columns, |value| value);
                }
            }
        }
    }

    /// Where a row of an input plane lies among the padded ones.
    ///
    /// # Safety
    /// `to` has room for [`Plan::padded_len`] values, and the row is one of the plane.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, to: *mut f32, input: usize, row: usize) -> *mut f32 {
        let [above, before] = self.sizes.border;
        // SAFETY: as the caller promises.
        unsafe { to.add(input * self.plane + (row + above) * self.padded[1] + before) }
    }
}

/// `to[i] = change(from[i])` for `len` values.
///
/// # Safety
/// The processor supports `S`; both pointers are valid for `len` values.
#[inline(always)]
pub(crate) unsafe fn map_row<S: Simd>(
    from: *const f32,
    to: *mut f32,
    len: usize,
    change: impl Fn(S::Vector) -> S::Vector,
) {
    let whole = len - len % S::LANES;
    // SAFETY: the vectors stay within the values.
    unsafe {
        for at in (0..whole).step_by(S::LANES) {
            S::store(to.add(at), change(S::load(from.add(at))));
        }
        if whole < len {
            let rest = len - whole;
            S::store_partial(to.add(whole), change(S::load_partial(from.add(whole), rest)), rest);
        }
    }
}

/// `to[i] = change(a[i], b[i])` for `len` values.
///
/// # Safety
/// As [`map_row`].
#[inline(always)]
pub(crate) unsafe fn zip_row<S: Simd>(
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    len: usize,
    change: impl Fn(S::Vector, S::Vector) -> S::Vector,
) {
    let whole = len - len % S::LANES;
    // SAFETY: the vectors stay within the values.
    unsafe {
        for at in (0..whole).step_by(S::LANES) {
            S::store(to.add(at), change(S::load(a.add(at)), S::load(b.add(at))));
        }
        if whole < len {
            let rest = len - whole;
            let (a, b) = (S::load_partial(a.add(whole), rest), S::load_partial(b.add(whole), rest));
            S::store_partial(to.add(whole), change(a, b), rest);
        }
    }
}

/// `max(x, 0)`; a NaN stays a NaN.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
pub(crate) unsafe fn rectified<S: Simd>(value: S::Vector) -> S::Vector {
    // SAFETY: as the caller promises.
    unsafe { S::select(S::alive(value), value, S::splat(0.0)) }
}

/// `out[output][position] = bias[output] + sum over (input, tap) of x * weight`, rectified with
/// `relu`.
///
/// # Safety
/// The processor supports `S`, whose lanes the plan was made for. `x` holds the padded planes and one
/// vector more, `weight` what [`Plan::pack`] gave, `bias` a value per output, `spare`
/// [`Plan::spare_len`] values, `out` the output's planes.
#[inline(always)]
pub(crate) unsafe fn convolve<S: Simd>(
    plan: &Plan,
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    relu: bool,
    spare: *mut f32,
    out: *mut f32,
) {
    let Plan { sizes, padded, cut, .. } = plan;
    let [rows, columns] = sizes.output;
    let taps = plan.offsets.len();
    let is_stacked = cut.is_stacked();
    let (x_step, out_step, out_plane) =
        if cut.by_rows { (padded[1], columns, rows * columns) } else { (0, 0, cut.vectors * S::LANES) };
    let segments = if cut.by_rows && !is_stacked { rows } else { 1 };
    let (along, x_vector, out_vector) =
        if is_stacked { (rows, padded[1], columns) } else { (cut.vectors, S::LANES, S::LANES) };
    let partial = if cut.by_rows { columns % S::LANES } else { 0 };
    split_evenly(sizes.outputs, plan.outputs, |first_output, outputs| {
        let in_cache = WEIGHT_BYTES / (size_of::<f32>() * outputs * sizes.area()).max(1);
        // SAFETY: the parts stay within the ranges that the caller promises.
        unsafe {
            let out = out.add(first_output * rows * columns);
            let to = if cut.by_rows { out } else { spare };
            split_evenly(sizes.inputs, in_cache.max(1), |first_input, inputs| {
                let first_tap = first_input * sizes.area();
                let part_taps = inputs * sizes.area();
                let all = Part {
                    x,
                    offsets: plan.offsets.as_ptr().add(first_tap),
                    taps: part_taps,
                    weight: weight.add(first_output * taps + first_tap * outputs),
                    bias: if first_input == 0 { bias.add(first_output) } else { std::ptr::null() },
                    relu: relu && cut.by_rows && first_tap + part_taps == taps,
                    out: to,
                    out_plane,
                    segments,
                    x_step,
                    out_step,
                    tiles: along / plan.vectors,
                    is_stacked,
                    partial: 0,
                };
                let rest = along % plan.vectors;
                let done = along - rest;
                let main = Part { partial: if rest == 0 || is_stacked { partial } else { 0 }, ..all };
                tile::<S>(&main, outputs, plan.vectors);
                if rest > 0 {
                    let (x, out) = (x.add(done * x_vector), to.add(done * out_vector));
                    let last = Part { x, out, tiles: 1, partial, ..all };
                    tile::<S>(&last, outputs, rest);
                }
            });
            if !cut.by_rows {
                let from = spare.cast_const();
                let row = padded[1];
                // A kernel of its own: this closure is not compiled for the instruction set.
                S::outline(Gather {
                    from,
                    plane: out_plane,
                    row,
                    to: out,
                    planes: outputs,
                    rows,
                    columns,
                    relu,
                });
            }
        }
    });
}

/// Copies the positions that are kept.
struct Gather {
    from: *const f32,
    plane: usize,
    row: usize,
    to: *mut f32,
    planes: usize,
    rows: usize,
    columns: usize,
    relu: bool,
}

impl Kernel for Gather {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for plane in 0..self.planes {
            for row in 0..self.rows {
                // SAFETY: `convolve` passes ranges that its caller promises.
                unsafe {
                    let from = self.from.add(plane * self.plane + row * self.row);
                    let to = self.to.add((plane * self.rows + row) * self.columns);
                    map_row::<S>(from, to, self.columns, |value| {
                        if self.relu { rectified::<S>(value) } else { value }
                    });
                }
            }
        }
    }
}

/// Some outputs of some taps, all positions.
struct Part {
    x: *const f32,
    offsets: *const u32,
    taps: usize,
    weight: *const f32,
    /// Null where `out` holds the sums so far.
    bias: *const f32,
    relu: bool,
    out: *mut f32,
    out_plane: usize,
    segments: usize,
    x_step: usize,
    out_step: usize,
    /// Tiles of a segment.
    tiles: usize,
    /// Lanes of the last vector of a segment, or of every vector if stacked; 0 for all.
    partial: usize,
    /// Whether the vectors of a tile are rows.
    is_stacked: bool,
}

/// `O` outputs of `V` vectors of positions.
/// `ROWS` where they are rows.
struct Tile<'a, const O: usize, const V: usize, const ROWS: bool>(&'a Part);

impl<const O: usize, const V: usize, const ROWS: bool> Kernel for Tile<'_, O, V, ROWS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Never chosen: `Plan::new`. Said here so that nothing is compiled for it.
        if O * V > most_sums::<S>() {
            return;
        }
        let all = self.0;
        let (x_vector, out_vector) = if ROWS { (all.x_step, all.out_step) } else { (S::LANES, S::LANES) };
        // SAFETY: `convolve` passes ranges that its caller promises.
        unsafe {
            for index in 0..all.segments * all.tiles {
                let (segment, tile) = (index / all.tiles, index % all.tiles);
                let (x_start, out_start) =
                    if ROWS { (0, 0) } else { (segment * all.x_step, segment * all.out_step) };
                let x = all.x.add(x_start + tile * V * x_vector);
                let out = all.out.add(out_start + tile * V * out_vector);
                let is_last = tile + 1 == all.tiles;
                let partial: [usize; V] =
                    std::array::from_fn(|v| if ROWS || (is_last && v + 1 == V) { all.partial } else { 0 });
                let mut sums = [[S::splat(0.0); V]; O];
                for (o, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        let out = out.add(o * all.out_plane + v * out_vector);
                        *sum = if !all.bias.is_null() {
                            S::splat(*all.bias.add(o))
                        } else if partial[v] > 0 {
                            S::load_partial(out, partial[v])
                        } else {
                            S::load(out)
                        };
                    }
                }
                let mut weight = all.weight;
                for tap in 0..all.taps {
                    let x = x.add(*all.offsets.add(tap) as usize);
                    let x: [S::Vector; V] = std::array::from_fn(|v| S::load(x.add(v * x_vector)));
                    for (o, sums) in sums.iter_mut().enumerate() {
                        let weight = S::splat(*weight.add(o));
                        for v in 0..V {
                            sums[v] = S::mul_add(weight, x[v], sums[v]);
                        }
                    }
                    weight = weight.add(O);
                }
                for (o, sums) in sums.iter().enumerate() {
                    for (v, &sum) in sums.iter().enumerate() {
                        let sum = if all.relu { rectified::<S>(sum) } else { sum };
                        let out = out.add(o * all.out_plane + v * out_vector);
                        if partial[v] > 0 {
                            S::store_partial(out, sum, partial[v]);
                        } else {
                            S::store(out, sum);
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`convolve`].
#[inline(always)]
unsafe fn tile<S: Simd>(part: &Part, outputs: usize, vectors: usize) {
    macro_rules! choose {
        ($($vectors:literal: $($outputs:literal)*;)*) => {
            // SAFETY: as the caller promises.
            unsafe {
                match (vectors, outputs, part.is_stacked) {
                    $($(
                        ($vectors, $outputs, false) => S::outline(Tile::<$outputs, $vectors, false>(part)),
                        ($vectors, $outputs, true) => S::outline(Tile::<$outputs, $vectors, true>(part)),
                    )*)*
                    _ => unreachable!("`Plan::new` keeps to the sums that the registers hold"),
                }
            }
        };
    }
    choose! {
        1: 1 2 3 4 5 6 7 8 9 10 11 12;
        2: 1 2 3 4 5 6 7 8 9 10 11 12;
        3: 1 2 3 4 5 6 7 8;
        4: 1 2 3 4 5 6;
    }
}
