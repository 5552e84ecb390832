//! Known data sets that are published as one archive: found in the user's folder or the cache, else fetched.
//!
//! The archive's SHA-256 is compared with the published one before anything in it is used. The cache holds the
//! unpacked files with a list of their hashes, which is written last; a set without it, or with other hashes, is
//! fetched again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use model::hexadecimal;
use sha2::{Digest, Sha256};

use super::cache::{remove_abandoned, temporary, write};
use super::found::{Found, FoundFile, Status};
use super::http::fetch_into;
use super::search::Search;
use crate::dataset::DatasetPair;
use crate::error::{Attempt, DataError};
use crate::formats::cifar::{self, CIFAR10, CIFAR100, Layout, MAX_BYTES};

/// Name of the list of hashes in the cache.
const MANIFEST: &str = "files.json";

/// A data set published as one `.tar.gz`.
#[derive(Debug)]
pub(crate) struct KnownArchive {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// File name of the archive.
    pub(crate) file: &'static str,
    /// Its length.
    bytes: u64,
    /// Its SHA-256 in hexadecimal.
    sha256: &'static str,
    /// Base addresses.
    mirrors: &'static [&'static str],
    layout: &'static Layout,
}

/// Every archive that has a name. Addresses and lengths: www.cs.toronto.edu/~kriz/cifar.html, which states MD5
/// c32a1d4ab5d03f1284b67883e8d87530 and 03b5dce01913d631647c71ecec9e9cb8; SHA-256: as TensorFlow Datasets,
/// MLDatasets.jl and others pin it.
pub(crate) static ARCHIVES: &[KnownArchive] = &[
    KnownArchive {
        name: "cifar10",
        file: "cifar-10-binary.tar.gz",
        bytes: 170_052_171,
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        layout: &CIFAR10,
    },
    KnownArchive {
        name: "cifar100",
        file: "cifar-100-binary.tar.gz",
        bytes: 168_513_733,
        sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        layout: &CIFAR100,
    },
];

/// The archive of the data set called `name`.
pub(crate) fn find(name: &str) -> Option<&'static KnownArchive> {
    ARCHIVES.iter().find(|known| known.name == name)
}

type Files = BTreeMap<&'static str, Vec<u8>>;

/// Loads the data set, fetching it when it is not on this machine.
pub(crate) fn load(known: &'static KnownArchive, search: &Search) -> Result<DatasetPair, DataError> {
    let mut attempts = Vec::new();
    if let Some((files, origin)) = local(known, search, &mut attempts) {
        return assemble(known, files, &origin);
    }
    let Some(cache) = search.cache_root().map(|cache| cache.join(known.name)) else {
        attempts.push(Attempt { source: "cache".into(), reason: "this user has no cache folder".into() });
        return Err(no_source(known, attempts));
    };
    std::fs::create_dir_all(&cache).map_err(DataError::io("create the cache folder", &cache))?;
    remove_abandoned(&cache);
    for mirror in search.mirrors(known.name, known.mirrors) {
        tracing::info!("fetching {} ({} MB) from {mirror}", known.name, known.bytes / 1_000_000);
        let mut packed = temporary(&cache).map_err(DataError::io("write to the cache", &cache))?;
        let unpacked = fetch_into(&mirror, known.file, known.bytes, search, &mut packed)
            .and_then(|()| packed.rewind().map_err(|error| error.to_string()))
            .and_then(|()| unpack(known, packed.as_file()));
        match unpacked {
            Ok(files) => {
                keep(&cache, &files).map_err(DataError::io("write to the cache", &cache))?;
                return assemble(known, files, &mirror);
            }
            Err(reason) => {
                tracing::warn!("{mirror}: {reason}");
                attempts.push(Attempt { source: mirror, reason });
            }
        }
    }
    Err(no_source(known, attempts))
}

fn assemble(known: &'static KnownArchive, files: Files, origin: &str) -> Result<DatasetPair, DataError> {
    let pair = cifar::assemble(known.name, Path::new(known.layout.folder), known.layout, files, origin)?;
    Ok(pair.fixed())
}

fn no_source(known: &KnownArchive, attempts: Vec<Attempt>) -> DataError {
    DataError::NoSource { name: known.name.to_owned(), attempts, files: vec![known.file] }
}

