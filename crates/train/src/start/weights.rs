//! Files of weights that other programs wrote: where they are, what they are, and reading them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use data::Search;
use model::{
    BurnpackWeights, FloatType, ForeignError, LoadReport, Loading, Network, NetworkConfig,
    SafetensorsWeights, Seen, WeightLayout, WeightSource,
};
use pytorch_reader::{DType as PytorchType, PytorchReader};

use crate::config::arguments::published_name;
use crate::run::files::sha256_of;
use crate::start::foreign_file::{self, OtherFile};

/// Weights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The system refused.
    #[error("cannot read the weights {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ForeignError,
    },
    /// A file or folder of another kind.
    #[error("{path} is {what}, no weights that Kiln reads: {advice}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// Published weights that cannot be had.
    #[error(transparent)]
    Fetch(#[from] data::DataError),
}

/// A file of weights, opened: names and shapes are known, values are not read yet.
pub struct ForeignWeights {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    source: Box<dyn WeightSource>,
}

impl ForeignWeights {
    /// Opens what `--weights` names: a file, or `torchvision:NAME`, which is looked for as `search` says.
    ///
    /// # Errors
    /// When the file cannot be read or had, or is not of a known format.
    pub fn open(name: &str, search: &Search) -> Result<Self, WeightsError> {
        let path = match published_name(name) {
            Some(published) => data::published::obtain(published, search)?,
            None => PathBuf::from(name),
        };
        let of_others = |OtherFile { what, advice }| WeightsError::Other { path: path.clone(), what, advice };
        if let Some(folder) = foreign_file::folder(&path) {
            return Err(of_others(folder));
        }
        let read = |source| WeightsError::Read { path: path.clone(), source };
        let sha256 = sha256_of(&path).map_err(read)?;
        let mut first = Vec::new();
        File::open(&path).and_then(|file| file.take(9).read_to_end(&mut first)).map_err(read)?;
        let bytes = || std::fs::read(&path).map_err(read);
        let content = |source| WeightsError::Content { path: path.clone(), source };
        // A burnpack begins with its magic number, a safetensors file with a length of eight bytes and
        // a brace; everything else is tried as PyTorch's.
        let source: Box<dyn WeightSource> = if first.starts_with(b"NRUB") {
            Box::new(BurnpackWeights::new(bytes()?).map_err(content)?)
        } else if first.get(8) == Some(&b'{') && !first.starts_with(b"PK") {
            Box::new(SafetensorsWeights::new(bytes()?).map_err(content)?)
        } else {
            let opened = PytorchWeights::new(&path);
            // A pickle of other things is read without a fault, and holds no tensors.
            if !opened.as_ref().is_ok_and(|weights| !weights.reader.is_empty())
                && let Some(other) = foreign_file::recognise(&path)
            {
                return Err(of_others(other));
            }
            Box::new(opened.map_err(content)?)
        };
        tracing::info!(
            "{}: {} tensors, {}, SHA-256 {sha256}",
            path.display(),
            source.tensors().len(),
            source.format()
        );
        Ok(Self { path, sha256, source })
    }

    /// The classes of the file's network in their order, where it names them: our own files and exports do.
    pub fn class_names(&self) -> Option<Vec<String>> {
        self.source.class_names()
    }

    /// The pictures that the file's network has seen, where it records them.
    pub fn seen(&self) -> Option<Seen> {
        self.source.seen()
    }

    /// Channels of the images that the file's network takes, as far as it shows.
    pub fn input_channels(&self, config: &NetworkConfig) -> Option<usize> {
        model::input_channels(self.source.as_ref(), config)
    }

    /// The file's tensors in a network.
    ///
    /// # Errors
    /// As [`model::load_foreign`].
    pub fn load(
        &self,
        network: Network,
        config: &NetworkConfig,
        input: model::InputShape,
        classes: usize,
        loading: impl Fn(&str) -> Loading,
    ) -> Result<(Network, LoadReport), WeightsError> {
        let (network, report) =
            model::load_foreign(network, config, input, classes, self.source.as_ref(), loading)
                .map_err(|source| WeightsError::Content { path: self.path.clone(), source })?;
        say_where(&report);
        Ok((network, report))
    }
}

/// Under which key of a checkpoint the weights were, and where they could have been, too.
fn say_where(report: &LoadReport) {
    let key = |prefix: &String| format!("`{}`", prefix.trim_end_matches('.'));
    if !report.others.is_empty() {
        let others: Vec<String> = report.others.iter().map(key).collect();
        let taken =
            if report.prefix.is_empty() { "those at the top".to_owned() } else { key(&report.prefix) };
        tracing::warn!(
            "the file holds the network more than once: {taken} taken, {} left",
            others.join(", ")
        );
    } else if !report.prefix.is_empty() {
        tracing::info!("weights taken from {}", key(&report.prefix));
    }
}

/// A checkpoint of `PyTorch` from 0.1.10 on, in either of its containers. The reader builds plain values from the pickle
/// and executes nothing; lengths are checked against the file, and a tensor's values are read when asked
/// for.
struct PytorchWeights {
    reader: PytorchReader,
}

/// Name of the format.
const PYTORCH: &str = "PyTorch";

impl PytorchWeights {
    fn new(path: &Path) -> Result<Self, ForeignError> {
        let fault = |reason| ForeignError::Container { format: PYTORCH, reason };
        crate::start::container::check(path).map_err(fault)?;
        let reader = PytorchReader::new(path).map_err(|error| fault(error.to_string()))?;
        Ok(Self { reader })
    }
}

impl WeightSource for PytorchWeights {
    fn format(&self) -> &'static str {
        PYTORCH
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::PyTorch
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let tensors = self.reader.tensors().iter();
        let mut tensors: Vec<_> =
            tensors.map(|(name, tensor)| (name.clone(), tensor.shape().to_vec())).collect();
        tensors.sort();
        tensors
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let fault = |reason: String| ForeignError::Tensor { name: name.to_owned(), reason };
        let tensor = self.reader.get(name).ok_or_else(|| fault("it is not in the file".to_owned()))?;
        let dtype = match tensor.dtype() {
            PytorchType::F32 => FloatType::F32,
            PytorchType::F64 => FloatType::F64,
            PytorchType::F16 => FloatType::F16,
            PytorchType::BF16 => FloatType::BF16,
            other => return Err(fault(format!("type {other:?}, expected f32, f64, f16 or bf16"))),
        };
        Ok(dtype.decode(&tensor.read().map_err(|error| fault(error.to_string()))?))
    }
}
