//! Safetensors: a JSON header with names, types and offsets, then the values.

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};

use super::{FloatType, ForeignError, WeightLayout, WeightSource};

/// Name of the format.
const FORMAT: &str = "safetensors";

/// Bytes of the header's length, with which a file begins.
const LENGTH_FIELD: usize = 8;

/// The bytes of a safetensors file, with dense layers as `PyTorch` lays them out.
#[derive(Debug)]
pub struct SafetensorsWeights {
    bytes: Vec<u8>,
    /// Where the values begin.
    data: usize,
    /// Names, types, shapes, and places behind `data`.
    header: Metadata,
}

impl SafetensorsWeights {
    /// Reads the header and checks it against the length of the bytes; the tensors lie one behind the other, so that
    /// all of them together are no longer than the file.
    ///
    /// # Errors
    /// A header that is damaged, or that promises other bytes than there are.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ForeignError> {
        let (header_len, header) = SafeTensors::read_metadata(&bytes).map_err(|e| container(&e))?;
        Ok(Self { bytes, data: LENGTH_FIELD + header_len, header })
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

    /// Our own exports have them.
    fn class_names(&self) -> Option<Vec<String>> {
        serde_json::from_str(self.header.metadata().as_ref()?.get("classes")?).ok()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let fault = |reason: String| ForeignError::Tensor { name: name.to_owned(), reason };
        let info = self.header.info(name).ok_or_else(|| fault("it is not in the file".to_owned()))?;
        let dtype = match info.dtype {
            Dtype::F32 => FloatType::F32,
            Dtype::F64 => FloatType::F64,
            Dtype::F16 => FloatType::F16,
            Dtype::BF16 => FloatType::BF16,
            other => return Err(fault(format!("type {other:?}, expected f32, f64, f16 or bf16"))),
        };
        let (start, end) = info.data_offsets;
        let bytes = self.bytes.get(self.data..).and_then(|data| data.get(start..end));
        Ok(dtype.decode(bytes.ok_or_else(|| fault("it lies outside of the file".to_owned()))?))
    }
}
