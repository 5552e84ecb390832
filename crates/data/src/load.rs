//! From a name, a folder or a list to labelled images in memory.

use std::path::{Path, PathBuf};

use model::{Fit, PictureError, Preprocessing};

use crate::dataset::{DatasetPair, PictureReport, measure};
use crate::error::DataError;
use crate::findings::{Finding, FindingKind};
use crate::formats::cifar;
use crate::options::ImageOptions;
use crate::pictures::{self, Entry, Kind};
use crate::sources::catalog::{self, CATALOG};
use crate::sources::search::Search;
use crate::sources::{archive, idx_folder, known, sample};

/// Names that [`load`] knows.
pub fn known_names() -> Vec<&'static str> {
    let archives = archive::ARCHIVES.iter().map(|known| known.name);
    CATALOG.iter().map(|known| known.name).chain([sample::NAME]).chain(archives).collect()
}

/// [`load_with`] the default options.
///
/// # Errors
/// As [`load_with`].
pub fn load(name: &str, search: &Search) -> Result<DatasetPair, DataError> {
    load_with(name, search, &ImageOptions::default())
}

/// Loads a data set by name (see [`known_names`]), from a folder or from a list.
///
/// By name, nothing is used before its SHA-256 has been compared with the published one. What a folder holds is
/// recognised by its content:
///
/// - four IDX files, each with `train` or `t10k`/`test`, and `images` or `labels` in its name; class names come from
///   `classes.txt` (one name a line) if there is one;
/// - the binary files of CIFAR-10 or CIFAR-100;
/// - a folder of pictures for each class, named for it, or `train`, `valid` and `test` with such folders, under the
///   usual names for these parts.
///
/// A file `*.csv` lists pictures: a header `path,label`, with `split` and `group` where they are wanted, paths relative
/// to the file. Where no test part is named, a share of [`ImageOptions::test_fraction`] is set aside by what the
/// pictures show, see [`membership`](crate::division::membership).
///
/// Mean and standard deviation are those of the training images. Images of another size than
/// [`ImageOptions::input`] are fitted to it: grey ones become RGB by repetition, RGB ones grey by their luma.
///
/// # Errors
/// [`DataError::NoSource`] with every source and its reason when a known data set cannot be had,
/// [`DataError::Unknown`], [`DataError::BadImages`], or the fault of a file.
///
/// # Examples
/// ```
/// use data::{ImageOptions, Search, load_with};
///
/// let pair = load_with("mnist-sample", &Search::default(), &ImageOptions::default())?;
/// assert_eq!((pair.train.len(), pair.test.len()), (2_000, 500));
/// assert_eq!(pair.train.class_names[7], "7");
/// assert_eq!(pair.train.image(0).len(), 28 * 28);
/// # Ok::<(), data::DataError>(())
/// ```
pub fn load_with(name: &str, search: &Search, options: &ImageOptions) -> Result<DatasetPair, DataError> {
    let pair = if name == sample::NAME {
        sample::load()?
    } else if let Some(row) = catalog::find(name) {
        let (files, origin) = known::obtain(row, search)?;
        known::assemble_known(row, files, origin)?
    } else if let Some(known) = archive::find(name) {
        archive::load(known, search)?
    } else {
        let path = Path::new(name);
        if is_list(path) {
            return pictures::load_list(path, search, options);
        }
        if !path.is_dir() {
            return Err(DataError::Unknown { name: name.to_owned(), known: known_names() });
        }
        match recognise(path)? {
            Holds::Pictures => return pictures::load_folder(path, search, options),
            Holds::Cifar(folder, layout) => cifar::load_folder(&folder, layout)?,
            Holds::Idx => idx_folder::load(path, &file_names(path)?)?,
        }
    };
    fitted(pair, options)
}

fn is_list(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) && path.is_file()
}

/// What a check found out.
#[derive(Debug)]
pub struct Checked {
    /// The images, where they can be trained on, without those that cannot be used.
    pub pair: Option<DatasetPair>,
    /// What was found out about picture files, where the data consists of them.
    pub pictures: Option<PictureReport>,
    /// All that is wrong, in the order of its kinds.
    pub findings: Vec<Finding>,
}

/// Loads as [`load_with`] and collects all that is wrong with folders and lists of pictures, where that stops at it.
///
/// # Errors
/// As [`load_with`], for data that is no folder and no list of pictures.
pub fn check(name: &str, search: &Search, options: &ImageOptions) -> Result<Checked, DataError> {
    let path = Path::new(name);
    let named = known_names().contains(&name);
    let is_list = !named && is_list(path);
    let pictured = if named || !path.is_dir() {
        is_list
    } else {
        match recognise(path) {
            Ok(holds) => matches!(holds, Holds::Pictures),
            Err(DataError::Folder { path, reason }) => {
                let finding = Finding::new(FindingKind::Layout, path.display().to_string(), reason);
                return Ok(Checked { pair: None, pictures: None, findings: vec![finding] });
            }
            Err(error) => return Err(error),
        }
    };
    if !pictured {
        let pair = load_with(name, search, options)?;
        return Ok(Checked { pictures: pair.pictures.clone(), pair: Some(pair), findings: Vec::new() });
    }
    let (pair, report) = pictures::check(path, is_list, search, options)?;
    let mut findings = report.findings.clone();
    findings.sort();
    Ok(Checked { pair, pictures: Some(report), findings })
}

