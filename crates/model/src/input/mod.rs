//! From a picture of any size to the bytes that a network takes: the picture, ink and digits found in it, how it is fitted,
//! and the one preprocessing.

pub(crate) mod digit;
mod fit;
pub(crate) mod ink;
pub mod jpeg;
mod picture;
mod preprocessing;
mod shape;

pub use fit::Fit;
pub use picture::{Picture, PictureError};
pub use preprocessing::{Preprocessing, PreprocessingError};
pub use shape::InputShape;
