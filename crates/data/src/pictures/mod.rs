//! Pictures of any size, in folders of classes or named by a list, as a data set of images of one size.
//!
//! list -> size of the input -> cache, or decode and fit in parallel -> account of bad files -> split.

mod cache;
mod columns;
mod content;
mod duplicates;
mod hints;
mod ingest;
mod layout;
mod list;
mod listed;
mod listing;
mod naming;
mod part_names;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use model::{Fit, InputShape};

pub use walk::{EXTENSIONS, Found, What, unread, walk};
pub(crate) use walk::{Entry, Kind, entries};

use crate::dataset::ContentHash;
use crate::dataset::{Dataset, DatasetPair, Duplicates, Labels, Part, PictureReport, measure};
use crate::division::membership::test_draw;
use crate::division::shortage::{Shortage, shortages};
use crate::error::DataError;
use crate::findings::{Finding, FindingKind, grouped};
use crate::formats::decoded::{DecodeLimits, Probe};
use crate::options::{ImageOptions, InputRequest, OnBadImage, Purpose};
use crate::sources::search::Search;
use crate::text::counted;
use crate::text::one_line;
use cache::{Content, Header, Names};
use listed::Listing;

/// Pictures of one size keep it up to this side; others get this side.
const DEFAULT_SIDE: usize = 64;

/// Files that a message names.
const NAMED: usize = 20;

/// Loads `root/<class>/…` or `root/train/<class>/…` with its siblings.
pub(crate) fn load_folder(
    root: &Path,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    load(root, &listing::of_folder(root, options.purpose)?, search, options)
}

/// Loads what a CSV file lists.
pub(crate) fn load_list(
    list: &Path,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    load(list, &list::of_csv(list, options.purpose, options.task)?, search, options)
}

/// Finds all that is wrong with a folder or, if `is_list`, a CSV file; and its images, where they can be trained on.
pub(crate) fn check(
    root: &Path,
    is_list: bool,
    search: &Search,
    options: &ImageOptions,
) -> Result<(Option<DatasetPair>, PictureReport), DataError> {
    let purpose = options.purpose;
    let listing =
        if is_list { list::of_csv(root, purpose, options.task)? } else { listing::of_folder(root, purpose)? };
    let (content, mut report) = match examine(root, &listing, search, options) {
        Ok(examined) => examined,
        Err(error) => {
            let mut findings = listing.findings.clone();
            findings.push(Finding::new(FindingKind::Layout, root.display().to_string(), error.to_string()));
            return Ok((None, PictureReport { findings, ..PictureReport::default() }));
        }
    };
    let stopped = |report: &PictureReport| {
        report.findings.iter().any(|finding| finding.kind.stops() && finding.kind != FindingKind::Unusable)
    };
    let pair = content.map(|content| pair(root, &listing, content, options, &mut report));
    let mut pair = pair.filter(|_| !stopped(&report));
    if let Some(pair) = &mut pair {
        pair.pictures = Some(PictureReport::default());
        let too_few = shortages(pair, pair.valid.is_empty());
        let finding = |short: &Shortage| Finding::new(FindingKind::TooFew, &short.class, short.to_string());
        report.findings.extend(too_few.iter().map(finding));
    }
    let pair = pair.filter(|_| !stopped(&report));
    Ok((pair.map(|pair| DatasetPair { pictures: Some(report.clone()), ..pair }), report))
}

