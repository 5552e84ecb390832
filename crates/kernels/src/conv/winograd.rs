//! Convolutions with a kernel of 3x3 and stride 1 by minimal filtering: four outputs, a tile of 2x2,
//! cost 16 multiplications for each channel instead of 36.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1,
//! F(2x2, 3x3): `Y = A' ((G g G') * (B' d B)) A`, where `*` goes value by value; summed over channels
//! it becomes 16 matrix products.

use std::borrow::Borrow;

use crate::{
    Path,
    buffer::Scratch,
    simd::{
        self, Kernel, Simd,
        tile::{Product, product, split_evenly},
    },
};

/// Values of a transformed tile.
const AREA: usize = 16;

/// Bytes of one block of transformed tiles and products: with the weights they stay in the
/// second-level cache.
const BLOCK_BYTES: usize = 192 * 1024;

/// The largest transformed weight in values: beyond it the weight no longer stays in the cache, and
/// every image would read it from memory.
const MOST_WEIGHTS: usize = AREA * 128 * 128;

/// The fewest tiles of an image that are worth the transformation of the weight.
const FEWEST_TILES: usize = 9;

/// With fewer channels the transformations take longer than the multiplications that they save.
const FEWEST_CHANNELS: usize = 32;

/// Below this size no sum of the transformations overflows where the plain sum would not, and none of
/// them turns an infinity into a NaN.
const MOST: f32 = 1e15;

/// The sizes of one convolution, channels last; channels and features are whole vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) channels: usize,
    pub(crate) features: usize,
    /// `[height, width]` of the output.
    pub(crate) output: [usize; 2],
}

impl Sizes {
    /// The sizes where this way serves and pays.
    pub(crate) fn new(
        lanes: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        [channels, features]: [usize; 2],
        output: [usize; 2],
    ) -> Option<Self> {
        let tiles = output[0].div_ceil(2) * output[1].div_ceil(2);
        let serves = kernel == [3, 3]
            && stride == [1, 1]
            && output.iter().all(|&len| len >= 2)
            && channels.is_multiple_of(lanes)
            && features.is_multiple_of(lanes);
        let pays = channels >= FEWEST_CHANNELS
            && features >= FEWEST_CHANNELS
            && tiles >= FEWEST_TILES
            && AREA * channels * features <= MOST_WEIGHTS;
        (serves && pays).then_some(Self { channels, features, output })
    }

    fn tiles(&self) -> [usize; 2] {
        self.output.map(|len| len.div_ceil(2))
    }

    /// Distance between two of the sixteen matrices of the transformed weight.
    fn weight_matrix(&self) -> usize {
        apart(self.channels * self.features)
    }

    /// Tiles that are handled together.
    fn block(&self) -> usize {
        let [rows, columns] = self.tiles();
        let most = BLOCK_BYTES / (AREA * (self.channels + self.features) * size_of::<f32>());
        most.clamp(1, rows * columns)
    }

    /// Row and column where a tile starts. The last tile of an odd side moves back by one and gives some
    /// outputs a second time.
    fn start(&self, tile: usize) -> [usize; 2] {
        let columns = self.tiles()[1];
        [(2 * (tile / columns)).min(self.output[0] - 2), (2 * (tile % columns)).min(self.output[1] - 2)]
    }
}

/// Distance between matrices of `len` values that are written side by side: a cache line more, since at
/// multiples of 4 KiB all of them would share a set of the cache.
fn apart(len: usize) -> usize {
    len + 16
}

/// Where the weight of a [`TransformWeight`] lies: distances between neighbours, in values.
#[derive(Clone, Copy)]
pub(crate) struct WeightLayout {
    pub(crate) tap: usize,
    pub(crate) channel: usize,
}

/// The transformed weights of all groups of a convolution.
pub(crate) struct Weights {
    sizes: Sizes,
    transformed: Vec<Scratch>,
}

impl Weights {
    /// `None` where a value is too large for the transformations, infinite or not a number.
    pub(crate) fn new<W: Borrow<Scratch>>(
        path: Path,
        sizes: Sizes,
        layout: WeightLayout,
        groups: impl Iterator<Item = W>,
    ) -> Option<Self> {
        let transformed = groups.map(|weight| transform_weight(path, sizes, weight.borrow(), layout));
        Some(Self { sizes, transformed: transformed.collect::<Option<_>>()? })
    }
}

/// Sixteen matrices `[channel][feature]` from nine taps of rows of features, or `None` as [`Weights::new`].
fn transform_weight(path: Path, sizes: Sizes, weight: &Scratch, layout: WeightLayout) -> Option<Scratch> {
    let last = 8 * layout.tap + (sizes.channels - 1) * layout.channel;
    assert!(weight.values().len() >= last + sizes.features, "length of weight");
    // SAFETY: the length is checked.
    unsafe { simd::dispatch(path, TransformWeight { sizes, weight: weight.pointer(), layout }) }
}

