//! A network's tensors by name: reading them, hashing them, and loading them into another network.

use std::{collections::BTreeMap, fmt::Write as _};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};
use sha2::{Digest, Sha256};

use crate::{Network, summary::TensorSpec};

/// A tensor whose shape differs between a network and a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Name of the tensor.
    pub name: String,
    /// Shape in the network.
    pub expected: Vec<usize>,
    /// Shape in the record.
    pub found: Vec<usize>,
}

/// What became of every tensor of a network and of a record. Names are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Taken from the record.
    pub loaded: Vec<String>,
    /// Left as they were because the caller said so.
    pub skipped: Vec<String>,
    /// In the network, not in the record.
    pub missing: Vec<String>,
    /// In the record, not in the network.
    pub unexpected: Vec<String>,
    /// In both with different shapes.
    pub mismatched: Vec<Mismatch>,
}

impl LoadReport {
    /// Whether network and record hold the same tensors.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// The names at fault, one line for each kind of fault.
    fn faults(&self) -> String {
        let mut text = String::new();
        for (kind, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                let _ = write!(text, "\n  {kind}: {}", names.join(", "));
            }
        }
        if !self.mismatched.is_empty() {
            let list: Vec<String> = self
                .mismatched
                .iter()
                .map(|m| format!("{} is {:?}, expected {:?}", m.name, m.found, m.expected))
                .collect();
            let _ = write!(text, "\n  mismatched: {}", list.join("; "));
        }
        text
    }
}

/// Why a record cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Network and record do not hold the same tensors.
    #[error(
        "the record does not belong to this network:{}\nload it with the configuration it was saved with, or allow these tensors to differ",
        .0.faults()
    )]
    Tensors(LoadReport),
    /// A tensor of a type other than `f32`.
    #[error("tensor {name}: type {dtype}, expected f32; convert the record to f32 first")]
    Type {
        /// Name of the tensor.
        name: String,
        /// Type found.
        dtype: String,
    },
}

/// How [`load_partial`] treats a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// It must be on both sides with one shape.
    Required,
    /// It is taken when the shape fits, and else left as it is.
    Optional,
    /// It is left as it is, even when the record has it.
    Skip,
}

/// The name of a parameter from its path in Burn's module tree: `Cnn.blocks.0.conv.weight` is
/// `blocks.0.conv.weight`. A path without the network's name comes back as it is.
pub fn tensor_name(path: &str) -> &str {
    path.strip_prefix("Cnn.").unwrap_or(path)
}

/// All float tensors of a network as `f32`, sorted by name: weights, biases and running statistics.
pub fn named_tensors(network: &Network) -> Vec<(String, TensorData)> {
    let mut tensors = tensors_in_order(network);
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
}

/// The tensors in the order of a visit.
pub(crate) fn tensors_in_order(network: &Network) -> Vec<(String, TensorData)> {
    let mut visitor = Collector::default();
    // Separate statistics are merged statistics: a network in training lags one step behind.
    network.clone().with_own_statistics().visit(&mut visitor);
    visitor.tensors
}

/// SHA-256 over all tensors in the order of their names, as lower-case hexadecimal digits.
///
/// For each tensor the digest takes the length of the name in bytes, the name in UTF-8, the number of
/// dimensions, the dimensions, and the values; lengths, numbers and dimensions as little-endian
/// `u64`, values as little-endian `f32`.
pub fn weights_sha256(network: &Network) -> String {
    hash_tensors(&named_tensors(network))
}