fn load(
    root: &Path,
    listing: &Listing,
    search: &Search,
    options: &ImageOptions,
) -> Result<DatasetPair, DataError> {
    let (content, mut report) = examine(root, listing, search, options)?;
    let pair = content.map(|content| pair(root, listing, content, options, &mut report));
    tell(root, &report);
    let mut stopping: Vec<Finding> =
        report.findings.iter().filter(|finding| finding.kind.stops()).cloned().collect();
    let skips = options.on_bad_image == OnBadImage::Skip;
    if skips {
        stopping.retain(|finding| finding.kind != FindingKind::Unusable);
    }
    if !skips && !report.bad.is_empty() && stopping.len() == report.bad.len() {
        let (path, images) = (root.to_owned(), listing.samples.len());
        return Err(DataError::BadImages { path, images, bad: report.bad });
    }
    let Some(pair) = pair.filter(|_| stopping.is_empty()) else {
        return Err(DataError::Findings { path: root.to_owned(), findings: stopping });
    };
    if !report.bad.is_empty() {
        let lines: Vec<String> = report
            .bad
            .iter()
            .map(|bad| format!("  {}: {}", one_line(&bad.path), one_line(&bad.reason)))
            .collect();
        tracing::warn!(
            "{}: {} left out, unusable\n{}",
            root.display(),
            counted(report.bad.len(), "picture"),
            lines.join("\n")
        );
    }
    report.findings.sort();
    Ok(DatasetPair { pictures: Some(report), ..pair })
}

/// Decodes what is listed, and collects all that is wrong; `None` where nothing is listed.
fn examine(
    root: &Path,
    listing: &Listing,
    search: &Search,
    options: &ImageOptions,
) -> Result<(Option<Content>, PictureReport), DataError> {
    let of_kind = |kind: FindingKind| {
        listing
            .findings
            .iter()
            .filter(move |finding| finding.kind == kind)
            .map(|finding| finding.path.clone())
    };
    let mut report = PictureReport {
        ignored: of_kind(FindingKind::Ignored).collect(),
        findings: listing.findings.clone(),
        ..PictureReport::default()
    };
    if listing.samples.is_empty() {
        return Ok((None, report));
    }
    let (mut content, from_cache) = content(root, listing, search, options)?;
    report.from_cache = from_cache;
    report.sizes = content.header.sizes.clone();
    report.bad = std::mem::take(&mut content.header.bad);
    for bad in &mut report.bad {
        if let Some(reason) = listing.missing.get(&bad.path) {
            bad.reason.clone_from(reason);
        }
        report.findings.push(Finding::new(FindingKind::Unusable, &bad.path, &bad.reason));
    }
    report.mislabelled = std::mem::take(&mut content.header.mislabelled);
    let mislabelled = report.mislabelled.iter();
    report.findings.extend(mislabelled.map(|name| Finding::new(FindingKind::Mislabelled, name, "")));
    report.findings.append(&mut content.names.notes);
    Ok((Some(content), report))
}

/// The parts of decoded pictures; what is found out about them goes to the report.
fn pair(
    root: &Path,
    listing: &Listing,
    content: Content,
    options: &ImageOptions,
    report: &mut PictureReport,
) -> DatasetPair {
    let Content { header, names, pixels, sha256 } = content;
    let origin = root.display().to_string();
    let name = root.file_stem().map_or_else(|| origin.clone(), |name| name.to_string_lossy().into_owned());
    let all = Dataset {
        name,
        pixels,
        labels: header.labels,
        shape: header.input,
        class_names: header.class_names,
        units: units(listing, &names),
        files: names.files.into(),
        content: names.content.into(),
    };
    let mut parts = header.parts;
    let test_set_aside = !parts.contains(&Part::Test);
    if test_set_aside {
        report.untested = set_test_aside(&all, &mut parts, options);
    }
    report.torn_groups = torn_groups(listing);
    report.duplicates = Duplicates::of(&all, &parts);
    let findings = report.duplicates.findings();
    report.findings.extend(findings);
    // What is judged by all of the data has no test part.
    let untested = report.untested.iter().filter(|_| options.purpose == Purpose::Training);
    report.findings.extend(untested.map(|name| Finding::new(FindingKind::Untested, name, "")));
    report
        .findings
        .extend(report.torn_groups.iter().map(|name| Finding::new(FindingKind::TornGroup, name, "")));
    let (train, test) = divide(all, &parts);
    let labelled = parts.iter().filter(|part| **part != Part::Test);
    let valid = labelled.enumerate().filter(|(_, part)| **part == Part::Valid).map(|(index, _)| index as u32);
    let mut preprocessing = measure(&train);
    preprocessing.fit = header.fit;
    DatasetPair {
        valid: valid.collect(),
        train,
        test,
        preprocessing,
        sha256: BTreeMap::from([("decoded pictures".to_owned(), sha256)]),
        origin,
        pictures: None,
        test_set_aside,
    }
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
        labels: if listing.is_sets {
            Labels::Sets(good().map(|sample| sample.classes.clone()).collect())
        } else {
            Labels::One(good().filter_map(|sample| sample.classes.first().copied()).collect())
        },
        parts: good().map(|sample| sample.part).collect(),
        bad: ingested.bad,
        mislabelled: ingested.mislabelled,
        sizes: ingested.sizes,
    };
    let names = Names {
        files: good().map(|sample| slashed(&sample.name)).collect(),
        content: ingested.content,
        notes: ingested.notes,
    };
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
    let mut findings = report.findings.clone();
    findings.retain(|finding| !finding.kind.stops());
    findings.sort();
    for kind in findings.chunk_by(|a, b| a.kind == b.kind) {
        tracing::warn!("{}: {}", root.display(), grouped(kind, NAMED));
    }
}

