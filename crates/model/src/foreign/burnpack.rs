//! Burnpacks: Burn's container, and the body of our own model files.

use burn::tensor::{Bytes, DType};
use burn_pack::Reader;

use super::{FloatType, ForeignError, WeightLayout, WeightSource};
use crate::Seen;
use crate::file::model_file::{self, Origin, StoredTensor};

/// Name of the format.
const FORMAT: &str = "burnpack";

/// The tensors of a burnpack, with our names or those of a Burn module whose fields are called as ours.
/// A model file of ours is one too; its seal is verified.
#[derive(Debug)]
pub struct BurnpackWeights {
    tensors: Vec<(FloatType, StoredTensor)>,
    origin: Origin,
}

impl BurnpackWeights {
    /// Reads the container's table, and verifies the seal if there is one. Values stay where they are until they
    /// are asked for.
    ///
    /// # Errors
    /// A container that is damaged or cut short, or whose tensors lie over each other.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ForeignError> {
        let reader = if model_file::is_sealed(&bytes) {
            model_file::open(&bytes).map_err(|e| container(&e))?.0
        } else {
            Reader::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|e| container(&e))?
        };
        let origin = model_file::origin_of(&reader);
        let stored = model_file::stored_tensors(reader).map_err(|e| container(&e))?;
        let floats = stored.into_iter().filter_map(|tensor| {
            let dtype = match tensor.dtype {
                DType::F32 => FloatType::F32,
                DType::F64 => FloatType::F64,
                DType::F16 => FloatType::F16,
                DType::BF16 => FloatType::BF16,
                // Flags and counters of modules, which are no weights.
                _ => return None,
            };
            Some((dtype, tensor))
        });
        Ok(Self { tensors: floats.collect(), origin })
    }
}

fn container(reason: &dyn std::fmt::Display) -> ForeignError {
    ForeignError::Container { format: FORMAT, reason: reason.to_string() }
}

impl WeightSource for BurnpackWeights {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::Burn
    }

    fn class_names(&self) -> Option<Vec<String>> {
        self.origin.classes.clone()
    }

    fn seen(&self) -> Option<Seen> {
        self.origin.seen.clone()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(_, tensor)| (tensor.name.clone(), tensor.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let found = self.tensors.iter().find(|(_, tensor)| tensor.name == name);
        let (dtype, tensor) = found.ok_or_else(|| ForeignError::Tensor {
            name: name.to_owned(),
            reason: "it is not in the file".to_owned(),
        })?;
        Ok(dtype.decode(&tensor.bytes))
    }
}
