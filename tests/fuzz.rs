//! Every parser of ours against damaged input: no panic, and no allocation beyond a bound. Mutations are a function of
//! a seed and their number, so that a failure repeats. The short form runs with the other tests; `just fuzz SECONDS`
//! runs each target that long. `KILN_FUZZ_SEED` chooses other mutations; continuous integration draws one.
//!
//! Not guided by coverage: cargo-fuzz and bolero's engines need a nightly compiler and a second, instrumented build of Burn.

#![allow(clippy::print_stderr, reason = "figures for whoever runs with --nocapture")]

#[path = "support/forged.rs"]
mod forged;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;

use std::alloc::System;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use cap::Cap;
use data::idx::Content;
use model::{InputShape, Loading, NetworkConfig};
use random::Random;
use sha2::{Digest, Sha256};
use support::Bench;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What one parse may allocate beyond what lives already; the largest seed has 0.8 MB.
const MOST_BYTES: usize = 64 << 20;

/// Mutations of each target in the short form.
const SHORT: u64 = 400;

/// One target at a time: the allocator counts for the whole process.
static TURN: Mutex<()> = Mutex::new(());

impl Random {
    /// A byte at the edge of something more often than not.
    fn byte(&mut self) -> u8 {
        let edges = [0, 1, 0x7F, 0x80, 0xFF, b'0', b'-', b'"', b'{', b'\n', b','];
        if self.below(2) == 0 { edges[self.below(edges.len())] } else { self.next() as u8 }
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let most = if self.below(4) == 0 { len - start } else { (len - start).min(16) };
        start..start + self.below(most + 1)
    }
}

/// One to four changes of a seed.
fn mutate(numbers: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        let at = numbers.below(len);
        match numbers.below(8) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = numbers.byte(),
            2 => {
                let lengths = [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, len as u32, len as u32 + 1];
                let length = lengths[numbers.below(lengths.len())];
                let length = if numbers.below(2) == 0 { length.to_le_bytes() } else { length.to_be_bytes() };
                let end = (at + 4).min(len);
                bytes[at..end].copy_from_slice(&length[..end - at]);
            }
            3 => drop(bytes.drain(numbers.range(len))),
            4 => {
                let copy = bytes[numbers.range(len)].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let new: Vec<u8> = (0..numbers.below(9)).map(|_| numbers.byte()).collect();
                bytes.splice(at..at, new);
            }
            6 => bytes.truncate(at),
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Which mutations; 0 when nobody chose.
fn fuzz_seed() -> u64 {
    let chosen = std::env::var("KILN_FUZZ_SEED").ok().filter(|text| !text.is_empty());
    chosen.map_or(0, |text| text.parse().expect("KILN_FUZZ_SEED is a whole number from 0 to 2^64 - 1"))
}

/// `parse` tells whether it accepts the bytes.
fn fuzz(name: &str, seeds: &[Vec<u8>], mut parse: impl FnMut(&[u8]) -> bool) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (index, seed) in seeds.iter().enumerate() {
        assert!(parse(seed), "{name}: seed {index} is sound");
    }
    let seconds = std::env::var("KILN_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| Duration::from_secs(text.parse().expect("whole seconds")));
    let seed = fuzz_seed();
    // Past the harness, which swallows what a test prints when an allocation beyond the bound ends the process.
    if seed != 0 {
        drop(writeln!(std::io::stderr(), "{name}: KILN_FUZZ_SEED={seed}"));
    }
    // Mutations of different seeds lie far apart.
    let first = if seed == 0 { 0 } else { Random(seed).next() };
    let begin = Instant::now();
    let mut refused = 0;
    let mut number = 0;
    while seconds.map_or(number < SHORT, |seconds| begin.elapsed() < seconds) {
        let bytes = mutate(&mut Random(first.wrapping_add(number)), seeds);
        let lived = ALLOCATOR.allocated();
        // Beyond the limit the allocation fails, and with it the process.
        ALLOCATOR.set_limit(lived + MOST_BYTES).expect("more than what lives");
        let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(&bytes)));
        ALLOCATOR.set_limit(usize::MAX).expect("no limit");
        let Ok(accepted) = parsed else {
            panic!(
                "{name}: mutation {number} panics; repeat it with KILN_FUZZ_SEED={seed} and as many seconds"
            );
        };
        refused += u64::from(!accepted);
        number += 1;
    }
    eprintln!(
        "{name}: {number} mutations of seed {seed}, {refused} refused, {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    assert!(refused > number / 20, "{name}: {refused} of {number} refused, seed {seed}");
}

