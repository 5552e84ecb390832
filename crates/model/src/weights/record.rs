//! A network's tensors by name: reading them, hashing them, and loading them into another network.
//!
//! Longer than other files: two fifths of it are tests of every mismatch.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};
use sha2::{Digest, Sha256};

use crate::{Network, graph::TensorSpec, hexadecimal};

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
    /// What stands before every name in a file of another program, with its dot.
    pub prefix: String,
    /// Other prefixes in that file under which as much of the network lies.
    pub others: Vec<String>,
}

impl LoadReport {
    /// Whether network and record hold the same tensors.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// The faults among the tensors of which `required` holds.
    pub(crate) fn only(&self, required: impl Fn(&String) -> bool) -> Self {
        Self {
            missing: self.missing.iter().filter(|name| required(name)).cloned().collect(),
            unexpected: self.unexpected.iter().filter(|name| required(name)).cloned().collect(),
            mismatched: self.mismatched.iter().filter(|m| required(&m.name)).cloned().collect(),
            prefix: self.prefix.clone(),
            ..Self::default()
        }
    }

    /// The names at fault, one line for each kind of fault.
    pub(crate) fn faults(&self) -> String {
        let mut text = String::new();
        for (kind, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                let _ = write!(text, "\n  {kind}: {}", shortened(names, ", "));
            }
        }
        if !self.mismatched.is_empty() {
            let list: Vec<String> = self
                .mismatched
                .iter()
                .map(|m| format!("{} is {:?}, expected {:?}", m.name, m.found, m.expected))
                .collect();
            let _ = write!(text, "\n  mismatched: {}", shortened(&list, "; "));
        }
        text
    }
}

/// Names in a message, as many as a person reads: a file may hold any number, of any length.
fn shortened(names: &[String], separator: &str) -> String {
    const SHOWN: usize = 12;
    const LONGEST: usize = 200;
    let shown = names.iter().take(SHOWN).map(|name| match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.clone(),
    });
    let mut text = shown.collect::<Vec<_>>().join(separator);
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// Why a record cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Network and record do not hold the same tensors.
    #[error(
        "the record does not belong to this network:{}\nload it with the configuration it was saved with",
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
/// `blocks.0.conv.weight`. A path without the network's family, which alone begins with a capital letter, comes back as
/// it is.
pub fn tensor_name(path: &str) -> &str {
    match path.split_once('.') {
        Some((family, name)) if family.starts_with(|first: char| first.is_ascii_uppercase()) => name,
        _ => path,
    }
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
        hasher.update(little_endian(&values(data)));
    }
    hexadecimal(hasher.finalize())
}

/// The values of `f32` data, or of other data as `f32`.
pub(crate) fn values(data: &TensorData) -> Cow<'_, [f32]> {
    match data.as_slice::<f32>() {
        Ok(values) => Cow::Borrowed(values),
        Err(_) => Cow::Owned(data.iter::<f32>().collect()),
    }
}

/// The bytes of `f32` values in files and digests.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The inverse of [`little_endian`].
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
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
        .map(|(name, data)| TensorSpec { name, shape: data.shape().to_vec(), trainable: true })
        .collect();
    let found = record.iter().map(|(name, data)| (name.as_str(), data.shape().to_vec()));
    let report = compare(&expected, found, &loading);

    let faults = report.only(|name| loading(name) == Loading::Required);
    if !faults.is_complete() {
        return Err(RecordError::Tensors(faults));
    }

    let mut record: BTreeMap<&str, &TensorData> =
        record.iter().map(|(name, data)| (name.as_str(), data)).collect();
    record.retain(|name, _| report.loaded.binary_search_by(|loaded| loaded.as_str().cmp(name)).is_ok());
    for (name, data) in &record {
        if data.dtype() != burn::tensor::DType::F32 {
            return Err(RecordError::Type {
                name: (*name).to_string(),
                dtype: format!("{:?}", data.dtype()).to_lowercase(),
            });
        }
    }
    let mut loader = Loader { path: vec![], record };
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
            Some(found) => {
                report.mismatched.push(Mismatch { name: name.clone(), expected: shape.clone(), found });
            }
        }
    }
    report.unexpected =
        found.into_keys().filter(|name| loading(name) != Loading::Skip).map(String::from).collect();
    report
}

