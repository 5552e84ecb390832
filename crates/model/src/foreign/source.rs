//! What a file of weights must give, and why it cannot be used.

use crate::{LoadReport, RecordError, Seen, ShapeError};

/// How the file lays out the weights of dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[I, O]`, and our own names.
    Burn,
    /// `[O, I]`, and names that end in `weight` and `bias`.
    PyTorch,
}

/// The tensors of a file: what they are called and how large they are, and their values on demand.
pub trait WeightSource {
    /// What the file is, for messages: `safetensors`.
    fn format(&self) -> &'static str;

    /// How dense layers lie in it.
    fn layout(&self) -> WeightLayout;

    /// Names and shapes of all tensors.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// The classes of the network in their order, where the file names them.
    fn class_names(&self) -> Option<Vec<String>> {
        None
    }

    /// The pictures that the network has seen, where the file records them.
    fn seen(&self) -> Option<Seen> {
        None
    }

    /// The values of a tensor in row-major order, as `f32`.
    ///
    /// # Errors
    /// A tensor that is damaged, or of a type that no weight has.
    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError>;
}

/// Why foreign weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The bytes are not what they are said to be, or damaged.
    #[error("not a sound {format} file: {reason}")]
    Container {
        /// Name of the format.
        format: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// A tensor that cannot be read.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A weight that is no number.
    #[error("tensor {name} holds {value} at index {index}; a network with such weights is of no use")]
    NotFinite {
        /// Its name in the file.
        name: String,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The network cannot be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// File and network do not hold the same tensors.
    #[error(
        "the tensors{} are not those of the network:{}{}\nname the network that they belong to with --model, or take \
         only those that fit, and leave the rest new, with --allow-mismatch",
        under(&.faults.prefix),
        .faults.faults(),
        in_words(*.looks)
    )]
    Tensors {
        /// Those at fault.
        faults: LoadReport,
        /// What the file's names look like.
        looks: Option<&'static str>,
    },
    /// Not one tensor of the file is one of the network's.
    #[error("not one tensor{} fits the network{}", under(.prefix), in_words(*.looks))]
    Nothing {
        /// What stands before all names.
        prefix: String,
        /// What the file's names look like.
        looks: Option<&'static str>,
    },
    /// A record that the network does not take.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn under(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!(" under `{}`", prefix.trim_end_matches('.')) }
}

fn in_words(looks: Option<&str>) -> String {
    looks.map_or_else(String::new, |looks| format!("\n  its names are those of {looks}"))
}
