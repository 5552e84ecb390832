//! The one error type of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::findings::{Finding, grouped};
use crate::text::one_line;

/// A picture that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadImage {
    /// The file, as the data set names it.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why data could not be read, found, split or loaded. Every message names the file and, where figures
/// differ, the expected and the found one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused an operation on a file or folder.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// What was attempted, as an infinitive.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason given by the operating system.
        source: std::io::Error,
    },
    /// The first four bytes are not those of the expected kind of IDX file.
    #[error("{path}: not an IDX file of {content}: magic number {found:#010x}, expected {expected:#010x}")]
    Magic {
        /// The file.
        path: PathBuf,
        /// `images` or `labels`.
        content: &'static str,
        /// Magic number of that content.
        expected: u32,
        /// Magic number in the file.
        found: u32,
    },
    /// The header describes something no classifier can be trained on.
    #[error("{path}: impossible dimensions {found:?}: {reason}")]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Dimensions in the header, outermost first.
        found: Vec<u32>,
        /// What is wrong with them.
        reason: String,
    },
    /// The file ends before the data its header announces.
    #[error("{path}: truncated: {found} bytes, but its header announces {expected}; get a complete copy")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Uncompressed length that the header implies, in bytes.
        expected: u64,
        /// Uncompressed length found, in bytes.
        found: u64,
    },
    /// The file goes on after the data its header announces.
    #[error("{path}: trailing bytes: at least {found} bytes, but its header announces {expected}")]
    Trailing {
        /// The file.
        path: PathBuf,
        /// Uncompressed length that the header implies, in bytes.
        expected: u64,
        /// Uncompressed length found when reading stopped, in bytes.
        found: u64,
    },
    /// A gzip stream that does not decompress.
    #[error("{path}: damaged gzip stream after {found} uncompressed bytes: {source}")]
    Gzip {
        /// The file.
        path: PathBuf,
        /// Bytes decompressed before the fault.
        found: u64,
        /// What the decompressor says.
        source: std::io::Error,
    },
    /// Images and labels of one part do not belong together.
    #[error("{images} holds {image_count} images, but {labels} holds {label_count} labels")]
    Counts {
        /// File of the images.
        images: PathBuf,
        /// Images in it.
        image_count: usize,
        /// File of the labels.
        labels: PathBuf,
        /// Labels in it.
        label_count: usize,
    },
    /// Training and test images differ in size.
    #[error("{train} holds images of {train_size:?} pixels (height, width), but {test} holds {test_size:?}")]
    Sizes {
        /// File of the training images.
        train: PathBuf,
        /// Their height and width.
        train_size: [usize; 2],
        /// File of the test images.
        test: PathBuf,
        /// Their height and width.
        test_size: [usize; 2],
    },
    /// A label that names no class.
    #[error("{path}: label {label} at index {index} is out of range: the classes are 0 to {}", classes - 1)]
    Label {
        /// File of the labels.
        path: PathBuf,
        /// Position of the label in the file, from 0.
        index: usize,
        /// The label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
    /// The content is not the published one.
    #[error("{path}: wrong content: SHA-256 {found}, expected {expected}")]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Published SHA-256 of the uncompressed bytes, in hexadecimal.
        expected: String,
        /// SHA-256 of the bytes found.
        found: String,
    },
    /// A folder does not hold a data set, or not a whole one.
    #[error("{path}: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is missing, ambiguous or in the way, and what is looked for.
        reason: String,
    },
    /// Pictures that cannot be trained on as they are.
    #[error("{}", cannot_train(path, findings))]
    Findings {
        /// The folder or list.
        path: PathBuf,
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// Pictures that cannot be decoded, and leaving them out was not asked for.
    #[error("{}", bad_images(path, *images, bad))]
    BadImages {
        /// The folder or list.
        path: PathBuf,
        /// Pictures in it.
        images: usize,
        /// The bad ones.
        bad: Vec<BadImage>,
    },
    /// The decoded images do not fit into the memory allowed.
    #[error(
        "{path}: {images} images of {input} need {} MiB; {} MiB are allowed: choose a smaller size (--input), or allow \
         more with --set data.memory_mib={}",
        needed.div_ceil(1 << 20),
        limit >> 20,
        needed.div_ceil(1 << 20)
    )]
    Memory {
        /// The folder or list.
        path: PathBuf,
        /// Images.
        images: usize,
        /// Size of each.
        input: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Neither a known name nor a folder.
    #[error(
        "unknown data set `{name}`: it is neither a folder, nor a CSV file, nor one of {}",
        known.join(", ")
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that would have worked.
        known: Vec<&'static str>,
    },
    /// No source had the data set.
    #[error("{}", no_source(name, attempts, files))]
    NoSource {
        /// The data set.
        name: String,
        /// Every source in the order it was tried.
        attempts: Vec<Attempt>,
        /// Names of the files that are needed.
        files: Vec<&'static str>,
    },
    /// No published weights of that name.
    #[error("no published weights for `{name}`; expected one of {}", known.join(", "))]
    UnknownWeights {
        /// What was asked for.
        name: String,
        /// Names that would have worked.
        known: Vec<&'static str>,
    },
    /// A SHA-256 asked for that is none.
    #[error(
        "`@sha256:{digits}` is no SHA-256; expected 64 hexadecimal digits, as `sha256sum FILE` prints them"
    )]
    WeightsPin {
        /// What stands behind `@sha256:`.
        digits: String,
    },
    /// Published weights that could not be had.
    #[error("{}", no_weights(file, attempts, folder.as_deref()))]
    NoWeights {
        /// The file.
        file: &'static str,
        /// Every place in the order it was tried.
        attempts: Vec<Attempt>,
        /// Where the file may be put, besides `--data-dir`.
        folder: Option<PathBuf>,
    },
    /// A setting of the loader or the augmentation that cannot work.
    #[error("{field} = {found} is not possible: {reason}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What is allowed.
        reason: String,
    },
    /// An epoch did not deliver every sample.
    #[error("epoch {epoch} delivered {found} samples instead of {expected}: the epoch is not complete")]
    SampleCount {
        /// The epoch.
        epoch: usize,
        /// Samples the epoch consists of.
        expected: usize,
        /// Samples delivered.
        found: usize,
    },
    /// A loader thread panicked.
    #[error("a loader thread failed at batch {batch} of epoch {epoch}: {message}")]
    Worker {
        /// The epoch.
        epoch: usize,
        /// The batch.
        batch: usize,
        /// The panic message.
        message: String,
    },
}

