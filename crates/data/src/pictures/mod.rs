//! Pictures of any size, in folders of classes or named by a list, as a data set of images of one size.
//!
//! list -> size of the input -> cache, or decode and fit in parallel -> account of bad files -> split.

mod cache;
mod content;
mod ingest;
mod listing;

use std::collections::BTreeMap;
use std::path::Path;

use model::{Fit, InputShape};
use serde::Serialize;

pub use ingest::{BadImage, Sizes};
pub use listing::Part;
pub(crate) use listing::subfolders;

use crate::dataset::{Dataset, DatasetPair, measure};
use crate::decode::{DecodeLimits, Probe};
use crate::error::DataError;
use crate::fetch::Search;
use crate::options::{ImageOptions, InputRequest, OnBadImage};
use crate::split::stratified_test;
use cache::{Content, Header, Names};
use listing::Listing;

/// Pictures of one size keep it up to this side; others get this side.
const DEFAULT_SIDE: usize = 64;

/// Files that a message names.
const NAMED: usize = 20;

/// What was found out about the files of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PictureReport {
    /// Files that were left out because they cannot be decoded.
    pub bad: Vec<BadImage>,
    /// Files in class folders that are no pictures by their names.
    pub ignored: Vec<String>,
    /// Files whose extension names another format than their content; they were read by their content.
    pub mislabelled: Vec<String>,
    /// Sizes of the pictures before they were resized.
    pub sizes: Sizes,
    /// Whether the images come from the cache of an earlier run.
    pub from_cache: bool,
}

/// Loads `root/<class>/…` or `root/train/<class>/…` with its siblings.
pub(crate) fn load_folder(
    root: &Path,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    load(root, &listing::of_folder(root)?, search, options)
}

/// Loads what a CSV file lists.
pub(crate) fn load_list(
    list: &Path,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    load(list, &listing::of_csv(list)?, search, options)
}

fn load(
    root: &Path,
    listing: &Listing,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    let (content, from_cache) = content(root, listing, search, options)?;
    let Content { header, names, pixels, sha256 } = content;
    let report = PictureReport {
        bad: header.bad,
        ignored: listing.ignored.clone(),
        mislabelled: header.mislabelled,
        sizes: header.sizes,
        from_cache,
    };
    tell(root, &report);
    if !report.bad.is_empty() {
        if options.on_bad_image == OnBadImage::Error {
            let (path, images) = (root.to_owned(), listing.samples.len());
            return Err(DataError::BadImages { path, images, bad: report.bad });
        }
        let lines: Vec<String> =
            report.bad.iter().map(|bad| format!("  {}: {}", bad.path, bad.reason)).collect();
        tracing::warn!(
            "{}: {} left out, unusable\n{}",
            root.display(),
            counted(report.bad.len(), "picture"),
            lines.join("\n")
        );
    }
    let origin = root.display().to_string();
    let name = root.file_stem().map_or_else(|| origin.clone(), |name| name.to_string_lossy().into_owned());
    let all = Dataset {
        name,
        pixels,
        labels: header.labels,
        shape: header.input,
        class_names: header.class_names,
        files: names.files.into(),
        content: names.content.into(),
    };
    let mut parts = header.parts;
    if !parts.contains(&Part::Test) {
        set_test_aside(&all, &mut parts, options.test_fraction);
    }
    let missing = (0..all.class_names.len()).find(|&class| {
        !all.labels
            .iter()
            .zip(&parts)
            .any(|(&label, part)| usize::from(label) == class && *part == Part::Train)
    });
    if let Some(class) = missing {
        let reason = format!("no usable picture of class `{}` is left for training", all.class_names[class]);
        return Err(DataError::Folder { path: root.to_owned(), reason });
    }
    let (train, test) = divide(all, &parts);
    let labelled = parts.iter().filter(|part| **part != Part::Test);
    let valid = labelled.enumerate().filter(|(_, part)| **part == Part::Valid).map(|(index, _)| index as u32);
    let mut preprocessing = measure(&train);
    preprocessing.fit = header.fit;
    Ok(DatasetPair {
        valid: valid.collect(),
        train,
        test,
        preprocessing,
        sha256: BTreeMap::from([("decoded pictures".to_owned(), sha256)]),
        origin,
        pictures: Some(report),
    })
}

/// Images from the cache, else decoded and then cached; and whether they were cached.
fn content(
    root: &Path,
    listing: &Listing,
    search: &Search,
    options: &ImageOptions,
) -> Result<(Content, bool), DataError> {
    // Names below a relative folder mean other files from elsewhere.
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let cached = search.cache_root().map(|cache| cache::path(&cache, &absolute, listing, options));
    if let Some(path) = &cached {
        match cache::read(path, options.memory_limit) {
            Ok(Some(content)) => {
                check_memory(root, content.header.labels.len(), content.header.input, options)?;
                return Ok((content, true));
            }
            Ok(None) => {}
            Err(reason) => tracing::warn!("{}: {reason}; the pictures are decoded again", path.display()),
        }
    }
    let samples = &listing.samples;
    let input = input(listing, options.input, &options.decode);
    let fit = options.fit.unwrap_or(Fit::Crop { resize: 0 });
    check_memory(root, samples.len(), input, options)?;
    tracing::info!("{}: decoding {} pictures to {input} ({})", root.display(), samples.len(), in_words(fit));
    let ingested = ingest::ingest(samples, input, fit, &options.decode, search.progress)
        .map_err(|_| memory_error(root, samples.len(), input, options))?;
    let good = || samples.iter().zip(&ingested.good).filter(|(_, good)| **good).map(|(sample, _)| sample);
    let header = Header {
        input,
        fit,
        class_names: listing.class_names.clone(),
        labels: good().map(|sample| sample.label).collect(),
        parts: good().map(|sample| sample.part).collect(),
        bad: ingested.bad,
        mislabelled: ingested.mislabelled,
        sizes: ingested.sizes,
    };
    let names =
        Names { files: good().map(|sample| slashed(&sample.name)).collect(), content: ingested.content };
    let content = Content::new(header, names, ingested.pixels);
    if let Some(path) = &cached
        && let Err(error) = cache::write(path, &content)
    {
        tracing::warn!("{}: the decoded pictures cannot be kept for the next run: {error}", path.display());
    }
    Ok((content, false))
}

