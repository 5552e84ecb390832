//! How well strips of digits are read: string and digit accuracy under each condition.
//!
//! ```text
//! cargo run -p kiln --example digit_strips -- MODEL [DATASET] [train|test] [STRIPS] [LENGTH|0] [SEED] [FOLDER]
//! ```
//! `LENGTH` 0 draws 3 to 8 digits. Into `FOLDER` go the strips that were misread. The test split is for the
//! figures that are reported, once; whatever is tuned is tuned on `train`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people who measure")]

#[path = "../../../tests/support/strips.rs"]
mod strips;

use std::path::Path;

use burn::tensor::Device;
use model::{Classifier, Policy};
use rayon::prelude::*;
use strips::{CONDITIONS, distance, strip};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let model = train::start::model_io::load(Path::new(&argument(0, "artifacts/reference")), &Device::flex())
        .unwrap();
    let classifier = Classifier::new(model, Device::flex());
    let pair = data::load(&argument(1, "mnist"), &data::Search::default()).unwrap();
    let dataset = if argument(2, "train") == "test" { &pair.test } else { &pair.train };
    let count: u64 = argument(3, "200").parse().unwrap();
    let length: usize = argument(4, "5").parse().unwrap();
    let seed: u64 = argument(5, "1").parse().unwrap();
    let folder = arguments.get(6);
    // Nothing is rejected: what is measured is the reading.
    let policy = Policy { keep: 1.0, ..Policy::default() };
    println!("| condition | strips | strings right | digits right |\n|---|---|---|---|");
    for condition in &CONDITIONS {
        let results: Vec<(bool, usize, usize)> = (0..count)
            .into_par_iter()
            .map(|index| {
                let digits = if length == 0 { 3 + (index % 6) as usize } else { length };
                let (picture, text) = strip(dataset, seed, index, digits, condition);
                let reading = classifier.read(&picture, &policy).unwrap();
                let read: String = reading.text.chars().filter(|c| *c != ' ').collect();
                if let Some(folder) = folder
                    && read != text
                {
                    let name = condition.name.replace([' ', ','], "-");
                    let path = Path::new(folder).join(format!("{name}-{index}-{text}-read-{read}.png"));
                    let (w, h) = (picture.width() as u32, picture.height() as u32);
                    image::save_buffer(path, picture.pixels(), w, h, image::ExtendedColorType::L8).unwrap();
                }
                (read == text, distance(&read, &text), text.len())
            })
            .collect();
        let strings = results.iter().filter(|result| result.0).count();
        let errors: usize = results.iter().map(|result| result.1).sum();
        let digits: usize = results.iter().map(|result| result.2).sum();
        println!(
            "| {} | {count} | {:.1} % | {:.2} % |",
            condition.name,
            100.0 * strings as f64 / count as f64,
            100.0 * (1.0 - errors as f64 / digits as f64)
        );
    }
}
