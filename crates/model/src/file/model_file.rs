//! The model file: one file that says what it is, and that is checked before it is believed.
//!
//! Longer than other files: half of it are tests of damage to every part of the file.
//!
//! A model file is a burnpack, Burn's own container, followed by a seal:
//!
//! | bytes | content |
//! |---|---|
//! | from 0 | a burnpack: header, CBOR table, tensors at multiples of 256 bytes |
//! | last 40 | the seal: the 8 bytes `KILNSEAL`, then the SHA-256 of everything before it and of these 8 bytes |
//!
//! The burnpack's string metadata has one entry, `kiln`: the [`Metadata`] as JSON. Its tensors are
//! `f32` and named as in [`crate::named_tensors`]. Burn's reader ignores bytes after the tensors, so
//! `Network::try_load_record(ModuleRecord::load(path)?)` reads the file as well.
//!
//! A burnpack alone has no checksum. Here any changed bit and any missing byte changes the digest or
//! what it is compared with. Beyond that a loaded network must give the logits that it gave when
//! saved, for a probe input that is part of this format: a difference in the operators shows at once.

use std::{collections::BTreeMap, fmt::Display};

use burn::{
    module::Module,
    tensor::{Bytes, DType, Device, TensorData},
};
use burn_pack::{Reader, Tensor, Writer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Confidence, ConfidenceError, InputShape, LoadReport, Network, Preprocessing, PreprocessingError,
    RecordError, Seen, ShapeError, Summary, Task, TaskError, hexadecimal,
    networks::NetworkConfig,
    weights::record::{Loading, compare, floats, little_endian, load, named_tensors, values, weights_sha256},
};

/// Version of the format that this crate writes; it reads no other.
pub const FORMAT_VERSION: u32 = 1;

/// Images in the probe.
pub const PROBE_IMAGES: usize = 2;

/// Largest difference of a probe logit, absolute up to a magnitude of 1 and relative above. Backends
/// sum in different orders, which costs about 1e-6; a wrong operator costs far more.
pub const PROBE_TOLERANCE: f32 = 1e-4;

/// Key of our metadata in the burnpack.
const KEY: &str = "kiln";

/// First bytes of a burnpack, `BURN` as a little-endian number.
const BURNPACK: &[u8] = b"NRUB";

/// First bytes of the seal.
const SEAL: &[u8; 8] = b"KILNSEAL";

/// Bytes of the seal: the mark and a SHA-256.
const SEAL_LEN: usize = 8 + 32;

/// Longest metadata: a parser makes sixteen bytes of one. Ours have some ten thousand.
const MOST_METADATA: usize = 16 << 20;

/// Most dimensions of a tensor; weights of convolutions have 4.
const MOST_DIMENSIONS: usize = 8;

/// Why a model file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The bytes do not begin as a model file does.
    #[error(
        "not a Kiln model file: it begins with {found}, expected a burnpack; give the model file of a run or its run folder"
    )]
    NotAModel {
        /// The first bytes as hexadecimal digits.
        found: String,
    },
    /// The seal at the end is missing.
    #[error(
        "no seal at the end of the {len} bytes: the file is cut short, or a plain burnpack that Kiln did not write; copy the file again"
    )]
    NoSeal {
        /// Length of the file.
        len: usize,
    },
    /// The content does not have the digest of the seal.
    #[error("the file is damaged: SHA-256 {found}, its seal says {expected}; copy the file again")]
    Digest {
        /// Digest in the seal.
        expected: String,
        /// Digest of the content.
        found: String,
    },
    /// The container or its metadata cannot be read although the digest is right.
    #[error("the {part} cannot be read: {reason}")]
    Unreadable {
        /// Part of the file.
        part: &'static str,
        /// What the reader said.
        reason: String,
    },
    /// Another version of the format.
    #[error("format version {found}, this program reads version {FORMAT_VERSION}; use the Kiln that wrote the file{}", by(.kiln_version))]
    Version {
        /// Version of the file.
        found: u64,
        /// Version of the program that wrote it, where it says so.
        kiln_version: String,
    },
    /// The network cannot be built.
    #[error("the network cannot be built: {0}")]
    Shape(#[from] ShapeError),
    /// The preprocessing cannot be used.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// What calibrates the answers cannot be used.
    #[error(transparent)]
    Confidence(#[from] ConfidenceError),
    /// What its logits mean does not fit its classes.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Tensors and architecture do not belong together.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A weight that is no number.
    #[error("tensor {name} holds {value} at index {index}; a network with such weights is of no use")]
    NotFinite {
        /// Name of the tensor.
        name: String,
        /// Index of the value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A figure of the metadata that the tensors contradict.
    #[error(
        "`{field}` is {found}, the metadata say {expected}: the file was put together wrongly; save the model again"
    )]
    Contradiction {
        /// Field of the metadata.
        field: &'static str,
        /// Figure of the metadata.
        expected: String,
        /// Figure of the tensors.
        found: String,
    },
    /// The loaded network computes something else than the saved one.
    #[error(
        "probe image {image}, class {class}: logit {found}, stored {expected} (tolerance {PROBE_TOLERANCE}): this device computes something else than the one that saved the model; try another backend"
    )]
    Probe {
        /// Image of the probe.
        image: usize,
        /// Class of the logit.
        class: usize,
        /// Stored logit.
        expected: f32,
        /// Logit of the loaded network.
        found: f32,
    },
}