/// One name of a file on every system.
fn slashed(name: &str) -> String {
    if std::path::MAIN_SEPARATOR == '/' {
        name.to_owned()
    } else {
        name.replace(std::path::MAIN_SEPARATOR, "/")
    }
}

/// The size asked for, completed by what the pictures are.
fn input(listing: &Listing, request: Option<InputRequest>, limits: &DecodeLimits) -> InputShape {
    if let Some(InputRequest { channels: Some(channels), height, width }) = request {
        return InputShape::new(channels, height, width);
    }
    let probes = ingest::probe_all(&listing.samples, limits);
    let channels = if !probes.is_empty() && probes.iter().all(|probe| !probe.color) { 1 } else { 3 };
    if let Some(request) = request {
        return request.shape(channels);
    }
    let side = InputShape::new(channels, DEFAULT_SIDE, DEFAULT_SIDE);
    match probes.first() {
        Some(&Probe { width, height, .. })
            if width.max(height) <= DEFAULT_SIDE
                && probes.iter().all(|probe| (probe.width, probe.height) == (width, height)) =>
        {
            InputShape::new(channels, height, width)
        }
        _ => side,
    }
}

fn check_memory(
    root: &Path,
    images: usize,
    input: InputShape,
    options: &ImageOptions,
) -> Result<(), DataError> {
    let needed = images as u64 * input.len() as u64;
    if needed <= options.memory_limit {
        return Ok(());
    }
    Err(memory_error(root, images, input, options))
}

fn memory_error(root: &Path, images: usize, input: InputShape, options: &ImageOptions) -> DataError {
    DataError::Memory {
        path: root.to_owned(),
        images,
        input: input.to_string(),
        needed: images as u64 * input.len() as u64,
        limit: options.memory_limit,
    }
}

fn in_words(fit: Fit) -> String {
    match fit {
        Fit::Crop { resize: 0 } => "centre crop".to_owned(),
        Fit::Crop { resize } => format!("shortest side {resize}, centre crop"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// What is not as it might be, without stopping.
fn tell(root: &Path, report: &PictureReport) {
    let root = root.display();
    if !report.ignored.is_empty() {
        tracing::warn!(
            "{root}: {} ignored, no pictures by their names: {}",
            counted(report.ignored.len(), "file"),
            some(&report.ignored)
        );
    }
    if !report.mislabelled.is_empty() {
        tracing::warn!(
            "{root}: {} of another format than the name says, read by content: {}",
            counted(report.mislabelled.len(), "picture"),
            some(&report.mislabelled)
        );
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn some(names: &[String]) -> String {
    let mut text = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

/// Moves a stratified share of the training images to the test part.
fn set_test_aside(all: &Dataset, parts: &mut [Part], fraction: f64) {
    let train: Vec<u32> =
        (0..all.len() as u32).filter(|&index| parts[index as usize] == Part::Train).collect();
    let count = ((train.len() as f64 * fraction).round() as usize).max(1);
    for index in stratified_test(&all.labels, &train, count) {
        parts[index as usize] = Part::Test;
    }
    tracing::info!(
        "the data names no test part: {count} of {} pictures are set aside for the test, the same in every run",
        train.len()
    );
}

/// Training (and validation) images, and test images. The former stay where they are in memory.
fn divide(all: Dataset, parts: &[Part]) -> (Dataset, Dataset) {
    let length = all.image_len();
    let mut pixels = all.pixels;
    let (mut test_pixels, mut kept) = (Vec::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let image = index * length..(index + 1) * length;
        if *part == Part::Test {
            test_pixels.extend_from_slice(&pixels[image]);
        } else {
            pixels.copy_within(image, kept * length);
            kept += 1;
        }
    }
    pixels.truncate(kept * length);
    let dataset = |pixels: Vec<u8>, is_test: bool| Dataset {
        name: all.name.clone(),
        pixels,
        labels: of_part(&all.labels, parts, is_test).collect(),
        shape: all.shape,
        class_names: all.class_names.clone(),
        files: of_part(&all.files, parts, is_test).collect(),
        content: of_part(&all.content, parts, is_test).collect(),
    };
    (dataset(pixels, false), dataset(test_pixels, true))
}

/// What belongs to test images, or to the others.
fn of_part<'a, T: Clone>(all: &'a [T], parts: &'a [Part], is_test: bool) -> impl Iterator<Item = T> + 'a {
    all.iter()
        .zip(parts)
        .filter(move |(_, part)| (**part == Part::Test) == is_test)
        .map(|(one, _)| one.clone())
}

#[cfg(test)]
mod tests;
