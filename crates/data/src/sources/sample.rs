//! `mnist-sample`: 2,000 training and 500 test digits of MNIST inside the program, stratified by class, so
//! that a first try, the tests and a machine without a network have real data. `examples/make_sample.rs` made
//! the files.

use std::path::PathBuf;

use model::Preprocessing;

use super::catalog;
use crate::dataset::DatasetPair;
use crate::error::DataError;
use crate::formats::idx::{self, Content};
use crate::formats::idx_set::{IdxFile, assemble};

/// Name of the sample.
pub const NAME: &str = "mnist-sample";

/// Training images in the sample.
pub const TRAIN: usize = 2_000;
/// Test images in the sample.
pub const TEST: usize = 500;

/// The compressed files with the SHA-256 of their content, in the order of the catalogue.
const FILES: [(&str, Content, &[u8], &str); 4] = [
    (
        "train-images-idx3-ubyte",
        Content::Images,
        include_bytes!("../../assets/mnist-sample/train-images-idx3-ubyte.gz"),
        "203cd6a024852c0a721722594c4f0cf0148e18c43e01c8caa1640ca69b64dcca",
    ),
    (
        "train-labels-idx1-ubyte",
        Content::Labels,
        include_bytes!("../../assets/mnist-sample/train-labels-idx1-ubyte.gz"),
        "799ab119f87dcf1c646af28562308ba187412fe2783396521291f39525aeb75d",
    ),
    (
        "t10k-images-idx3-ubyte",
        Content::Images,
        include_bytes!("../../assets/mnist-sample/t10k-images-idx3-ubyte.gz"),
        "12e71a94924b2b5ab6eea2d3e8997ac6ead672ac751aeafc9acbb910e6104fd2",
    ),
    (
        "t10k-labels-idx1-ubyte",
        Content::Labels,
        include_bytes!("../../assets/mnist-sample/t10k-labels-idx1-ubyte.gz"),
        "a4f2388fc84d07459d4e7327a6d6a1f43d3f007e8030263974d56848f944ebfb",
    ),
];

/// Unpacks and verifies the sample.
pub(crate) fn load() -> Result<DatasetPair, DataError> {
    let part = |(name, content, packed, expected): (&str, Content, &[u8], &str)| {
        let path = PathBuf::from(NAME).join(name);
        let idx = idx::parse(packed, packed.len() as u64, content, &path)?;
        if idx.sha256 != expected {
            return Err(DataError::Checksum { path, expected: expected.to_owned(), found: idx.sha256 });
        }
        Ok(IdxFile { path, idx })
    };
    let [a, b, c, d] = FILES.map(part);
    let files = [a?, b?, c?, d?];
    let sha256 =
        FILES.iter().map(|(name, _, _, sha256)| ((*name).to_owned(), (*sha256).to_owned())).collect();
    let class_names = catalog::CATALOG[0].class_names.map(String::from).to_vec();
    let (train, test) = assemble(NAME, files, &class_names)?;
    Ok(DatasetPair::published(train, test, Preprocessing::mnist(), sha256, "inside the program".into())
        .fixed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_small_whole_and_stratified() {
        let pair = load().unwrap();
        assert_eq!((pair.train.len(), pair.test.len()), (TRAIN, TEST));
        let stored: usize = FILES.iter().map(|(_, _, packed, _)| packed.len()).sum();
        assert!(stored < 600_000, "{stored}");
        // Counts of the whole MNIST training set, scaled by 2,000 / 60,000, to within one image.
        let whole = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
        for (count, whole) in pair.train.class_counts().iter().zip(whole) {
            assert!((*count as f64 - f64::from(whole) / 30.0).abs() < 1.0, "{count} of {whole}");
        }
    }

    #[test]
    fn sample_has_the_statistics_of_mnist() {
        let pair = load().unwrap();
        let mean = pair.train.pixels.iter().map(|&p| f64::from(p)).sum::<f64>()
            / pair.train.pixels.len() as f64
            / 255.0;
        assert!((mean - 0.1307).abs() < 0.003, "{mean}");
    }
}