fn by(kiln_version: &str) -> String {
    if kiln_version.is_empty() { String::new() } else { format!(" (version {kiln_version})") }
}

/// What the caller says about a network that it saves.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Architecture.
    pub network: NetworkConfig,
    /// Input size and normalisation.
    pub preprocessing: Preprocessing,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// What the logits mean.
    pub task: Task,
    /// Where the model comes from: command, seed, data hashes, figures. Free.
    pub provenance: BTreeMap<String, serde_json::Value>,
    /// What calibrates its answers, where that was fitted.
    pub confidence: Option<Confidence>,
    /// The pictures that it has seen, where they are recorded.
    pub seen: Option<Seen>,
}

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Version of the format, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the crate that wrote the file.
    pub kiln_version: String,
    /// Architecture.
    pub network: NetworkConfig,
    /// Input size and normalisation.
    pub preprocessing: Preprocessing,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// What the logits mean. Absent for one class a picture, as in files of the first versions.
    #[serde(default, skip_serializing_if = "Task::is_classify")]
    pub task: Task,
    /// Where the model comes from. Free.
    pub provenance: BTreeMap<String, serde_json::Value>,
    /// Trainable parameters.
    pub parameters: usize,
    /// Digest of the tensors, [`crate::weights_sha256`].
    pub weights_sha256: String,
    /// Logits of the probe images, `[PROBE_IMAGES][classes]`, as Flex computed them.
    pub probe_logits: Vec<Vec<f32>>,
    /// What calibrates its answers. Absent in files of the first versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// The pictures that it has seen. Absent for known data sets, for very many pictures, and in files of the first
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

impl Metadata {
    /// What logits are divided by before the softmax; 1 where nothing was fitted.
    pub fn temperature(&self) -> f32 {
        self.confidence.as_ref().map_or(1.0, |known| known.temperature)
    }
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The network with its weights.
    pub network: Network,
    /// What the file says about it.
    pub metadata: Metadata,
}

/// Puts a network and its description into the bytes of a model file. The network's logits for
/// the probe are computed on Flex, in evaluation.
///
/// # Errors
/// A description that does not fit the network, or weights that are not finite.
pub fn encode(network: &Network, description: Description) -> Result<Vec<u8>, ModelFileError> {
    let Description { network: config, preprocessing, classes, task, provenance, confidence, seen } =
        description;
    preprocessing.validate()?;
    confidence.as_ref().map_or(Ok(()), Confidence::validate)?;
    task.validate(classes.len())?;
    let summary = config.summary(preprocessing.input, classes.len())?;
    let tensors = named_tensors(network);
    check_tensors(&summary, tensors.iter().map(|(name, data)| (name.as_str(), data.shape().to_vec())))?;
    check_finite(&tensors)?;

    let probe_logits = probe_logits(network, &preprocessing, &Device::flex());
    for (index, &value) in probe_logits.iter().flatten().enumerate() {
        if !value.is_finite() {
            return Err(ModelFileError::NotFinite { name: "probe_logits".into(), index, value });
        }
    }

    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        kiln_version: env!("CARGO_PKG_VERSION").to_string(),
        network: config,
        parameters: summary.parameters(),
        weights_sha256: weights_sha256(network),
        probe_logits,
        preprocessing,
        classes,
        task,
        provenance,
        confidence,
        seen,
    };
    let json = serde_json::to_string(&metadata).map_err(|e| unreadable("metadata", &e))?;
    seal(&tensors, &json)
}

/// Writes the container and its seal.
fn seal(tensors: &[(String, TensorData)], json: &str) -> Result<Vec<u8>, ModelFileError> {
    let tensors = tensors
        .iter()
        .map(|(name, data)| {
            let bytes = Bytes::from_bytes_vec(little_endian(&values(data)));
            Tensor::new(name.clone(), DType::F32, data.shape().clone(), None, bytes)
        })
        .collect();
    let pack = Writer::new(tensors)
        .with_metadata(KEY, json)
        .into_bytes()
        .map_err(|e| unreadable("container", &e))?;
    let mut bytes = Vec::with_capacity(pack.len() + SEAL_LEN);
    bytes.extend_from_slice(&pack);
    bytes.extend_from_slice(SEAL);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

/// Reads the bytes of a model file into a network on `device`.
///
/// Nothing is believed before the digest is verified. Names and shapes of all tensors are compared with those of the
/// network before a value is read or the network is built, and no two tensors share bytes, so that memory and work
/// are bounded by the length of the input; the way of the two probe images through the network is bounded by its
/// parameters.
///
/// # Errors
/// Anything that is not exactly a model file; never a panic. A record that does not fit its own
/// architecture is refused with all missing, unexpected and mismatched tensors.
pub fn decode(bytes: &[u8], device: &Device) -> Result<Model, ModelFileError> {
    let (reader, metadata) = open(bytes)?;
    let summary = check_metadata(&metadata)?;

    let stored = stored_tensors(reader).map_err(|reason| unreadable("tensors", &reason))?;
    check_tensors(&summary, stored.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.clone())))?;
    let tensors: Vec<(String, TensorData)> =
        stored.into_iter().map(StoredTensor::into_floats).collect::<Result<_, RecordError>>()?;
    check_finite(&tensors)?;

    let empty = metadata.network.init_empty(metadata.preprocessing.input, metadata.classes.len(), device)?;
    let network = load(empty, &tensors)?;
    let found = weights_sha256(&network);
    if found != metadata.weights_sha256 {
        return Err(contradiction("weights_sha256", &metadata.weights_sha256, &found));
    }
    check_probe(&network, &metadata, &device.clone().inner())?;
    Ok(Model { network, metadata })
}