/// Path of the module being visited.
pub(crate) fn name(path: &[String]) -> String {
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
        let data = param.transform_for_save().val().into_data().convert::<f32>();
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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig};

    const INPUT: InputShape = InputShape::new(1, 6, 6);

    fn small(batch_norm: bool) -> NetworkConfig {
        NetworkConfig::Cnn(CnnConfig {
            blocks: vec![ConvBlockConfig::new(2)],
            dense: vec![3],
            batch_norm,
            ..CnnConfig::default()
        })
    }

    fn network(classes: usize, seed: u64) -> Network {
        small(false).init(INPUT, classes, seed, &Device::flex()).unwrap()
    }

    fn names(tensors: &[(String, TensorData)]) -> Vec<&str> {
        tensors.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn names_are_sorted_and_without_the_variant() {
        assert_eq!(
            names(&named_tensors(&network(2, 1))),
            [
                "blocks.0.conv.bias",
                "blocks.0.conv.weight",
                "dense.0.bias",
                "dense.0.weight",
                "head.bias",
                "head.weight"
            ]
        );
        let norm = small(true).init(INPUT, 2, 1, &Device::flex()).unwrap();
        assert_eq!(
            names(&named_tensors(&norm))[..5],
            [
                "blocks.0.conv.weight",
                "blocks.0.norm.beta",
                "blocks.0.norm.gamma",
                "blocks.0.norm.running_mean",
                "blocks.0.norm.running_var"
            ]
        );
        assert_eq!(tensor_name("Cnn.head.weight"), "head.weight");
        assert_eq!(tensor_name("head.weight"), "head.weight");
    }

    #[test]
    fn the_digest_follows_its_framing() {
        let network = network(2, 1);
        let mut bytes: Vec<u8> = vec![];
        for (name, shape, len) in [
            ("blocks.0.conv.bias", vec![2u64], 2),
            ("blocks.0.conv.weight", vec![2, 1, 3, 3], 18),
            ("dense.0.bias", vec![3], 3),
            ("dense.0.weight", vec![32, 3], 96),
            ("head.bias", vec![2], 2),
            ("head.weight", vec![3, 2], 6),
        ] {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((shape.len() as u64).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
            let tensors = named_tensors(&network);
            let (_, data) = tensors.iter().find(|(found, _)| found == name).unwrap();
            let values = data.as_slice::<f32>().unwrap();
            assert_eq!(values.len(), len);
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        assert_eq!(weights_sha256(&network), hexadecimal(Sha256::digest(&bytes)));
    }

    #[test]
    fn the_digest_sees_one_bit_and_the_sign_of_zero() {
        let network = network(2, 1);
        let digest = weights_sha256(&network);
        assert_eq!(digest.len(), 64);
        for change in [|v: f32| f32::from_bits(v.to_bits() ^ 1), |v: f32| -v] {
            let mut record = named_tensors(&network);
            // Biases start at zero.
            let (_, data) = &mut record[0];
            let mut values = data.clone().try_to_vec::<f32>().unwrap();
            assert_eq!(values[1].to_bits(), 0);
            values[1] = change(values[1]);
            *data = TensorData::new(values, [2]);
            let changed = load(network.clone(), &record).unwrap();
            assert_ne!(weights_sha256(&changed), digest);
        }
        assert_eq!(weights_sha256(&network), digest);
    }

    #[test]
    fn a_record_comes_back_bit_for_bit() {
        let record = named_tensors(&network(2, 1));
        let loaded = load(network(2, 2), &record).unwrap();
        assert_eq!(named_tensors(&loaded), record);
    }

    #[test]
    fn a_foreign_record_is_refused_with_every_name() {
        let mut record = named_tensors(&network(4, 1));
        record.retain(|(name, _)| name != "dense.0.bias");
        record.push(("fc.weight".into(), TensorData::from([1.0f32])));
        let Err(RecordError::Tensors(report)) = load(network(2, 2), &record) else {
            panic!("the record must be refused")
        };
        assert_eq!(report.missing, ["dense.0.bias"]);
        assert_eq!(report.unexpected, ["fc.weight"]);
        let mismatched: Vec<_> = report.mismatched.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(mismatched, ["head.bias", "head.weight"]);
        let message = RecordError::Tensors(report).to_string();
        for part in [
            "missing: dense.0.bias",
            "unexpected: fc.weight",
            "head.bias is [4], expected [2]; head.weight is [3, 4], expected [3, 2]",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_new_head_keeps_its_own_weights() {
        let (source, target) = (network(4, 1), network(2, 2));
        let before = named_tensors(&target);
        let optional_head = |name: &str| {
            if name.starts_with("head.") { Loading::Optional } else { Loading::Required }
        };
        let (loaded, report) = load_partial(target, &named_tensors(&source), optional_head).unwrap();
        assert_eq!(report.loaded.len(), 4);
        assert_eq!(report.mismatched.len(), 2);
        assert!(report.missing.is_empty() && report.unexpected.is_empty() && report.skipped.is_empty());
        let after = named_tensors(&loaded);
        assert_eq!(after[..4], named_tensors(&source)[..4]);
        assert_eq!(after[4..], before[4..]);
        assert_ne!(after[..4], before[..4]);
    }

    #[test]
    fn a_skipped_head_is_left_alone_even_where_it_fits() {
        let (source, target) = (network(2, 1), network(2, 2));
        let before = named_tensors(&target);
        let skip_head = |name: &str| {
            if name.starts_with("head.") { Loading::Skip } else { Loading::Required }
        };
        let (loaded, report) = load_partial(target, &named_tensors(&source), skip_head).unwrap();
        assert_eq!(report.skipped, ["head.bias", "head.weight"]);
        assert!(report.is_complete());
        let after = named_tensors(&loaded);
        assert_eq!(after[4..], before[4..]);
        assert_ne!(after[5], named_tensors(&source)[5]);
    }

    #[test]
    fn only_f32_is_loaded() {
        let mut record = named_tensors(&network(2, 1));
        record[5].1 = record[5].1.clone().convert_dtype(DType::F64);
        let error = load(network(2, 2), &record).unwrap_err();
        assert!(error.to_string().starts_with("tensor head.weight: type f64"), "{error}");
    }

    #[test]
    fn loading_leaves_clones_alone_and_keeps_what_is_trained() {
        #[derive(Default)]
        struct Trained(Vec<(u64, bool)>);
        impl ModuleVisitor for Trained {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push((param.id.val(), param.is_require_grad()));
            }
        }
        let device = Device::flex().autodiff();
        let target = small(true).init(INPUT, 2, 1, &device).unwrap();
        let before = named_tensors(&target);
        let record: Vec<_> = before
            .iter()
            .map(|(name, data)| {
                let values: Vec<f32> = data.iter::<f32>().map(|value| value + 1.0).collect();
                (name.clone(), TensorData::new(values, data.shape().clone()))
            })
            .collect();
        let loaded = load(target.clone(), &record).unwrap();
        // Burn's own loading would change the running statistics of `target` as well.
        assert_eq!(named_tensors(&target), before);
        assert_eq!(named_tensors(&loaded), record);
        let [target, loaded] = [target, loaded].map(|network| {
            let mut trained = Trained::default();
            network.visit(&mut trained);
            trained.0
        });
        assert_eq!(loaded, target);
        assert!(loaded.last().is_some_and(|(_, is_trained)| *is_trained));
    }

    #[test]
    fn the_last_step_of_a_training_counts() {
        let device = Device::flex().autodiff();
        let network = small(true).init(INPUT, 2, 1, &device).unwrap();
        let ones = Tensor::<4>::ones([2, 1, 6, 6], &device);
        network.forward(ones);
        // Mean 0 before; one batch moves it by a tenth of the batch's mean. The variance of a
        // constant batch is 0: 0.9 is left of the initial 1.
        let tensors = named_tensors(&network);
        assert_eq!(tensors[4].1, TensorData::from([0.9f32, 0.9]));
    }
}
