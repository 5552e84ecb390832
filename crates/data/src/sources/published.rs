//! Weights that torchvision publishes, by the name of their network.
//!
//! Every file is looked for in the user's folder, then in the cache, then at its address. torchvision itself says no
//! more of a file's SHA-256 than the first eight digits, in its name: 32 bits, for which a second file can be made.
//! Where the whole is known (see `FILES`) all 256 bits are compared. For the others the user may say it
//! (`NAME@sha256:DIGITS`); else the eight digits are compared, the whole is shown and kept beside the cached file, and
//! is compared from then on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use model::hexadecimal;
use sha2::{Digest, Sha256};

use super::cache::{remove_abandoned, temporary, write};
use super::http::fetch_into;
use super::search::Search;
use crate::error::{Attempt, DataError};
use crate::files::keep;

/// Where the files are.
const ADDRESS: &str = "https://download.pytorch.org/models/";

/// Folder in the cache, and below a mirror's address.
const FOLDER: &str = "torchvision";

/// A published file.
#[derive(Clone, Copy, Debug)]
struct Published {
    network: &'static str,
    file: &'static str,
    /// SHA-256 of the file, lower-case hexadecimal; none where it is not known.
    sha256: Option<&'static str>,
}

const fn row(network: &'static str, file: &'static str, sha256: Option<&'static str>) -> Published {
    Published { network, file, sha256 }
}

