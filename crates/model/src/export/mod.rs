//! A model in other formats. Everything here makes bytes; the caller writes them.

mod c_header;
mod layers;
mod onnx;
pub mod protobuf;
mod pytorch;
mod quantize;

use burn::tensor::{Bytes, DType};
use burn_pack::{Tensor, Writer};

pub use c_header::c_header;
pub use layers::Exported;
pub use onnx::onnx;
pub use pytorch::{module_in_pytorch, safetensors};
pub use quantize::{QuantizedTensor, WeightTensor, quantize_int8};

use crate::{
    Metadata, Task,
    networks::NetworkConfig,
    weights::record::{little_endian, values},
};

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A network or a record that the format cannot hold.
    #[error("a network `{network}` cannot be written as {format}: {reason}")]
    Unsupported {
        /// Name of the network.
        network: String,
        /// What was asked for.
        format: &'static str,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The container could not be written.
    #[error("{format} could not be written: {reason}")]
    Container {
        /// What was asked for.
        format: &'static str,
        /// What its writer said.
        reason: String,
    },
}

impl ExportError {
    pub(crate) fn unsupported(
        config: &NetworkConfig,
        format: &'static str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unsupported { network: config.name().to_owned(), format, reason: reason.into() }
    }
}

/// What turns the logits of an exported network into Kiln's answers, as keys and texts for a file's metadata.
pub(crate) fn answers(metadata: &Metadata) -> Vec<(&'static str, String)> {
    let novelty = metadata.confidence.as_ref().is_some_and(|known| known.novelty.is_some());
    let strange = if novelty {
        "; that a picture is out-of-distribution (kiln predict --keep) cannot be told from logits: it needs the model file"
    } else {
        ""
    };
    let rejection = match metadata.task {
        Task::Classify => {
            format!(
                "none here; a threshold of kiln predict --reject-below is one for these probabilities{strange}"
            )
        }
        Task::MultiLabel { .. } => {
            "none here; kiln predict --reject-below is for the probability of all labels together".to_owned()
        }
    };
    let mut answers = vec![
        ("temperature", metadata.temperature().to_string()),
        ("probabilities", probabilities(&metadata.task).to_owned()),
        ("rejection", rejection),
    ];
    if let Task::MultiLabel { thresholds } = &metadata.task {
        let each = thresholds.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        answers.push(("task", metadata.task.name().to_string()));
        answers.push(("thresholds", format!("[{each}]")));
        answers.push(("labels", "the classes with a probability of at least their threshold".to_owned()));
    }
    answers
}

/// What makes probabilities of logits.
fn probabilities(task: &Task) -> &'static str {
    match task {
        Task::Classify => "softmax(logits / temperature) over the last axis",
        Task::MultiLabel { .. } => "sigmoid(logits / temperature), of each class by itself",
    }
}

/// The metadata as a JSON object, with the keys of `answers` beside them.
///
/// # Errors
/// [`ExportError::Container`].
pub fn metadata_json(metadata: &Metadata, format: &'static str) -> Result<String, ExportError> {
    let failed = |error: serde_json::Error| ExportError::Container { format, reason: error.to_string() };
    let mut json = serde_json::to_value(metadata).map_err(failed)?;
    for (key, text) in answers(metadata) {
        match key {
            // The metadata have more of it.
            "task" => {}
            "temperature" => json[key] = metadata.temperature().into(),
            "thresholds" => json[key] = metadata.task.thresholds().unwrap_or_default().into(),
            _ => json[key] = text.into(),
        }
    }
    serde_json::to_string(&json).map_err(failed)
}

/// A plain burnpack with our names and layouts, [`crate::named_tensors`]:
/// `Network::try_load_record(ModuleRecord::load(path)?)` reads it. Its string metadata has the entry `kiln`,
/// the [`Metadata`] as JSON with `temperature`, `probabilities` and `rejection`. Without the seal of a model file.
///
/// # Errors
/// [`ExportError::Container`].
pub fn burnpack(
    tensors: &[(String, burn::tensor::TensorData)],
    metadata: &Metadata,
) -> Result<Vec<u8>, ExportError> {
    let failed = |reason: &dyn std::fmt::Display| ExportError::Container {
        format: "burnpack",
        reason: reason.to_string(),
    };
    let json = metadata_json(metadata, "burnpack")?;
    let tensors = tensors
        .iter()
        .map(|(name, data)| {
            let bytes = Bytes::from_bytes_vec(little_endian(&values(data)));
            Tensor::new(name.clone(), DType::F32, data.shape().clone(), None, bytes)
        })
        .collect();
    let pack =
        Writer::new(tensors).with_metadata("kiln", &json).into_bytes().map_err(|error| failed(&error))?;
    Ok(pack.to_vec())
}
