//! Networks, their configuration, the one preprocessing, and the model file.
//!
//! This crate does no input or output and knows no data set, so that the same code trains, serves
//! and runs in a browser. A [`NetworkConfig`] becomes a printed [`Summary`] without a device and a
//! [`Network`] with one; [`Preprocessing`] turns `u8` pixels into what the network was trained on;
//! [`encode`] and [`decode`] put both into one checked file.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod average;
mod classifier;
mod confidence;
mod config;
mod digest;
mod digit;
mod explain;
pub mod export;
mod foreign;
mod head;
mod initialization;
mod ink;
pub mod jpeg;
mod model_file;
mod networks;
mod norm;
mod numbers;
pub mod ops;
mod picture;
mod preprocessing;
mod reading;
mod record;
mod seen;
mod shape;
mod summary;
mod task;

pub use average::{AverageError, WeightAverage};
pub use classifier::{
    ClassProbability, Classifier, ClassifyError, Policy, Prediction, Prepared, Reason, Scores, is_strange,
    scores,
};
pub use confidence::{
    CALIBRATION_BINS, Confidence, ConfidenceError, DEFAULT_KEEP, Labelled, Novelty, calibration_error,
    cross_entropy, fit_temperature, mistakes, temperature_of,
};
pub use config::InputShape;
pub use digest::hexadecimal;
pub use explain::{Explanation, Map};
pub use foreign::{
    BurnpackWeights, FloatType, ForeignError, SafetensorsWeights, WeightLayout, WeightSource, input_channels,
    load_foreign,
};
pub use head::{Head, Lesson, TeachError, Teaching};
pub use initialization::Initialization;
pub use model_file::{
    Description, FORMAT_VERSION, Metadata, Model, ModelFileError, PROBE_IMAGES, PROBE_TOLERANCE, decode,
    encode, read_metadata,
};
pub use networks::*;
pub use numbers::{SPLITMIX_INCREMENT, argmax, softmax, splitmix};
pub use picture::{Fit, Picture, PictureError};
pub use preprocessing::{Preprocessing, PreprocessingError};
pub use reading::{ReadDigit, Reading};
pub use record::{
    LoadReport, Loading, Mismatch, RecordError, load, load_partial, named_tensors, tensor_name,
    weights_sha256,
};
pub use seen::{MOST_SEEN, Seen};
pub use shape::ShapeError;
pub use summary::{LayerSummary, Summary, TensorSpec, thousands};
pub use task::{Task, TaskError, TaskName, sigmoid};
