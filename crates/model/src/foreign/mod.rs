//! Weights that another program trained: `PyTorch` checkpoints, safetensors, burnpacks.
//!
//! A [`WeightSource`] says names and shapes first and gives values when asked, so that nothing is
//! allocated for a tensor before its name and its shape are those of a tensor of the network. The
//! names of published implementations are mapped to ours by architecture, see [`names`]; what is left
//! over on either side is reported, see [`LoadReport`]. Reading a checkpoint's container needs a file,
//! and so is done by the caller; safetensors and burnpacks are bytes, and are read here.

mod burnpack;
mod float;
mod names;
mod safetensors;

use std::collections::BTreeMap;

use burn::tensor::TensorData;

use crate::{
    InputShape, LoadReport, Loading, Network, NetworkConfig, RecordError, Seen, ShapeError,
    record::{compare, load_partial},
};

pub use self::burnpack::BurnpackWeights;
pub use self::float::FloatType;
pub use self::safetensors::SafetensorsWeights;

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

/// What the first layer of a network takes, as far as the file shows: channels of the images.
pub fn input_channels(source: &dyn WeightSource, config: &NetworkConfig) -> Option<usize> {
    names::input_channels(config, source)
}

/// Loads the tensors of a file into a network of the given configuration. `loading` is asked for our
/// names, and for the file's names of what it holds beyond them.
///
/// # Errors
/// Required tensors that are missing, unexpected or of another shape, all by name; values that cannot
/// be read or are not finite.
pub fn load_foreign(
    network: Network,
    config: &NetworkConfig,
    input: InputShape,
    classes: usize,
    source: &dyn WeightSource,
    loading: impl Fn(&str) -> Loading,
) -> Result<(Network, LoadReport), ForeignError> {
    let graph = config.graph(input, classes)?;
    let mut expected: Vec<_> = graph.nodes.iter().flat_map(|node| &node.tensors).cloned().collect();
    let names::Assignment { tensors: assigned, prefix, others } =
        names::assign(config, &graph, expected.iter().map(|tensor| tensor.name.as_str()), source);
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    let found = assigned.iter().map(|tensor| {
        let name = tensor.ours.as_deref().unwrap_or(&tensor.theirs);
        (name, tensor.shape_of_ours())
    });
    let report = LoadReport { prefix, others, ..compare(&expected, found, &loading) };
    let faults = report.only(|name| loading(name) == Loading::Required);
    if !faults.is_complete() {
        return Err(ForeignError::Tensors { faults, looks: names::look_like(source) });
    }
    if report.loaded.is_empty() {
        return Err(ForeignError::Nothing { prefix: report.prefix, looks: names::look_like(source) });
    }

    let by_name: BTreeMap<&str, &names::Assigned> =
        assigned.iter().filter_map(|tensor| Some((tensor.ours.as_deref()?, tensor))).collect();
    let mut record = Vec::with_capacity(report.loaded.len());
    for name in &report.loaded {
        let Some(tensor) = by_name.get(name.as_str()) else { continue };
        record.push((name.clone(), values(source, tensor)?));
    }
    let taken = |name: &str| {
        let loaded = report.loaded.binary_search_by(|loaded| loaded.as_str().cmp(name)).is_ok();
        if loaded { Loading::Required } else { Loading::Skip }
    };
    let (network, _) = load_partial(network, &record, taken)?;
    Ok((network, report))
}

/// The values of one tensor in our layout.
fn values(source: &dyn WeightSource, tensor: &names::Assigned) -> Result<TensorData, ForeignError> {
    let values = source.read(&tensor.theirs)?;
    let expected: usize = tensor.shape.iter().product();
    if values.len() != expected {
        return Err(ForeignError::Tensor {
            name: tensor.theirs.clone(),
            reason: format!("{} values, its shape {:?} asks for {expected}", values.len(), tensor.shape),
        });
    }
    if let Some((index, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(ForeignError::NotFinite { name: tensor.theirs.clone(), index, value });
    }
    let shape = tensor.shape_of_ours();
    let values = match tensor.shape[..] {
        [rows, columns] if tensor.transposed => (0..columns)
            .flat_map(|c| (0..rows).map(move |r| (r, c)))
            .map(|(r, c)| values[r * columns + c])
            .collect(),
        _ => values,
    };
    Ok(TensorData::new(values, shape))
}

#[cfg(test)]
mod tests;