/// A file that every parse overwrites.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn bytes_of(path: &str) -> Vec<u8> {
    fs::read(repository(path)).expect("a committed file")
}

/// A header and its values, plain and as gzip.
fn idx(header: &[u32], len: usize) -> Vec<Vec<u8>> {
    let mut plain: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    plain.extend((0..len).map(|index| (index % 10) as u8));
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    zip.write_all(&plain).expect("memory");
    vec![plain, zip.finish().expect("memory")]
}

#[test]
fn idx_files() {
    for (name, content, seeds) in [
        ("IDX images", Content::Images, idx(&[0x803, 6, 5, 4], 120)),
        ("IDX labels", Content::Labels, idx(&[0x801, 40], 40)),
    ] {
        fuzz(name, &seeds, |bytes| {
            data::idx::parse(bytes, bytes.len() as u64, content, Path::new("fuzz")).is_ok()
        });
    }
}

#[test]
fn cifar_files() {
    let folder = Scratch::new();
    let record = |label: u8| std::iter::once(label).chain((0..3072).map(|i| (i * 7) as u8));
    let seed: Vec<u8> = (0..10).flat_map(record).collect();
    folder.write("test_batch.bin", &seed);
    let name = folder.0.path().display().to_string();
    for batch in 2..=5 {
        folder.write(&format!("data_batch_{batch}.bin"), &seed);
    }
    fuzz("CIFAR-10 batch", &[seed], |bytes| {
        folder.write("data_batch_1.bin", bytes);
        data::load(&name, &data::Search::default()).is_ok()
    });
}

#[test]
fn lists_of_pictures() {
    let folder = Scratch::new();
    let picture = server::png(&[7; 784]);
    for name in ["a.png", "b.png", "c.png", "d.png"] {
        folder.write(name, &picture);
    }
    let search = data::Search { cache_dir: Some(folder.0.path().join("cache")), ..data::Search::default() };
    let seeds = [
        "path,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n",
        "path,label,split\na.png,\"x, y\",train\nb.png,z,train\nc.png,z,test\n",
    ];
    fuzz("list of pictures", &seeds.map(|text| text.as_bytes().to_vec()), |bytes| {
        let path = folder.write("list.csv", bytes);
        data::load(&path.display().to_string(), &search).is_ok()
    });
}

#[test]
fn pictures() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 99]));
    let encode = |format| {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format).expect("a file");
        file.into_inner()
    };
    let mut seeds: Vec<Vec<u8>> = [Png, Jpeg, Gif, Bmp, WebP, Tiff].into_iter().map(encode).collect();
    seeds.push(bytes_of("tests/golden/resize/rgb-7x5.png"));
    let names = [
        "progressive-420.jpg",
        "restart-progressive.jpg",
        "cmyk.jpg",
        "group3-2d.tif",
        "runs.tif",
        "group4.tif",
    ];
    let more =
        ["packbits.tif", "palette.tif", "ycbcr-jpeg.tif", "tiled-planar.tif", "float.tif", "uint16-big.tif"];
    seeds.extend(names.iter().chain(&more).map(|name| bytes_of(&format!("tests/golden/decode/{name}"))));
    let limits = data::DecodeLimits { bytes: 1 << 20, side: 1 << 10, memory: 8 << 20 };
    fuzz("picture", &seeds, |bytes| data::decode(bytes, &limits).is_ok());
}

/// With a sound seal again, so that what lies behind it is reached.
#[test]
fn model_files() {
    let seeds = [bytes_of("artifacts/reference/model.kiln")];
    let device = Device::flex();
    fuzz("model file", &seeds, |bytes| model::decode(bytes, &device).is_ok());
    fuzz("model file, sealed anew", &seeds, |bytes| {
        let mut sealed = bytes.to_vec();
        if let Some(end) = bytes.len().checked_sub(32) {
            let digest = Sha256::digest(&bytes[..end]);
            sealed[end..].copy_from_slice(&digest);
        }
        model::decode(&sealed, &device).is_ok()
    });
}

/// What reading a file may allocate: a few times its length, and what the smallest needs.
fn within(length: usize, read: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + 3 * length + (4 << 20)).expect("more than what lives");
    read();
    ALLOCATOR.set_limit(usize::MAX).expect("no limit");
}

