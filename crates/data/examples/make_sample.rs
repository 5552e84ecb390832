//! Makes `assets/mnist-sample` from MNIST and prints the SHA-256 of each uncompressed file, for
//! `src/sample.rs`.
//!
//! ```text
//! cargo run --release -p data --example make_sample
//! ```
//!
//! The samples are drawn with `stratified_subset` and seed 0; the result is the same on every machine.
#![expect(clippy::print_stdout, reason = "a program prints its result")]

use std::io::Write;
use std::path::Path;

use data::idx::{Content, Idx};
use data::{Dataset, Search, sample, split};
use flate2::{Compression, GzBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/mnist-sample");
    std::fs::create_dir_all(&folder)?;
    let mnist = data::load("mnist", &Search::default())?;
    for (part, whole, count) in [("train", &mnist.train, sample::TRAIN), ("t10k", &mnist.test, sample::TEST)]
    {
        let all: Vec<u32> = (0..whole.len() as u32).collect();
        let chosen = split::stratified_subset(whole.labels.ones().unwrap_or_default(), &all, count, 0);
        let (images, labels) = take(whole, &chosen);
        write(&folder, &format!("{part}-images-idx3-ubyte"), Content::Images, &images)?;
        write(&folder, &format!("{part}-labels-idx1-ubyte"), Content::Labels, &labels)?;
    }
    Ok(())
}

fn take(whole: &Dataset, chosen: &[u32]) -> (Idx, Idx) {
    let pixels = chosen.iter().flat_map(|&index| whole.image(index as usize)).copied().collect();
    let labels = chosen.iter().map(|&index| whole.labels[index as usize] as u8).collect();
    let size = vec![chosen.len(), whole.shape.height, whole.shape.width];
    (Idx::new(Content::Images, size, pixels), Idx::new(Content::Labels, vec![chosen.len()], labels))
}

fn write(folder: &Path, name: &str, content: Content, idx: &Idx) -> std::io::Result<()> {
    // No name and no time in the header: the same bytes every time.
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
    idx.write(content, &mut packed)?;
    let packed = packed.finish()?;
    println!("{} {name} ({} bytes as .gz)", idx.sha256, packed.len());
    std::fs::File::create(folder.join(format!("{name}.gz")))?.write_all(&packed)
}
