//! Random changes to training images. Those for photographs (`photo`: crop, flip, colours, `TrivialAugment`) come
//! first, on bytes; then the distortions below, together with the normalisation; then holes (Cutout, random
//! erasing); last, whole batches are mixed (`mix`: Mixup, `CutMix`).
//!
//! The distortions are shift, rotation, scale, shear and elastic deformation.
//! All of them together are one resampling: output pixel `p` takes the value of the source at
//! `A (p - c - t) + c + d(p)`, with the centre `c`, a random affine map and the elastic displacement `d`,
//! interpolated bilinearly on a background of 0. The elastic displacement is that of Simard, Steinkraus and
//! Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis" (ICDAR 2003),
//! section 2: noise of -1 to 1 for each pixel and direction, smoothed by a Gaussian with a standard deviation of
//! `elastic_sigma` pixels and multiplied by `elastic_alpha`. With a kernel of sum 1, as here, a displacement has
//! a standard deviation of `alpha / (sigma * sqrt(12 pi))` pixels away from the border: 1.4 pixels for the
//! paper's `alpha` 34 and `sigma` 4.
//!
//! What happens to an image depends on (seed, epoch, index of the image, how often it came before in the epoch)
//! alone; mixing also on its neighbour in the batch. The values are drawn in a fixed order from one stream for
//! each of the stages, whether they are used or not.

mod augmenter;
mod config;
mod mix;
mod photo;
mod pick;
mod pixels;
mod smoothing;
mod trivial;

pub use augmenter::Augmenter;
pub use config::AugmentConfig;
pub(crate) use mix::mix;
pub use pick::Pick;
