//! A running average of the weights, for evaluation with less noise than the last step's weights.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Bytes, DType, Device, Tensor, TensorData},
};
use burn_pack::{Reader, Scalar, Tensor as Stored, Writer};

use crate::{
    Network, RecordError,
    weights::record::{floats, little_endian, load, name, values},
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
///
/// It stays on the device of the weights: an update waits for nothing, and the values come to the host only where they
/// are asked for, in [`Self::to_bytes`] and [`Self::into_network`].
#[derive(Clone, Debug)]
pub struct WeightAverage {
    decay: f64,
    updates: u64,
    tensors: Vec<Averaged>,
}

/// A tensor of the average, or of a network: its values in one row, without autodiff.
#[derive(Clone, Debug)]
struct Averaged {
    name: String,
    shape: Vec<usize>,
    values: Tensor<1>,
}

impl Averaged {
    /// Waits for the device.
    fn read(&self) -> TensorData {
        let data = self.values.to_data();
        TensorData::new(values(&data).into_owned(), self.shape.clone())
    }
}

/// The float tensors of a network in the order of a visit.
fn tensors_of(network: &Network) -> Vec<Averaged> {
    let mut found = Found::default();
    // Separate statistics are merged statistics: a network in training lags one step behind.
    network.clone().with_own_statistics().visit(&mut found);
    found.tensors
}

#[derive(Default)]
struct Found {
    path: Vec<String>,
    tensors: Vec<Averaged>,
}

impl ModuleVisitor for Found {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.transform_for_save().val().inner();
        let tensor = if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(DType::F32) };
        let shape = tensor.dims().to_vec();
        let values = tensor.reshape([shape.iter().product::<usize>()]);
        self.tensors.push(Averaged { name: name(&self.path), shape, values });
    }
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
        Ok(Self { decay, updates: 0, tensors: tensors_of(network) })
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
        let weights = tensors_of(network);
        let same = self.tensors.len() == weights.len();
        for (averaged, weight) in self.tensors.iter().zip(&weights) {
            if averaged.name != weight.name || averaged.shape != weight.shape {
                return Err(AverageError::Changed {
                    expected: format!("{} {:?}", averaged.name, averaged.shape),
                    found: format!("{} {:?}", weight.name, weight.shape),
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
        for (averaged, weight) in self.tensors.iter_mut().zip(weights) {
            let change = weight.values.sub(averaged.values.clone()).mul_scalar(rate);
            averaged.values.inplace(|average| average.add(change));
        }
        self.updates += 1;
        Ok(())
    }

    /// Puts the averaged weights into a network of the same shape.
    ///
    /// # Errors
    /// The network has other tensors than the average.
    pub fn into_network(&self, network: Network) -> Result<Network, AverageError> {
        let record: Vec<(String, TensorData)> =
            self.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.read())).collect();
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
                // A burnpack sorts by name; the id keeps the order of the visit.
                let id = Some(index as u64);
                let bytes = Bytes::from_bytes_vec(little_endian(&values(&tensor.read())));
                Stored::new(tensor.name.clone(), DType::F32, tensor.shape.clone(), id, bytes)
            })
            .collect();
        let bytes = Writer::new(tensors)
            .with_scalar(DECAY, Scalar::Float(self.decay))
            .with_scalar(UPDATES, Scalar::UInt(self.updates))
            .into_bytes()
            .map_err(|error| AverageError::Bytes(error.to_string()))?;
        Ok(bytes.to_vec())
    }

    /// Restores exactly what [`Self::to_bytes`] stored, on the device of the weights. The bytes carry no digest: the
    /// checkpoint around them does.
    ///
    /// # Errors
    /// Bytes that are no stored average; never a panic.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, AverageError> {
        let device = device.clone().inner();
        let unreadable = |error: burn_pack::Error| AverageError::Bytes(error.to_string());
        let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes.to_vec())).map_err(unreadable)?;
        let scalar = |name: &str| {
            reader.scalars().get(name).copied().ok_or_else(|| AverageError::Bytes(format!("no `{name}`")))
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
                return Err(AverageError::Bytes(format!("tensor {name} is {dtype:?}, expected F32")));
            }
            let values = floats(&bytes);
            let shape = shape.to_vec();
            if values.len() != shape.iter().product::<usize>() {
                return Err(AverageError::Bytes(format!(
                    "tensor {name} has {} values, expected those of {shape:?}",
                    values.len()
                )));
            }
            let length = values.len();
            let values = Tensor::from_data(TensorData::new(values, [length]), &device);
            tensors.push(Averaged { name, shape, values });
        }
        Ok(Self { decay, updates, tensors })
    }
}

