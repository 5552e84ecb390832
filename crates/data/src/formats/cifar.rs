//! CIFAR-10 and CIFAR-100 in their binary form (Krizhevsky, "Learning Multiple Layers of Features from Tiny
//! Images", 2009; www.cs.toronto.edu/~kriz/cifar.html): records of one label byte (CIFAR-100: coarse, then
//! fine), then 32 x 32 pixels of red, of green, of blue. Files of that form with other pictures serve as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use model::{InputShape, hexadecimal};
use sha2::Digest;

use super::class_names::named_classes;
use crate::dataset::{Dataset, DatasetPair, measure};
use crate::error::DataError;

const SHAPE: InputShape = InputShape::new(3, 32, 32);

/// Longest file that is read, in bytes; CIFAR-100's has 154 million.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The two forms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Folder in the published archive.
    pub(crate) folder: &'static str,
    /// Label bytes of a record; the last one counts.
    label_bytes: usize,
    classes: usize,
    pub(crate) train: &'static [&'static str],
    pub(crate) test: &'static str,
    /// One class name a line.
    pub(crate) names: &'static str,
}

pub(crate) static CIFAR10: Layout = Layout {
    folder: "cifar-10-batches-bin",
    label_bytes: 1,
    classes: 10,
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
};

pub(crate) static CIFAR100: Layout = Layout {
    folder: "cifar-100-binary",
    label_bytes: 2,
    classes: 100,
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
};

impl Layout {
    /// The layout of the files in a folder, if they are of one.
    pub(crate) fn of(names: &[String]) -> Option<&'static Self> {
        let holds = |wanted: &str| names.iter().any(|name| name == wanted);
        if holds(CIFAR10.test) || CIFAR10.train.iter().any(|name| holds(name)) {
            return Some(&CIFAR10);
        }
        (holds(CIFAR100.test) || holds(CIFAR100.train[0])).then_some(&CIFAR100)
    }

    /// Every file that is read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().copied().chain([self.test, self.names])
    }
}

/// Loads the files of `layout` in `folder`. There may be fewer training batches than published, and no names.
pub(crate) fn load_folder(folder: &Path, layout: &'static Layout) -> Result<DatasetPair, DataError> {
    let mut files = BTreeMap::new();
    for name in layout.files() {
        let path = folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                let length = file.metadata().map_err(DataError::io("inspect", &path))?.len();
                if length > MAX_BYTES {
                    let reason = format!("it has {length} bytes; expected at most {MAX_BYTES}");
                    return Err(DataError::Folder { path, reason });
                }
                let mut bytes = Vec::with_capacity(length as usize);
                file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(DataError::io("read", &path))?;
                files.insert(name, bytes);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(DataError::io("open", &path)(error)),
        }
    }
    let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    assemble(&name, folder, layout, files, &folder.display().to_string())
}

/// Makes a data set of the files' contents; `folder` names them in errors.
pub(crate) fn assemble(
    name: &str,
    folder: &Path,
    layout: &'static Layout,
    mut files: BTreeMap<&'static str, Vec<u8>>,
    origin: &str,
) -> Result<DatasetPair, DataError> {
    let sha256 = files.iter().map(|(name, bytes)| {
        ((*name).to_owned(), hexadecimal(sha2::Sha256::new().chain_update(bytes).finalize()))
    });
    let sha256 = sha256.collect();
    let class_names = class_names(folder, layout, files.remove(layout.names).as_deref())?;
    let mut part = |names: &[&'static str]| -> Result<Dataset, DataError> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for name in names {
            if let Some(bytes) = files.remove(name) {
                append((&mut pixels, &mut labels), &folder.join(name), layout, &bytes)?;
            }
        }
        if labels.is_empty() {
            let reason = format!("expected {} in it, found none", names.join(", "));
            return Err(DataError::Folder { path: folder.to_owned(), reason });
        }
        Ok(Dataset::new(name, pixels, labels, SHAPE, class_names.clone()))
    };
    let train = part(layout.train)?;
    let test = part(&[layout.test])?;
    let preprocessing = measure(&train);
    Ok(DatasetPair::published(train, test, preprocessing, sha256, origin.to_owned()))
}

fn append(
    (pixels, labels): (&mut Vec<u8>, &mut Vec<u32>),
    path: &Path,
    layout: &Layout,
    bytes: &[u8],
) -> Result<(), DataError> {
    let record = layout.label_bytes + SHAPE.len();
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let whole = bytes.len().div_ceil(record).max(1) * record;
        return Err(DataError::Truncated {
            path: path.to_owned(),
            expected: whole as u64,
            found: bytes.len() as u64,
        });
    }
    let images = bytes.len() / record;
    labels.reserve_exact(images);
    pixels.reserve(images * SHAPE.len());
    for (index, record) in bytes.chunks_exact(record).enumerate() {
        let (own_labels, image) = record.split_at(layout.label_bytes);
        let label = own_labels[layout.label_bytes - 1];
        if usize::from(label) >= layout.classes {
            let (path, classes) = (path.to_owned(), layout.classes);
            return Err(DataError::Label { path, index, label, classes });
        }
        labels.push(label.into());
        pixels.extend_from_slice(image);
    }
    Ok(())
}

