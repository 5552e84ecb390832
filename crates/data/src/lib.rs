//! Everything between a file of labelled images and a training batch, in rooms from the ground up: the types
//! ([`Dataset`], [`DatasetPair`]), the file formats ([`idx`], CIFAR, [`decode`]), which image is for what ([`membership`],
//! [`split`]), where bytes come from ([`Search`], [`status`], checksums), folders and lists of [`pictures`], from a name to
//! images ([`load_with`]), augmentation ([`augment`]) and the batch loader ([`BatchLoader`]).
//!
//! Every random choice is a pure function of a seed and of what it is for (epoch, sample): no generator state
//! exists that a resumed run would have to restore.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod augment;
mod batches;
mod dataset;
mod division;
mod error;
pub mod files;
pub mod findings;
mod formats;
mod load;
mod options;
pub mod pictures;
mod rng;
mod sources;
pub mod text;

pub use batches::balance;
pub use batches::epoch::{Batch, LoaderConfig};
pub use batches::loader::BatchLoader;
pub use batches::sampler::Sampler;
pub use dataset::{
    Changes, ClassAgreement, ClassMap, ContentHash, Copied, Dataset, DatasetPair, Duplicates, Entry, Labels,
    Part, PictureReport, Sizes, class_counts, listed,
};
pub use division::shortage::{Shortage, shortages};
pub use division::{membership, split};
pub use error::{Attempt, BadImage, DataError};
pub use findings::{Finding, FindingKind};
pub use formats::decode::{decode, decode_with_notes};
pub use formats::decoded::{DecodeError, DecodeLimits, Decoded};
pub use formats::idx;
pub use load::{Checked, check, known_names, load, load_with};
pub use options::{FitName, ImageOptions, InputRequest, MEMORY_LIMIT, OnBadImage, Purpose, TEST_FRACTION};
pub use sources::found::{Found, FoundFile, Status};
pub use sources::search::Search;
pub use sources::status::status;
pub use sources::{catalog, published, sample};