struct TransformWeight {
    sizes: Sizes,
    weight: *const f32,
    layout: WeightLayout,
}

impl Kernel for TransformWeight {
    type Output = Option<Scratch>;

    #[expect(clippy::needless_range_loop, reason = "an index across the rows of an array")]
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Option<Scratch> {
        let Sizes { channels, features, .. } = self.sizes;
        let matrix = self.sizes.weight_matrix();
        let mut transformed = Scratch::lent(AREA * matrix);
        // SAFETY: nine taps of all channels and features are read, sixteen matrices are written.
        unsafe {
            let to = transformed.pointer_mut();
            let mut largest = S::splat(0.0);
            for channel in 0..channels {
                for feature in (0..features).step_by(S::LANES) {
                    let from = self.weight.add(channel * self.layout.channel + feature);
                    let mut rows = [[S::splat(0.0); 4]; 3];
                    for (y, row) in rows.iter_mut().enumerate() {
                        let mut taps = [S::splat(0.0); 3];
                        for (x, tap) in taps.iter_mut().enumerate() {
                            *tap = S::load(from.add((3 * y + x) * self.layout.tap));
                            largest = larger::<S>(largest, *tap);
                        }
                        *row = g::<S>(taps);
                    }
                    let to = to.add(channel * features + feature);
                    for x in 0..4 {
                        let values = g::<S>([rows[0][x], rows[1][x], rows[2][x]]);
                        for (y, value) in values.iter().enumerate() {
                            S::store(to.add((y * 4 + x) * matrix), *value);
                        }
                    }
                }
            }
            is_moderate::<S>(largest).then_some(transformed)
        }
    }
}

/// The larger of a square and that of a value. A NaN is larger, and stays.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn larger<S: Simd>(square: S::Vector, value: S::Vector) -> S::Vector {
    // SAFETY: as the caller promises.
    unsafe {
        let value = S::mul(value, value);
        S::select(S::beats(value, square), value, square)
    }
}

/// Whether no square exceeds that of [`MOST`].
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn is_moderate<S: Simd>(squares: S::Vector) -> bool {
    let mut lanes = [0.0; 16];
    // SAFETY: no vector has more than sixteen lanes; the rest as the caller promises.
    unsafe { S::store(lanes.as_mut_ptr(), squares) };
    lanes.iter().all(|&square| square <= MOST * MOST)
}

/// Room for the blocks of one image after another.
pub(crate) struct Room<'a> {
    weights: &'a Weights,
    tiles: Scratch,
    products: Scratch,
    /// Where each tile of a block starts among the transformed ones.
    offsets: Vec<u32>,
    no_bias: Scratch,
}

impl<'a> Room<'a> {
    pub(crate) fn new(weights: &'a Weights) -> Self {
        let sizes = weights.sizes;
        let block = sizes.block();
        Self {
            weights,
            tiles: Scratch::lent(AREA * apart(block * sizes.channels)),
            products: Scratch::lent(AREA * apart(block * sizes.features)),
            offsets: (0..block).map(|tile| (tile * sizes.channels) as u32).collect(),
            no_bias: Scratch::new(sizes.features),
        }
    }
}

/// One image and where its output goes.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    pub(crate) x: *const f32,
    /// Distance between rows of `x`; pixels follow one another.
    pub(crate) row: usize,
    pub(crate) bias: *const f32,
    /// `[position][feature]`.
    pub(crate) out: *mut f32,
}