/// Files whose tensors would be a thousand times as long as the files themselves. Beyond the limit the process ends.
#[test]
fn no_file_takes_more_memory_than_it_is_long() {
    const VIEWS: usize = 1000;
    let data = vec![0u8; 8 << 20];
    let (len, side) = (data.len() as u64, data.len() as u64 / 4);
    let names: Vec<String> = (0..VIEWS).map(|index| format!("layers.{index}.weight")).collect();
    let shape = [side];
    let entries: Vec<forged::Entry> = names.iter().map(|name| (name.as_str(), &shape[..], 0, len)).collect();
    let folder = Scratch::new();
    let search = data::Search::default();
    let open =
        |path: &Path| train::start::weights::ForeignWeights::open(&path.display().to_string(), &search);

    // A burnpack, and a model file of ours with such a table and a sound seal.
    let reference = model::read_metadata(&bytes_of("artifacts/reference/model.kiln")).expect("a model");
    let json = serde_json::to_string(&reference).expect("JSON");
    let pack = forged::burnpack(&entries, &[], &data);
    let path = folder.write("views.bpk", &pack);
    within(pack.len(), || {
        assert!(open(&path).is_err_and(|error| error.to_string().contains("over each other")));
    });
    let mut sealed = forged::burnpack(&entries, &[("kiln", &json)], &data);
    sealed.extend_from_slice(b"KILNSEAL");
    let digest = Sha256::digest(&sealed);
    sealed.extend_from_slice(&digest);
    let device = Device::flex();
    within(sealed.len(), || {
        assert!(
            model::decode(&sealed, &device).is_err_and(|error| error.to_string().contains("over each other"))
        );
    });

    // Safetensors.
    let header: serde_json::Map<String, serde_json::Value> = names
        .iter()
        .map(|name| {
            (name.clone(), serde_json::json!({"dtype": "F32", "shape": [side], "data_offsets": [0, len]}))
        })
        .collect();
    let header = serde_json::to_string(&header).expect("JSON");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    let path = folder.write("views.safetensors", &file);
    within(file.len(), || assert!(open(&path).is_err()));

    // Views of one storage are how PyTorch ties weights; those that no network asks for are not read.
    let pickle = pickle(&names, side as u32);
    let archive =
        zipped(&[("archive/data.pkl", &pickle), ("archive/data/0", &data)], zip::CompressionMethod::Stored);
    let legacy = [
        &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..],
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}X\x0d\0\0\0little_endian\x88s.",
        &pickle,
        b"\x80\x02]X\x01\0\0\x000a.",
        &u64::from(side as u32).to_le_bytes(),
        &data,
    ]
    .concat();
    for (name, file) in [("views.pth", archive), ("views-legacy.pth", legacy)] {
        let path = folder.write(name, &file);
        let config = NetworkConfig::default();
        let input = InputShape::new(1, 28, 28);
        let network = config.init(input, 10, 1, &device).expect("it fits");
        within(file.len(), || {
            let weights = open(&path).expect("a checkpoint");
            let loaded = weights.load(network, &config, input, 10, |_| Loading::Required);
            assert!(loaded.is_err_and(|error| error.to_string().contains("unexpected")), "{name}");
        });
    }

    // Entries that unpack to far more than there is.
    let bomb = zipped(&[("archive/data.pkl", &vec![b'N'; 64 << 20])], zip::CompressionMethod::Deflated);
    let zeros = zipped(
        &[("archive/data.pkl", &pickle), ("archive/data/0", &vec![0; 64 << 20])],
        zip::CompressionMethod::Deflated,
    );
    let mut sparse = vec![0u8; 2048];
    sparse[..8].copy_from_slice(b"storages");
    sparse[124..136].copy_from_slice(b"00000000000\0");
    sparse[156] = b'S';
    sparse[257..263].copy_from_slice(b"ustar ");
    // A reader makes two hundred bytes of one.
    let nothing = vec![b'N'; 8 << 20];
    let plain = [&b"\x80\x02("[..], &nothing, b"t."].concat();
    let stored = zipped(&[("archive/data.pkl", &plain)], zip::CompressionMethod::Stored);
    let old = [&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..], &plain].concat();
    for (name, file) in [
        ("bomb.pth", bomb),
        ("zeros.pth", zeros),
        ("sparse.pth", sparse),
        ("plain.pth", plain),
        ("stored.pth", stored),
        ("old.pth", old),
    ] {
        let path = folder.write(name, &file);
        within(file.len(), || assert!(open(&path).is_err(), "{name}"));
    }
}

/// A ZIP file.
fn zipped(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut file = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        file.start_file(*name, options).expect("memory");
        file.write_all(bytes).expect("memory");
    }
    file.finish().expect("memory").into_inner()
}

