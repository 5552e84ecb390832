//! Which images of a data set are trained on, and which are validated on.

use data::{Dataset, DatasetPair, membership};

use crate::config::{DataConfig, TrainConfig};
use crate::seed::mix;
use crate::task::error::TaskError;

/// Classes, or sentences about them, that a message names.
const NAMED: usize = 20;

/// Positions in the training images of a data set, in ascending order.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) train: Vec<u32>,
    pub(crate) valid: Vec<u32>,
}

/// Classes without an image in a part.
#[derive(Debug, Default, PartialEq)]
struct Lacking {
    train: Vec<usize>,
    valid: Vec<usize>,
}

/// Divides the training images as the configuration says.
///
/// # Errors
/// [`TaskError::TooFew`] with the cause, when a class keeps nothing to train on or to validate on. Where the data itself
/// names what to validate on, and in folds, one image to validate on is enough, and classes without are warned of.
pub(crate) fn divide(config: &TrainConfig, pair: &DatasetPair) -> Result<Parts, TaskError> {
    let (settings, images) = (&config.data, &pair.train);
    let too_few = |reason: String| TaskError::TooFew { dataset: images.name.clone(), reason };
    let shortages = data::shortages(pair, !names_validation(settings, pair) && !images.labels.is_sets());
    if !shortages.is_empty() {
        let lines = shortages.iter().map(|shortage| format!("\n  {shortage}")).collect::<Vec<_>>();
        return Err(too_few(format!("too few images to train on{}", first_of(&lines, "", "\n  "))));
    }
    for (class, count) in images.class_names.iter().zip(images.class_counts()) {
        if count < settings.limit_per_class {
            let limit = settings.limit_per_class;
            tracing::warn!("class {class} has {count} labelled images, fewer than the limit {limit}");
        }
    }
    let parts = parts(settings, config.seed, pair);
    let lacking = lacking(images, &parts);
    if is_enough(settings, pair, &parts, &lacking) {
        if !lacking.valid.is_empty() {
            tracing::warn!(
                "no image to validate on of {}: the best epoch is chosen without them",
                named(images, &lacking.valid)
            );
        }
        return Ok(parts);
    }
    Err(too_few(cause(config, pair, &lacking)))
}

/// How many images of `pair.train` a run of this configuration learns from.
pub(crate) fn trained_images(config: &TrainConfig, pair: &DatasetPair) -> usize {
    parts(&config.data, config.seed, pair).train.len()
}

/// The images of `pair.train` that a run of this configuration validates on, in ascending order.
pub(crate) fn validation_part(config: &TrainConfig, pair: &DatasetPair) -> Vec<u32> {
    parts(&config.data, config.seed, pair).valid
}

/// Whether the data itself says what is validated on.
fn names_validation(settings: &DataConfig, pair: &DatasetPair) -> bool {
    !pair.valid.is_empty() && settings.folds == 0
}

fn is_enough(settings: &DataConfig, pair: &DatasetPair, parts: &Parts, lacking: &Lacking) -> bool {
    // Rare classes go together with others where images have several.
    let is_given = names_validation(settings, pair) || settings.fold > 0 || pair.train.labels.is_sets();
    lacking.train.is_empty() && if is_given { !parts.valid.is_empty() } else { lacking.valid.is_empty() }
}

fn lacking(images: &Dataset, parts: &Parts) -> Lacking {
    let all = images.class_counts();
    let without = |indices: &[u32]| {
        let counts = images.labels.subset(indices).counts(images.class_names.len());
        // A class without any image lacks nothing here.
        (0..counts.len()).filter(|&class| counts[class] == 0 && all[class] > 0).collect()
    };
    Lacking { train: without(&parts.train), valid: without(&parts.valid) }
}

/// The parts, whatever classes they lack.
fn parts(settings: &DataConfig, seed: u64, pair: &DatasetPair) -> Parts {
    let images = &pair.train;
    let labelled = limited(settings, seed, images);
    let valid = if names_validation(settings, pair) {
        labelled.iter().copied().filter(|index| pair.valid.binary_search(index).is_ok()).collect()
    } else if settings.fold > 0 {
        fold(settings, seed, images, &labelled)
    } else {
        held_back(settings, seed, images, &labelled)
    };
    let train = labelled.into_iter().filter(|index| valid.binary_search(index).is_err()).collect();
    Parts { train, valid }
}

/// Whether images are divided by their positions: those that never change, and with one class each.
fn is_by_index(images: &Dataset) -> bool {
    images.is_fixed() && !images.labels.is_sets()
}

