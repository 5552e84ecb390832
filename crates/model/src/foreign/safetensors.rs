//! Safetensors: a JSON header with names, types and offsets, then the values.

use safetensors::{Dtype, SafeTensors};

use super::{FloatType, ForeignError, WeightLayout, WeightSource};

/// Name of the format.
const FORMAT: &str = "safetensors";

/// The bytes of a safetensors file, with dense layers as `PyTorch` lays them out.
#[derive(Debug)]
pub struct SafetensorsWeights {
    bytes: Vec<u8>,
    index: Vec<(String, Vec<usize>)>,
}

impl SafetensorsWeights {
    /// Reads the header and checks it against the length of the bytes.
    ///
    /// # Errors
    /// A header that is damaged, or that promises other bytes than there are.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ForeignError> {
        let file = SafeTensors::deserialize(&bytes).map_err(|e| container(&e))?;
        let index = file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
        Ok(Self { bytes, index })
    }
}

fn container(reason: &dyn std::fmt::Display) -> ForeignError {
    ForeignError::Container { format: FORMAT, reason: reason.to_string() }
}

impl WeightSource for SafetensorsWeights {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::PyTorch
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.index.clone()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        // The header was parsed before; parsing it again is cheap beside the values.
        let file = SafeTensors::deserialize(&self.bytes).map_err(|e| container(&e))?;
        let view = file.tensor(name).map_err(|e| container(&e))?;
        let dtype = match view.dtype() {
            Dtype::F32 => FloatType::F32,
            Dtype::F64 => FloatType::F64,
            Dtype::F16 => FloatType::F16,
            Dtype::BF16 => FloatType::BF16,
            other => {
                let reason = format!("type {other:?}, expected f32, f64, f16 or bf16");
                return Err(ForeignError::Tensor { name: name.to_owned(), reason });
            }
        };
        Ok(dtype.decode(view.data()))
    }
}
