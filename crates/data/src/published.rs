//! Weights that torchvision publishes, by the name of their network.
//!
//! Every file is looked for in the user's folder, then in the cache, then at its address. Its name ends
//! in the first eight digits of its SHA-256; nothing else is handed out under that name.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Attempt, DataError};
use crate::fetch::{self, Search};

/// Where the files are.
const ADDRESS: &str = "https://download.pytorch.org/models/";

/// Folder in the cache, and below a mirror's address.
const FOLDER: &str = "torchvision";

/// Network and file, as torchvision 0.29 has them (`get_model_weights(name).IMAGENET1K_V1.url`).
const FILES: &[(&str, &str)] = &[
    ("alexnet", "alexnet-owt-7be5be79.pth"),
    ("vgg11", "vgg11-8a719046.pth"),
    ("vgg11-bn", "vgg11_bn-6002323d.pth"),
    ("vgg13", "vgg13-19584684.pth"),
    ("vgg13-bn", "vgg13_bn-abd245e5.pth"),
    ("vgg16", "vgg16-397923af.pth"),
    ("vgg16-bn", "vgg16_bn-6c64b313.pth"),
    ("vgg19", "vgg19-dcbb9e9d.pth"),
    ("vgg19-bn", "vgg19_bn-c79401a0.pth"),
    ("resnet18", "resnet18-f37072fd.pth"),
    ("resnet34", "resnet34-b627a593.pth"),
    ("resnet50", "resnet50-0676ba61.pth"),
    ("resnet101", "resnet101-63fe2227.pth"),
    ("resnet152", "resnet152-394f9c45.pth"),
    ("vit-b-16", "vit_b_16-c867db91.pth"),
];

/// No file is longer; the largest, of `vgg19-bn`, has 575 MB.
const MAX_BYTES: u64 = 1 << 30;

/// The verified file of a network's published weights, fetched if need be. `vgg16_bn` is `vgg16-bn`.
///
/// # Errors
/// An unknown name, or every place that was tried with its reason, and where to put the file.
pub fn obtain(name: &str, search: &Search) -> Result<PathBuf, DataError> {
    let wanted = name.replace('_', "-");
    let Some(&(_, file)) = FILES.iter().find(|(known, _)| *known == wanted) else {
        let known = FILES.iter().map(|(known, _)| *known).collect();
        return Err(DataError::UnknownWeights { name: name.to_owned(), known });
    };
    obtain_file(file, search)
}

fn obtain_file(file: &'static str, search: &Search) -> Result<PathBuf, DataError> {
    let mut attempts = Vec::new();
    let mut attempt = |source: String, reason: String| attempts.push(Attempt { source, reason });
    if let Some(folder) = search.data_dir() {
        for folder in [folder.join(FOLDER), folder] {
            let path = folder.join(file);
            match verify(&path, file) {
                Ok(()) => return Ok(path),
                Err(reason) => attempt(format!("folder {}", folder.display()), reason),
            }
        }
    }
    let Some(cache) = search.cache_root().map(|root| root.join(FOLDER)) else {
        attempt("cache".into(), "this user has no cache folder".into());
        return Err(DataError::NoWeights { file, attempts, folder: None });
    };
    let path = cache.join(file);
    match verify(&path, file) {
        Ok(()) => return Ok(path),
        Err(reason) => attempt(format!("cache {}", cache.display()), reason),
    }
    std::fs::create_dir_all(&cache).map_err(DataError::io("create the cache folder", &cache))?;
    fetch::remove_abandoned(&cache);
    for base in search.mirrors(FOLDER, &[ADDRESS]) {
        tracing::info!("fetching {base}{file}");
        match download(&base, file, &cache, search) {
            Ok(()) => return Ok(path),
            Err(reason) => attempt(format!("{base}{file}"), reason),
        }
    }
    Err(DataError::NoWeights { file, attempts, folder: Some(cache) })
}

/// The digits of the SHA-256 that a file's name ends in.
fn digits(file: &str) -> &str {
    file.strip_suffix(".pth").and_then(|stem| stem.rsplit_once('-')).map_or("", |(_, digits)| digits)
}

/// Compares a file with its name; the error is a reason.
fn verify(path: &Path, file: &str) -> Result<(), String> {
    let mut content = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{file} is not there"),
        _ => format!("{file}: {error}"),
    })?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut content, &mut hasher).map_err(|error| format!("{file}: {error}"))?;
    check(hasher, file)
}

