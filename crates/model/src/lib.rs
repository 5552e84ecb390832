//! Networks, their configuration, the one preprocessing, and the model file.
//!
//! This crate does no input or output and knows no data set, so that the same code trains, serves
//! and runs in a browser. A [`NetworkConfig`] becomes a printed [`Summary`] without a device and a
//! [`Network`] with one; [`Preprocessing`] turns `u8` pixels into what the network was trained on;
//! [`encode`] and [`decode`] put both into one checked file.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod confidence;
mod digest;
pub mod export;
mod file;
mod foreign;
mod graph;
mod input;
mod networks;
mod numbers;
pub mod ops;
mod task;
mod weights;

pub use answer::{
    ClassProbability, Classifier, ClassifyError, Explanation, Head, Lesson, Map, Policy, Prediction,
    Prepared, ReadDigit, Reading, Reason, TeachError, Teaching, is_out_of_distribution, scores,
};
pub use confidence::{
    CALIBRATION_BINS, Confidence, ConfidenceError, DEFAULT_KEEP, Labelled, Novelty, Scores,
    calibration_error, cross_entropy, fit_temperature, mistakes, temperature_of,
};
pub use digest::hexadecimal;
pub use file::{
    Description, FORMAT_VERSION, MOST_SEEN, Metadata, Model, ModelFileError, PROBE_IMAGES, PROBE_TOLERANCE,
    Seen, decode, encode, read_metadata,
};
pub use foreign::{
    BurnpackWeights, FloatType, ForeignError, SafetensorsWeights, WeightLayout, WeightSource, input_channels,
    load_foreign,
};
pub use graph::{
    Activation, Cell, Convolution, Graph, GraphBuilder, Initialization, LayerGroups, LayerSummary, Network,
    Node, NodeId, Operator, PoolConfig, PoolKind, ShapeError, Summary, TensorSpec, thousands,
};
pub use input::{Fit, InputShape, Picture, PictureError, Preprocessing, PreprocessingError, jpeg};
pub use networks::*;
pub use numbers::{SPLITMIX_INCREMENT, argmax, softmax, splitmix};
pub use task::{Task, TaskError, TaskName, sigmoid};
pub use weights::average::{AverageError, WeightAverage};
pub use weights::record::{
    LoadReport, Loading, Mismatch, RecordError, load, load_partial, named_tensors, tensor_name,
    weights_sha256,
};
