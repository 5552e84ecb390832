//! Classes with too few images to be trained on, with the cause.

use std::fmt;

use super::membership::{test_draw, unit_counts};
use crate::dataset::{Dataset, DatasetPair};

/// A class that cannot be trained on; its text says why, and what would help.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Shortage {
    /// The class.
    pub class: String,
    /// Usable images of it, those set aside for the test included.
    pub images: usize,
    /// Those that were set aside for the test, because the data names no test part.
    pub set_aside: usize,
    /// Images that are left for training and validation.
    pub left: usize,
    /// How many of them can be told apart: copies, and images of one group, go together.
    pub distinct: usize,
    /// How many are needed.
    pub needed: usize,
    /// A share of the test part that leaves enough of every class, where there is one.
    pub test_fraction: Option<f64>,
}

/// The classes of `pair` with too few images left for training: one, and where `validated`, another one to validate
/// on.
pub fn shortages(pair: &DatasetPair, validated: bool) -> Vec<Shortage> {
    let set_aside = pair.test_set_aside;
    let train = &pair.train;
    let divided = |index: &u32| validated || pair.valid.binary_search(index).is_err();
    let indices: Vec<u32> = (0..train.len() as u32).filter(divided).collect();
    let left = train.labels.subset(&indices).counts(train.class_names.len());
    let distinct = unit_counts(train, &indices);
    let tested = if set_aside { pair.test.class_counts() } else { vec![0; left.len()] };
    let needed = if validated { 2 } else { 1 };
    // IDX files may name classes that they do not have: letters are numbered from 1, for example.
    let is_expected = |class: &usize| pair.pictures.is_some() || left[*class] > 0;
    let short: Vec<usize> =
        (0..left.len()).filter(|&class| distinct[class] < needed).filter(is_expected).collect();
    let fractions = short.iter().map(|&class| {
        if tested[class] > 0 { largest_fraction([train, &pair.test], class, needed) } else { None }
    });
    // One number for all of them.
    let fraction = fractions.flatten().min_by(f64::total_cmp);
    let shortage = |class: usize| Shortage {
        class: train.class_names[class].clone(),
        images: left[class] + tested[class],
        set_aside: tested[class],
        left: left[class],
        distinct: distinct[class],
        needed,
        test_fraction: fraction.filter(|_| tested[class] > 0),
    };
    short.into_iter().map(shortage).collect()
}

/// The largest share of the test part, in three digits, with which `needed` units of a class stay out of it.
fn largest_fraction(parts: [&Dataset; 2], class: usize, needed: usize) -> Option<f64> {
    let of_class = |dataset: &&Dataset| {
        let own = dataset.labels.iter().zip(dataset.units.iter());
        own.filter(|(labels, _)| labels.contains(&(class as u32))).map(|(_, unit)| *unit).collect::<Vec<_>>()
    };
    let mut units = parts.iter().flat_map(of_class).collect::<Vec<_>>();
    units.sort_unstable();
    units.dedup();
    let mut draws: Vec<f64> = units.iter().map(test_draw).collect();
    draws.sort_by(|a, b| b.total_cmp(a));
    let draw = *draws.get(needed - 1)?;
    let rounded = (draw * 1000.0).floor() / 1000.0;
    (rounded > 0.0).then_some(rounded)
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted =
            |count: usize| if count == 1 { "1 image".to_owned() } else { format!("{count} images") };
        let Self { class, images, set_aside, left, distinct, needed, test_fraction } = self;
        if *images == 0 {
            return write!(
                f,
                "class `{class}` has no usable image to train on: add some, or remove the class"
            );
        }
        write!(f, "class `{class}` has {}", counted(*images))?;
        // Of too few, it is not the test that takes one.
        if *set_aside > 0 && images >= needed {
            write!(f, ", of which {set_aside} belong to the test by what they show, so {left} are left")?;
        }
        if distinct < left {
            write!(f, ", which go together (copies, or of one group) and count as {distinct}")?;
        }
        match needed {
            1 => write!(f, "; expected at least 1 to train on")?,
            _ => write!(f, "; expected at least {needed}, one to train on and one to validate on")?,
        }
        write!(f, ": add images")?;
        if let Some(fraction) = test_fraction {
            write!(f, ", or set fewer aside with --set data.test_fraction={fraction}")?;
        }
        Ok(())
    }
}