/// Networks and files, as torchvision 0.29 has them (`get_model_weights(name).IMAGENET1K_V1.url`), with the hashes on
/// which at least two projects that state them agree.
const FILES: &[Published] = &[
    row(
        "alexnet",
        "alexnet-owt-7be5be79.pth",
        Some("7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"),
    ),
    row("vgg11", "vgg11-8a719046.pth", None),
    row("vgg11-bn", "vgg11_bn-6002323d.pth", None),
    row("vgg13", "vgg13-19584684.pth", None),
    row("vgg13-bn", "vgg13_bn-abd245e5.pth", None),
    row(
        "vgg16",
        "vgg16-397923af.pth",
        Some("397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
    ),
    row(
        "vgg16-bn",
        "vgg16_bn-6c64b313.pth",
        Some("6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a"),
    ),
    row(
        "vgg19",
        "vgg19-dcbb9e9d.pth",
        Some("dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"),
    ),
    row(
        "vgg19-bn",
        "vgg19_bn-c79401a0.pth",
        Some("c79401a0cf3cb42714e4182f5868c7a6f4f4534f5df9e956e2bb2098de41cbb6"),
    ),
    row(
        "resnet18",
        "resnet18-f37072fd.pth",
        Some("f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
    ),
    row(
        "resnet34",
        "resnet34-b627a593.pth",
        Some("b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
    ),
    row(
        "resnet50",
        "resnet50-0676ba61.pth",
        Some("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    ),
    row(
        "resnet101",
        "resnet101-63fe2227.pth",
        Some("63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
    ),
    row(
        "resnet152",
        "resnet152-394f9c45.pth",
        Some("394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58"),
    ),
    row(
        "vit-b-16",
        "vit_b_16-c867db91.pth",
        Some("c867db91d3e12c6cbadabb610d73c24a546bf82d8c03a9fea34f43a712ddb0e9"),
    ),
];

/// No file is longer; the largest, of `vgg19-bn`, has 575 MB.
const MAX_BYTES: u64 = 1 << 30;

/// What stands between a name and the SHA-256 that the user wants it to have.
const PIN: &str = "@sha256:";

/// The network in what follows `torchvision:`: `resnet18` of `resnet18@sha256:f370...`.
pub fn network(name: &str) -> &str {
    name.split_once(PIN).map_or(name, |(network, _)| network)
}

/// The verified file of a network's published weights, fetched if need be. `vgg16_bn` is `vgg16-bn`; a name may end
/// in `@sha256:` and the 64 digits that the file must have.
///
/// # Errors
/// An unknown name, digits that are no SHA-256, or every place that was tried with its reason, and where to put the
/// file.
pub fn obtain(name: &str, search: &Search) -> Result<PathBuf, DataError> {
    let wanted = network(name).replace('_', "-");
    let Some(&published) = FILES.iter().find(|known| known.network == wanted) else {
        let known = FILES.iter().map(|known| known.network).collect();
        return Err(DataError::UnknownWeights { name: name.to_owned(), known });
    };
    let pinned = match name.split_once(PIN) {
        None => None,
        Some((_, digits)) if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Some(digits.to_ascii_lowercase())
        }
        Some((_, digits)) => return Err(DataError::WeightsPin { digits: digits.to_owned() }),
    };
    obtain_file(&Wanted { file: published.file, sha256: published.sha256, pinned }, search)
}

/// A file and what is known of its SHA-256.
struct Wanted {
    file: &'static str,
    /// What is stated here.
    sha256: Option<&'static str>,
    /// What the user asks for.
    pinned: Option<String>,
}

fn obtain_file(wanted: &Wanted, search: &Search) -> Result<PathBuf, DataError> {
    let file = wanted.file;
    let cache = search.cache_root().map(|root| root.join(FOLDER));
    let recorded = cache.as_ref().map(|cache| cache.join(format!("{file}.sha256")));
    let checked = Checked { wanted, recorded: recorded.as_deref() };
    let mut attempts = Vec::new();
    let mut attempt = |source: String, reason: String| attempts.push(Attempt { source, reason });
    if let Some(folder) = search.data_dir() {
        for folder in [folder.join(FOLDER), folder] {
            let path = folder.join(file);
            match checked.file(&path) {
                Ok(()) => return Ok(path),
                Err(reason) => attempt(format!("folder {}", folder.display()), reason),
            }
        }
    }
    let Some(cache) = &cache else {
        attempt("cache".into(), "this user has no cache folder".into());
        return Err(DataError::NoWeights { file, attempts, folder: None });
    };
    let path = cache.join(file);
    match checked.file(&path) {
        Ok(()) => return Ok(path),
        Err(reason) => attempt(format!("cache {}", cache.display()), reason),
    }
    std::fs::create_dir_all(cache).map_err(DataError::io("create the cache folder", cache))?;
    remove_abandoned(cache);
    for base in search.mirrors(FOLDER, &[ADDRESS]) {
        tracing::info!("fetching {base}{file}");
        match download(&base, &checked, cache, search) {
            Ok(()) => return Ok(path),
            Err(reason) => attempt(format!("{base}{file}"), reason),
        }
    }
    Err(DataError::NoWeights { file, attempts, folder: Some(cache.clone()) })
}

/// The digits of the SHA-256 that a file's name ends in.
fn digits(file: &str) -> &str {
    file.strip_suffix(".pth").and_then(|stem| stem.rsplit_once('-')).map_or("", |(_, digits)| digits)
}

/// A file with what its content is compared with.
struct Checked<'a> {
    wanted: &'a Wanted,
    /// Where the hash of a file stands that is known by eight digits only.
    recorded: Option<&'a Path>,
}

impl Checked<'_> {
    /// Compares a file with its hash; the error is a reason.
    fn file(&self, path: &Path) -> Result<(), String> {
        let file = self.wanted.file;
        let mut content = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{file} is not there"),
            _ => format!("{file}: {error}"),
        })?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut content, &mut hasher).map_err(|error| format!("{file}: {error}"))?;
        self.hash(hasher)
    }

    /// Compares a hash with all that is known: the digits of the name, the whole as it is stated here, as the user
    /// asks for it, and as it was when the file was first used.
    fn hash(&self, hasher: Sha256) -> Result<(), String> {
        let Wanted { file, sha256, pinned } = self.wanted;
        let found = hexadecimal(hasher.finalize());
        let wrong = |expected: &str, why: &str| {
            Err(format!("wrong content: the SHA-256 of {file} is {found}, expected {expected}{why}"))
        };
        if !found.starts_with(digits(file)) {
            return wrong(digits(file), " at its beginning");
        }
        if let Some(pinned) = pinned.as_deref().filter(|&pinned| pinned != found) {
            return wrong(pinned, ", as you ask for");
        }
        if let Some(sha256) = sha256.filter(|&sha256| sha256 != found) {
            return wrong(sha256, "");
        }
        if sha256.is_none() {
            self.by_eight_digits(&found, pinned.is_some())?;
        }
        Ok(())
    }

    /// The whole hash of a file of which torchvision states eight digits: kept when it is first seen or asked for,
    /// compared ever after.
    fn by_eight_digits(&self, found: &str, pinned: bool) -> Result<(), String> {
        let file = self.wanted.file;
        let Some(path) = self.recorded else { return Ok(()) };
        match std::fs::read_to_string(path).map(|text| text.trim().to_owned()) {
            Ok(recorded) if recorded == found => return Ok(()),
            Ok(recorded) if !pinned => {
                return Err(format!(
                    "wrong content: the SHA-256 of {file} is {found}, it was {recorded} before ({}); name the right one \
                     with torchvision:NAME{PIN}DIGITS",
                    path.display()
                ));
            }
            _ => {}
        }
        if !pinned {
            tracing::warn!(
                "{file}: SHA-256 {found}; only its first eight digits are published, so compare the rest with a copy that \
                 you trust, and ask for it with torchvision:NAME{PIN}{found}"
            );
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let kept =
            std::fs::create_dir_all(folder).and_then(|()| write(path, &[format!("{found}\n").as_bytes()]));
        match kept {
            // Where the whole hash was asked for, nothing needs to be remembered.
            Err(error) if !pinned => Err(format!("{}: cannot keep the hash: {error}", path.display())),
            _ => Ok(()),
        }
    }
}

/// Streams the file to a temporary one, and gives it its name when its hash is right.
fn download(base: &str, checked: &Checked, cache: &Path, search: &Search) -> Result<(), String> {
    let file = checked.wanted.file;
    let temporary =
        temporary(cache).map_err(|error| format!("no temporary file in {}: {error}", cache.display()))?;
    let mut hashed = Hashed { inner: temporary, hasher: Sha256::new() };
    fetch_into(base, file, MAX_BYTES, search, &mut hashed)?;
    let Hashed { inner: temporary, hasher } = hashed;
    checked.hash(hasher)?;
    keep(temporary, &cache.join(file))
        .map_err(|error| format!("{}: cannot keep it: {error}", cache.display()))
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

    /// By the eight digits of its name, as the rest is not known.
    fn obtain_file(file: &'static str, search: &Search) -> Result<PathBuf, DataError> {
        super::obtain_file(&Wanted { file, sha256: None, pinned: None }, search)
    }

    fn cached(folder: &Path) -> Vec<String> {
        let entries = folder.join("cache").join(FOLDER).read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_name_has_its_digits() {
        for &Published { network, file, sha256 } in FILES {
            assert_eq!(digits(file).len(), 8, "{file}");
            let is_hexadecimal = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            assert!(is_hexadecimal(digits(file)), "{file}");
            assert!(model::NetworkConfig::named(network).is_some(), "{network}");
            if let Some(sha256) = sha256 {
                assert!(sha256.len() == 64 && is_hexadecimal(sha256), "{file}");
                assert!(sha256.starts_with(digits(file)), "{file}");
            }
        }
        assert_eq!(FILES.iter().filter(|row| row.sha256.is_none()).count(), 4);
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
        assert_eq!(cached(folder.path()), [FILE, &format!("{FILE}.sha256")]);
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
    fn all_digits_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let search = search(folder.path(), &[]);
        let own = folder.path().join("data");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(FILE), CONTENT).unwrap();
        let found = sha256(CONTENT);
        // Stated here, or by the user: one wrong digit at the end is enough.
        let last = if found.ends_with('0') { '1' } else { '0' };
        let other: &'static str = format!("{}{last}", &found[..63]).leak();
        for (sha256, pinned) in [(Some(other), None), (None, Some(other.to_owned()))] {
            let wanted = Wanted { file: FILE, sha256, pinned };
            let error = super::obtain_file(&wanted, &search).unwrap_err().to_string();
            assert!(error.contains(&found) && error.contains(other), "{error}");
        }
        let right: &'static str = found.clone().leak();
        for (sha256, pinned) in [(Some(right), None), (None, Some(found.clone())), (None, None)] {
            super::obtain_file(&Wanted { file: FILE, sha256, pinned }, &search).unwrap();
        }
        // What was kept is compared ever after, unless the user knows better.
        let record = folder.path().join("cache").join(FOLDER).join(format!("{FILE}.sha256"));
        assert_eq!(std::fs::read_to_string(&record).unwrap().trim(), found);
        std::fs::write(&record, other).unwrap();
        let error = obtain_file(FILE, &search).unwrap_err().to_string();
        assert!(error.contains(other) && error.contains("@sha256:"), "{error}");
        super::obtain_file(&Wanted { file: FILE, sha256: None, pinned: Some(found.clone()) }, &search)
            .unwrap();
        assert_eq!(std::fs::read_to_string(&record).unwrap().trim(), found);
    }

    fn sha256(bytes: &[u8]) -> String {
        hexadecimal(Sha256::digest(bytes))
    }

    #[test]
    fn a_pin_is_64_digits() {
        assert_eq!(network("resnet18@sha256:f37072fd"), "resnet18");
        assert_eq!(network("resnet18"), "resnet18");
        for name in
            ["resnet18@sha256:f37072fd", "resnet18@sha256:", &format!("vgg11@sha256:{}", "g".repeat(64))]
        {
            let error = obtain(name, &Search::default()).unwrap_err().to_string();
            assert!(error.contains("64"), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = obtain("resnet19", &Search::default()).unwrap_err().to_string();
        assert!(error.contains("resnet19") && error.contains("vgg16-bn"), "{error}");
    }
}