/// A state dictionary as PyTorch pickles it: every tensor is a view of all `side` values of one storage.
fn pickle(names: &[String], side: u32) -> Vec<u8> {
    let text = |value: &str| [&b"X"[..], &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat();
    let int = |value: u32| [&b"J"[..], &value.to_le_bytes()].concat();
    let storage = [
        b"(".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(side),
    ];
    let storage = [storage.concat(), b"tQ".to_vec()].concat();
    let mut pickle = b"\x80\x02}(".to_vec();
    for name in names {
        pickle.extend(text(name));
        pickle.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n(");
        pickle.extend_from_slice(&storage);
        pickle.extend_from_slice(b"K\0(");
        pickle.extend(int(side));
        pickle.extend_from_slice(b"t(K\x01t\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend_from_slice(b"u.");
    pickle
}

#[test]
fn foreign_weights() {
    let golden: serde_json::Value =
        serde_json::from_slice(&bytes_of("tests/golden/weights/logits.json")).expect("JSON");
    let config: NetworkConfig = serde_json::from_value(golden["config"].clone()).expect("a network");
    let size = |value: &serde_json::Value| value.as_u64().expect("a size") as usize;
    let input =
        InputShape::new(size(&golden["input"][0]), size(&golden["input"][1]), size(&golden["input"][2]));
    let classes = size(&golden["classes"]);
    let folder = Scratch::new();
    for (name, file, kind) in [
        ("PyTorch, zip", "zip.pth", "pth"),
        ("PyTorch, legacy", "legacy.pth", "pth"),
        ("safetensors", "f32.safetensors", "safetensors"),
    ] {
        let seeds = [bytes_of(&format!("tests/golden/weights/{file}"))];
        fuzz(name, &seeds, |bytes| {
            let path = folder.write(&format!("bent.{kind}"), bytes);
            let path = path.display().to_string();
            let Ok(weights) = train::start::weights::ForeignWeights::open(&path, &data::Search::default())
            else {
                return false;
            };
            let empty = config.init(input, classes, 1, &Device::flex()).expect("it fits");
            weights.load(empty, &config, input, classes, |_| Loading::Required).is_ok()
        });
    }
}

#[test]
fn configurations() {
    let folder = Scratch::new();
    let seeds = ["default", "best", "vit"].map(|name| bytes_of(&format!("configs/{name}.toml")));
    fuzz("configuration", &seeds, |bytes| {
        let path = folder.write("bent.toml", bytes);
        train::config::ConfigLayers::from_file(&path).and_then(train::config::ConfigLayers::resolve).is_ok()
    });
    fuzz("sweep", &[bytes_of("configs/sweeps/first.toml")], |bytes| {
        let path = folder.write("bent.toml", bytes);
        tune::sweep::SweepFile::read(&path, &[], &data::Search::default()).is_ok()
    });
}

#[test]
fn records_of_a_run() {
    let line = r#"{"epoch":1,"train_loss":0.5,"train_accuracy":0.9,"valid_loss":0.25,"valid_accuracy":0.95,"learning_rate":0.001,"samples_per_second":66.7,"seconds":1.5}"#;
    let seed = format!("{line}\n{}\n", line.replace("\"epoch\":1", "\"epoch\":2")).into_bytes();
    fuzz("metrics log", &[seed], |bytes| evaluation::metrics_log::parse(bytes).is_ok());
}

/// Whatever comes in a request, the answer is 200 or says what is wrong with it, and the server lives.
#[test]
fn requests() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let server = server::Server::start(&bench, &[]);
    let client = server.client();
    let png = server::png(&server::digits().images[0]);
    let code = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&png)
    };
    let json = format!(r#"{{"images": ["{code}", {{"width": 2, "height": 1, "pixels": [[1], [2]]}}]}}"#);
    let mut form =
        b"--edge\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n".to_vec();
    form.extend_from_slice(&png);
    form.extend_from_slice(b"\r\n--edge--\r\n");
    for (name, kind, seed) in [
        ("request, picture", "image/png", png),
        ("request, JSON", "application/json", json.into_bytes()),
        ("request, form", "multipart/form-data; boundary=edge", form),
    ] {
        fuzz(name, &[seed], |bytes| {
            let status = client.post("/v1/predict", kind, bytes).status;
            assert!(status == 200 || (400..500).contains(&status), "status {status}");
            status == 200
        });
    }
    assert_eq!(client.get("/healthz").status, 200);
}