/// The images that are used at all.
fn limited(settings: &DataConfig, seed: u64, images: &Dataset) -> Vec<u32> {
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let labels = images.labels.ones().unwrap_or_default();
    match (settings.limit, settings.limit_per_class, is_by_index(images)) {
        (0, 0, _) => all,
        (0, limit, true) => data::split::balanced_subset(labels, &all, limit, seed),
        (0, limit, false) => membership::balanced_subset(images, &all, limit, seed),
        (limit, _, true) => data::split::stratified_subset(labels, &all, limit, seed),
        (limit, _, false) => membership::subset(images, &all, limit, seed),
    }
}

/// The share of the labelled images that is held back.
fn held_back(settings: &DataConfig, seed: u64, images: &Dataset, labelled: &[u32]) -> Vec<u32> {
    if !is_by_index(images) {
        return membership::validation(images, labelled, settings.valid_fraction, seed);
    }
    let count = (labelled.len() as f64 * settings.valid_fraction).round() as usize;
    let labels = images.labels.ones().unwrap_or_default();
    let valid = data::split::stratified_subset(labels, labelled, count, mix(&[seed, 1]));
    membership::covering(images, labelled, &valid, seed)
}

/// The fold of the labelled images that is held back.
fn fold(settings: &DataConfig, seed: u64, images: &Dataset, labelled: &[u32]) -> Vec<u32> {
    let seed = if is_by_index(images) { mix(&[seed, 1]) } else { seed };
    dealt(images, labelled, settings.folds, seed).into_iter().nth(settings.fold - 1).unwrap_or_default()
}

/// The images `indices` dealt into `number` shares with the class shares of the whole, each in ascending order: by what
/// they show, copies together, or by their positions where those never change.
pub fn dealt(images: &Dataset, indices: &[u32], number: usize, seed: u64) -> Vec<Vec<u32>> {
    if !is_by_index(images) {
        return membership::folds(images, indices, number, seed);
    }
    let labels: Vec<u32> = indices.iter().map(|index| images.labels[*index as usize]).collect();
    let folds = data::split::stratified_folds(&labels, number, seed);
    let share = |share: Vec<u32>| share.into_iter().map(|position| indices[position as usize]).collect();
    folds.into_iter().map(|fold| share(fold.valid)).collect()
}

/// Why the parts are not enough although the data is, and what would help.
fn cause(config: &TrainConfig, pair: &DatasetPair, lacking: &Lacking) -> String {
    let (settings, images) = (&config.data, &pair.train);
    let what = match lacking {
        Lacking { train, .. } if !train.is_empty() => {
            format!("no image to train on of {}", named(images, train))
        }
        Lacking { valid, .. } => format!("no image to validate on of {}", named(images, valid)),
    };
    let works = |change: &dyn Fn(&mut DataConfig)| {
        let mut settings = settings.clone();
        change(&mut settings);
        let parts = parts(&settings, config.seed, pair);
        is_enough(&settings, pair, &parts, &self::lacking(images, &parts))
    };
    let DataConfig { limit, limit_per_class, folds, .. } = *settings;
    if limit > 0 && works(&|settings| settings.limit = 0) {
        let enough = larger(limit, images.len(), |number| works(&|settings| settings.limit = number));
        return format!("--limit {limit} leaves {what}; --limit {enough} is enough");
    }
    if limit_per_class > 0 && works(&|settings| settings.limit_per_class = 0) {
        let enough = larger(limit_per_class, images.len(), |number| {
            works(&|settings| settings.limit_per_class = number)
        });
        return format!(
            "--limit-per-class {limit_per_class} leaves {what}; --limit-per-class {enough} is enough"
        );
    }
    let every_fold = |number: usize| {
        (1..=number).all(|fold| works(&|settings| (settings.folds, settings.fold) = (number, fold)))
    };
    if settings.fold > 0
        && let Some(fewer) = (2..folds).rev().find(|&number| every_fold(number))
    {
        return format!(
            "data.folds = {folds} leaves {what} in fold {}; data.folds = {fewer} is possible",
            settings.fold
        );
    }
    format!(
        "there is {what}: its images go together with those of other classes, being of one group or copies of them; \
         add images that do not, or name those to validate on"
    )
}