/// Reads and verifies what a model file says about itself, without building the network: the
/// digest, the metadata, and that they are sound. Cheap enough for a list of many files.
///
/// # Errors
/// As [`decode`], but for what only the tensors can show.
pub fn read_metadata(bytes: &[u8]) -> Result<Metadata, ModelFileError> {
    let (_, metadata) = open(bytes)?;
    check_metadata(&metadata)?;
    Ok(metadata)
}

/// Verifies the seal and reads the container's table and our metadata.
pub(crate) fn open(bytes: &[u8]) -> Result<(Reader, Metadata), ModelFileError> {
    if !bytes.starts_with(BURNPACK) {
        let found = if bytes.is_empty() {
            "nothing".to_string()
        } else {
            hexadecimal(&bytes[..bytes.len().min(BURNPACK.len())])
        };
        return Err(ModelFileError::NotAModel { found });
    }
    let no_seal = || ModelFileError::NoSeal { len: bytes.len() };
    let (content, seal) =
        bytes.len().checked_sub(SEAL_LEN).map(|end| bytes.split_at(end)).ok_or_else(no_seal)?;
    let (mark, digest) = seal.split_at(SEAL.len());
    if mark != SEAL {
        return Err(no_seal());
    }
    let found = Sha256::digest(&bytes[..content.len() + SEAL.len()]);
    if found[..] != *digest {
        return Err(ModelFileError::Digest { expected: hexadecimal(digest), found: hexadecimal(found) });
    }

    let reader = Reader::from_bytes(Bytes::from_bytes_vec(content.to_vec()))
        .map_err(|e| unreadable("container", &e))?;
    let json = reader
        .metadata()
        .get(KEY)
        .ok_or_else(|| unreadable("metadata", &format_args!("the container has no entry `{KEY}`")))?;
    if json.len() > MOST_METADATA {
        return Err(unreadable(
            "metadata",
            &format_args!("{} bytes, expected at most {MOST_METADATA}", json.len()),
        ));
    }
    let metadata = parse(json)?;
    Ok((reader, metadata))
}

/// What a container of ours says of its model beside the tensors, and only that; of others nothing.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Origin {
    /// The classes in their order.
    pub(crate) classes: Option<Vec<String>>,
    /// The pictures that the model has seen.
    pub(crate) seen: Option<Seen>,
}

/// What a container says of its model.
pub(crate) fn origin_of(reader: &Reader) -> Origin {
    let json = reader.metadata().get(KEY).filter(|json| json.len() <= MOST_METADATA);
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// A tensor of a container whose values are not read yet.
#[derive(Debug)]
pub(crate) struct StoredTensor {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// A window into the container.
    pub(crate) bytes: Bytes,
}

impl StoredTensor {
    /// Reads the values.
    fn into_floats(self) -> Result<(String, TensorData), RecordError> {
        if self.dtype != DType::F32 {
            let dtype = format!("{:?}", self.dtype).to_lowercase();
            return Err(RecordError::Type { name: self.name, dtype });
        }
        Ok((self.name, TensorData::new(floats(&self.bytes), self.shape)))
    }
}

/// The tensors of a container in the order of their names. The container's reader has compared the length of each
/// with its shape and with the file; here no two may share bytes, so that all together are no longer than the file.
pub(crate) fn stored_tensors(reader: Reader) -> Result<Vec<StoredTensor>, String> {
    let mut tensors = Vec::new();
    for tensor in reader.into_tensors().map_err(|e| e.to_string())? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(|e| e.to_string())?;
        let shape = shape.to_vec();
        if shape.len() > MOST_DIMENSIONS {
            return Err(format!(
                "tensor {name} has {} dimensions, expected at most {MOST_DIMENSIONS}",
                shape.len()
            ));
        }
        tensors.push(StoredTensor { name, dtype, shape, bytes });
    }
    let mut places: Vec<(usize, &StoredTensor)> =
        tensors.iter().filter(|t| !t.bytes.is_empty()).map(|t| (t.bytes.as_ptr().addr(), t)).collect();
    places.sort_by_key(|(start, _)| *start);
    for neighbours in places.windows(2) {
        let [(start, first), (next, second)] = neighbours else { continue };
        if next - start < first.bytes.len() {
            return Err(format!("the tensors {} and {} lie over each other", first.name, second.name));
        }
    }
    Ok(tensors)
}

