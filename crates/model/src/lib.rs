//! Networks, their configuration, the one preprocessing, and the model file.
//!
//! This crate does no input or output and knows no data set, so that the same code trains, serves
//! and runs in a browser. A [`NetworkConfig`] becomes a printed [`Summary`] without a device and a
//! [`Network`] with one; [`Preprocessing`] turns `u8` pixels into what the network was trained on;
//! [`encode`] and [`decode`] put both into one checked file.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod average;
mod cnn;
mod config;
mod initialization;
mod model_file;
mod network;
mod norm;
mod picture;
mod preprocessing;
mod record;
mod shape;
mod summary;

pub use average::{AverageError, WeightAverage};
pub use cnn::{Cnn, CnnConfig, ConvBlock, ConvBlockConfig, PoolConfig, PoolKind};
pub use config::{Activation, InputShape, NetworkConfig};
pub use initialization::Initialization;
pub use model_file::{
    Description, FORMAT_VERSION, Metadata, Model, ModelFileError, PROBE_IMAGES, PROBE_TOLERANCE, decode,
    encode, read_metadata,
};
pub use network::Network;
pub use picture::{Fit, Picture, PictureError};
pub use preprocessing::{Preprocessing, PreprocessingError};
pub use record::{
    LoadReport, Loading, Mismatch, RecordError, load, load_partial, named_tensors, tensor_name,
    weights_sha256,
};
pub use shape::ShapeError;
pub use summary::{LayerSummary, Summary, TensorSpec};
