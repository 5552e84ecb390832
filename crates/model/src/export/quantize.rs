//! Weights as 8-bit integers.

use burn::tensor::TensorData;

use crate::weights::record::values;

/// A tensor of a record as it is exported.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightTensor {
    /// As trained.
    Float {
        /// Sizes.
        shape: Vec<usize>,
        /// Row-major.
        values: Vec<f32>,
    },
    /// Eight bits a value.
    Int8(QuantizedTensor),
}

/// Integers with one scale for each output: `weight = integer * scale[output]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTensor {
    /// Sizes.
    pub shape: Vec<usize>,
    /// Row-major, from -127 to 127.
    pub values: Vec<i8>,
    /// One for each output.
    pub scales: Vec<f32>,
    /// The dimension that counts outputs.
    pub axis: usize,
}

impl WeightTensor {
    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float { shape, .. } | Self::Int8(QuantizedTensor { shape, .. }) => shape,
        }
    }

    /// As a plain tensor: what a program computes with that reads the exported weights.
    pub fn to_floats(&self) -> Vec<f32> {
        match self {
            Self::Float { values, .. } => values.clone(),
            Self::Int8(tensor) => tensor.to_floats(),
        }
    }

    /// As trained.
    pub fn float(data: &TensorData) -> Self {
        Self::Float { shape: data.shape().to_vec(), values: values(data).into_owned() }
    }

    /// The transposed matrix; other tensors stay.
    #[must_use]
    pub(crate) fn transposed(self) -> Self {
        match self {
            Self::Float { shape, values } if shape.len() == 2 => {
                let (shape, values) = transpose(&shape, &values);
                Self::Float { shape, values }
            }
            Self::Int8(tensor) if tensor.shape.len() == 2 => {
                let (shape, values) = transpose(&tensor.shape, &tensor.values);
                Self::Int8(QuantizedTensor { shape, values, axis: 1 - tensor.axis, ..tensor })
            }
            other => other,
        }
    }

    /// The rows of a matrix in another order; other tensors stay.
    #[must_use]
    pub(crate) fn with_rows(self, order: &[usize]) -> Self {
        match self {
            Self::Float { shape, values } if shape.len() == 2 => {
                let values = rows(&values, shape[1], order);
                Self::Float { shape, values }
            }
            Self::Int8(tensor) if tensor.shape.len() == 2 => {
                let values = rows(&tensor.values, tensor.shape[1], order);
                let scales = if tensor.axis == 0 { rows(&tensor.scales, 1, order) } else { tensor.scales };
                Self::Int8(QuantizedTensor { values, scales, ..tensor })
            }
            other => other,
        }
    }
}

/// Rows of `width` values in another order.
fn rows<T: Copy>(values: &[T], width: usize, order: &[usize]) -> Vec<T> {
    order.iter().flat_map(|&row| values[row * width..(row + 1) * width].iter().copied()).collect()
}

/// `[R, C] -> [C, R]`
fn transpose<T: Copy>(shape: &[usize], values: &[T]) -> (Vec<usize>, Vec<T>) {
    let (rows, columns) = (shape[0], shape[1]);
    let moved = (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column]));
    (vec![columns, rows], moved.collect())
}

impl QuantizedTensor {
    /// Rounds to the nearest of 255 steps between minus and plus the largest magnitude of each output
    /// (symmetric: zero stays zero). An output of zeros has the scale 1.
    fn new(shape: &[usize], floats: &[f32], axis: usize) -> Self {
        let outputs = shape[axis];
        let inner: usize = shape[axis + 1..].iter().product();
        let output = |index: usize| index / inner % outputs;
        let mut largest = vec![0f32; outputs];
        for (index, value) in floats.iter().enumerate() {
            let largest = &mut largest[output(index)];
            *largest = largest.max(value.abs());
        }
        let scales: Vec<f32> =
            largest.into_iter().map(|largest| if largest > 0.0 { largest / 127.0 } else { 1.0 }).collect();
        let round = |(index, value): (usize, &f32)| {
            (value / scales[output(index)]).round().clamp(-127.0, 127.0) as i8
        };
        let values = floats.iter().enumerate().map(round).collect();
        Self { shape: shape.to_vec(), values, scales, axis }
    }