fn hash_tensors(tensors: &[(String, TensorData)]) -> String {
    let mut hasher = Sha256::new();
    for (name, data) in tensors {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        let shape = data.shape();
        hasher.update((shape.num_dims() as u64).to_le_bytes());
        for &size in shape.iter() {
            hasher.update((size as u64).to_le_bytes());
        }
        for value in data.iter::<f32>() {
            hasher.update(value.to_le_bytes());
        }
    }
    hex(&hasher.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Loads a complete record: every tensor of the network, and no other.
///
/// # Errors
/// Missing, unexpected and mismatched tensors, all by name; tensors of a type other than `f32`.
pub fn load(network: Network, record: &[(String, TensorData)]) -> Result<Network, RecordError> {
    Ok(load_partial(network, record, |_| Loading::Required)?.0)
}

/// Loads a record into a network that differs in part, such as one with a new head. `loading` is
/// asked for every name of either side; the network keeps its device, its parameter ids and what
/// it trains.
///
/// # Errors
/// [`RecordError::Tensors`] when a required tensor is missing, unexpected or mismatched (the
/// report lists those only), [`RecordError::Type`] when a tensor to load is not `f32`.
pub fn load_partial(
    network: Network,
    record: &[(String, TensorData)],
    loading: impl Fn(&str) -> Loading,
) -> Result<(Network, LoadReport), RecordError> {
    let expected: Vec<TensorSpec> = named_tensors(&network)
        .into_iter()
        .map(|(name, data)| TensorSpec {
            name,
            shape: data.shape().to_vec(),
            trainable: true,
        })
        .collect();
    let found = record
        .iter()
        .map(|(name, data)| (name.as_str(), data.shape().to_vec()));
    let report = compare(&expected, found, &loading);

    let required = |name: &String| loading(name) == Loading::Required;
    let faults = LoadReport {
        missing: report
            .missing
            .iter()
            .filter(|name| required(name))
            .cloned()
            .collect(),
        unexpected: report
            .unexpected
            .iter()
            .filter(|name| required(name))
            .cloned()
            .collect(),
        mismatched: report
            .mismatched
            .iter()
            .filter(|m| required(&m.name))
            .cloned()
            .collect(),
        ..LoadReport::default()
    };
    if !faults.is_complete() {
        return Err(RecordError::Tensors(faults));
    }

    let mut record: BTreeMap<&str, &TensorData> = record
        .iter()
        .map(|(name, data)| (name.as_str(), data))
        .collect();
    record.retain(|name, _| {
        report
            .loaded
            .binary_search_by(|loaded| loaded.as_str().cmp(name))
            .is_ok()
    });
    for (name, data) in &record {
        if data.dtype() != burn::tensor::DType::F32 {
            return Err(RecordError::Type {
                name: (*name).to_string(),
                dtype: format!("{:?}", data.dtype()).to_lowercase(),
            });
        }
    }
    let mut loader = Loader {
        path: vec![],
        record,
    };
    Ok((network.with_own_statistics().map(&mut loader), report))
}

/// Compares names and shapes. `expected` and the report are sorted by name.
pub(crate) fn compare<'a>(
    expected: &[TensorSpec],
    found: impl Iterator<Item = (&'a str, Vec<usize>)>,
    loading: &impl Fn(&str) -> Loading,
) -> LoadReport {
    let mut found: BTreeMap<&str, Vec<usize>> = found.collect();
    let mut report = LoadReport::default();
    for TensorSpec { name, shape, .. } in expected {
        let found = found.remove(name.as_str());
        if loading(name) == Loading::Skip {
            report.skipped.push(name.clone());
            continue;
        }
        match found {
            None => report.missing.push(name.clone()),
            Some(found) if found == *shape => report.loaded.push(name.clone()),
            Some(found) => report.mismatched.push(Mismatch {
                name: name.clone(),
                expected: shape.clone(),
                found,
            }),
        }
    }
    report.unexpected = found
        .into_keys()
        .filter(|name| loading(name) != Loading::Skip)
        .map(String::from)
        .collect();
    report
}

/// Path of the module being visited.
fn name(path: &[String]) -> String {
    tensor_name(&path.join(".")).to_string()
}

#[derive(Default)]
struct Collector {
    path: Vec<String>,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param
            .transform_for_save()
            .val()
            .into_data()
            .convert::<f32>();
        self.tensors.push((name(&self.path), data));
    }
}

struct Loader<'a> {
    path: Vec<String>,
    record: BTreeMap<&'a str, &'a TensorData>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(&data) = self.record.get(name(&self.path).as_str()) else {
            return param;
        };
        let (id, device) = (param.id, param.lazy_device());
        param.transform_for_load(Tensor::from_data(data.clone(), &device), id)
    }
}
