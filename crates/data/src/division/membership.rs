//! Which images go into which part, decided by what they show: whoever adds, removes, renames or sorts pictures moves
//! no other picture, and copies of a picture stay together.
//!
//! What belongs together is a unit (see [`Dataset::units`](crate::Dataset)): a picture with all its copies, or a group.
//! A number between 0 and 1 is drawn from the SHA-256 of a purpose, a seed and the unit; a part is what draws less
//! than its share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::split::shares;
use crate::dataset::ContentHash;
use crate::dataset::Dataset;

/// What a number is drawn for. Draws for different purposes have nothing to do with each other.
#[derive(Clone, Copy)]
enum Purpose {
    Test,
    Validation,
    Fold,
    Subset,
}

impl Purpose {
    /// These texts never change: what one run tests on, no other may train on.
    fn domain(self) -> &'static str {
        match self {
            Self::Test => "kiln: test",
            Self::Validation => "kiln: validation",
            Self::Fold => "kiln: fold",
            Self::Subset => "kiln: subset",
        }
    }

    fn draw(self, seed: u64, unit: &ContentHash) -> u64 {
        let hash = Sha256::new()
            .chain_update(self.domain())
            .chain_update(seed.to_le_bytes())
            .chain_update(unit.bytes())
            .finalize();
        hash[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

/// A draw as a number in `0..1`, with 53 random bits.
fn unit_interval(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// The number that decides whether a unit is tested on: it is where this is below the share of the test part, in every
/// run and whatever the seed.
pub(crate) fn test_draw(unit: &ContentHash) -> f64 {
    unit_interval(Purpose::Test.draw(0, unit))
}

/// A unit with its members among the images to divide.
#[derive(Clone, Debug)]
struct Unit {
    draw: u64,
    members: Vec<u32>,
    /// Each class of a member once.
    classes: Vec<u32>,
}

/// The units of the images `indices`, in ascending order of their draws.
fn units(dataset: &Dataset, indices: &[u32], purpose: Purpose, seed: u64) -> Vec<Unit> {
    let mut by_unit: BTreeMap<(ContentHash, Option<u32>), Vec<u32>> = BTreeMap::new();
    for &index in indices {
        let at = index as usize;
        let unit =
            if dataset.is_fixed() { (dataset.content[at], Some(index)) } else { (dataset.units[at], None) };
        by_unit.entry(unit).or_default().push(index);
    }
    let units = by_unit.into_iter().map(|((unit, _), members)| {
        let mut classes: Vec<u32> =
            members.iter().flat_map(|&index| dataset.labels.of(index as usize)).copied().collect();
        classes.sort_unstable();
        classes.dedup();
        Unit { draw: purpose.draw(seed, &unit), members, classes }
    });
    let mut units: Vec<Unit> = units.collect();
    units.sort_by_key(|unit| unit.draw);
    units
}

/// Units of each class among the images `indices`: as many as can be told apart.
pub(crate) fn unit_counts(dataset: &Dataset, indices: &[u32]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut counts = vec![0; dataset.class_names.len()];
    for &index in indices {
        for &label in dataset.labels.of(index as usize) {
            if dataset.is_fixed() || seen.insert((dataset.units[index as usize], label)) {
                counts[label as usize] += 1;
            }
        }
    }
    counts
}

/// Which of the images `indices` to validate on: those whose units draw less than `fraction`; in ascending order.
/// See [`covering`] for what else is done.
pub fn validation(dataset: &Dataset, indices: &[u32], fraction: f64, seed: u64) -> Vec<u32> {
    let units = units(dataset, indices, Purpose::Validation, seed);
    let held_back = units.iter().map(|unit| unit_interval(unit.draw) < fraction).collect();
    cover(dataset.class_names.len(), &units, held_back)
}

/// `valid`, images among `indices` in ascending order, changed as little as gives every class an image to train on and
/// one to validate on. A class without one to train on keeps its unit with the largest draw; after that, of a class
/// without one to validate on the unit with the smallest draw is taken, unless some class would keep nothing to train
/// on.
pub fn covering(dataset: &Dataset, indices: &[u32], valid: &[u32], seed: u64) -> Vec<u32> {
    let classes = dataset.class_names.len();
    let mut counts = vec![[0usize; 2]; classes];
    for index in indices {
        let part = usize::from(valid.binary_search(index).is_ok());
        dataset.labels.of(*index as usize).iter().for_each(|&label| counts[label as usize][part] += 1);
    }
    if counts.iter().all(|[train, valid]| (*train > 0) == (*valid > 0)) {
        return valid.to_vec();
    }
    let units = units(dataset, indices, Purpose::Validation, seed);
    let is_valid = |unit: &Unit| unit.members.iter().any(|index| valid.binary_search(index).is_ok());
    let held_back = units.iter().map(is_valid).collect();
    cover(classes, &units, held_back)
}

fn cover(classes: usize, units: &[Unit], mut held_back: Vec<bool>) -> Vec<u32> {
    // Units of each class to train on and to validate on.
    let mut counts = vec![[0usize; 2]; classes];
    for (unit, &valid) in units.iter().zip(&held_back) {
        unit.classes.iter().for_each(|&class| counts[class as usize][usize::from(valid)] += 1);
    }
    let mut flip = |at: usize, counts: &mut [[usize; 2]]| {
        for &class in &units[at].classes {
            let [train, valid] = &mut counts[class as usize];
            let (from, to) = if held_back[at] { (valid, train) } else { (train, valid) };
            *from -= 1;
            *to += 1;
        }
        held_back[at] = !held_back[at];
    };
    let mut of_class = vec![Vec::new(); classes];
    for (at, unit) in units.iter().enumerate() {
        unit.classes.iter().for_each(|&class| of_class[class as usize].push(at));
    }
    for (class, own) in of_class.iter().enumerate() {
        if counts[class][0] == 0
            && let Some(&last) = own.last()
        {
            flip(last, &mut counts);
        }
    }
    for (class, own) in of_class.iter().enumerate() {
        let spare = |at: &&usize| units[**at].classes.iter().all(|&own| counts[own as usize][0] > 1);
        if counts[class][1] == 0
            && let Some(&first) = own.iter().find(spare)
        {
            flip(first, &mut counts);
        }
    }
    let held_back = units.iter().zip(held_back).filter(|(_, valid)| *valid);
    in_order(held_back.flat_map(|(unit, _)| unit.members.iter().copied()))
}

fn in_order(indices: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut indices: Vec<u32> = indices.collect();
    indices.sort_unstable();
    indices
}

/// The images `indices` dealt into `k` folds (0 counts as 1), each in ascending order: a unit is in one fold, and the
/// folds have as nearly as that allows the same number of images, of each class and in total.
pub fn folds(dataset: &Dataset, indices: &[u32], k: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut units = units(dataset, indices, Purpose::Fold, seed);
    // Class by class, and what is large first, while there is still room to even it out.
    units.sort_by_key(|unit| (Reverse(unit.members.len()), unit.classes.first().copied(), unit.draw));
    let mut folds = vec![Vec::new(); k.max(1)];
    let mut counts = vec![vec![0usize; dataset.class_names.len()]; folds.len()];
    for unit in units {
        let load = |fold: usize| {
            let own: usize = unit.classes.iter().map(|&class| counts[fold][class as usize]).sum();
            (own, folds[fold].len(), fold)
        };
        let Some(fold) = (0..folds.len()).min_by_key(|&fold| load(fold)) else {
            continue;
        };
        let labels = unit.members.iter().flat_map(|&index| dataset.labels.of(index as usize));
        labels.for_each(|&label| counts[fold][label as usize] += 1);
        folds[fold].extend(unit.members);
    }
    for fold in &mut folds {
        fold.sort_unstable();
    }
    folds
}

/// `n` of the images `indices`, at most all of them, with the class shares of `indices`, or with the shares of the sets of
/// classes where images have those; in ascending order.
pub fn subset(dataset: &Dataset, indices: &[u32], n: usize, seed: u64) -> Vec<u32> {
    let classes = drawn_classes(dataset, indices, seed);
    let counts: Vec<usize> = classes.iter().map(Vec::len).collect();
    let shares = shares(&counts, n);
    in_order(classes.into_iter().zip(shares).flat_map(|(members, share)| members.into_iter().take(share)))
}

/// `n` of the images of every class (every set of classes) among `indices`, all of a class that has fewer; in ascending
/// order.
pub fn balanced_subset(dataset: &Dataset, indices: &[u32], n: usize, seed: u64) -> Vec<u32> {
    in_order(
        drawn_classes(dataset, indices, seed).into_iter().flat_map(|members| members.into_iter().take(n)),
    )
}

/// The images of each class, or of each set of classes, in ascending order of their units' draws.
fn drawn_classes(dataset: &Dataset, indices: &[u32], seed: u64) -> Vec<Vec<u32>> {
    let mut classes: BTreeMap<&[u32], Vec<u32>> = BTreeMap::new();
    for mut unit in units(dataset, indices, Purpose::Subset, seed) {
        unit.members.sort_by_key(|&index| (dataset.content[index as usize], index));
        for index in unit.members {
            classes.entry(dataset.labels.of(index as usize)).or_default().push(index);
        }
    }
    classes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::InputShape;
    use proptest::prelude::*;

    const CLASSES: u32 = 4;

    /// One image for each (what it shows, label).
    fn images(shown: &[(u16, u32)]) -> Dataset {
        let pixels = shown.iter().flat_map(|(what, _)| what.to_le_bytes()).collect();
        let labels: Vec<u32> = shown.iter().map(|(_, label)| *label).collect();
        let names = (0..CLASSES).map(|class| class.to_string()).collect();
        Dataset::new("shown", pixels, labels, InputShape::new(1, 1, 2), names)
    }

    fn all(dataset: &Dataset) -> Vec<u32> {
        (0..dataset.len() as u32).collect()
    }

    /// What the images at `indices` show.
    fn what(shown: &[(u16, u32)], indices: &[u32]) -> Vec<u16> {
        let mut what: Vec<u16> = indices.iter().map(|&index| shown[index as usize].0).collect();
        what.sort_unstable();
        what
    }

    fn class_count(dataset: &Dataset, indices: &[u32], class: u32) -> usize {
        indices.iter().filter(|&&index| dataset.labels[index as usize] == class).count()
    }

    /// Different pictures, the label of each following from what it shows.
    fn distinct(whats: std::collections::BTreeSet<u16>) -> Vec<(u16, u32)> {
        whats.into_iter().map(|what| (what, (u32::from(what) % CLASSES))).collect()
    }

    fn pictures() -> impl Strategy<Value = Vec<(u16, u32)>> {
        prop::collection::btree_set(any::<u16>(), 1..150).prop_map(distinct)
    }

    #[test]
    fn draws_never_change() {
        let unit = ContentHash::of_pixels(1, 1, 1, &[7]);
        assert_eq!(Purpose::Test.draw(0, &unit), TEST_DRAW);
        assert!((test_draw(&unit) - TEST_DRAW as f64 / 2.0f64.powi(64)).abs() < 1e-15);
        assert_ne!(Purpose::Validation.draw(0, &unit), TEST_DRAW);
        assert_ne!(Purpose::Validation.draw(1, &unit), Purpose::Validation.draw(0, &unit));
    }

    /// By Python: the first 8 bytes of
    /// `sha256(b"kiln: test" + bytes(8) + sha256(struct.pack("<QQQB", 1, 1, 1, 7)).digest())`, big-endian.
    const TEST_DRAW: u64 = 0x98c2_574f_76b7_f267;

    #[test]
    fn shares_of_the_classes_are_within_binomial_bounds() {
        let shown: Vec<(u16, u32)> = (0..8000).map(|what| (what, u32::from(what % 7 % 4))).collect();
        let dataset = images(&shown);
        let tested: Vec<u32> =
            (0..8000).filter(|&index| test_draw(&dataset.units[index as usize]) < 0.15).collect();
        for (part, fraction) in
            [(tested, 0.15), (validation(&dataset, &all(&dataset), 1.0 / 12.0, 3), 1.0 / 12.0)]
        {
            for class in 0..CLASSES {
                let of_class = class_count(&dataset, &all(&dataset), class) as f64;
                let found = class_count(&dataset, &part, class) as f64;
                let deviation = (of_class * fraction * (1.0 - fraction)).sqrt();
                assert!((found - of_class * fraction).abs() < 4.0 * deviation, "class {class}: {found}");
            }
        }
    }

    #[test]
    fn a_class_that_drew_nothing_gives_its_smallest_draw_and_keeps_its_largest() {
        let dataset = images(&distinct((0..40).collect()));
        let shown_class = |index: u32| index % CLASSES;
        // Nothing draws less than so little, and all draw less than so much.
        let smallest = validation(&dataset, &all(&dataset), 1e-9, 5);
        let largest = validation(&dataset, &all(&dataset), 1.0 - 1e-9, 5);
        let draw = |index: u32| Purpose::Validation.draw(5, &dataset.units[index as usize]);
        for class in 0..CLASSES {
            let of_class = || all(&dataset).into_iter().filter(move |&index| shown_class(index) == class);
            let held_back: Vec<u32> =
                smallest.iter().copied().filter(|&at| shown_class(at) == class).collect();
            assert_eq!(held_back, [of_class().min_by_key(|&index| draw(index)).unwrap()]);
            let kept: Vec<u32> = of_class().filter(|index| !largest.contains(index)).collect();
            assert_eq!(kept, [of_class().max_by_key(|&index| draw(index)).unwrap()]);
        }
    }

    #[test]
    fn a_group_of_two_classes_is_not_taken_from_one_that_needs_it() {
        // Each class has one picture of its own and one in the group: whichever is taken first, the group may be so once.
        let mut dataset = images(&[(0, 0), (1, 1), (2, 1), (3, 0)]);
        let group = ContentHash::of_group("one");
        dataset.units = [group, group, dataset.units[2], dataset.units[3]].into();
        let valid = validation(&dataset, &all(&dataset), 1e-9, 1);
        let train: Vec<u32> = all(&dataset).into_iter().filter(|index| !valid.contains(index)).collect();
        assert!(valid.contains(&0) == valid.contains(&1), "a group stays together");
        for class in 0..2 {
            assert!(class_count(&dataset, &valid, class) > 0 && class_count(&dataset, &train, class) > 0);
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_images_has_no_part_in_it(
            (sorted, shuffled) in pictures().prop_flat_map(|shown| (Just(shown.clone()), Just(shown).prop_shuffle())),
            n in 0usize..40, k in 1usize..6, seed: u64, fraction in 0.0f64..1.0,
        ) {
            let (a, b) = (images(&sorted), images(&shuffled));
            let same = |of_a: &[u32], of_b: &[u32]| what(&sorted, of_a) == what(&shuffled, of_b);
            prop_assert!(same(&validation(&a, &all(&a), fraction, seed), &validation(&b, &all(&b), fraction, seed)));
            prop_assert!(same(&subset(&a, &all(&a), n, seed), &subset(&b, &all(&b), n, seed)));
            prop_assert!(same(&balanced_subset(&a, &all(&a), n, seed), &balanced_subset(&b, &all(&b), n, seed)));
            for (fold_a, fold_b) in folds(&a, &all(&a), k, seed).iter().zip(&folds(&b, &all(&b), k, seed)) {
                prop_assert!(same(fold_a, fold_b));
            }
        }

        #[test]
        fn pictures_that_come_and_go_leave_the_others_where_they_were(
            shown in pictures(), keep in prop::collection::vec(any::<bool>(), 150), n in 1usize..20, seed: u64,
        ) {
            let fewer: Vec<(u16, u32)> =
                shown.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(one, _)| *one).collect();
            let (whole, part) = (images(&shown), images(&fewer));
            // Those that are moved to give a class an image are the exception.
            let drawn = |dataset: &Dataset, shown: &[(u16, u32)]| -> Vec<u16> {
                let below = |index: &u32| {
                    unit_interval(Purpose::Validation.draw(seed, &dataset.units[*index as usize])) < 0.2
                };
                what(shown, &all(dataset).into_iter().filter(below).collect::<Vec<_>>())
            };
            let (of_whole, of_part) = (drawn(&whole, &shown), drawn(&part, &fewer));
            prop_assert!(of_part.iter().all(|one| of_whole.contains(one)));
            for class in 0..CLASSES {
                let held_back = validation(&whole, &all(&whole), 0.2, seed);
                let own = |shown: &[(u16, u32)], what: &u16| shown.contains(&(*what, class));
                let expected: Vec<u16> = of_whole.iter().copied().filter(|one| own(&shown, one)).collect();
                let of_class = class_count(&whole, &all(&whole), class);
                if !expected.is_empty() && expected.len() < of_class {
                    let found: Vec<u16> =
                        what(&shown, &held_back).into_iter().filter(|one| own(&shown, one)).collect();
                    prop_assert_eq!(found, expected);
                }
            }
            // The first of each class by their draws: what was left out before is left out still.
            let of_whole = what(&shown, &balanced_subset(&whole, &all(&whole), n, seed));
            let of_part = what(&fewer, &balanced_subset(&part, &all(&part), n, seed));
            prop_assert!(of_whole.iter().all(|one| of_part.contains(one) || !fewer.iter().any(|(what, _)| what == one)));
        }

        #[test]
        fn copies_and_groups_stay_together(
            shown in prop::collection::vec((0u16..30, 0..CLASSES), 1..150), by_group: bool, k in 1usize..6, seed: u64,
            fraction in 0.0f64..1.0,
        ) {
            let mut dataset = images(&shown);
            if by_group {
                dataset.units = shown.iter().map(|(what, _)| ContentHash::of_group(&(what % 10).to_string())).collect();
            }
            let together = |part: &[u32]| {
                let inside: HashSet<ContentHash> = part.iter().map(|&index| dataset.units[index as usize]).collect();
                (0..dataset.len() as u32).all(|index| {
                    inside.contains(&dataset.units[index as usize]) == part.binary_search(&index).is_ok()
                })
            };
            prop_assert!(together(&validation(&dataset, &all(&dataset), fraction, seed)));
            let folds = folds(&dataset, &all(&dataset), k, seed);
            prop_assert!(folds.iter().all(|fold| together(fold)));
            prop_assert_eq!(in_order(folds.concat().into_iter()), all(&dataset));
        }

        #[test]
        fn every_class_of_two_pictures_is_trained_and_validated_on(
            shown in pictures(), seed: u64, fraction in 0.0f64..1.0, fixed: bool,
        ) {
            let mut dataset = images(&shown);
            let valid = if fixed {
                dataset.units = [].into();
                covering(&dataset, &all(&dataset), &all(&dataset)[..(shown.len() as f64 * fraction) as usize], seed)
            } else {
                validation(&dataset, &all(&dataset), fraction, seed)
            };
            for class in 0..CLASSES {
                let (of_class, held_back) =
                    (class_count(&dataset, &all(&dataset), class), class_count(&dataset, &valid, class));
                if of_class >= 2 {
                    prop_assert!(held_back > 0 && held_back < of_class, "{} of {}", held_back, of_class);
                }
            }
        }

        #[test]
        fn folds_of_pictures_are_even(shown in pictures(), k in 1usize..8, seed: u64) {
            let dataset = images(&shown);
            let folds = folds(&dataset, &all(&dataset), k, seed);
            let spread = |sizes: Vec<usize>| sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            prop_assert!(spread(folds.iter().map(Vec::len).collect()) <= 1);
            for class in 0..CLASSES {
                prop_assert!(spread(folds.iter().map(|fold| class_count(&dataset, fold, class)).collect()) <= 1);
            }
        }

        #[test]
        fn a_subset_has_the_shares_of_the_whole(shown in pictures(), n in 0usize..200, seed: u64) {
            let dataset = images(&shown);
            let chosen = subset(&dataset, &all(&dataset), n, seed);
            prop_assert_eq!(chosen.len(), n.min(shown.len()));
            for class in 0..CLASSES {
                let share = chosen.len() as f64 / shown.len() as f64;
                let exact = class_count(&dataset, &all(&dataset), class) as f64 * share;
                prop_assert!((class_count(&dataset, &chosen, class) as f64 - exact).abs() < 1.0);
            }
        }
    }
}