impl DataError {
    /// Adds the path and the attempted action to an error of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A source that was tried, and why it did not serve.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Attempt {
    /// The folder, address or package.
    pub source: String,
    /// Why it did not serve.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.reason)
    }
}

fn no_weights(file: &str, attempts: &[Attempt], folder: Option<&Path>) -> String {
    let attempts: Vec<String> = attempts.iter().map(|attempt| format!("  - {attempt}")).collect();
    let folder = folder.map_or_else(String::new, |folder| format!("{} or ", folder.display()));
    format!(
        "the weights {file} could not be had:\n{}\n\
         Put the file into {folder}a folder that you name with --data-dir or KILN_DATA, or give its path as --weights FILE.",
        attempts.join("\n")
    )
}

fn no_source(name: &str, attempts: &[Attempt], files: &[&str]) -> String {
    let attempts: Vec<String> = attempts.iter().map(|attempt| format!("  - {attempt}")).collect();
    format!(
        "data set `{name}` could not be had from any source:\n{}\n\
         Put these files, plain or as .gz, into one folder and name it with --data-dir or KILN_DATA: {}.\n\
         Without them, `mnist-sample` needs no download.",
        attempts.join("\n"),
        files.join(", ")
    )
}

fn cannot_train(root: &Path, findings: &[Finding]) -> String {
    let root_name = root.display().to_string();
    match findings {
        // A line of a list is named with the list.
        [only] if only.path.starts_with(&root_name) => only.line(),
        [only] => {
            format!("{}: {}", one_line(&root.join(&only.path).display().to_string()), one_line(&only.reason))
        }
        _ => format!("{root_name} cannot be trained on as it is:\n{}", grouped(findings, NAMED)),
    }
}

/// Bad images that the error names.
const NAMED: usize = 20;

fn bad_images(path: &Path, images: usize, bad: &[BadImage]) -> String {
    let mut text = format!("{}: {} of {images} pictures cannot be used:", path.display(), bad.len());
    for BadImage { path, reason } in bad.iter().take(NAMED) {
        text.push_str(&format!("\n  {}: {}", one_line(path), one_line(reason)));
    }
    if bad.len() > NAMED {
        text.push_str(&format!("\n  and {} more", bad.len() - NAMED));
    }
    text.push_str("\nMend or remove them, or leave them out with --on-bad-image skip.");
    text
}
