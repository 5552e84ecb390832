//! Labelled images in memory, and the ways to get them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Fit, InputShape, Picture, PictureError, Preprocessing};
use rayon::prelude::*;

use crate::archive;
use crate::balance::class_counts;
use crate::catalog::{self, CATALOG, KnownDataset};
use crate::cifar;
use crate::content::ContentHash;
use crate::error::DataError;
use crate::fetch::{self, Search};
use crate::idx::{self, Content, Idx};
use crate::options::ImageOptions;
use crate::pictures::{self, Entry, Finding, FindingKind, Kind, PictureReport};
use crate::sample;
use crate::text::{composed, decoded};

/// Labelled images of one size, as bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Name of the data set, for reports.
    pub name: String,
    /// `[N, C, H, W]`, 0 to 255.
    pub pixels: Vec<u8>,
    /// `[N]`, each below the number of class names.
    pub labels: Vec<u8>,
    /// `C`, `H` and `W`.
    pub shape: InputShape,
    /// What the labels mean.
    pub class_names: Vec<String>,
    /// Name of each image's file, as the data set names it: a path below its root with `/` between the folders, or what
    /// its list says. Empty where images have no files of their own.
    pub files: Arc<[String]>,
    /// What each image showed before it was made to fit, `[N]`.
    pub content: Arc<[ContentHash]>,
    /// What belongs together in one part, `[N]`: the content of each image, or a hash of the group that it is named to
    /// be of. Empty for known data sets: their content never changes, so they are divided by index.
    pub units: Arc<[ContentHash]>,
}

impl Dataset {
    /// Images `pixels`, `[N, C, H, W]`, without files of their own.
    pub fn new(
        name: impl Into<String>,
        pixels: Vec<u8>,
        labels: Vec<u8>,
        shape: InputShape,
        class_names: Vec<String>,
    ) -> Self {
        let content: Arc<[ContentHash]> = ContentHash::of_each(shape, &pixels).into();
        let units = Arc::clone(&content);
        Self { name: name.into(), pixels, labels, shape, class_names, files: Arc::default(), content, units }
    }

    /// Whether its content never changes, and it is divided by index; see [`Dataset::units`].
    pub fn is_fixed(&self) -> bool {
        self.units.is_empty()
    }

    /// No image, with the names and the shape of this one.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::new(self.name.clone(), Vec::new(), Vec::new(), self.shape, self.class_names.clone())
    }

    /// The images `indices`, in that order.
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    #[must_use]
    pub fn subset(&self, indices: &[u32]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index as usize));
        }
        Self {
            name: self.name.clone(),
            pixels,
            labels: indices.iter().map(|&index| self.labels[index as usize]).collect(),
            shape: self.shape,
            class_names: self.class_names.clone(),
            files: indices.iter().filter_map(|&index| self.files.get(index as usize).cloned()).collect(),
            content: indices.iter().filter_map(|&index| self.content.get(index as usize).copied()).collect(),
            units: indices.iter().filter_map(|&index| self.units.get(index as usize).copied()).collect(),
        }
    }

    /// These images and then those of `other`, which has the same shape and the same classes.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        debug_assert!(self.shape == other.shape && self.class_names == other.class_names);
        self.pixels.extend(other.pixels);
        self.labels.extend(other.labels);
        self.files = self.files.iter().chain(other.files.iter()).cloned().collect();
        self.content = self.content.iter().chain(other.content.iter()).copied().collect();
        self.units = self.units.iter().chain(other.units.iter()).copied().collect();
        self
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.shape.channels * self.shape.height * self.shape.width
    }

    /// Image `index`, `[C, H, W]`.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len()..][..self.image_len()]
    }

    /// The same images with 1 or 3 channels, by the rule of [`Picture::with_channels`]: grey becomes RGB by
    /// repetition, RGB becomes grey by its luma.
    ///
    /// # Errors
    /// Other numbers of channels.
    pub fn with_channels(self, channels: usize) -> Result<Self, PictureError> {
        let InputShape { channels: own, height, width } = self.shape;
        if own == channels {
            return Ok(self);
        }
        let mut pixels = Vec::with_capacity(self.len() * channels * height * width);
        for image in self.pixels.chunks_exact(self.image_len()) {
            let plane = height * width;
            let interleaved = (0..plane).flat_map(|at| (0..own).map(move |c| image[c * plane + at]));
            let picture = Picture::new(width, height, own, interleaved.collect())?;
            pixels.extend(picture.with_channels(channels)?.planes());
        }
        Ok(Self { pixels, shape: InputShape { channels, height, width }, ..self })
    }

    /// The same images as if they were pictures of another size.
    fn fitted(self, input: InputShape, fit: Fit) -> Result<Self, PictureError> {
        let fitted: Result<Vec<Vec<u8>>, PictureError> = self
            .pixels
            .par_chunks_exact(self.image_len())
            .map(|image| Ok(Picture::from_planes(self.shape, image)?.fitted(input, fit)?.planes()))
            .collect();
        Ok(Self { pixels: fitted?.concat(), shape: input, ..self })
    }

    /// The number of images of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        class_counts(&self.labels, self.class_names.len())
    }
}

