//! How surely a picture of several digits is told from one of a single digit: of each kind, how many are said to hold
//! several.
//!
//! ```text
//! cargo run -p kiln --example several_digits -- MODEL [valid|test] [PICTURES] [SEED] [FOLDER]
//! ```
//! Into `FOLDER` go the pictures that are mistaken. What is tuned is tuned on `valid`, the images that the model was
//! chosen by; `test` is for the figures that are reported, once.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people who measure")]

#[path = "../../../tests/support/scenes.rs"]
mod scenes;
#[allow(dead_code, reason = "the scenes use a part of it")]
#[path = "../../../tests/support/strips.rs"]
mod strips;

use std::path::Path;

use burn::tensor::Device;
use data::{Dataset, Search};
use model::{Classifier, Picture};
use rayon::prelude::*;
use scenes::{KINDS, scene};
use train::task::evaluation_set::{EvaluationRequest, EvaluationSet, Part, UnknownClasses};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument =
        |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let path = argument(0, "artifacts/reference");
    let model = train::start::model_io::load(Path::new(&path), &Device::flex()).unwrap();
    let classifier = Classifier::new(model, Device::flex());
    let part = if argument(1, "valid") == "test" { Part::Test } else { Part::Valid };
    let images = images(&path, &classifier, part);
    let count: usize = argument(2, "500").parse().unwrap();
    let seed: u64 = argument(3, "1").parse().unwrap();
    let several = |picture: &Picture| classifier.examine(picture).unwrap().several;
    println!("| {} | pictures | several |\n|---|---|---|", part.name());
    let stored = (0..images.len()).into_par_iter().filter(|&index| {
        let (width, height) = (images.shape.width, images.shape.height);
        several(&Picture::new(width, height, 1, images.image(index).to_vec()).unwrap())
    });
    row("as it is stored", images.len(), stored.count());
    for kind in &KINDS {
        let found = (0..count).into_par_iter().filter(|&index| {
            let picture = scene(&images, seed, index, kind);
            let found = several(&picture);
            if let Some(folder) = arguments.get(4)
                && found != (kind.digits > 1)
            {
                let path =
                    Path::new(folder).join(format!("{}-{index}.png", kind.name.replace([' ', ','], "-")));
                let (width, height) = (picture.width() as u32, picture.height() as u32);
                image::save_buffer(path, picture.pixels(), width, height, image::ExtendedColorType::L8)
                    .unwrap();
            }
            found
        });
        row(kind.name, count, found.count());
    }
}

fn images(path: &str, classifier: &Classifier, part: Part) -> Dataset {
    let search = Search::default();
    let unknown = UnknownClasses::Reject;
    let question =
        EvaluationRequest { dataset: None, part: Some(part), unknown, on_bad_image: None, search: &search };
    EvaluationSet::load(Path::new(path), classifier.metadata(), &question).unwrap().images
}

fn row(name: &str, count: usize, found: usize) {
    println!("| {name} | {count} | {found} ({:.2} %) |", 100.0 * found as f64 / count as f64);
}
