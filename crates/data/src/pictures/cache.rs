//! Decoded images on disk, so that the next run does not decode again.
//!
//! A file is `KILNPIX2`, the lengths of the header and of the names (`u64`, little-endian), both (JSON), the images
//! `[N, C, H, W]`, and a SHA-256: of the SHA-256 of header and images, then of the lengths and the names. Its name is
//! the SHA-256 of what it was made from: names, lengths, times and numbers of the files, the settings, and the way of
//! decoding. It gets its name by renaming a finished temporary file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::{Fit, InputShape, hexadecimal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::listed::{Listing, Sample};
use crate::dataset::{ContentHash, Labels, Part, Sizes};
use crate::error::BadImage;
use crate::findings::Finding;
use crate::options::ImageOptions;

const MAGIC: &[u8; 8] = b"KILNPIX2";

/// Stands before the header in the digest of a data set, which is that of the first form of these files: it is in the
/// runs and models of that time, and the images are the same.
const DIGEST_MAGIC: &[u8; 8] = b"KILNPIX1";

/// Bytes before the header.
const START: usize = 8 + 8 + 8;

/// Raised when files are decoded to other pixels than before, so that what was decoded then is not found.
const DECODING: u32 = 2;

/// Decoded forms (sizes, fits) of one data set that are kept.
const KEPT: usize = 4;

/// What stands before the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) input: InputShape,
    pub(crate) fit: Fit,
    pub(crate) class_names: Vec<String>,
    /// Decimal numbers in the file, so that those of up to 256 classes hash as they did when labels were bytes.
    pub(crate) labels: Labels,
    pub(crate) parts: Vec<Part>,
    pub(crate) bad: Vec<BadImage>,
    pub(crate) mislabelled: Vec<String>,
    pub(crate) sizes: Sizes,
}

/// Where each image comes from and what it shows, in the order of the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    pub(crate) files: Vec<String>,
    pub(crate) content: Vec<ContentHash>,
    /// What there is to say of single pictures.
    pub(crate) notes: Vec<Finding>,
}

/// Images with their header, and the SHA-256 of both; what the files are called has no part in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) header: Header,
    pub(crate) names: Names,
    pub(crate) pixels: Vec<u8>,
    pub(crate) sha256: String,
}

impl Content {
    pub(crate) fn new(header: Header, names: Names, pixels: Vec<u8>) -> Self {
        let sha256 = hexadecimal(digest(&json(&header), &pixels).finalize());
        Self { header, names, pixels, sha256 }
    }
}

/// Text, numbers and lists are always representable.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Of the images.
fn digest(header: &[u8], pixels: &[u8]) -> Sha256 {
    let length = (header.len() as u64).to_le_bytes();
    [&DIGEST_MAGIC[..], &length, header, pixels].iter().fold(Sha256::new(), Sha256::chain_update)
}

/// What comes before the header.
fn start(header: &[u8], names: &[u8]) -> [u8; START] {
    let mut start = [0; START];
    start[..8].copy_from_slice(MAGIC);
    start[8..16].copy_from_slice(&(header.len() as u64).to_le_bytes());
    start[16..].copy_from_slice(&(names.len() as u64).to_le_bytes());
    start
}

/// Of the whole file.
fn seal(start: &[u8], names: &[u8], digest: Sha256) -> Sha256 {
    Sha256::new().chain_update(digest.finalize()).chain_update(start).chain_update(names)
}

/// The file for these pictures with these settings, below the cache folder `cache`.
pub(crate) fn path(cache: &Path, root: &Path, listing: &Listing, options: &ImageOptions) -> PathBuf {
    let mut key = Sha256::new();
    let mut add = |text: &str| {
        key.update((text.len() as u64).to_le_bytes());
        key.update(text);
    };
    add(&String::from_utf8_lossy(MAGIC));
    add(&DECODING.to_string());
    add(env!("CARGO_PKG_VERSION"));
    add(&format!("{:?} {:?} {:?}", options.input, options.fit, options.decode));
    if listing.is_sets {
        add("sets");
    }
    for name in &listing.class_names {
        add(name);
    }
    for sample in &listing.samples {
        add(&sample.name);
        add(&sample.path.to_string_lossy());
        let classes = sample.classes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        add(&format!("{classes} {:?} {} {}", sample.part, sample.bytes, sample.modified));
        add(&identity(sample));
    }
    let key = hexadecimal(key.finalize());
    let root_key = hexadecimal(Sha256::new().chain_update(root.to_string_lossy().as_bytes()).finalize());
    let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    cache.join("pictures").join(format!("{name}-{}", &root_key[..16])).join(format!("{key}.pix"))
}

/// What no program can set back when it writes a file anew at the same length and time: the number of the file, and
/// when anything of it was changed.
#[cfg(unix)]
fn identity(sample: &Sample) -> String {
    use std::os::unix::fs::MetadataExt;

    sample.path.metadata().map_or_else(
        |_| String::new(),
        |file| format!("{} {} {} {}", file.dev(), file.ino(), file.ctime(), file.ctime_nsec()),
    )
}

/// Length and time are all that this system tells.
#[cfg(not(unix))]
fn identity(_sample: &Sample) -> String {
    String::new()
}

