//! From picture files to images of one size in memory, in parallel, with an account of every file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::ImageFormat;
use indicatif::{ProgressBar, ProgressStyle};
use model::{Fit, InputShape, Preprocessing};
use rayon::prelude::*;

use super::content::of_picture;
use super::listed::Sample;
use crate::dataset::{ContentHash, Sizes};
use crate::error::BadImage;
use crate::findings::{Finding, FindingKind};
use crate::formats::decode::{decode_with_notes, format, probe};
use crate::formats::decoded::{DecodeLimits, Probe};

/// What became of the files; the images are those of the good ones, in their order.
#[derive(Debug)]
pub(crate) struct Ingested {
    /// `[N, C, H, W]`.
    pub(crate) pixels: Vec<u8>,
    /// For each sample, whether it is good.
    pub(crate) good: Vec<bool>,
    pub(crate) bad: Vec<BadImage>,
    /// What each good picture shows.
    pub(crate) content: Vec<ContentHash>,
    /// Files whose extension names another format than their content.
    pub(crate) mislabelled: Vec<String>,
    pub(crate) sizes: Sizes,
    /// What there is to say of single pictures.
    pub(crate) notes: Vec<Finding>,
}

struct Decoded {
    content: ContentHash,
    size: [usize; 2],
    mislabelled: bool,
    notes: Vec<(FindingKind, String)>,
}

/// Reads a file that must be a regular one of at most `limits.bytes`.
fn read(path: &Path, limits: &DecodeLimits) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot read it: {error}");
    // Opening a pipe would wait for its writer.
    let metadata = path.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let too_long = |found: u64| format!("the file has {found} bytes; expected at most {}", limits.bytes);
    if metadata.len() > limits.bytes {
        return Err(too_long(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path).map_err(cannot)?.take(limits.bytes + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// Size and channels of every picture whose header can be read.
pub(crate) fn probe_all(samples: &[Sample], limits: &DecodeLimits) -> Vec<Probe> {
    let probes = samples.par_iter().filter_map(|sample| {
        let regular =
            sample.path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= limits.bytes);
        regular.then(|| probe(&sample.path, limits))?
    });
    probes.collect()
}

/// Decodes and fits every sample.
///
/// # Errors
/// When memory for `samples.len()` images is not to be had: the number of bytes.
pub(crate) fn ingest(
    samples: &[Sample],
    input: InputShape,
    fit: Fit,
    limits: &DecodeLimits,
    progress: bool,
) -> Result<Ingested, u64> {
    let length = input.len();
    let bytes = samples.len() as u64 * length as u64;
    let mut pixels = Vec::new();
    usize::try_from(bytes).ok().and_then(|bytes| pixels.try_reserve_exact(bytes).ok()).ok_or(bytes)?;
    pixels.resize(samples.len() * length, 0);
    let bar = bar(progress, samples.len() as u64);
    let preprocessing = Preprocessing { input, mean: Vec::new(), std: Vec::new(), fit };
    let outcomes: Vec<Result<Decoded, String>> = pixels
        .par_chunks_exact_mut(length)
        .zip(samples)
        .map(|(out, sample)| {
            let outcome = load(&sample.path, &preprocessing, limits, out);
            bar.inc(1);
            outcome
        })
        .collect();
    bar.finish_and_clear();

    let mut ingested = Ingested {
        pixels: Vec::new(),
        good: Vec::with_capacity(samples.len()),
        bad: Vec::new(),
        content: Vec::new(),
        mislabelled: Vec::new(),
        sizes: Sizes::default(),
        notes: Vec::new(),
    };
    let mut sizes = Vec::with_capacity(samples.len());
    let mut kept = 0;
    for (position, (outcome, sample)) in outcomes.into_iter().zip(samples).enumerate() {
        ingested.good.push(outcome.is_ok());
        match outcome {
            Ok(decoded) => {
                if kept != position {
                    pixels.copy_within(position * length..(position + 1) * length, kept * length);
                }
                kept += 1;
                sizes.push(decoded.size);
                ingested.content.push(decoded.content);
                if decoded.mislabelled {
                    ingested.mislabelled.push(sample.name.clone());
                }
                let notes = decoded.notes.into_iter();
                ingested.notes.extend(notes.map(|(kind, reason)| Finding::new(kind, &sample.name, reason)));
            }
            Err(reason) => ingested.bad.push(BadImage { path: sample.name.clone(), reason }),
        }
    }
    pixels.truncate(kept * length);
    ingested.pixels = pixels;
    ingested.sizes = Sizes::of(sizes);
    Ok(ingested)
}

fn load(
    path: &Path,
    preprocessing: &Preprocessing,
    limits: &DecodeLimits,
    out: &mut [u8],
) -> Result<Decoded, String> {
    let bytes = read(path, limits)?;
    let decoded = decode_with_notes(&bytes, limits).map_err(|error| error.to_string())?;
    let picture = &decoded.picture;
    let image = preprocessing.prepare(picture).map_err(|error| error.to_string())?;
    out.copy_from_slice(&image);
    let named = path.extension().and_then(|extension| match extension.to_str() {
        Some(extension) if extension.eq_ignore_ascii_case("jpe") => Some(ImageFormat::Jpeg),
        _ => ImageFormat::from_extension(extension),
    });
    let mut notes = Vec::new();
    let mut pixels = picture.pixels().chunks_exact(picture.channels());
    let first = pixels.next();
    if pixels.all(|pixel| Some(pixel) == first) {
        notes.push((FindingKind::SingleColor, String::new()));
    }
    if let Some(bits) = decoded.bits {
        notes.push((FindingKind::FewBits, format!("its values have {bits} bits")));
    }
    let by = decoded.reduced_by;
    if by > 1 {
        notes.push((FindingKind::Reduced, format!("its width and height were divided by {by}")));
    }
    Ok(Decoded {
        content: of_picture(&bytes, picture),
        size: [picture.width() * by, picture.height() * by],
        mislabelled: format(&bytes).ok() != named,
        notes,
    })
}

impl Sizes {
    fn of(mut sizes: Vec<[usize; 2]>) -> Self {
        sizes.sort_unstable_by_key(|&[width, height]| (width * height, width));
        let at = |position: usize| sizes.get(position).copied().unwrap_or_default();
        let (smallest, median) = (at(0), at(sizes.len() / 2));
        let largest = at(sizes.len().saturating_sub(1));
        // Sizes of one area and width are equal, so equal ones are neighbours.
        sizes.dedup();
        Self { smallest, median, largest, distinct: sizes.len() }
    }
}

/// Draws on stderr, and nothing unless that is a terminal.
fn bar(progress: bool, length: u64) -> ProgressBar {
    if !progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message("decoding");
    match ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} pictures, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_ordered_by_area() {
        let sizes = Sizes::of(vec![[4, 4], [10, 1], [1, 10], [4, 4], [2, 2]]);
        assert_eq!(sizes, Sizes { smallest: [2, 2], median: [10, 1], largest: [4, 4], distinct: 4 });
        assert_eq!(Sizes::of(Vec::new()), Sizes::default());
    }
}
