//! `NdArray` as a host.
#![expect(deprecated, reason = "the backend is deprecated in Burn, and users name it")]

use burn::{
    backend::{
        NdArray,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::TensorData,
};
use burn_ndarray::NdArrayTensor;

use super::host::{self, Host, host_operators, to_indices};

/// Both variants of storage hold their values in row-major order, or are brought to it.
impl Host for NdArray {
    fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
        match &tensor {
            NdArrayTensor::F32(storage) if !storage.view().is_standard_layout() => {
                let view = storage.view();
                Self::from_values(view.iter().copied().collect(), view.shape())
            }
            _ => tensor,
        }
    }

    fn values(tensor: &NdArrayTensor) -> &[f32] {
        match tensor {
            NdArrayTensor::F32(storage) => match storage.view().to_slice_memory_order() {
                Some(values) => values,
                None => unreachable!("the values are contiguous, or lie channels last"),
            },
            _ => unreachable!("`all_f32` has checked the type"),
        }
    }

    fn is_channels_last(tensor: &NdArrayTensor) -> bool {
        let NdArrayTensor::F32(storage) = tensor else {
            return false;
        };
        let view = storage.view();
        host::are_channels_last(view.shape(), view.strides())
    }

    fn from_values(values: Vec<f32>, shape: &[usize]) -> NdArrayTensor {
        NdArrayTensor::from_data(TensorData::new(values, shape))
    }

    fn values_mut(tensor: &mut NdArrayTensor) -> &mut [f32] {
        match tensor {
            NdArrayTensor::F32(storage) => match storage.ensure_owned().as_slice_mut() {
                Some(values) => values,
                None => unreachable!("`contiguous` has brought the values to row-major order"),
            },
            _ => unreachable!("`all_f32` has checked the type"),
        }
    }

    fn indices(tensor: IntTensor<Self>) -> Vec<usize> {
        match tensor {
            NdArrayTensor::I64(storage) => to_indices(storage.view().iter().copied()),
            NdArrayTensor::I32(storage) => to_indices(storage.view().iter().copied()),
            NdArrayTensor::U8(storage) => to_indices(storage.view().iter().copied()),
            _ => unreachable!("`has_plain_indices` has checked the type"),
        }
    }
}

host_operators!(NdArray);
