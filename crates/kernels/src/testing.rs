//! What the tests of all operators share.

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::Path;

/// The paths that this processor has.
pub(crate) fn paths() -> impl Iterator<Item = Path> {
    [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.is_supported())
}

/// Runs a property over cases that are the same in every run.
pub(crate) fn check<S: Strategy>(
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

/// Pairs of sizes.
pub(crate) fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// Numbers from a linear congruential generator (Knuth's MMIX constants).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Integers from -3 to 3: sums and products of them are exact, whatever the order, and ties abound.
    pub(crate) fn integers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() % 7) as f32 - 3.0).collect()
    }

    /// Values in `[-1, 1)`.
    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next() as f32 / (1_u64 << 30) as f32 - 1.0).collect()
    }
}

/// The largest difference, as a share of the largest value.
pub(crate) fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
    found.iter().zip(expected).fold(0.0_f32, |most, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        most.max((a - b).abs() / largest)
    })
}

/// What `run` gives in pools of one, two and three threads, as bits: all the same.
pub(crate) fn assert_threads_do_not_matter<const N: usize>(
    name: &str,
    run: impl Fn() -> [Vec<f32>; N] + Sync,
) {
    let runs = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&run).map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2], "{name}");
}