/// A data set as published: a part to train on and a part to test on.
#[derive(Clone, Debug)]
pub struct DatasetPair {
    /// For training and validation.
    pub train: Dataset,
    /// For the one final test.
    pub test: Dataset,
    /// What must be done to the images of this data set.
    pub preprocessing: Preprocessing,
    /// SHA-256 of each uncompressed file, by name.
    pub sha256: BTreeMap<String, String>,
    /// Folder, address or package in which the data was found.
    pub origin: String,
    /// Whether the data names no test part: `test` was set aside from what it has.
    pub test_set_aside: bool,
    /// Images of `train` that the data itself names for validation, in ascending order; often none.
    pub valid: Vec<u32>,
    /// What was found out about picture files, where the data consists of them.
    pub pictures: Option<PictureReport>,
}

impl DatasetPair {
    /// Images in two parts, as they were published: no part for validation is named, and no file is a picture.
    pub(crate) fn published(
        train: Dataset,
        test: Dataset,
        preprocessing: Preprocessing,
        sha256: BTreeMap<String, String>,
        origin: String,
    ) -> Self {
        let (valid, pictures, test_set_aside) = (Vec::new(), None, false);
        Self { train, test, preprocessing, sha256, origin, test_set_aside, valid, pictures }
    }

    /// As a data set whose content never changes, see [`Dataset::units`].
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.train.units = Arc::default();
        self.test.units = Arc::default();
        self
    }

    /// Both parts with 1 or 3 channels, see [`Dataset::with_channels`]. Grey images that become RGB keep their mean
    /// and standard deviation, for each channel; those of RGB images that become grey are measured anew.
    ///
    /// # Errors
    /// Other numbers of channels.
    pub fn with_channels(self, channels: usize) -> Result<Self, PictureError> {
        let own = self.train.shape.channels;
        if own == channels {
            return Ok(self);
        }
        let (train, test) = (self.train.with_channels(channels)?, self.test.with_channels(channels)?);
        let preprocessing = if own == 1 {
            let Preprocessing { mean, std, fit, .. } = self.preprocessing;
            Preprocessing { input: train.shape, mean: mean.repeat(channels), std: std.repeat(channels), fit }
        } else {
            Preprocessing { fit: self.preprocessing.fit, ..measure(&train) }
        };
        Ok(Self { train, test, preprocessing, ..self })
    }
}

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
/// pictures show, see [`membership`](crate::membership).
///
/// Mean and standard deviation are those of the training images. Images of another size than
/// [`ImageOptions::input`] are fitted to it: grey ones become RGB by repetition, RGB ones grey by their luma.
///
/// # Errors
/// [`DataError::NoSource`] with every source and its reason when a known data set cannot be had,
/// [`DataError::Unknown`], [`DataError::BadImages`], or the fault of a file.
pub fn load_with(name: &str, search: &Search, options: &ImageOptions) -> Result<DatasetPair, DataError> {
    let pair = if name == sample::NAME {
        sample::load()?
    } else if let Some(known) = catalog::find(name) {
        let (files, origin) = fetch::obtain(known, search)?;
        assemble_known(known, files, origin)?
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
            Holds::Idx => load_folder(path)?,
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

/// One file with the path that names it in errors.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) idx: Idx,
}

pub(crate) fn assemble_known(
    known: &KnownDataset,
    files: [Part; 4],
    origin: String,
) -> Result<DatasetPair, DataError> {
    let sha256 =
        known.files.iter().zip(&files).map(|(file, part)| (file.name.to_owned(), part.idx.sha256.clone()));
    let sha256 = sha256.collect();
    let class_names = known.class_names.map(String::from).to_vec();
    let (train, test) = assemble(known.name, files, &class_names)?;
    let preprocessing = (known.preprocessing)();
    Ok(DatasetPair::published(train, test, preprocessing, sha256, origin).fixed())
}

/// Checks that the files belong together, and moves their bytes into a training and a test set.
pub(crate) fn assemble(
    name: &str,
    files: [Part; 4],
    class_names: &[String],
) -> Result<(Dataset, Dataset), DataError> {
    let [train_images, train_labels, test_images, test_labels] = files;
    let size = |part: &Part| [part.idx.dimensions[1], part.idx.dimensions[2]];
    let (train_size, test_size) = (size(&train_images), size(&test_images));
    if train_size != test_size {
        return Err(DataError::Sizes {
            train: train_images.path,
            train_size,
            test: test_images.path,
            test_size,
        });
    }
    let dataset = |images: Part, labels: Part| {
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
        Ok(Dataset::new(name, images.idx.bytes, labels.idx.bytes, shape, class_names.to_vec()))
    };
    Ok((dataset(train_images, train_labels)?, dataset(test_images, test_labels)?))
}

fn load_folder(folder: &Path) -> Result<DatasetPair, DataError> {
    let roles = [
        (&["train"][..], "images", Content::Images),
        (&["train"][..], "labels", Content::Labels),
        (&["t10k", "test"][..], "images", Content::Images),
        (&["t10k", "test"][..], "labels", Content::Labels),
    ];
    let names = file_names(folder)?;
    let mut parts = Vec::with_capacity(4);
    for (part, content_name, content) in roles {
        let matching = names.iter().filter(|name| {
            name.contains("ubyte")
                && name.contains(content_name)
                && part.iter().any(|part| name.contains(part))
        });
        let matching: Vec<&String> = matching.collect();
        let name = match matching[..] {
            [name] => name,
            // The plain file and its compressed twin: the plain one is read faster.
            [plain, packed] if *packed == format!("{plain}.gz") => plain,
            _ => {
                let reason = format!(
                    "expected one file with {} and `{content_name}` in its name, such as \
                     {}-{content_name}-idx{}-ubyte or the same with .gz, found {}",
                    part.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(" or "),
                    part[0],
                    content.rank(),
                    if matching.is_empty() { "none".to_owned() } else { format!("{matching:?}") },
                );
                return Err(DataError::Folder { path: folder.to_owned(), reason });
            }
        };
        let path = folder.join(name);
        let idx = idx::read(&path, content)?;
        parts.push(Part { path, idx });
    }
    let Ok(parts) = <[Part; 4]>::try_from(parts) else {
        let reason = "not four files".to_owned();
        return Err(DataError::Folder { path: folder.to_owned(), reason });
    };
    let origin = folder.display().to_string();
    let hashes = parts.each_ref().map(|part| part.idx.sha256.as_str());
    if let Some(known) = CATALOG.iter().find(|known| known.files.each_ref().map(|file| file.sha256) == hashes)
    {
        return assemble_known(known, parts, origin);
    }
    let sha256 = parts.iter().map(|part| {
        let name = part.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, part.idx.sha256.clone())
    });
    let sha256 = sha256.collect();
    let class_names = class_names(folder, &parts[1].idx.bytes)?;
    let name = folder.file_name().map_or_else(|| origin.clone(), |name| name.to_string_lossy().into_owned());
    let (train, test) = assemble(&name, parts, &class_names)?;
    let preprocessing = measure(&train);
    Ok(DatasetPair::published(train, test, preprocessing, sha256, origin))
}

