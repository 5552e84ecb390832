//! The model that answers, and how another file takes its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use burn::tensor::Device;
use hyper::body::Bytes;
use model::Classifier;
use sha2::{Digest, Sha256};
use train::start::model_io::{ModelIoError, model_path, read};

/// The largest file that is kept for the page: a browser runs no larger one in time.
const MOST_KEPT: usize = 64 << 20;

/// A model in use.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) classifier: Classifier,
    /// SHA-256 of the file.
    pub(crate) file_sha256: String,
    /// The file, for the page that runs the model itself.
    pub(crate) file: Option<Bytes>,
    pub(crate) since: SystemTime,
}

/// What a look at the file came to.
#[derive(Debug)]
pub(crate) enum Reload {
    /// It is the file that was seen last.
    Unchanged,
    /// Another model answers from now on.
    Swapped(Arc<Loaded>),
    /// The file cannot be used; the old model goes on.
    Refused(String),
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stamp {
    Missing(String),
    File { len: u64, modified: Option<SystemTime>, identity: [i64; 3] },
}

/// One model file and what was loaded from it.
#[derive(Debug)]
pub(crate) struct ModelSlot {
    path: PathBuf,
    device: Device,
    /// Whether the files of models are kept.
    keep: bool,
    current: RwLock<Arc<Loaded>>,
    /// The file as it was when it was last read. Held while a file is being loaded.
    seen: Mutex<Stamp>,
}

impl ModelSlot {
    /// Loads the model file, or that of a run folder; `keep` keeps its bytes for the page.
    pub(crate) fn open(path: &Path, device: Device, keep: bool) -> Result<Self, ModelIoError> {
        let path = model_path(path);
        // Before the content: a change in between is seen by the next look.
        let seen = Mutex::new(stamp(&path));
        let loaded = load(&path, &device, keep)?;
        Ok(Self { path, device, keep, current: RwLock::new(Arc::new(loaded)), seen })
    }

    /// The model that answers now. A request keeps the one it began with.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the file, and swaps the model when it holds another one that passes all checks.
    /// `forced` reads it even when it looks as before. Each state of a file is judged once.
    pub(crate) fn look(&self, forced: bool) -> Reload {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if !forced && *seen == now {
            return Reload::Unchanged;
        }
        *seen = now;
        match load(&self.path, &self.device, self.keep) {
            Ok(loaded) if loaded.file_sha256 == self.current().file_sha256 => Reload::Unchanged,
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
                Reload::Swapped(loaded)
            }
            Err(error) => Reload::Refused(error.to_string()),
        }
    }
}

fn load(path: &Path, device: &Device, keep: bool) -> Result<Loaded, ModelIoError> {
    // A pipe or a device has no end, or waits for somebody to write.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let source = std::io::Error::other("it is a pipe or a device; expected a file");
        return Err(ModelIoError::Read { path: path.to_owned(), source, hint: false });
    }
    let bytes = read(path)?;
    let model = model::decode(&bytes, device)
        .map_err(|source| ModelIoError::Content { path: path.to_owned(), source })?;
    Ok(Loaded {
        classifier: Classifier::new(model, device.clone()),
        file_sha256: model::hexadecimal(Sha256::digest(&bytes)),
        file: (keep && bytes.len() <= MOST_KEPT).then(|| bytes.into()),
        since: SystemTime::now(),
    })
}

fn stamp(path: &Path) -> Stamp {
    match fs::metadata(path) {
        Ok(metadata) => Stamp::File {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            identity: identity(&metadata),
        },
        Err(error) => Stamp::Missing(error.kind().to_string()),
    }
}

/// What changes when a file is replaced or rewritten within one tick of its modification time.
#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> [i64; 3] {
    use std::os::unix::fs::MetadataExt;
    [metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()]
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> [i64; 3] {
    [0; 3]
}
