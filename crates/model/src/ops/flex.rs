//! Flex as a host.

use burn::{
    backend::{
        Flex,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, TensorData},
};
use burn_flex::FlexTensor;

use super::host::{self, Host, host_operators, to_indices};

impl Host for Flex {
    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        tensor.to_contiguous()
    }

    fn values(tensor: &FlexTensor) -> &[f32] {
        tensor.storage()
    }

    fn is_channels_last(tensor: &FlexTensor) -> bool {
        let layout = tensor.layout();
        layout.start_offset() == 0
            && host::are_channels_last(layout.shape(), layout.strides())
            && tensor.bytes().len() == layout.num_elements() * size_of::<f32>()
    }

    fn from_values(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
        tensor.storage_mut()
    }

    fn indices(tensor: IntTensor<Self>) -> Vec<usize> {
        let tensor = tensor.to_contiguous();
        match tensor.dtype() {
            DType::I32 => to_indices(tensor.storage::<i32>().iter().copied()),
            DType::U8 => to_indices(tensor.storage::<u8>().iter().copied()),
            _ => to_indices(tensor.storage::<i64>().iter().copied()),
        }
    }
}

host_operators!(Flex);
