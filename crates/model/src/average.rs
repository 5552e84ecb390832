//! A running average of the weights, for evaluation with less noise than the last step's weights.

use burn::tensor::{Bytes, DType, TensorData};
use burn_pack::{Reader, Scalar, Tensor, Writer};

use crate::{
    Network, RecordError,
    record::{load, tensors_in_order},
};

/// Why an average cannot be kept or restored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AverageError {
    /// The decay is no number in `[0, 1)`.
    #[error("weight average: decay {0}; it must be at least 0 and below 1")]
    Decay(f64),
    /// The network is not the one that the average belongs to.
    #[error("weight average: {0}")]
    Network(#[from] RecordError),
    /// The network's tensors changed between two updates.
    #[error("weight average: the network now has tensor {found}, expected {expected}")]
    Changed {
        /// Name and shape in the average.
        expected: String,
        /// Name and shape in the network.
        found: String,
    },
    /// The bytes are no stored average.
    #[error("weight average: the stored bytes cannot be read: {0}")]
    Bytes(String),
}

/// Exponential moving average of all float tensors of a network, running statistics included:
/// `average += (1 - d) (weights - average)`.
///
/// `d` is `min(decay, (1 + n) / (10 + n))` at update `n = 0, 1, ...`, so that the first, untrained
/// weights are soon forgotten (the rule of TensorFlow's `ExponentialMovingAverage` with
/// `num_updates`). Plain `f32` arithmetic in a fixed order: the same updates give the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightAverage {
    decay: f64,
    updates: u64,
    tensors: Vec<Averaged>,
}

#[derive(Clone, Debug, PartialEq)]
struct Averaged {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl WeightAverage {
    /// Starts from the network's weights.
    ///
    /// # Errors
    /// A decay outside `[0, 1)`.
    pub fn new(network: &Network, decay: f64) -> Result<Self, AverageError> {
        if !(0.0..1.0).contains(&decay) {
            return Err(AverageError::Decay(decay));
        }
        let tensors = tensors_in_order(network)
            .into_iter()
            .map(|(name, data)| Averaged {
                name,
                shape: data.shape().to_vec(),
                values: data.iter::<f32>().collect(),
            })
            .collect();
        Ok(Self {
            decay,
            updates: 0,
            tensors,
        })
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes in the weights after one more step.
    ///
    /// # Errors
    /// The network has other tensors than the average; the average is then unchanged.
    pub fn update(&mut self, network: &Network) -> Result<(), AverageError> {
        let weights = tensors_in_order(network);
        let same = self.tensors.len() == weights.len();
        for (averaged, (name, data)) in self.tensors.iter().zip(&weights) {
            if averaged.name != *name || averaged.shape[..] != data.shape()[..] {
                return Err(AverageError::Changed {
                    expected: format!("{} {:?}", averaged.name, averaged.shape),
                    found: format!("{name} {:?}", data.shape().to_vec()),
                });
            }
        }
        if !same {
            return Err(AverageError::Changed {
                expected: format!("{} tensors", self.tensors.len()),
                found: format!("{} tensors", weights.len()),
            });
        }

        let n = self.updates as f64;
        let rate = (1.0 - self.decay.min((1.0 + n) / (10.0 + n))) as f32;
        for (averaged, (_, data)) in self.tensors.iter_mut().zip(&weights) {
            for (average, weight) in averaged.values.iter_mut().zip(data.iter::<f32>()) {
                *average += rate * (weight - *average);
            }
        }
        self.updates += 1;
        Ok(())
    }

    /// Puts the averaged weights into a network of the same shape.
    ///
    /// # Errors
    /// The network has other tensors than the average.
    pub fn into_network(&self, network: Network) -> Result<Network, AverageError> {
        let record: Vec<(String, TensorData)> = self
            .tensors
            .iter()
            .map(|tensor| {
                (
                    tensor.name.clone(),
                    TensorData::new(tensor.values.clone(), tensor.shape.clone()),
                )
            })
            .collect();
        Ok(load(network, &record)?)
    }

    /// The whole state as a burnpack.
    ///
    /// # Errors
    /// Burn's writer refuses, which it has no reason to.
    pub fn to_bytes(&self) -> Result<Vec<u8>, AverageError> {
        let tensors = self
            .tensors
            .iter()
            .enumerate()
            .map(|(index, tensor)| {
                let bytes = tensor
                    .values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                // A burnpack sorts by name; the id keeps the order of the visit.
                let id = Some(index as u64);
                let bytes = Bytes::from_bytes_vec(bytes);
                Tensor::new(
                    tensor.name.clone(),
                    DType::F32,
                    tensor.shape.clone(),
                    id,
                    bytes,
                )
            })
            .collect();
        let bytes = Writer::new(tensors)
            .with_scalar(DECAY, Scalar::Float(self.decay))
            .with_scalar(UPDATES, Scalar::UInt(self.updates))
            .into_bytes()
            .map_err(|error| AverageError::Bytes(error.to_string()))?;
        Ok(bytes.to_vec())
    }

    /// Restores exactly what [`Self::to_bytes`] stored. The bytes carry no digest: the checkpoint
    /// around them does.
    ///
    /// # Errors
    /// Bytes that are no stored average; never a panic.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AverageError> {
        let unreadable = |error: burn_pack::Error| AverageError::Bytes(error.to_string());
        let reader =
            Reader::from_bytes(Bytes::from_bytes_vec(bytes.to_vec())).map_err(unreadable)?;
        let scalar = |name: &str| {
            reader
                .scalars()
                .get(name)
                .copied()
                .ok_or_else(|| AverageError::Bytes(format!("no `{name}`")))
        };
        let decay = f64::try_from(scalar(DECAY)?)
            .map_err(|_| AverageError::Bytes(format!("`{DECAY}` is no number")))?;
        let updates = u64::try_from(scalar(UPDATES)?)
            .map_err(|_| AverageError::Bytes(format!("`{UPDATES}` is no count")))?;
        if !(0.0..1.0).contains(&decay) {
            return Err(AverageError::Decay(decay));
        }

        let mut stored = reader.into_tensors().map_err(unreadable)?;
        stored.sort_by_key(|tensor| tensor.param_id);
        let mut tensors = Vec::with_capacity(stored.len());
        for tensor in stored {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unreadable)?;
            if dtype != DType::F32 {
                return Err(AverageError::Bytes(format!(
                    "tensor {name} is {dtype:?}, expected F32"
                )));
            }
            tensors.push(Averaged {
                name,
                shape: shape.to_vec(),
                values: floats(&bytes),
            });
        }
        Ok(Self {
            decay,
            updates,
            tensors,
        })
    }
}

const DECAY: &str = "decay";
const UPDATES: &str = "updates";

/// Little-endian `f32` values.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