/// The verified files of `known` on this machine and where they are; downloads nothing.
pub(crate) fn local(
    known: &'static KnownArchive,
    search: &Search,
    attempts: &mut Vec<Attempt>,
) -> Option<(Files, String)> {
    match search.data_dir() {
        None => attempts.push(Attempt { source: "--data-dir, KILN_DATA".into(), reason: "not set".into() }),
        Some(folder) => {
            for path in [folder.join(known.name).join(known.file), folder.join(known.file)] {
                let source = format!("file {}", path.display());
                let unpacked = match File::open(&path) {
                    Ok(file) => unpack(known, &file),
                    Err(error) => Err(error.to_string()),
                };
                match unpacked {
                    Ok(files) => return Some((files, source)),
                    Err(reason) => attempts.push(Attempt { source, reason }),
                }
            }
        }
    }
    let cache = search.cache_root()?.join(known.name);
    let source = format!("cache {}", cache.display());
    match read_kept(known, &cache) {
        Ok(files) => return Some((files, source)),
        Err(reason) => attempts.push(Attempt { source, reason }),
    }
    None
}

/// Where the data set is, without downloading or writing anything.
pub(crate) fn status(known: &'static KnownArchive, search: &Search) -> Status {
    let mut attempts = Vec::new();
    let name = known.name.to_owned();
    let Some((files, origin)) = local(known, search, &mut attempts) else {
        return Status { name, found: None, attempts };
    };
    let folder = PathBuf::from(origin.split_once(' ').map_or("", |(_, path)| path));
    let described = files.iter().map(|(name, bytes)| FoundFile {
        path: if folder.is_dir() { folder.join(name) } else { folder.clone() },
        bytes: bytes.len() as u64,
        sha256: hexadecimal(Sha256::new().chain_update(bytes).finalize()),
    });
    let described = described.collect();
    match assemble(known, files, &origin) {
        Ok(pair) => {
            let found = Found {
                origin,
                files: described,
                class_names: pair.train.class_names.clone(),
                train_counts: pair.train.class_counts(),
                test_counts: pair.test.class_counts(),
                size: [pair.train.shape.height, pair.train.shape.width],
            };
            Status { name, found: Some(found), attempts }
        }
        Err(error) => {
            attempts.push(Attempt { source: origin, reason: error.to_string() });
            Status { name, found: None, attempts }
        }
    }
}

/// Compares the archive's hash, then takes the files out of it. Nothing else in it is read into memory.
fn unpack(known: &KnownArchive, mut archive: &File) -> Result<Files, String> {
    let mut hash = Sha256::new();
    let length =
        std::io::copy(&mut archive.take(known.bytes + 1), &mut hash).map_err(|error| error.to_string())?;
    let found = hexadecimal(hash.finalize());
    if length != known.bytes || found != known.sha256 {
        return Err(format!(
            "wrong content: SHA-256 {found} of {length} bytes or more, expected {} of {}",
            known.sha256, known.bytes
        ));
    }
    archive.rewind().map_err(|error| error.to_string())?;
    let damaged = |error: std::io::Error| format!("damaged archive: {error}");
    let mut files = Files::new();
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(archive)));
    for entry in tar.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        let wanted = known.layout.files().find(|name| path == Path::new(known.layout.folder).join(name));
        let Some(name) = wanted else { continue };
        let mut bytes = Vec::new();
        entry.take(MAX_BYTES).read_to_end(&mut bytes).map_err(damaged)?;
        files.insert(name, bytes);
    }
    match known.layout.files().find(|name| !files.contains_key(name)) {
        Some(name) => Err(format!("it does not contain {}/{name}", known.layout.folder)),
        None => Ok(files),
    }
}

/// Writes the files, and the list of their hashes last.
fn keep(cache: &Path, files: &Files) -> std::io::Result<()> {
    let mut hashes = BTreeMap::new();
    for (&name, bytes) in files {
        write(&cache.join(name), &[bytes])?;
        hashes.insert(name, hexadecimal(Sha256::new().chain_update(bytes).finalize()));
    }
    write(&cache.join(MANIFEST), &[&serde_json::to_vec(&hashes)?])
}