fn check(hasher: Sha256, file: &str) -> Result<(), String> {
    let found = hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if found.starts_with(digits(file)) {
        return Ok(());
    }
    Err(format!(
        "wrong content: the SHA-256 of {file} begins with {}, expected {}",
        &found[..8],
        digits(file)
    ))
}

/// Streams the file to a temporary one, and gives it its name when its hash is right.
fn download(base: &str, file: &'static str, cache: &Path, search: &Search) -> Result<(), String> {
    let temporary = fetch::temporary(cache)
        .map_err(|error| format!("no temporary file in {}: {error}", cache.display()))?;
    let mut hashed = Hashed { inner: temporary, hasher: Sha256::new() };
    fetch::fetch_into(base, file, MAX_BYTES, search, &mut hashed)?;
    let Hashed { inner: temporary, hasher } = hashed;
    check(hasher, file)?;
    let kept = temporary.as_file().sync_all();
    let kept = kept.and_then(|()| temporary.persist(cache.join(file)).map_err(|error| error.error));
    kept.map(drop).map_err(|error| format!("{}: cannot keep it: {error}", cache.display()))
}

/// Hashes what passes through.
struct Hashed {
    inner: tempfile::NamedTempFile,
    hasher: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::*;

    /// The SHA-256 of these bytes begins with the digits in the name below.
    const CONTENT: &[u8] = b"weights";
    const FILE: &str = "tiny-9a129038.pth";

    /// A mirror on this machine that gives every request the same answer, and counts them.
    struct Server {
        address: String,
        requests: Arc<AtomicUsize>,
        thread: Option<JoinHandle<()>>,
    }

    impl Server {
        fn new(answer: Vec<u8>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let requests = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&requests);
            let thread = std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let (mut request, mut byte) = (Vec::new(), [0]);
                    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                        request.push(byte[0]);
                    }
                    if request.is_empty() {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    let expected = format!("GET /torchvision/{FILE} HTTP/1.1");
                    assert!(String::from_utf8_lossy(&request).starts_with(&expected));
                    let _ = stream.write_all(&answer);
                }
            });
            Self { address, requests, thread: Some(thread) }
        }

        fn good() -> Self {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", CONTENT.len());
            Self::new([head.as_bytes(), CONTENT].concat())
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
            self.thread.take().unwrap().join().unwrap();
        }
    }

    fn search(folder: &Path, servers: &[&Server]) -> Search {
        Search {
            data_dir: Some(folder.join("data")),
            cache_dir: Some(folder.join("cache")),
            mirrors: Some(servers.iter().map(|server| server.address.clone()).collect()),
            stall_limit: Duration::from_secs(2),
            ..Search::default()
        }
    }

    fn cached(folder: &Path) -> Vec<String> {
        let entries = folder.join("cache").join(FOLDER).read_dir().unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_name_has_its_digits() {
        for (name, file) in FILES {
            assert_eq!(digits(file).len(), 8, "{file}");
            assert!(digits(file).bytes().all(|byte| byte.is_ascii_hexdigit()), "{file}");
            assert!(model::NetworkConfig::named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_file_is_fetched_once_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::good();
        let search = search(folder.path(), &[&server]);
        let path = obtain_file(FILE, &search).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
        assert_eq!(obtain_file(FILE, &search).unwrap(), path);
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
        assert_eq!(cached(folder.path()), [FILE]);
        // A damaged file is fetched again.
        std::fs::write(&path, "weighty").unwrap();
        obtain_file(FILE, &search).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
        assert_eq!(server.requests.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_users_folder_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("data");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(FILE), CONTENT).unwrap();
        assert_eq!(obtain_file(FILE, &search(folder.path(), &[])).unwrap(), own.join(FILE));
    }

    #[test]
    fn every_bad_answer_is_a_reason_and_leaves_nothing_behind() {
        let head = |length: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
        };
        for (answer, reason) in [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "HTTP status 404"),
            ([head(7).as_bytes(), b"weighty"].concat(), "wrong content: the SHA-256"),
            ([head(7).as_bytes(), b"wei"].concat(), "after 3"),
            (head(1 << 40).into_bytes(), "1099511627776 bytes announced"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let server = Server::new(answer);
            let error = obtain_file(FILE, &search(folder.path(), &[&server])).unwrap_err().to_string();
            for part in [reason, FILE, &server.address, &folder.path().join("cache").display().to_string()] {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
            assert_eq!(cached(folder.path()), [""; 0]);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = obtain("resnet19", &Search::default()).unwrap_err().to_string();
        assert!(error.contains("resnet19") && error.contains("vgg16-bn"), "{error}");
    }
}