/// A number above `from` and at most `most` that works, if not the smallest; `most` does.
fn larger(from: usize, most: usize, works: impl Fn(usize) -> bool) -> usize {
    let steps = std::iter::successors(Some(from + 1), |&number| Some(number + number / 8 + 1));
    steps.take_while(|&number| number < most).find(|&number| works(number)).unwrap_or(most)
}

/// The classes with their names, cut short.
fn named(images: &Dataset, classes: &[usize]) -> String {
    let names: Vec<String> =
        classes.iter().map(|&class| format!("class `{}`", images.class_names[class])).collect();
    first_of(&names, ", ", " ")
}

fn first_of(texts: &[String], between: &str, before_more: &str) -> String {
    let mut text = texts.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(between);
    if texts.len() > NAMED {
        text.push_str(&format!("{before_more}and {} more", texts.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use data::PictureReport;
    use model::{Fit, InputShape, Preprocessing};

    use super::*;

    /// `counts[class]` different pictures of each class, without a test part.
    fn pictures(counts: &[usize]) -> DatasetPair {
        let labels: Vec<u32> =
            counts.iter().enumerate().flat_map(|(class, &count)| vec![class as u32; count]).collect();
        let pixels = (0..labels.len() as u16).flat_map(u16::to_le_bytes).collect();
        let names = (0..counts.len()).map(|class| format!("c{class}")).collect();
        let train = Dataset::new("photos", pixels, labels, InputShape::new(1, 1, 2), names);
        DatasetPair {
            test: train.emptied(),
            preprocessing: Preprocessing {
                input: train.shape,
                mean: vec![0.5],
                std: vec![0.5],
                fit: Fit::default(),
            },
            train,
            sha256: BTreeMap::new(),
            origin: "memory".to_owned(),
            valid: Vec::new(),
            pictures: Some(PictureReport::default()),
            test_set_aside: true,
        }
    }

    fn config(change: impl FnOnce(&mut DataConfig)) -> TrainConfig {
        let mut config = TrainConfig::default();
        change(&mut config.data);
        config
    }

    fn fails(pair: &DatasetPair, change: impl FnOnce(&mut DataConfig)) -> String {
        divide(&config(change), pair).unwrap_err().to_string()
    }

    /// The number after `words` in a message.
    fn advised(message: &str, words: &str) -> usize {
        let rest = message.split(words).last().unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    #[test]
    fn small_folders_train_by_default_and_every_class_is_validated_on() {
        for counts in [vec![10; 20], vec![2; 31], vec![2, 300], vec![1000, 3, 2]] {
            for pair in [pictures(&counts), pictures(&counts).fixed()] {
                for seed in 1..20 {
                    let config = TrainConfig { seed, ..TrainConfig::default() };
                    let parts = divide(&config, &pair).unwrap();
                    assert_eq!(lacking(&pair.train, &parts), Lacking::default());
                    assert_eq!(parts.train.len() + parts.valid.len(), pair.train.len());
                }
            }
        }
    }

    #[test]
    fn one_picture_of_a_class_is_told_and_no_flag_is_blamed() {
        let error = fails(&pictures(&[1, 5, 1]), |_| {});
        for class in ["c0", "c2"] {
            let line = format!(
                "\n  class `{class}` has 1 image; expected at least 2, one to train on and one to validate on: add images"
            );
            assert!(error.contains(&line), "{error}");
        }
        assert!(!error.contains("--") && !error.contains("c1"), "{error}");
        let many = fails(&pictures(&[1; 30]), |_| {});
        assert!(many.lines().count() == 22 && many.ends_with("\n  and 10 more"), "{many}");
    }

    #[test]
    fn a_limit_is_blamed_where_it_is_the_cause_with_one_that_works() {
        for pair in [pictures(&[40, 40, 9, 2]), pictures(&[40, 40, 9, 2]).fixed()] {
            for limit in [1, 4, 7, 30] {
                let error = fails(&pair, |data| data.limit = limit);
                assert!(error.contains(&format!("--limit {limit} leaves no image to")), "{error}");
                let enough = advised(&error, "--limit ");
                assert!(
                    enough > limit && divide(&config(|data| data.limit = enough), &pair).is_ok(),
                    "{error}"
                );
            }
            let error = fails(&pair, |data| data.limit_per_class = 1);
            assert!(error.contains("--limit-per-class 2 is enough"), "{error}");
            assert!(divide(&config(|data| data.limit_per_class = 2), &pair).is_ok());
        }
    }

    #[test]
    fn folds_that_are_too_many_are_told_with_a_number_that_works() {
        for pair in [pictures(&[2, 3]), pictures(&[2, 3]).fixed()] {
            let error = fails(&pair, |data| (data.folds, data.fold) = (9, 9));
            let enough = advised(&error, "data.folds = ");
            assert!((2..=5).contains(&enough), "{error}");
            for fold in 1..=enough {
                divide(&config(|data| (data.folds, data.fold) = (enough, fold)), &pair).unwrap();
            }
        }
    }

    #[test]
    fn what_the_data_names_to_validate_on_is_enough_with_one_picture() {
        let mut pair = pictures(&[3, 3, 1]);
        pair.valid = vec![1];
        let parts = divide(&config(|_| {}), &pair).unwrap();
        assert_eq!((parts.valid, parts.train), (vec![1], vec![0, 2, 3, 4, 5, 6]));
        // A class that has pictures to validate on alone.
        pair.valid = vec![6];
        let error = fails(&pair, |_| {});
        assert!(error.contains("class `c2` has no") && !error.contains("--"), "{error}");
    }

    #[test]
    fn a_class_that_is_named_and_has_no_image_stops_no_data_but_pictures() {
        let mut pair = pictures(&[0, 4, 4]);
        assert!(fails(&pair, |_| {}).contains("class `c0` has no usable image"));
        pair.pictures = None;
        divide(&config(|_| {}), &pair).unwrap();
    }

    #[test]
    fn groups_that_hold_a_class_together_are_named_as_the_cause() {
        // All are of one group.
        let mut pair = pictures(&[2, 2]);
        let units = &pair.train.units;
        pair.train.units = [units[0], units[0], units[0], units[0]].into();
        let error = fails(&pair, |_| {});
        assert!(error.contains("go together (copies, or of one group) and count as 1"), "{error}");
    }

    #[test]
    fn shares_are_dealt_by_what_images_show_and_copies_stay_together() {
        let known = pictures(&[30, 31]).fixed();
        let all: Vec<u32> = (5..61).collect();
        let shares = dealt(&known.train, &all, 3, 7);
        let expected = data::split::stratified_folds(&known.train.labels.ones().unwrap()[5..], 3, 7);
        for (share, fold) in shares.iter().zip(&expected) {
            assert!(share.iter().copied().eq(fold.valid.iter().map(|position| position + 5)));
        }
        // Every picture three times.
        let pixels = (0..60u16).flat_map(|n| (n % 20).to_le_bytes()).collect();
        let labels: Vec<u32> = (0..60).map(|n| n % 2).collect();
        let train = Dataset::new("photos", pixels, labels, InputShape::new(1, 1, 2), known.train.class_names);
        let shares = dealt(&train, &(0..60).collect::<Vec<_>>(), 4, 7);
        for share in &shares {
            assert_eq!(share.len(), 15);
            assert!(share.iter().all(|&index| share.contains(&((index + 20) % 60))), "{share:?}");
        }
    }

    #[test]
    fn known_data_keeps_its_split_and_other_data_is_divided_by_what_it_shows() {
        let pair = pictures(&[60, 60]).fixed();
        let seed = TrainConfig::default().seed;
        let valid = data::split::stratified_subset(
            pair.train.labels.ones().unwrap(),
            &(0..120).collect::<Vec<_>>(),
            10,
            mix(&[seed, 1]),
        );
        assert_eq!(divide(&config(|_| {}), &pair).unwrap().valid, valid);
        // Another order of the same pictures.
        let (whole, mut turned) = (pictures(&[60, 60]), pictures(&[60, 60]));
        let train = &turned.train;
        let pixels = train.pixels.chunks_exact(2).rev().flatten().copied().collect();
        let labels: Vec<u32> = train.labels.ones().unwrap().iter().rev().copied().collect();
        turned.train = Dataset::new("photos", pixels, labels, train.shape, train.class_names.clone());
        for change in [
            (|_| {}) as fn(&mut DataConfig),
            |data| data.limit = 50,
            |data| data.limit_per_class = 20,
            |data| (data.folds, data.fold) = (4, 2),
        ] {
            let content = |pair: &DatasetPair| {
                let parts = divide(&config(change), pair).unwrap();
                let content = |index: &u32| pair.train.content[*index as usize];
                let sorted = |indices: &[u32]| {
                    let mut content: Vec<_> = indices.iter().map(content).collect();
                    content.sort_unstable();
                    content
                };
                (sorted(&parts.train), sorted(&parts.valid))
            };
            assert_eq!(content(&whole), content(&turned));
        }
    }
}
