//! For tests: a data set of four small files, a cache, and mirrors on this machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use flate2::{Compression, write::GzEncoder};

use super::catalog::{CATALOG, KnownDataset, KnownFile};
use super::known::obtain;
use super::search::Search;
use crate::error::DataError;
use crate::formats::idx::{Content, Idx};
use crate::formats::idx_set::IdxFile;

/// A data set of four small files whose content the tests choose.
pub(crate) struct World {
    pub(crate) known: &'static KnownDataset,
    /// Uncompressed files in the order of the catalogue.
    pub(crate) files: [Vec<u8>; 4],
    cache: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn cached(&self) -> PathBuf {
        self.cache.path().join("tiny")
    }

    /// Looks into the cache and at `mirrors` only.
    pub(crate) fn search(&self, mirrors: &[&Server]) -> Search {
        Search {
            data_dir: Some(self.cache.path().join("nothing")),
            cache_dir: Some(self.cache.path().to_owned()),
            mirrors: Some(mirrors.iter().map(|server| server.address.clone()).collect()),
            packages: false,
            ..Search::default()
        }
    }

    pub(crate) fn obtain(&self, mirrors: &[&Server]) -> Result<([IdxFile; 4], String), DataError> {
        obtain(self.known, &self.search(mirrors))
    }

    /// Name and content of every file in the cache.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .cached()
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn good(&self) -> impl Fn(usize) -> Vec<u8> + Send + 'static {
        let files = self.files.clone();
        move |index| response(&gzip(&files[index]))
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn response(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A mirror on this machine that answers the request for file `i` of the catalogue with `answer(i)`.
pub(crate) struct Server {
    pub(crate) address: String,
    thread: Option<JoinHandle<()>>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
        Self::start(move |stream, index| stream.write_all(&answer(index)).is_ok())
    }

    /// `serve` returns whether the connection is to be closed; otherwise it stays open until the end of
    /// the test.
    pub(crate) fn start(serve: impl Fn(&mut TcpStream, usize) -> bool + Send + 'static) -> Self {
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
                let index = CATALOG[0]
                    .files
                    .iter()
                    .position(|file| request.starts_with(&format!("GET /tiny/{}.gz HTTP/1.1", file.name)));
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

pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.push(byte[0]);
    }
    String::from_utf8(request).unwrap()
}