/// Whether the bytes end with a seal, sound or not.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.len().checked_sub(SEAL_LEN).is_some_and(|end| bytes[end..].starts_with(SEAL))
}

/// Looks at the version before anything else, which a later version may have changed.
fn parse(json: &str) -> Result<Metadata, ModelFileError> {
    #[derive(Deserialize)]
    struct Versions {
        format_version: u64,
        #[serde(default)]
        kiln_version: String,
    }
    let versions: Versions = serde_json::from_str(json).map_err(|e| unreadable("metadata", &e))?;
    if versions.format_version != u64::from(FORMAT_VERSION) {
        return Err(ModelFileError::Version {
            found: versions.format_version,
            kiln_version: versions.kiln_version,
        });
    }
    serde_json::from_str(json).map_err(|e| unreadable("metadata", &e))
}

fn check_metadata(metadata: &Metadata) -> Result<Summary, ModelFileError> {
    metadata.preprocessing.validate()?;
    metadata.confidence.as_ref().map_or(Ok(()), Confidence::validate)?;
    metadata.task.validate(metadata.classes.len())?;
    let summary = metadata.network.summary(metadata.preprocessing.input, metadata.classes.len())?;
    let parameters = summary.parameters();
    if parameters != metadata.parameters {
        return Err(contradiction("parameters", &metadata.parameters, &parameters));
    }
    Ok(summary)
}

/// Compares the tensors of a record with those that the architecture has.
fn check_tensors<'a>(
    summary: &Summary,
    found: impl Iterator<Item = (&'a str, Vec<usize>)>,
) -> Result<(), ModelFileError> {
    let mut expected: Vec<_> = summary.tensors().cloned().collect();
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    let report = compare(&expected, found, &|_: &str| Loading::Required);
    if report.is_complete() {
        return Ok(());
    }
    Err(RecordError::Tensors(LoadReport { loaded: vec![], ..report }).into())
}

