//! Everything between a file of labelled images and a training batch: sources and checksums ([`load_with`],
//! [`status`]), the file formats ([`idx`], [`pictures`], CIFAR), splits ([`split`]), augmentation ([`augment`]) and the batch
//! loader ([`BatchLoader`]).
//!
//! Every random choice is a pure function of a seed and of what it is for (epoch, sample): no generator state
//! exists that a resumed run would have to restore.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
pub mod augment;
pub mod balance;
pub mod catalog;
mod cifar;
mod classes;
mod content;
mod dataset;
mod decode;
mod error;
mod fax;
mod fetch;
mod foreign_format;
mod identity;
pub mod idx;
mod jpeg_file;
mod loader;
pub mod membership;
mod options;
pub mod pictures;
mod png_file;
pub mod published;
mod raster;
mod rng;
pub mod sample;
mod sampler;
mod shortage;
pub mod split;
pub mod text;
mod tiff;

pub use classes::{ClassAgreement, ClassMap, listed};
pub use content::ContentHash;
pub use dataset::{Checked, Dataset, DatasetPair, check, known_names, load, load_with};
pub use decode::{DecodeError, DecodeLimits, Decoded, decode, decode_with_notes};
pub use error::{Attempt, DataError};
pub use fetch::{Found, FoundFile, STALL_LIMIT, Search, Status, status};
pub use identity::{Changes, Entry};
pub use loader::{Batch, BatchLoader, LoaderConfig};
pub use options::{FitName, ImageOptions, InputRequest, MEMORY_LIMIT, OnBadImage, Purpose, TEST_FRACTION};
pub use pictures::{BadImage, Finding, FindingKind, Part, PictureReport};
pub use sampler::Sampler;
pub use shortage::{Shortage, shortages};
