//! Burnpacks: Burn's container, and the body of our own model files.

use burn::tensor::{Bytes, DType};
use burn_pack::Reader;

use super::{FloatType, ForeignError, WeightLayout, WeightSource};
use crate::model_file;

/// Name of the format.
const FORMAT: &str = "burnpack";

/// The tensors of a burnpack, with our names or those of a Burn module whose fields are called as ours.
/// A model file of ours is one too; its seal is verified.
#[derive(Debug)]
pub struct BurnpackWeights {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl BurnpackWeights {
    /// Reads the container, and verifies the seal if there is one.
    ///
    /// # Errors
    /// A container that is damaged or cut short.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ForeignError> {
        let container =
            |e: burn_pack::Error| ForeignError::Container { format: FORMAT, reason: e.to_string() };
        if model_file::is_sealed(&bytes) {
            model_file::open(&bytes)
                .map_err(|e| ForeignError::Container { format: FORMAT, reason: e.to_string() })?;
        }
        let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(container)?;
        let mut tensors = Vec::new();
        for tensor in reader.into_tensors().map_err(container)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(container)?;
            let dtype = match dtype {
                DType::F32 => FloatType::F32,
                DType::F64 => FloatType::F64,
                DType::F16 => FloatType::F16,
                DType::BF16 => FloatType::BF16,
                // Flags and counters of modules, which are no weights.
                _ => continue,
            };
            tensors.push((name, shape.to_vec(), dtype.decode(&bytes)));
        }
        Ok(Self { tensors })
    }
}

impl WeightSource for BurnpackWeights {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::Burn
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let tensor = self.tensors.iter().find(|(own, _, _)| own == name);
        tensor.map(|(_, _, values)| values.clone()).ok_or_else(|| ForeignError::Tensor {
            name: name.to_owned(),
            reason: "it is not in the file".to_owned(),
        })
    }
}