fn check_finite(tensors: &[(String, TensorData)]) -> Result<(), ModelFileError> {
    for (name, data) in tensors {
        let values = values(data);
        if let Some((index, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(ModelFileError::NotFinite { name: name.clone(), index, value });
        }
    }
    Ok(())
}

/// Pixels of the probe: byte `i` is the highest byte of `i * 2654435761` modulo 2^32, Knuth's
/// multiplicative hash, which spreads over all values without a generator to specify.
fn probe_pixels(input: InputShape) -> Vec<u8> {
    (0..(PROBE_IMAGES * input.len()) as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Logits of the probe images in evaluation on `device`.
fn probe_logits(network: &Network, preprocessing: &Preprocessing, device: &Device) -> Vec<Vec<f32>> {
    let network = network.valid().to_device(device);
    let images = preprocessing.batch(&probe_pixels(preprocessing.input), PROBE_IMAGES, device);
    let logits = network.forward(images); // [PROBE_IMAGES, K]
    let [_, classes] = logits.dims();
    values(&logits.into_data()).chunks(classes).map(<[f32]>::to_vec).collect()
}

fn check_probe(network: &Network, metadata: &Metadata, device: &Device) -> Result<(), ModelFileError> {
    let stored = &metadata.probe_logits;
    let classes = metadata.classes.len();
    if stored.len() != PROBE_IMAGES || stored.iter().any(|logits| logits.len() != classes) {
        return Err(contradiction(
            "probe_logits",
            &format_args!("of sizes {:?}", stored.iter().map(Vec::len).collect::<Vec<_>>()),
            &format_args!("of sizes {:?}", [classes; PROBE_IMAGES]),
        ));
    }
    let computed = probe_logits(network, &metadata.preprocessing, device);
    for (image, (stored, computed)) in stored.iter().zip(&computed).enumerate() {
        for (class, (&expected, &found)) in stored.iter().zip(computed).enumerate() {
            let close = (found - expected).abs() <= PROBE_TOLERANCE * expected.abs().max(1.0);
            // A NaN is not close.
            if !close {
                return Err(ModelFileError::Probe { image, class, expected, found });
            }
        }
    }
    Ok(())
}

fn unreadable(part: &'static str, reason: &dyn Display) -> ModelFileError {
    ModelFileError::Unreadable { part, reason: reason.to_string() }
}

fn contradiction(field: &'static str, expected: &dyn Display, found: &dyn Display) -> ModelFileError {
    ModelFileError::Contradiction { field, expected: expected.to_string(), found: found.to_string() }
}

#[cfg(test)]
#[path = "../../../../tests/support/forged.rs"]
pub(crate) mod forged;

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use burn::{
        module::{Flag, ModuleVisitor, Param},
        store::ModuleRecord,
        tensor::Tensor as BurnTensor,
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{CnnConfig, ConvBlockConfig, PoolConfig};

    fn config(batch_norm: bool) -> NetworkConfig {
        NetworkConfig::Cnn(CnnConfig {
            blocks: vec![ConvBlockConfig { pool: Some(PoolConfig::default()), ..ConvBlockConfig::new(2) }],
            dropout: 0.5,
            batch_norm,
            ..CnnConfig::default()
        })
    }

    fn description(batch_norm: bool) -> Description {
        Description {
            network: config(batch_norm),
            preprocessing: Preprocessing {
                input: InputShape::new(1, 8, 8),
                mean: vec![0.1307],
                std: vec![0.3081],
                fit: crate::Fit::default(),
            },
            classes: ["null", "eins", "zwei"].map(String::from).into(),
            task: Task::default(),
            provenance: BTreeMap::from([
                ("seed".into(), json!(7)),
                ("accuracy".into(), json!(0.9931)),
                ("data".into(), json!({ "train": "ba8910" })),
            ]),
            confidence: None,
            seen: Seen::new([&[1; 32], &[2; 32]], [&[3; 32]]),
        }
    }

    fn network(batch_norm: bool, seed: u64, device: &Device) -> Network {
        config(batch_norm).init(InputShape::new(1, 8, 8), 3, seed, device).unwrap()
    }

    /// A real file, made once.
    fn file() -> &'static [u8] {
        static FILE: OnceLock<Vec<u8>> = OnceLock::new();
        FILE.get_or_init(|| encode(&network(false, 1, &Device::flex()), description(false)).unwrap())
    }

    /// The content with a right seal.
    fn resealed(content: &[u8]) -> Vec<u8> {
        let mut bytes = [content, SEAL].concat();
        bytes.extend(Sha256::digest(&bytes));
        bytes
    }

    fn content() -> &'static [u8] {
        &file()[..file().len() - SEAL_LEN]
    }

    /// The file with changed metadata, properly sealed.
    fn with_metadata(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let (_, metadata) = open(file()).unwrap();
        let mut json = serde_json::to_value(metadata).unwrap();
        change(&mut json);
        seal(&named_tensors(&network(false, 1, &Device::flex())), &json.to_string()).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        decode(bytes, &Device::flex()).unwrap_err().to_string()
    }

    #[test]
    fn thresholds_come_back_and_must_be_those_of_the_classes() {
        let network = network(false, 1, &Device::flex());
        let with = |thresholds: Vec<f32>| {
            let task = Task::MultiLabel { thresholds };
            encode(&network, Description { task, ..description(false) })
        };
        let bytes = with(vec![0.5, 0.25, 1.0]).unwrap();
        let metadata = decode(&bytes, &Device::flex()).unwrap().metadata;
        assert_eq!(metadata.task.thresholds(), Some(&[0.5, 0.25, 1.0][..]));
        for wrong in [vec![0.5; 2], vec![0.5, 0.5, -1.0]] {
            assert!(matches!(with(wrong), Err(ModelFileError::Task(_))));
        }
        // One class a picture is not written: such files are what they were.
        let plain = encode(&network, description(false)).unwrap();
        assert!(!String::from_utf8_lossy(&plain).contains("\"task\""));
    }

    #[test]
    fn a_model_comes_back_with_everything() {
        for batch_norm in [false, true] {
            // In training: autodiff, dropout active, statistics moved by a step.
            let device = Device::flex().autodiff();
            let trained = network(batch_norm, 1, &device);
            trained.forward(burn::tensor::Tensor::ones([4, 1, 8, 8], &device));
            let bytes = encode(&trained, description(batch_norm)).unwrap();
            for device in [Device::flex(), Device::flex().autodiff()] {
                let Model { network, metadata } = decode(&bytes, &device).unwrap();
                assert_eq!(named_tensors(&network), named_tensors(&trained));
                let images = description(batch_norm).preprocessing.batch(&[77; 64], 1, &Device::flex());
                let logits = |network: &Network| network.valid().forward(images.clone()).into_data();
                assert_eq!(logits(&network), logits(&trained));

                let Description { network, preprocessing, classes, task, provenance, confidence, seen } =
                    description(batch_norm);
                assert_eq!(metadata.task, task);
                assert_eq!(metadata.confidence, confidence);
                assert_eq!((metadata.seen.as_ref(), seen.is_some()), (seen.as_ref(), true));
                assert_eq!(metadata.network, network);
                assert_eq!(metadata.preprocessing, preprocessing);
                assert_eq!(metadata.classes, classes);
                assert_eq!(metadata.provenance, provenance);
                assert_eq!(metadata.weights_sha256, weights_sha256(&trained));
                // Convolution with or without bias, scale and shift, head on 2x3x3 features.
                assert_eq!(metadata.parameters, if batch_norm { 18 + 4 } else { 18 + 2 } + 18 * 3 + 3);
                assert_eq!(metadata.kiln_version, env!("CARGO_PKG_VERSION"));
                assert_eq!(read_metadata(&bytes).unwrap(), metadata);
            }
        }
    }

    #[test]
    fn a_decoded_model_can_be_trained_further() {
        /// What is trained, where it lives, and whether layers behave as in training.
        #[derive(Default)]
        struct Trained(Vec<bool>);
        impl ModuleVisitor for Trained {
            fn visit_float<const D: usize>(&mut self, parameter: &Param<BurnTensor<D>>) {
                self.0.push(parameter.is_require_grad() && parameter.val().device().is_autodiff());
            }
            fn visit_flag(&mut self, flag: &Param<Flag>) {
                self.0.push(flag.is_enabled());
            }
        }
        let device = Device::flex().autodiff();
        let mut trained = Trained::default();
        decode(file(), &device).unwrap().network.visit(&mut trained);
        assert!(trained.0.len() > 4 && trained.0.iter().all(|is_trained| *is_trained));
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        assert_eq!(encode(&network(false, 1, &Device::flex()), description(false)).unwrap(), file());
    }

    #[test]
    fn burn_reads_the_file_too() {
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(file().to_vec())).unwrap();
        let loaded = network(false, 2, &Device::flex()).try_load_record(record).unwrap();
        assert_eq!(weights_sha256(&loaded), read_metadata(file()).unwrap().weights_sha256);
    }

    #[test]
    fn every_changed_bit_is_found() {
        let mut bytes = file().to_vec();
        for position in 0..bytes.len() {
            // All eight bits of the start, the table's beginning and the end; one of the others.
            let thorough = position < 64 || position + 64 >= bytes.len();
            for bit in if thorough { 0..8 } else { position % 8..position % 8 + 1 } {
                bytes[position] ^= 1 << bit;
                assert!(open(&bytes).is_err(), "byte {position}, bit {bit}");
                bytes[position] ^= 1 << bit;
            }
        }
        assert!(decode(&bytes, &Device::flex()).is_ok());
    }

    #[test]
    fn every_truncation_and_extension_is_found() {
        let bytes = file();
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
        assert!(open(&[bytes, &[0]].concat()).is_err());
        assert!(open(&[bytes, bytes].concat()).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(refusal(b"").starts_with("not a Kiln model file: it begins with nothing"));
        assert!(refusal(b"PK\x03\x04zip").contains("begins with 504b0304"));
        assert!(refusal(content()).contains("plain burnpack"));
        assert!(refusal(&file()[..file().len() - 1]).starts_with("no seal at the end"));
        let mut damaged = file().to_vec();
        damaged[300] ^= 1;
        assert!(refusal(&damaged).starts_with("the file is damaged: SHA-256 "));
        let bare = Writer::new(vec![]).into_bytes().unwrap();
        assert!(refusal(&resealed(&bare)).contains("no entry `kiln`"));

        let newer = with_metadata(|m| {
            m["format_version"] = json!(2);
            m["kiln_version"] = json!("9.1.0");
            m["colour"] = json!("red");
        });
        assert_eq!(
            refusal(&newer),
            "format version 2, this program reads version 1; use the Kiln that wrote the file (version 9.1.0)"
        );
        assert!(refusal(&with_metadata(|m| m["colour"] = json!("red"))).contains("unknown field `colour`"));
        assert!(refusal(&with_metadata(|m| m["parameters"] = json!(7))).contains("`parameters`"));
        assert!(refusal(&with_metadata(|m| m["weights_sha256"] = json!("00"))).contains("`weights_sha256`"));
        assert!(refusal(&with_metadata(|m| m["probe_logits"] = json!([[1.0]]))).contains("`probe_logits`"));
        let std = refusal(&with_metadata(|m| m["preprocessing"]["std"] = json!([0.0])));
        assert!(std.contains("`std` of channel 0 is 0"), "{std}");
    }

    #[test]
    fn a_record_of_another_architecture_is_listed() {
        let (_, metadata) = open(file()).unwrap();
        let mut tensors = named_tensors(&network(true, 1, &Device::flex()));
        tensors.retain(|(name, _)| name != "head.bias");
        let head = tensors.iter_mut().find(|(name, _)| name == "head.weight").unwrap();
        head.1 = TensorData::new(vec![0f32; 54], [3, 18]);
        let message = refusal(&seal(&tensors, &serde_json::to_string(&metadata).unwrap()).unwrap());
        for part in [
            "missing: blocks.0.conv.bias, head.bias",
            "unexpected: blocks.0.norm.beta, blocks.0.norm.gamma, blocks.0.norm.running_mean, blocks.0.norm.running_var",
            "mismatched: head.weight is [3, 18], expected [18, 3]",
        ] {
            assert!(message.contains(part), "{message}");
        }
        // The same when saving with the wrong configuration.
        let error = encode(&network(true, 1, &Device::flex()), description(false)).unwrap_err();
        assert!(error.to_string().contains("missing: blocks.0.conv.bias"), "{error}");
    }

    #[test]
    fn other_logits_than_the_stored_ones_are_refused() {
        let stored = read_metadata(file()).unwrap().probe_logits;
        // In units of the tolerance; the logits are larger than 1, where it is relative.
        let shifted = |by: f32| {
            let logit = stored[1][2];
            assert!(logit.abs() > 1.0, "{logit}");
            with_metadata(|m| m["probe_logits"][1][2] = json!(logit * (1.0 + by * PROBE_TOLERANCE)))
        };
        assert!(decode(&shifted(0.9), &Device::flex()).is_ok());
        assert!(refusal(&shifted(1.1)).starts_with("probe image 1, class 2: logit "));
        assert!(refusal(&shifted(-1.1)).starts_with("probe image 1, class 2: logit "));
        // Another input scale changes the logits as well: the probe covers the preprocessing.
        let scaled = with_metadata(|m| m["preprocessing"]["mean"] = json!([0.2]));
        assert!(refusal(&scaled).starts_with("probe image 0, class 0"));
    }

    #[test]
    fn the_probe_is_spread_over_all_values() {
        let pixels = probe_pixels(InputShape::new(1, 28, 28));
        assert_eq!(pixels[..4], [0, 158, 60, 218]);
        assert_eq!(pixels.len(), PROBE_IMAGES * 784);
        assert_ne!(pixels[..784], pixels[784..]);
        let mut counts = [0; 256];
        for &pixel in &pixels {
            counts[usize::from(pixel)] += 1;
        }
        assert!(counts.iter().all(|&count| (4..=8).contains(&count)), "{counts:?}");
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut tensors = named_tensors(&network(false, 1, &Device::flex()));
            tensors[0].1 = TensorData::from([0.0, value]);
            let broken = load(network(false, 1, &Device::flex()), &tensors).unwrap();
            let error = encode(&broken, description(false)).unwrap_err().to_string();
            assert!(error.starts_with("tensor blocks.0.conv.bias holds"), "{error}");
            let (_, metadata) = open(file()).unwrap();
            let sealed = seal(&tensors, &serde_json::to_string(&metadata).unwrap()).unwrap();
            assert!(refusal(&sealed).starts_with("tensor blocks.0.conv.bias holds"));
        }
    }

    #[test]
    fn a_small_file_cannot_ask_for_a_large_network() {
        for (field, value) in [("height", json!(1u64 << 40)), ("width", json!(u64::MAX))] {
            let message = refusal(&with_metadata(|m| m["preprocessing"]["input"][field] = value));
            assert!(message.contains("exceed"), "{message}");
        }
        // A billion parameters by the metadata, 77 in the file.
        let dense = vec![1 << 15, 1 << 15];
        let NetworkConfig::Cnn(small) = config(false) else { panic!("a convolutional network") };
        let large = NetworkConfig::Cnn(CnnConfig { dense, ..small });
        let parameters = large.summary(InputShape::new(1, 8, 8), 3).unwrap().parameters();
        assert!(parameters > 1_000_000_000);
        let message = refusal(&with_metadata(|m| {
            m["network"] = serde_json::to_value(large).unwrap();
            m["parameters"] = json!(parameters);
        }));
        assert!(message.contains("missing: dense.0.bias, dense.0.weight"), "{message}");
    }

    /// The file's metadata, sealed with other tensors.
    fn with_tensors(tensors: &[forged::Entry], data: &[u8]) -> Vec<u8> {
        let (_, metadata) = open(file()).unwrap();
        let json = serde_json::to_string(&metadata).unwrap();
        resealed(&forged::burnpack(tensors, &[(KEY, &json)], data))
    }

    /// The tensors of the file one behind the other, where `place` moves them.
    fn moved(place: impl Fn(usize, u64, u64) -> (u64, u64)) -> Vec<u8> {
        let tensors = named_tensors(&network(false, 1, &Device::flex()));
        let mut data = Vec::new();
        let mut entries: Vec<(String, Vec<u64>, u64, u64)> = Vec::new();
        for (index, (name, tensor)) in tensors.iter().enumerate() {
            let start = data.len() as u64;
            data.extend(little_endian(&values(tensor)));
            let (start, end) = place(index, start, data.len() as u64);
            entries.push((
                name.clone(),
                tensor.shape().iter().map(|&side| side as u64).collect(),
                start,
                end,
            ));
        }
        let entries: Vec<forged::Entry> = entries
            .iter()
            .map(|(name, shape, start, end)| (name.as_str(), &shape[..], *start, *end))
            .collect();
        with_tensors(&entries, &data)
    }

    #[test]
    fn tensors_may_not_lie_over_each_other_nor_outside() {
        let sound = moved(|_, start, end| (start, end));
        assert!(decode(&sound, &Device::flex()).is_ok());
        // By one value, by one byte, and altogether.
        for by in [4, 1, 72] {
            let message = refusal(&moved(|index, start, end| {
                let by = if index == 1 { by.min(start) } else { 0 };
                (start - by, end - by)
            }));
            assert!(message.contains("lie over each other"), "{by}: {message}");
        }
        assert!(
            decode(
                &moved(|index, s, e| if index == 1 { (s + 4096, e + 4096) } else { (s, e) }),
                &Device::flex()
            )
            .is_err()
        );
        assert!(
            decode(&moved(|index, s, e| if index == 1 { (s, e + 4) } else { (s, e) }), &Device::flex())
                .is_err()
        );
        assert!(
            decode(&moved(|index, s, e| if index == 1 { (e, s) } else { (s, e) }), &Device::flex()).is_err()
        );
        assert!(decode(&moved(|_, _, _| (u64::MAX - 3, u64::MAX)), &Device::flex()).is_err());
    }

    #[test]
    fn tensors_that_the_network_does_not_have_are_not_read() {
        // Values that are no numbers would be an error of their own.
        let data = [0xFF; 1024];
        let message = refusal(&with_tensors(&[("a", &[64], 0, 256), ("b", &[64], 256, 512)], &data));
        assert!(message.contains("unexpected: a, b"), "{message}");
        let message = refusal(&with_tensors(&[("head.bias", &vec![1; 3_000], 0, 4)], &data));
        assert!(message.contains("3000 dimensions"), "{}", &message[..200]);
        // Names without end are not all of the message.
        let names: Vec<String> = (0..5_000).map(|index| format!("tensor-{index}")).collect();
        let many: Vec<forged::Entry> = names.iter().map(|name| (name.as_str(), &[0u64][..], 0, 0)).collect();
        let message = refusal(&with_tensors(&many, &data));
        assert!(message.len() < 10_000 && message.contains("more"), "{} bytes", message.len());
    }

    #[test]
    fn a_small_network_cannot_ask_for_endless_work() {
        let block = ConvBlockConfig { padding: 1, ..ConvBlockConfig::new(1) };
        let layers = |blocks| NetworkConfig::Cnn(CnnConfig { blocks, ..CnnConfig::default() });
        let shrink = ConvBlockConfig {
            pool: Some(PoolConfig { kernel: 64, ..PoolConfig::default() }),
            ..ConvBlockConfig::new(1)
        };
        let mut many = vec![block.clone(); 200];
        many.push(shrink.clone());
        let tokens = crate::VitConfig { patch: 1, width: 4, heads: 4, ..crate::VitConfig::default() };
        let kernels =
            vec![ConvBlockConfig { kernel: 3, padding: 1, ..ConvBlockConfig::new(16) }; 60].into_iter();
        let kernels = kernels.chain([shrink]).collect();
        for (side, network) in [
            (4094, layers(many)),
            (1022, layers(kernels)),
            (128, NetworkConfig::Vit(tokens)),
            (8, layers(vec![block; 100_000])),
        ] {
            let message = refusal(&with_metadata(|m| {
                m["preprocessing"]["input"] = json!({"channels": 1, "height": side, "width": side});
                m["network"] = serde_json::to_value(&network).unwrap();
            }));
            let bounded = ["for one image are", "layers exceed", "it holds exceed"];
            assert!(bounded.iter().any(|part| message.contains(part)), "{side}: {message}");
        }
    }

    #[test]
    fn a_model_that_could_answer_nothing_is_refused() {
        let preprocessing = |channels: usize, fit: serde_json::Value| {
            with_metadata(|m| {
                m["preprocessing"] = json!({
                    "input": {"channels": channels, "height": 8, "width": 8},
                    "mean": vec![0.5; channels],
                    "std": vec![0.5; channels],
                    "fit": fit,
                });
            })
        };
        for channels in [2, 4, 7] {
            assert!(refusal(&preprocessing(channels, json!("stretch"))).contains("grey"), "{channels}");
        }
        for resize in [8193, 1 << 40, u64::MAX] {
            let message = refusal(&preprocessing(1, json!({"crop": {"resize": resize}})));
            assert!(message.contains("no picture can be cut"), "{message}");
        }
        let size = |height: usize, width: usize| {
            refusal(&with_metadata(|m| {
                m["preprocessing"]["input"] = json!({"channels": 1, "height": height, "width": width});
            }))
        };
        assert!(size(0, 8).contains("`height` is 0") && size(8, 0).contains("`width` is 0"));
        for classes in [json!([]), json!(["one"])] {
            assert!(refusal(&with_metadata(|m| m["classes"] = classes)).contains("at least 2"));
        }
        for (field, value) in
            [("mean", json!([])), ("std", json!([0.0])), ("std", json!([-1.0])), ("std", json!([]))]
        {
            assert!(
                refusal(&with_metadata(|m| m["preprocessing"][field] = value)).contains(field),
                "{field}"
            );
        }
        // The same when saving.
        let mut four = description(false);
        four.preprocessing.input.channels = 4;
        assert!(encode(&network(false, 1, &Device::flex()), four).unwrap_err().to_string().contains("grey"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes, &Device::flex()).is_err());
            prop_assert!(decode(&[BURNPACK, &bytes].concat(), &Device::flex()).is_err());
            prop_assert!(decode(&resealed(&bytes), &Device::flex()).is_err());
            prop_assert!(decode(&resealed(&[&content()[..10], &bytes[..]].concat()), &Device::flex()).is_err());
        }

        /// A forger can seal anything: then the container, the metadata and the tensors are on
        /// their own. They may be accepted (a changed class name) but must not panic.
        #[test]
        fn sealed_damage_never_panics(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = content().to_vec();
            for (position, value) in damage {
                let position = position.index(bytes.len());
                bytes[position] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(model) = decode(&resealed(&bytes), &Device::flex()) {
                prop_assert_eq!(weights_sha256(&model.network), model.metadata.weights_sha256);
            }
        }
    }
}
