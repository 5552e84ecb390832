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
mod source;

use std::collections::BTreeMap;

use burn::tensor::TensorData;

use crate::{
    InputShape, LoadReport, Loading, Network,
    networks::NetworkConfig,
    weights::record::{compare, load_partial},
};

pub use self::burnpack::BurnpackWeights;
pub use self::float::FloatType;
pub use self::safetensors::SafetensorsWeights;
pub use self::source::{ForeignError, WeightLayout, WeightSource};

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