/// The convolution of one image with the weight of one group. Gives false, and writes nothing, where a value is
/// too large for the transformations, infinite or not a number.
///
/// # Safety
/// The processor supports `S`. `x` holds two more rows and columns than the output, `bias` and each position of
/// `out` the features.
#[inline(always)]
pub(crate) unsafe fn convolve<S: Simd>(room: &mut Room, group: usize, image: Image) -> bool {
    let Weights { sizes, transformed } = room.weights;
    let (sizes, weight) = (*sizes, transformed[group].pointer());
    let Sizes { channels, features, output } = sizes;
    let [rows, columns] = sizes.tiles();
    // SAFETY: tiles start at most two before the end of the output, so that they end with the image; the
    // room holds a block.
    unsafe {
        let mut largest = S::splat(0.0);
        for row in 0..output[0] + 2 {
            let from = image.x.add(row * image.row);
            for at in (0..(output[1] + 2) * channels).step_by(S::LANES) {
                largest = larger::<S>(largest, S::load(from.add(at)));
            }
        }
        if !is_moderate::<S>(largest) {
            return false;
        }
        split_evenly(rows * columns, sizes.block(), |first, count| {
            let (tiles, products) = (apart(count * channels), apart(count * features));
            for tile in 0..count {
                let [row, column] = sizes.start(first + tile);
                let from = image.x.add(row * image.row + column * channels);
                let to = room.tiles.pointer_mut().add(tile * channels);
                S::outline(TransformTile { from, row: image.row, channels, to, distance: tiles });
            }
            for index in 0..AREA {
                let all = Product {
                    x: room.tiles.pointer().add(index * tiles),
                    offsets: room.offsets.as_ptr(),
                    weight: weight.add(index * sizes.weight_matrix()),
                    weight_stride: features,
                    rows: 1,
                    row_stride: 0,
                    run: channels,
                    // The product that all four outputs add up with a plus.
                    init: if index == 5 { image.bias } else { room.no_bias.pointer() },
                    init_stride: 0,
                    out: room.products.pointer_mut().add(index * products),
                    out_stride: features,
                };
                product::<S>(&all, count, features / S::LANES);
            }
            for tile in 0..count {
                let [row, column] = sizes.start(first + tile);
                let from = room.products.pointer().add(tile * features);
                let to = image.out.add((row * output[1] + column) * features);
                let row = output[1] * features;
                S::outline(TransformBack { from, distance: products, to, row, features });
            }
        });
    }
    true
}

/// `G g`.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn g<S: Simd>(g: [S::Vector; 3]) -> [S::Vector; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let half = S::splat(0.5);
        let ends = S::mul(S::add(g[0], g[2]), half);
        let middle = S::mul(g[1], half);
        [g[0], S::add(ends, middle), S::sub(ends, middle), g[2]]
    }
}

/// `B' d`.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn b<S: Simd>(d: [S::Vector; 4]) -> [S::Vector; 4] {
    // SAFETY: as the caller promises.
    unsafe { [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[1], d[3])] }
}

/// `A' m`.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn a<S: Simd>(m: [S::Vector; 4]) -> [S::Vector; 2] {
    // SAFETY: as the caller promises.
    unsafe { [S::add(S::add(m[0], m[1]), m[2]), S::sub(S::sub(m[1], m[2]), m[3])] }
}

/// `B' d B` of one tile of 4x4 pixels.
struct TransformTile {
    from: *const f32,
    row: usize,
    channels: usize,
    to: *mut f32,
    /// Distance between transformed values.
    distance: usize,
}

// Closures would not carry the processor's features: here and below only loops and functions that are
// always inlined.
impl Kernel for TransformTile {
    type Output = ();

    #[expect(clippy::needless_range_loop, reason = "an index across the rows of an array")]
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, row, channels, to, distance } = self;
        // SAFETY: `convolve` passes a tile within its image and its room.
        unsafe {
            for channel in (0..channels).step_by(S::LANES) {
                let mut columns = [[S::splat(0.0); 4]; 4];
                for (x, column) in columns.iter_mut().enumerate() {
                    let from = from.add(x * channels + channel);
                    *column = b::<S>([
                        S::load(from),
                        S::load(from.add(row)),
                        S::load(from.add(2 * row)),
                        S::load(from.add(3 * row)),
                    ]);
                }
                for y in 0..4 {
                    let values = b::<S>([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
                    for (x, value) in values.iter().enumerate() {
                        S::store(to.add((y * 4 + x) * distance + channel), *value);
                    }
                }
            }
        }
    }
}

/// `A' m A`: the four outputs of one tile.
struct TransformBack {
    from: *const f32,
    /// Distance between transformed values.
    distance: usize,
    to: *mut f32,
    row: usize,
    features: usize,
}

impl Kernel for TransformBack {
    type Output = ();

    #[expect(clippy::needless_range_loop, reason = "an index across the rows of an array")]
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, distance, to, row, features } = self;
        // SAFETY: `convolve` passes a tile within its room and its output.
        unsafe {
            for feature in (0..features).step_by(S::LANES) {
                let mut columns = [[S::splat(0.0); 2]; 4];
                for (x, column) in columns.iter_mut().enumerate() {
                    let from = from.add(x * distance + feature);
                    let down = 4 * distance;
                    *column = a::<S>([
                        S::load(from),
                        S::load(from.add(down)),
                        S::load(from.add(2 * down)),
                        S::load(from.add(3 * down)),
                    ]);
                }
                for y in 0..2 {
                    let values = a::<S>([columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
                    for (x, value) in values.iter().enumerate() {
                        S::store(to.add(y * row + x * features + feature), *value);
                    }
                }
            }
        }
    }
}