    /// `integer * scale[output]`
    pub fn to_floats(&self) -> Vec<f32> {
        let inner: usize = self.shape[self.axis + 1..].iter().product();
        let scale = |index: usize| self.scales[index / inner % self.scales.len()];
        self.values.iter().enumerate().map(|(index, &value)| f32::from(value) * scale(index)).collect()
    }
}

/// A record with its matrices and filters in 8 bits, one scale for each output channel. Biases,
/// normalisation and statistics, a thousandth of the whole, stay as they are.
///
/// Layouts are those of [`crate::named_tensors`]: filters `[O, I, K, K]`, matrices `[I, O]`.
pub fn quantize_int8(tensors: &[(String, TensorData)]) -> Vec<(String, WeightTensor)> {
    let quantized = |data: &TensorData| {
        let shape = data.shape().to_vec();
        match shape.len() {
            4 => WeightTensor::Int8(QuantizedTensor::new(&shape, &values(data), 0)),
            2 => WeightTensor::Int8(QuantizedTensor::new(&shape, &values(data), 1)),
            _ => WeightTensor::float(data),
        }
    };
    tensors.iter().map(|(name, data)| (name.clone(), quantized(data))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_computed_scales_and_steps() {
        // Two filters of 1x1x2: the first up to 1.27, the second zero.
        let filters = TensorData::new(vec![1.27f32, -0.012, 0.0, 0.0], [2, 1, 1, 2]);
        let matrix = TensorData::new(vec![2.54f32, 0.5, -0.014, -127.0], [2, 2]);
        let bias = TensorData::new(vec![0.3f32], [1]);
        let record = [("f", filters), ("m", matrix), ("b", bias)].map(|(name, data)| (name.to_owned(), data));
        let quantized = quantize_int8(&record);
        let WeightTensor::Int8(filters) = &quantized[0].1 else { panic!() };
        assert_eq!((filters.values.as_slice(), filters.axis), (&[127, -1, 0, 0][..], 0));
        assert!((filters.scales[0] - 0.01).abs() < 1e-9);
        assert_eq!(filters.scales[1].to_bits(), 1f32.to_bits());
        // Outputs of a matrix are its columns: 2.54, -0.014 and 0.5, -127.
        let WeightTensor::Int8(matrix) = quantized[1].1.clone() else { panic!() };
        assert_eq!((matrix.values.as_slice(), matrix.axis), (&[127, 1, -1, -127][..], 1));
        assert_eq!(quantized[2].1, WeightTensor::Float { shape: vec![1], values: vec![0.3] });

        let floats = matrix.to_floats();
        let WeightTensor::Int8(turned) = WeightTensor::Int8(matrix).transposed() else { panic!() };
        assert_eq!((turned.values.as_slice(), turned.axis), (&[127, -1, 1, -127][..], 0));
        let back = turned.to_floats();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&[back[0], back[2], back[1], back[3]]), bits(&floats));
    }

    proptest! {
        #[test]
        fn no_weight_moves_by_more_than_half_a_step(
            values in proptest::collection::vec(-1e3f32..1e3, 24),
            matrix in any::<bool>(),
        ) {
            let shape: &[usize] = if matrix { &[4, 6] } else { &[2, 3, 2, 2] };
            let record = [("w".to_owned(), TensorData::new(values.clone(), shape.to_vec()))];
            let WeightTensor::Int8(tensor) = quantize_int8(&record).remove(0).1 else { panic!() };
            let inner: usize = shape[tensor.axis + 1..].iter().product();
            for (index, (&found, &value)) in tensor.to_floats().iter().zip(&values).enumerate() {
                let step = tensor.scales[index / inner % tensor.scales.len()];
                prop_assert!((found - value).abs() <= step * 0.500_01, "{value} became {found}, step {step}");
            }
        }
    }
}