/// What the file holds, or why it cannot be used; `Ok(None)` when there is none.
pub(crate) fn read(path: &Path, memory_limit: u64) -> Result<Option<Content>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    // The header is some bytes for each picture.
    if length > memory_limit.saturating_mul(2).saturating_add(1 << 30) {
        return Err(format!("it has {length} bytes, more than the memory limit explains"));
    }
    parse(file, length).map(Some)
}

fn parse(mut file: impl Read, length: u64) -> Result<Content, String> {
    let damaged = |what: &str| format!("damaged: {what}");
    let mut start = [0; START];
    file.read_exact(&mut start).map_err(|_| damaged("it is too short"))?;
    if start[..8] != *MAGIC {
        return Err(damaged("it does not begin as such a file does"));
    }
    let announced = |at: usize| start[at..at + 8].try_into().map_or(u64::MAX, u64::from_le_bytes);
    let rest = length.checked_sub(START as u64 + 32).and_then(|rest| rest.checked_sub(announced(8)));
    let Some(rest) = rest.and_then(|rest| rest.checked_sub(announced(16))) else {
        return Err(damaged("its header is longer than the file"));
    };
    let mut header = vec![0; announced(8) as usize];
    let mut names = vec![0; announced(16) as usize];
    let mut pixels = vec![0; rest as usize];
    let mut expected = [0; 32];
    for part in [&mut header[..], &mut names, &mut pixels, &mut expected] {
        file.read_exact(part).map_err(|error| damaged(&error.to_string()))?;
    }
    let digest = digest(&header, &pixels);
    if seal(&start, &names, digest.clone()).finalize()[..] != expected {
        return Err(damaged("its checksum is wrong"));
    }
    let header: Header = serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
    let names: Names = serde_json::from_slice(&names).map_err(|error| damaged(&error.to_string()))?;
    let images = header.labels.len();
    let whole = [header.parts.len(), names.files.len(), names.content.len()] == [images; 3]
        && images.checked_mul(header.input.len()) == Some(pixels.len())
        && header.labels.iter().flatten().all(|&label| (label as usize) < header.class_names.len());
    if !whole {
        return Err(damaged("its header contradicts itself"));
    }
    Ok(Content { header, names, pixels, sha256: hexadecimal(digest.finalize()) })
}

/// Keeps `content` under `path`, and removes the oldest forms of the same data set.
pub(crate) fn write(path: &Path, content: &Content) -> std::io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)?;
    crate::sources::cache::remove_abandoned(folder);
    let (header, names) = (json(&content.header), json(&content.names));
    let start = start(&header, &names);
    let seal = seal(&start, &names, digest(&header, &content.pixels)).finalize();
    crate::sources::cache::write(path, &[&start, &header, &names, &content.pixels, &seal])?;
    remove_oldest(folder);
    Ok(())
}

/// Failing to is no reason to stop.
fn remove_oldest(folder: &Path) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "pix"));
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let mut files: Vec<(SystemTime, PathBuf)> =
        files.filter_map(|path| Some((changed(&path).ok()?, path))).collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(KEPT) {
        let removed = std::fs::remove_file(path);
        tracing::debug!("{}: an old form of the pictures, removed: {removed:?}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::FindingKind;

    fn content() -> Content {
        let header = Header {
            input: InputShape::new(1, 2, 2),
            fit: Fit::Stretch,
            class_names: vec!["a".into(), "b".into()],
            labels: vec![0, 1, 1].into(),
            parts: vec![Part::Train, Part::Train, Part::Test],
            bad: vec![BadImage { path: "b/x.png".into(), reason: "the file is empty".into() }],
            mislabelled: Vec::new(),
            sizes: Sizes { smallest: [2, 2], median: [2, 2], largest: [2, 2], distinct: 1 },
        };
        let names = Names {
            files: ["a/1.png", "b/1.png", "b/2.png"].map(String::from).to_vec(),
            content: [1, 2, 3].map(|value| ContentHash::of_pixels(1, 1, 1, &[value])).to_vec(),
            notes: vec![Finding::new(FindingKind::SingleColor, "a/1.png", "")],
        };
        Content::new(header, names, (0..12).collect())
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x.pix");
        assert_eq!(read(&path, 1 << 20), Ok(None));
        write(&path, &content()).unwrap();
        assert_eq!(read(&path, 1 << 20), Ok(Some(content())));
        assert!(read(&path, 0).is_ok());
    }

    #[test]
    fn labels_hash_as_their_numbers() {
        let header = Header { labels: vec![0, 255, 256, 70_000].into(), ..content().header };
        let text = String::from_utf8(json(&header)).unwrap();
        assert!(text.contains("\"labels\":[0,255,256,70000]"), "{text}");
        let hash = |labels: Vec<u32>| {
            Content::new(Header { labels: labels.into(), ..content().header }, content().names, Vec::new())
                .sha256
        };
        assert_ne!(hash(vec![0, 1, 256]), hash(vec![0, 1, 0]));
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pix");
        write(&path, &content()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], end as u64).is_err(), "cut at {end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes[..], bytes.len() as u64).is_err(), "bit {bit}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(parse(&longer[..], longer.len() as u64).is_err());
    }

    #[test]
    fn few_forms_of_a_data_set_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            write(&folder.path().join(format!("{number}.pix")), &content()).unwrap();
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), KEPT);
    }
}
