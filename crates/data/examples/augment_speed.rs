//! Measures how many images a second the augmentation makes of the sample.
//!
//! ```text
//! cargo run -p data --example augment_speed
//! ```
#![expect(clippy::print_stdout, reason = "a program prints its result")]

use std::time::{Duration, Instant};

use data::augment::{AugmentConfig, Augmenter, Pick};
use data::{DataError, Search};

fn main() -> Result<(), DataError> {
    let pair = data::load("mnist-sample", &Search::default())?;
    let affine = AugmentConfig { shift: 2.0, rotate: 10.0, scale: 0.1, shear: 5.0, ..Default::default() };
    let elastic = AugmentConfig { elastic_alpha: 34.0, elastic_sigma: 4.0, ..affine };
    let picks: Vec<Pick> = (0..pair.train.len() as u32).map(Pick::from).collect();
    let photo =
        AugmentConfig { flip: true, crop: 0.5, brightness: 0.3, saturation: 0.3, ..Default::default() };
    let trivial = AugmentConfig { trivial: true, ..Default::default() };
    let mut out = vec![0.0; pair.train.pixels.len()];
    for (name, config) in
        [("affine", affine), ("affine + elastic", elastic), ("photo", photo), ("trivial", trivial)]
    {
        let augmenter = Augmenter::new(config, 0, pair.preprocessing.clone())?;
        let (start, mut epochs) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(1) {
            augmenter.batch_into(&pair.train, &picks, epochs, &mut out);
            epochs += 1;
        }
        let rate = (epochs * picks.len()) as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} images/s");
    }
    Ok(())
}