/// What a folder holds.
enum Holds {
    Idx,
    Cifar(PathBuf, &'static cifar::Layout),
    Pictures,
}

fn recognise(folder: &Path) -> Result<Holds, DataError> {
    let names = file_names(folder)?;
    if names.iter().any(|name| name.contains("ubyte")) {
        return Ok(Holds::Idx);
    }
    if let Some(layout) = cifar::Layout::of(&names) {
        return Ok(Holds::Cifar(folder.to_owned(), layout));
    }
    let entries = pictures::entries(folder)?;
    let subfolders: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == Kind::Folder).collect();
    // As the archive unpacks.
    if let [only] = &subfolders[..]
        && let Some(layout) = cifar::Layout::of(&file_names(&only.path)?)
    {
        return Ok(Holds::Cifar(only.path.clone(), layout));
    }
    // A link that leads nowhere may have been to the folder of a class.
    if entries.iter().any(|entry| matches!(entry.kind, Kind::Folder | Kind::Nowhere(_))) {
        return Ok(Holds::Pictures);
    }
    let list =
        names.iter().find(|name| Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")));
    let list = list.map(|list| format!(" (there is a list in it: name {})", folder.join(list).display()));
    let reason = format!(
        "no data set is recognised in it; expected a folder of pictures for each class, or train and test folders of \
         those, or four IDX files (train-images-idx3-ubyte and so on), or CIFAR's data_batch_1.bin and test_batch.bin{}",
        list.unwrap_or_default()
    );
    Err(DataError::Folder { path: folder.to_owned(), reason })
}

/// Names of the entries of a folder, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(DataError::io("list", folder))? {
        let entry = entry.map_err(DataError::io("list", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Images of one size made into images of the size asked for, if it is another.
fn fitted(pair: DatasetPair, options: &ImageOptions) -> Result<DatasetPair, DataError> {
    let own = pair.train.shape;
    let Some(input) = options.input.map(|request| request.shape(own.channels)).filter(|input| *input != own)
    else {
        return Ok(pair);
    };
    let images = pair.train.len() + pair.test.len();
    let needed = images as u64 * input.len() as u64;
    if needed > options.memory_limit {
        let (path, input) = (PathBuf::from(&pair.train.name), input.to_string());
        return Err(DataError::Memory { path, images, input, needed, limit: options.memory_limit });
    }
    let fit = options.fit.unwrap_or(Fit::Letterbox);
    tracing::info!("{}: images of {own} become {input}", pair.train.name);
    let refused = |error: PictureError| DataError::Setting {
        field: "input",
        found: input.to_string(),
        reason: error.to_string(),
    };
    let train = pair.train.fitted(input, fit).map_err(refused)?;
    let test = pair.test.fitted(input, fit).map_err(refused)?;
    let preprocessing = Preprocessing { fit, ..measure(&train) };
    Ok(DatasetPair { train, test, preprocessing, ..pair })
}

#[cfg(test)]
mod tests {
    use model::InputShape;

    use super::*;
    use crate::formats::idx::{Content, Idx};

    fn write(folder: &Path, name: &str, content: Content, dimensions: &[usize], bytes: Vec<u8>) {
        let file = std::fs::File::create(folder.join(name)).unwrap();
        Idx::new(content, dimensions.to_vec(), bytes).write(content, file).unwrap();
    }

    /// Three training and two test images of 2 x 2 pixels.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(
            path,
            "train-images-idx3-ubyte",
            Content::Images,
            &[3, 2, 2],
            vec![0, 255, 0, 255, 0, 0, 0, 0, 0, 0, 255, 255],
        );
        write(path, "train-labels-idx1-ubyte", Content::Labels, &[3], vec![0, 1, 2]);
        write(path, "t10k-images.idx3-ubyte", Content::Images, &[2, 2, 2], vec![9; 8]);
        write(path, "t10k-labels.idx1-ubyte", Content::Labels, &[2], vec![2, 0]);
        folder
    }

    fn load_error(folder: &tempfile::TempDir) -> String {
        load(&folder.path().display().to_string(), &Search::default()).unwrap_err().to_string()
    }

    #[test]
    fn folder_gives_images_names_and_statistics() {
        let folder = folder();
        let pair = load(&folder.path().display().to_string(), &Search::default()).unwrap();
        assert_eq!((pair.train.len(), pair.test.len()), (3, 2));
        assert_eq!(pair.train.image(2), [0, 0, 255, 255]);
        assert_eq!(pair.train.class_names, ["0", "1", "2"]);
        assert_eq!(pair.train.class_counts(), [1, 1, 1]);
        // 4 of 12 pixels are 1: mean 1/3, variance 1/3 - 1/9.
        assert!((pair.preprocessing.mean[0] - 1.0 / 3.0).abs() < 1e-6);
        assert!((pair.preprocessing.std[0] - (2.0f32 / 9.0).sqrt()).abs() < 1e-6);
        assert_eq!(pair.sha256.len(), 4);
    }

    #[test]
    fn classes_txt_names_the_classes() {
        let folder = folder();
        std::fs::write(folder.path().join("classes.txt"), "bolt\nnut\nwasher\n").unwrap();
        let pair = load(&folder.path().display().to_string(), &Search::default()).unwrap();
        assert_eq!(pair.train.class_names, ["bolt", "nut", "washer"]);
        std::fs::write(folder.path().join("classes.txt"), "\n").unwrap();
        assert!(load_error(&folder).ends_with("classes.txt: no class is named in it"));
    }

    #[test]
    fn label_without_a_class_is_named() {
        let folder = folder();
        write(folder.path(), "t10k-labels.idx1-ubyte", Content::Labels, &[2], vec![2, 3]);
        let error = load_error(&folder);
        assert!(error.contains("label 3 at index 1 is out of range: the classes are 0 to 2"), "{error}");
    }

    #[test]
    fn counts_that_differ_are_named() {
        let folder = folder();
        write(folder.path(), "train-labels-idx1-ubyte", Content::Labels, &[2], vec![0, 2]);
        let error = load_error(&folder);
        assert!(error.contains("holds 3 images, but") && error.contains("holds 2 labels"), "{error}");
    }

    #[test]
    fn sizes_that_differ_are_named() {
        let folder = folder();
        write(folder.path(), "t10k-images.idx3-ubyte", Content::Images, &[2, 1, 4], vec![9; 8]);
        let error = load_error(&folder);
        assert!(error.contains("[2, 2]") && error.contains("[1, 4]"), "{error}");
    }

    #[test]
    fn missing_and_ambiguous_files_are_named() {
        let folder = folder();
        std::fs::copy(
            folder.path().join("t10k-labels.idx1-ubyte"),
            folder.path().join("t10k-labels-idx1-ubyte"),
        )
        .unwrap();
        let error = load_error(&folder);
        assert!(
            error.contains("`t10k` or `test`")
                && error.contains("t10k-labels-idx1-ubyte\", \"t10k-labels.idx1"),
            "{error}"
        );
        std::fs::remove_file(folder.path().join("train-images-idx3-ubyte")).unwrap();
        let error = load_error(&folder);
        assert!(error.contains("`train` and `images`") && error.ends_with("found none"), "{error}");
    }

    #[test]
    fn grey_becomes_rgb_and_back() {
        let grey = load(sample::NAME, &Search::default()).unwrap();
        let rgb = grey.clone().with_channels(3).unwrap();
        assert_eq!(rgb.test.shape, InputShape::new(3, 28, 28));
        assert_eq!(rgb.preprocessing.mean, [grey.preprocessing.mean[0]; 3]);
        rgb.preprocessing.validate().unwrap();
        for plane in rgb.train.image(5).chunks_exact(784) {
            assert_eq!(plane, grey.train.image(5));
        }
        let back = rgb.with_channels(1).unwrap();
        assert_eq!(back.train, grey.train);
        let mean = (back.preprocessing.mean[0] - grey.preprocessing.mean[0]).abs();
        assert!(mean < 0.01, "{mean}, of 2,000 digits instead of 60,000");
        assert!(grey.with_channels(4).is_err());
    }

    #[test]
    fn images_take_the_size_and_channels_asked_for() {
        let options = ImageOptions { input: "3x32x30".parse().ok(), ..ImageOptions::default() };
        let pair = load_with(sample::NAME, &Search::default(), &options).unwrap();
        let shape = InputShape::new(3, 32, 30);
        assert_eq!((pair.train.shape, pair.test.shape, pair.preprocessing.input), (shape, shape, shape));
        assert_eq!(pair.train.pixels.len(), pair.train.len() * shape.len());
        let image = pair.test.image(0);
        assert_eq!(image[..960], image[960..1920]);
        assert_eq!(pair.preprocessing.mean.len(), 3);
        // The size that the images have changes nothing.
        let options = ImageOptions { input: "1x28x28".parse().ok(), ..ImageOptions::default() };
        let same = load_with(sample::NAME, &Search::default(), &options).unwrap();
        assert_eq!(same.preprocessing, Preprocessing::mnist());
        let options = ImageOptions { memory_limit: 1 << 20, input: "64x64".parse().ok(), ..options };
        let error = load_with(sample::NAME, &Search::default(), &options).unwrap_err().to_string();
        assert!(error.contains("need 10 MiB; 1 MiB are allowed"), "{error}");
    }

    #[test]
    fn a_folder_of_nothing_says_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.csv"), "").unwrap();
        let error = load_error(&folder);
        assert!(
            error.contains("data_batch_1.bin") && error.contains("name ") && error.contains("list.csv"),
            "{error}"
        );
    }

    #[test]
    fn unknown_name_lists_the_known_ones() {
        let error = load("mnits", &Search::default()).unwrap_err().to_string();
        assert!(
            error.contains("mnits") && error.contains("mnist, fashion-mnist, mnist-sample, cifar10"),
            "{error}"
        );
    }
}
