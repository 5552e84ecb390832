//! Every path against Burn's own operators; what the operators compute is tested beside their code, in `kernels`.
//!
//! Most tests draw small integers: sums and products of them are exact in `f32`, whatever the order,
//! so results must agree to the last bit, and ties of the maximum and zeros at the rectifier abound.

mod conv;
mod dense;
mod loss;
mod norm;
mod optim;
mod pool;
mod training;

use burn::tensor::{Device, Tensor, TensorData};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{Path, Pool};

/// Runs a property over cases that are the same in every run.
pub(super) fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    if let Err(error) = runner.run(strategy, property) {
        panic!("{error}");
    }
}

/// The paths that this processor has.
pub(super) fn paths() -> impl Iterator<Item = Path> {
    [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_supported())
}

pub(super) fn devices() -> Vec<Device> {
    #[cfg(feature = "ndarray")]
    #[expect(deprecated, reason = "the backend is deprecated in Burn, and users name it")]
    let devices = vec![Device::flex().autodiff(), Device::ndarray().autodiff()];
    #[cfg(not(feature = "ndarray"))]
    let devices = vec![Device::flex().autodiff()];
    devices
}

/// Numbers from a linear congruential generator (Knuth's MMIX constants).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Integers from -3 to 3.
    pub(super) fn integers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() % 7) as f32 - 3.0).collect()
    }

    /// Values in `[-1, 1)`.
    pub(super) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next() as f32 / (1_u64 << 30) as f32 - 1.0).collect()
    }
}

pub(super) fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub(super) fn vector<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Pairs of sizes.
pub(super) fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

pub(super) fn pools() -> impl Strategy<Value = Pool> {
    let window = || {
        (pair(1..=3), pair(1..=3), any::<bool>(), pair(0..=1)).prop_map(|(kernel, stride, same, padding)| {
            let padding = std::array::from_fn(|axis| padding[axis].min(kernel[axis] / 2));
            (kernel, if same { kernel } else { stride }, padding)
        })
    };
    prop_oneof![
        Just(Pool::None),
        Just(Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] }),
        window().prop_map(|(kernel, stride, padding)| Pool::Max { kernel, stride, padding }),
        window().prop_map(|(kernel, stride, padding)| Pool::Average { kernel, stride, padding }),
    ]
}

/// The largest difference, as a share of the largest value.
pub(super) fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
    found.iter().zip(expected).fold(0.0_f32, |most, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        most.max((a - b).abs() / largest)
    })
}
