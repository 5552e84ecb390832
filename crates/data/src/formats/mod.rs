//! What bytes mean: files of labelled images, lists of classes, and pictures of every kind that is read.

pub(crate) mod cifar;
pub(crate) mod class_names;
pub(crate) mod decode;
pub(crate) mod decoded;
mod fax;
mod foreign_format;
pub mod idx;
pub(crate) mod idx_set;
mod jpeg;
mod png;
mod raster;
mod tiff;