/// The lines of `classes.txt`, or the numbers from 0 to the highest training label.
fn class_names(folder: &Path, labels: &[u8]) -> Result<Vec<String>, DataError> {
    let path = folder.join("classes.txt");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let names = named_classes(&path, &bytes)?;
            if names.is_empty() {
                return Err(DataError::Folder { path, reason: "no class is named in it".to_owned() });
            }
            Ok(names)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let highest = labels.iter().copied().max().unwrap_or(0);
            Ok((0..=highest).map(|class| class.to_string()).collect())
        }
        Err(error) => Err(DataError::io("read", &path)(error)),
    }
}

/// The names of classes in a file with one a line, empty lines left out.
pub(crate) fn named_classes(path: &Path, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let fault = |reason: String| DataError::Folder { path: path.to_owned(), reason };
    let (text, guess) = decoded(bytes).map_err(fault)?;
    if let Some(guess) = guess {
        tracing::warn!("{}: {guess}", path.display());
    }
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(composed).collect();
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => {
            Err(fault(format!("the class `{twice}` is named twice; each needs a name of its own")))
        }
        None => Ok(names),
    }
}

/// Mean and standard deviation over all pixels of each channel, scaled to 0 to 1.
pub(crate) fn measure(train: &Dataset) -> Preprocessing {
    let InputShape { channels, height, width } = train.shape;
    let plane = height * width;
    let (mut mean, mut std) = (vec![0.0; channels], vec![0.0; channels]);
    for channel in 0..channels {
        let mut histogram = [0u64; 256];
        for image in train.pixels.chunks_exact(channels * plane) {
            for &pixel in &image[channel * plane..][..plane] {
                histogram[usize::from(pixel)] += 1;
            }
        }
        let moment = |power: i32| -> f64 {
            let sum: f64 =
                (0..256).map(|value| histogram[value] as f64 * (value as f64 / 255.0).powi(power)).sum();
            sum / (train.len() * plane).max(1) as f64
        };
        mean[channel] = moment(1) as f32;
        // Images of one colour have no deviation: they are shifted, not scaled.
        let variance = moment(2) - moment(1).powi(2);
        std[channel] = if variance > 1e-12 { variance.sqrt() as f32 } else { 1.0 };
    }
    Preprocessing { input: train.shape, mean, std, fit: Fit::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