const DECAY: &str = "decay";
const UPDATES: &str = "updates";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig, named_tensors};

    fn network(seed: u64) -> Network {
        let config =
            CnnConfig { blocks: vec![ConvBlockConfig::new(2)], batch_norm: true, ..CnnConfig::default() };
        let input = InputShape::new(1, 5, 5);
        NetworkConfig::Cnn(config).init(input, 3, seed, &Device::flex()).unwrap()
    }

    fn weights(network: &Network) -> Vec<f32> {
        named_tensors(network).iter().flat_map(|(_, data)| data.iter::<f32>()).collect()
    }

    fn average_of(seeds: &[u64], decay: f64) -> WeightAverage {
        let mut average = WeightAverage::new(&network(seeds[0]), decay).unwrap();
        for &seed in &seeds[1..] {
            average.update(&network(seed)).unwrap();
        }
        average
    }

    #[test]
    fn the_average_follows_its_formula() {
        // The warm-up gives 1/10 and 2/11, both below the decay.
        let found = weights(&average_of(&[1, 2, 3], 0.99).into_network(network(9)).unwrap());
        let (w1, w2, w3) = (weights(&network(1)), weights(&network(2)), weights(&network(3)));
        for (index, found) in found.iter().enumerate() {
            let [w1, w2, w3] = [w1[index], w2[index], w3[index]].map(f64::from);
            let first = w1 / 10.0 + w2 * 9.0 / 10.0;
            let second = first * 2.0 / 11.0 + w3 * 9.0 / 11.0;
            assert!((f64::from(*found) - second).abs() < 1e-6, "{found}, expected {second}");
        }
        // A decay below the warm-up counts from the first update on.
        let found = weights(&average_of(&[1, 2], 0.05).into_network(network(9)).unwrap());
        for ((found, w1), w2) in found.iter().zip(&w1).zip(&w2) {
            assert!((found - (0.05 * w1 + 0.95 * w2)).abs() < 1e-6);
        }
    }

    /// On the device, with and without autodiff, each value has the bits of `average + rate * (weight - average)` in
    /// `f32`, rounded after each operation: what was computed on the host before.
    #[test]
    fn the_bits_are_those_of_plain_arithmetic() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let config =
                CnnConfig { blocks: vec![ConvBlockConfig::new(3)], batch_norm: true, ..CnnConfig::default() };
            let network = |seed| {
                let input = InputShape::new(1, 7, 7);
                NetworkConfig::Cnn(config.clone()).init(input, 5, seed, &device).unwrap()
            };
            let decay = 0.3;
            let mut average = WeightAverage::new(&network(1), decay).unwrap();
            let mut expected = weights(&network(1));
            for (n, seed) in (2..14).enumerate() {
                average.update(&network(seed)).unwrap();
                let n = n as f64;
                let rate = (1.0 - decay.min((1.0 + n) / (10.0 + n))) as f32;
                for (average, weight) in expected.iter_mut().zip(weights(&network(seed))) {
                    *average += rate * (weight - *average);
                }
            }
            let found = weights(&average.into_network(network(99)).unwrap());
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found), bits(&expected));
            assert!(average.tensors.iter().all(|tensor| !tensor.values.device().is_autodiff()));
        }
    }

    #[test]
    fn running_statistics_are_averaged_too() {
        let device = Device::flex().autodiff();
        let trained = NetworkConfig::Cnn(CnnConfig {
            blocks: vec![ConvBlockConfig::new(2)],
            batch_norm: true,
            ..CnnConfig::default()
        })
        .init(InputShape::new(1, 5, 5), 3, 1, &device)
        .unwrap();
        let mut average = WeightAverage::new(&trained, 0.0).unwrap();
        trained.forward(burn::tensor::Tensor::ones([2, 1, 5, 5], &device));
        average.update(&trained).unwrap();
        let averaged = average.into_network(network(2)).unwrap();
        assert_eq!(named_tensors(&averaged), named_tensors(&trained));
        let (name, variance) = &named_tensors(&averaged)[4];
        assert_eq!(name, "blocks.0.norm.running_var");
        assert_eq!(*variance, TensorData::from([0.9f32, 0.9]));
    }

    #[test]
    fn a_restored_average_continues_bit_for_bit() {
        let mut average = average_of(&[1, 2, 3, 4], 0.999);
        let mut restored = WeightAverage::from_bytes(&average.to_bytes().unwrap(), &Device::flex()).unwrap();
        assert_eq!(restored.to_bytes(), average.to_bytes());
        for seed in 5..9 {
            average.update(&network(seed)).unwrap();
            restored.update(&network(seed)).unwrap();
        }
        assert_eq!(restored.to_bytes(), average.to_bytes());
        assert_eq!(restored.updates(), 7);
    }

    #[test]
    fn another_network_is_refused() {
        let mut average = average_of(&[1, 2], 0.9);
        let before = average.to_bytes();
        let other = NetworkConfig::default();
        let other = other.init(InputShape::new(1, 28, 28), 10, 1, &Device::flex()).unwrap();
        let error = average.update(&other).unwrap_err().to_string();
        assert!(error.contains("blocks.0.conv.weight [2, 1, 3, 3]"), "{error}");
        assert_eq!(average.to_bytes(), before);
        assert!(matches!(average.into_network(other), Err(AverageError::Network(_))));
        for decay in [1.0, -0.1, f64::NAN] {
            assert!(matches!(WeightAverage::new(&network(1), decay), Err(AverageError::Decay(_))));
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(position in 0usize..6000, bit in 0u8..8, cut in 0usize..6000) {
            let mut bytes = average_of(&[1, 2], 0.9).to_bytes().unwrap();
            let len = bytes.len();
            bytes[position % len] ^= 1 << bit;
            let _ = WeightAverage::from_bytes(&bytes, &Device::flex());
            prop_assert!(WeightAverage::from_bytes(&bytes[..cut % len], &Device::flex()).is_err());
        }
    }
}