/// What belongs together: the content of each picture, or its group.
fn units(listing: &Listing, names: &Names) -> Arc<[ContentHash]> {
    let groups: HashMap<String, &String> = listing
        .samples
        .iter()
        .filter_map(|sample| Some((slashed(&sample.name), sample.group.as_ref()?)))
        .collect();
    let unit = |(file, content): (&String, &ContentHash)| {
        groups.get(file).map_or(*content, |group| ContentHash::of_group(group))
    };
    names.files.iter().zip(&names.content).map(unit).collect()
}

/// Groups with pictures that the data itself names for different parts.
fn torn_groups(listing: &Listing) -> Vec<String> {
    let mut first: HashMap<&String, Part> = HashMap::new();
    let mut torn = BTreeSet::new();
    for sample in &listing.samples {
        if let Some(group) = &sample.group
            && *first.entry(group).or_insert(sample.part) != sample.part
        {
            torn.insert(group.clone());
        }
    }
    torn.into_iter().collect()
}

/// Moves training images to the test part, by their units alone; gives the classes of which none was moved.
fn set_test_aside(all: &Dataset, parts: &mut [Part], options: &ImageOptions) -> Vec<String> {
    let ImageOptions { test_fraction: fraction, purpose, .. } = *options;
    let (mut moved, mut counts) = (0, vec![0; all.class_names.len()]);
    for ((part, unit), labels) in parts.iter_mut().zip(all.units.iter()).zip(all.labels.iter()) {
        if *part == Part::Train && test_draw(unit) < fraction {
            *part = Part::Test;
            moved += 1;
            for &label in labels {
                counts[label as usize] += 1;
            }
        }
    }
    // A model may be judged by all of it: who does that says what was taken.
    if purpose == Purpose::Training {
        tracing::info!(
            "the data names no test part: {moved} of {} are set aside for the test, chosen by what they show, the same ones in \
             every run",
            counted(all.len(), "picture")
        );
    }
    let untested = all.class_names.iter().zip(counts).filter(|(_, count)| *count == 0);
    untested.map(|(name, _)| name.clone()).collect()
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
    let positions = |is_test: bool| {
        let of_part = (0..parts.len()).filter(move |&at| (parts[at] == Part::Test) == is_test);
        of_part.map(|at| at as u32).collect::<Vec<_>>()
    };
    let dataset = |pixels: Vec<u8>, is_test: bool| Dataset {
        name: all.name.clone(),
        pixels,
        labels: all.labels.subset(&positions(is_test)),
        shape: all.shape,
        class_names: all.class_names.clone(),
        files: of_part(&all.files, parts, is_test).collect(),
        content: of_part(&all.content, parts, is_test).collect(),
        units: of_part(&all.units, parts, is_test).collect(),
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
