//! Four IDX files that are a data set: images and labels to train on and to test on.

use std::path::PathBuf;

use model::InputShape;

use super::idx::Idx;
use crate::dataset::Dataset;
use crate::error::DataError;

/// One file with the path that names it in errors.
#[derive(Debug)]
pub(crate) struct IdxFile {
    pub(crate) path: PathBuf,
    pub(crate) idx: Idx,
}

impl IdxFile {
    /// The bytes of a file of labels as labels.
    pub(crate) fn labels(&self) -> Vec<u32> {
        self.idx.bytes.iter().map(|&label| label.into()).collect()
    }
}

/// Checks that the files belong together, and moves their bytes into a training and a test set.
pub(crate) fn assemble(
    name: &str,
    files: [IdxFile; 4],
    class_names: &[String],
) -> Result<(Dataset, Dataset), DataError> {
    let [train_images, train_labels, test_images, test_labels] = files;
    let size = |part: &IdxFile| [part.idx.dimensions[1], part.idx.dimensions[2]];
    let (train_size, test_size) = (size(&train_images), size(&test_images));
    if train_size != test_size {
        return Err(DataError::Sizes {
            train: train_images.path,
            train_size,
            test: test_images.path,
            test_size,
        });
    }
    let dataset = |images: IdxFile, labels: IdxFile| {
        let (image_count, label_count) = (images.idx.dimensions[0], labels.idx.dimensions[0]);
        if image_count != label_count {
            return Err(DataError::Counts {
                images: images.path,
                image_count,
                labels: labels.path,
                label_count,
            });
        }
        let classes = class_names.len();
        if let Some(index) = labels.idx.bytes.iter().position(|&label| usize::from(label) >= classes) {
            return Err(DataError::Label {
                label: labels.idx.bytes[index],
                path: labels.path,
                index,
                classes,
            });
        }
        let shape = InputShape { channels: 1, height: train_size[0], width: train_size[1] };
        Ok(Dataset::new(name, images.idx.bytes, labels.labels(), shape, class_names.to_vec()))
    };
    Ok((dataset(train_images, train_labels)?, dataset(test_images, test_labels)?))
}