/// What [`keep`] wrote, if it is whole.
fn read_kept(known: &KnownArchive, cache: &Path) -> Result<Files, String> {
    let read = |name: &str| {
        let mut bytes = Vec::new();
        let path = cache.join(name);
        let file = File::open(&path).map_err(|error| format!("{name}: {error}"))?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        Ok::<_, String>(bytes)
    };
    if !cache.is_dir() {
        return Err("there is no such folder".to_owned());
    }
    let hashes: BTreeMap<String, String> =
        serde_json::from_slice(&read(MANIFEST)?).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let mut files = Files::new();
    for name in known.layout.files() {
        let bytes = read(name)?;
        let found = hexadecimal(Sha256::new().chain_update(&bytes).finalize());
        if hashes.get(name) != Some(&found) {
            return Err(format!("{name}: wrong content: SHA-256 {found}; it is fetched again"));
        }
        files.insert(name, bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::cifar::tests::records;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use std::net::TcpListener;

    /// An archive like the published one, and its row.
    fn world() -> (&'static KnownArchive, Vec<u8>) {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
        for name in CIFAR10.files() {
            let bytes = if name == CIFAR10.names { names.as_bytes().to_vec() } else { records(&CIFAR10, 20) };
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, format!("{}/{name}", CIFAR10.folder), &bytes[..]).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let sha256 = Box::leak(hexadecimal(Sha256::new().chain_update(&bytes).finalize()).into_boxed_str());
        let known = KnownArchive { bytes: bytes.len() as u64, sha256, mirrors: &[], ..ARCHIVES[0] };
        (Box::leak(Box::new(known)), bytes)
    }

    /// Serves `body` to `requests` requests; the thread gives what was asked for.
    fn serve(body: Vec<u8>, requests: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for _ in 0..requests {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned();
                asked.push(line);
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&body).unwrap();
            }
            asked
        });
        (address, thread)
    }

    fn search(cache: &Path, mirror: Option<String>) -> Search {
        Search {
            data_dir: Some(cache.join("nothing")),
            cache_dir: Some(cache.to_owned()),
            mirrors: Some(mirror.into_iter().collect()),
            ..Search::default()
        }
    }

    #[test]
    fn an_archive_is_fetched_once_and_verified_on_every_use() {
        let (known, bytes) = world();
        let cache = tempfile::tempdir().unwrap();
        let (address, server) = serve(bytes.clone(), 1);
        let pair = load(known, &search(cache.path(), Some(address))).unwrap();
        assert_eq!((pair.train.len(), pair.test.len()), (100, 20));
        assert_eq!(pair.train.class_names[9], "j");
        assert_eq!(server.join().unwrap(), ["GET /cifar10/cifar-10-binary.tar.gz HTTP/1.1"]);
        // From the cache, without a server.
        let found = status(known, &search(cache.path(), None)).found.unwrap();
        assert_eq!((found.train_counts, found.files.len(), found.size), (vec![10; 10], 7, [32, 32]));
        let again = load(known, &search(cache.path(), None)).unwrap();
        assert_eq!(again.train, pair.train);
        // A damaged file is noticed, and fetched again.
        let path = cache.path().join("cifar10/data_batch_2.bin");
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[5000] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let error = load(known, &search(cache.path(), None)).unwrap_err().to_string();
        assert!(error.contains("data_batch_2.bin: wrong content"), "{error}");
        let (address, server) = serve(bytes, 1);
        assert_eq!(load(known, &search(cache.path(), Some(address))).unwrap().train, pair.train);
        server.join().unwrap();
        let kept = cache.path().join("cifar10").read_dir().unwrap().count();
        assert_eq!(kept, 8, "seven files and the list, nothing temporary");
    }

    #[test]
    fn another_archive_is_refused_and_the_message_says_what_to_do() {
        let (known, mut bytes) = world();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let cache = tempfile::tempdir().unwrap();
        let (address, server) = serve(bytes, 1);
        let error = load(known, &search(cache.path(), Some(address))).unwrap_err().to_string();
        server.join().unwrap();
        assert!(error.contains("wrong content: SHA-256"), "{error}");
        assert!(error.contains("--data-dir") && error.contains("cifar-10-binary.tar.gz"), "{error}");
        assert_eq!(cache.path().join("cifar10").read_dir().unwrap().count(), 0);
    }

    #[test]
    fn an_archive_in_the_users_folder_needs_no_download() {
        let (known, bytes) = world();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(known.file), bytes).unwrap();
        let search = Search { data_dir: Some(folder.path().to_owned()), ..search(folder.path(), None) };
        let pair = load(known, &search).unwrap();
        assert_eq!(pair.train.len(), 100);
        assert!(pair.origin.ends_with("cifar-10-binary.tar.gz"), "{}", pair.origin);
    }
}