/// The lines of the file of names; without one, the numbers of the classes.
fn class_names(folder: &Path, layout: &Layout, text: Option<&[u8]>) -> Result<Vec<String>, DataError> {
    let Some(text) = text else {
        return Ok((0..layout.classes).map(|class| class.to_string()).collect());
    };
    let names = named_classes(&folder.join(layout.names), text)?;
    if names.len() != layout.classes {
        let reason = format!("{} class names; expected {}", names.len(), layout.classes);
        return Err(DataError::Folder { path: folder.join(layout.names), reason });
    }
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `count` records whose labels count up, each of one colour: red is the index, green 7, blue the label.
    pub(crate) fn records(layout: &Layout, count: usize) -> Vec<u8> {
        let record = |index: usize| {
            let label = (index % layout.classes) as u8;
            let mut record = vec![99; layout.label_bytes - 1];
            record.push(label);
            for value in [index as u8, 7, label] {
                record.extend([value; 1024]);
            }
            record
        };
        (0..count).flat_map(record).collect()
    }

    fn folder(layout: &Layout) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(layout.train[0]), records(layout, 200)).unwrap();
        std::fs::write(folder.path().join(layout.test), records(layout, 100)).unwrap();
        folder
    }

    #[test]
    fn both_forms_give_labels_and_planes() {
        for layout in [&CIFAR10, &CIFAR100] {
            let folder = folder(layout);
            let pair = load_folder(folder.path(), layout).unwrap();
            assert_eq!((pair.train.len(), pair.test.len()), (200, 100));
            assert_eq!((pair.train.shape, pair.train.class_names.len()), (SHAPE, layout.classes));
            let label = (123 % layout.classes) as u8;
            assert_eq!(pair.train.labels[123], u32::from(label));
            let image = pair.train.image(123);
            assert_eq!(
                [image[0], image[1023], image[1024], image[2047], image[2048]],
                [123, 123, 7, 7, label]
            );
            // Green is 7 everywhere.
            assert!((pair.preprocessing.mean[1] - 7.0 / 255.0).abs() < 1e-6);
            assert_eq!(pair.sha256.len(), 2);
        }
    }

    #[test]
    fn several_batches_are_one_training_set_and_names_are_read() {
        let folder = folder(&CIFAR10);
        std::fs::write(folder.path().join("data_batch_4.bin"), records(&CIFAR10, 30)).unwrap();
        let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
        std::fs::write(folder.path().join("batches.meta.txt"), names).unwrap();
        let pair = load_folder(folder.path(), &CIFAR10).unwrap();
        assert_eq!(pair.train.len(), 230);
        assert_eq!(pair.train.class_names[3], "cat");
        std::fs::write(folder.path().join("batches.meta.txt"), "one\n").unwrap();
        let error = load_folder(folder.path(), &CIFAR10).unwrap_err().to_string();
        assert!(error.contains("batches.meta.txt: 1 class names; expected 10"), "{error}");
    }

    #[test]
    fn wrong_files_are_named() {
        let folder = folder(&CIFAR10);
        let path = folder.path().join("data_batch_1.bin");
        let error = || load_folder(folder.path(), &CIFAR10).unwrap_err().to_string();
        let whole = records(&CIFAR10, 2);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(error().contains("data_batch_1.bin: truncated: 6145 bytes"), "{}", error());
        let mut wrong = whole.clone();
        wrong[3073] = 10;
        std::fs::write(&path, wrong).unwrap();
        assert!(
            error().contains("label 10 at index 1 is out of range: the classes are 0 to 9"),
            "{}",
            error()
        );
        std::fs::write(&path, b"").unwrap();
        assert!(error().contains("truncated: 0 bytes"), "{}", error());
        std::fs::remove_file(&path).unwrap();
        assert!(error().contains("expected data_batch_1.bin"), "{}", error());
    }

    #[test]
    fn the_layout_is_known_by_the_names() {
        let of =
            |names: &[&str]| Layout::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["data_batch_2.bin", "x"]), Some(&CIFAR10));
        assert_eq!(of(&["test.bin"]), Some(&CIFAR100));
        assert_eq!(of(&["train-images-idx3-ubyte"]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..7000), hundred: bool) {
            let layout = if hundred { &CIFAR100 } else { &CIFAR10 };
            let files = BTreeMap::from([(layout.train[0], bytes), (layout.test, records(layout, 1))]);
            if let Ok(pair) = assemble("x", Path::new("x"), layout, files, "x") {
                prop_assert_eq!(pair.train.pixels.len(), pair.train.len() * 3072);
                prop_assert!(pair.train.labels.iter().all(|label| (label[0] as usize) < layout.classes));
            }
        }
    }
}
