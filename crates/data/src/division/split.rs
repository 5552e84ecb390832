//! Stratified folds and subsets. Each is a pure function of the labels and a seed, and keeps the
//! share of every class to within one sample.

use crate::rng::{Purpose, Stream};

/// Two disjoint sets of sample indices, each in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Samples to train on.
    pub train: Vec<u32>,
    /// Samples held out to select by.
    pub valid: Vec<u32>,
}

/// `k` splits for cross-validation: every sample is held out by exactly one, and the held-out sets differ in
/// size by at most one sample, in total as well as for each class. `k` 0 counts as 1, which holds out everything.
pub fn stratified_folds(labels: &[u32], k: usize, seed: u64) -> Vec<Split> {
    let k = k.max(1);
    // Dealing like cards, without a fresh start for each class, keeps the totals even too.
    let mut fold_of = vec![0; labels.len()];
    let dealt = shuffled_classes(labels, 0..labels.len() as u32, seed, Purpose::Folds).into_iter().flatten();
    for (position, index) in dealt.enumerate() {
        fold_of[index as usize] = position % k;
    }
    (0..k)
        .map(|fold| {
            let (valid, train) = (0..labels.len() as u32).partition(|&index| fold_of[index as usize] == fold);
            Split { train, valid }
        })
        .collect()
}

/// `n` of the samples `indices`, at most all of them, with the class shares of `indices`; in ascending order.
pub fn stratified_subset(labels: &[u32], indices: &[u32], n: usize, seed: u64) -> Vec<u32> {
    let classes = shuffled_classes(labels, indices.iter().copied(), seed, Purpose::Subset);
    let counts: Vec<usize> = classes.iter().map(Vec::len).collect();
    let mut taken: Vec<u32> = classes
        .iter()
        .zip(shares(&counts, n))
        .flat_map(|(members, share)| &members[..share])
        .copied()
        .collect();
    taken.sort_unstable();
    taken
}

/// `n` of the samples of every class among `indices`, all of a class that has fewer; in ascending order.
pub fn balanced_subset(labels: &[u32], indices: &[u32], n: usize, seed: u64) -> Vec<u32> {
    let mut taken: Vec<u32> = shuffled_classes(labels, indices.iter().copied(), seed, Purpose::Subset)
        .into_iter()
        .flat_map(|members| members.into_iter().take(n))
        .collect();
    taken.sort_unstable();
    taken
}

/// The samples of each class, in random order.
fn shuffled_classes(
    labels: &[u32],
    indices: impl IntoIterator<Item = u32>,
    seed: u64,
    purpose: Purpose,
) -> Vec<Vec<u32>> {
    let mut classes = vec![Vec::new(); labels.iter().max().map_or(0, |&highest| highest as usize + 1)];
    for index in indices {
        classes[labels[index as usize] as usize].push(index);
    }
    for (class, members) in classes.iter_mut().enumerate() {
        Stream::new(seed, purpose, [class as u64, 0]).shuffle(members);
    }
    classes
}

/// Divides `n` among classes in proportion to their counts, by the largest remainder.
pub(crate) fn shares(counts: &[usize], n: usize) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let n = n.min(total);
    if total == 0 {
        return vec![0; counts.len()];
    }
    let exact = |class: usize| n as u128 * counts[class] as u128;
    let mut shares: Vec<usize> =
        (0..counts.len()).map(|class| (exact(class) / total as u128) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder.sort_by_key(|&class| (std::cmp::Reverse(exact(class) % total as u128), class));
    let missing = n - shares.iter().sum::<usize>();
    for &class in &by_remainder[..missing] {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(labels: &[u32], indices: &[u32], class: u32) -> usize {
        indices.iter().filter(|&&index| labels[index as usize] == class).count()
    }

    fn merged(split: &Split) -> Vec<u32> {
        let mut all = [&split.train[..], &split.valid[..]].concat();
        all.sort_unstable();
        all
    }

    #[test]
    fn shares_by_largest_remainder() {
        // 10 of (6, 3, 2): exact shares 5.45, 2.73, 1.82.
        assert_eq!(shares(&[6, 3, 2], 10), [5, 3, 2]);
        assert_eq!(shares(&[6, 3, 2], 99), [6, 3, 2]);
        assert_eq!(shares(&[0, 0], 1), [0, 0]);
    }

    #[test]
    fn a_seed_gives_the_same_subset_for_ever() {
        let labels: Vec<u32> = (0..40).map(|i| i * i % 3).collect();
        let all: Vec<u32> = (0..40).collect();
        assert_eq!(stratified_subset(&labels, &all, 8, 42), [0, 2, 6, 7, 11, 30, 31, 34]);
    }

    proptest! {
        #[test]
        fn folds_hold_out_every_sample_once(
            labels in prop::collection::vec(0u32..4, 0..200), k in 1usize..8, seed: u64,
        ) {
            let folds = stratified_folds(&labels, k, seed);
            let mut held_out: Vec<u32> = folds.iter().flat_map(|fold| fold.valid.clone()).collect();
            held_out.sort_unstable();
            prop_assert_eq!(held_out, (0..labels.len() as u32).collect::<Vec<_>>());
            for fold in &folds {
                prop_assert_eq!(merged(fold), (0..labels.len() as u32).collect::<Vec<_>>());
            }
            let spread = |sizes: Vec<usize>| sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            prop_assert!(spread(folds.iter().map(|fold| fold.valid.len()).collect()) <= 1);
            for class in 0..4 {
                let held_out = folds.iter().map(|fold| count(&labels, &fold.valid, class));
                prop_assert!(spread(held_out.collect()) <= 1);
            }
        }

        #[test]
        fn subset_comes_from_the_indices(
            labels in prop::collection::vec(0u32..4, 1..200), n in 0usize..250, seed: u64,
        ) {
            let indices: Vec<u32> = (0..labels.len() as u32).step_by(2).collect();
            let subset = stratified_subset(&labels, &indices, n, seed);
            prop_assert_eq!(subset.len(), n.min(indices.len()));
            prop_assert!(subset.iter().all(|index| indices.contains(index)));
            prop_assert!(subset.windows(2).all(|pair| pair[0] < pair[1]));
            for class in 0..4 {
                let share = subset.len() as f64 / indices.len() as f64;
                let exact = count(&labels, &indices, class) as f64 * share;
                prop_assert!((count(&labels, &subset, class) as f64 - exact).abs() < 1.0);
            }
        }
    }

    #[test]
    fn a_balanced_subset_takes_as_many_of_every_class_as_there_are() {
        let labels = [0, 1, 0, 0, 2, 1, 0, 2, 2, 0];
        let all: Vec<u32> = (0..10).collect();
        let subset = balanced_subset(&labels, &all, 2, 7);
        assert_eq!([0, 1, 2].map(|class| count(&labels, &subset, class)), [2, 2, 2]);
        assert!(subset.windows(2).all(|pair| pair[0] < pair[1]));
        let most = balanced_subset(&labels, &all, 4, 7);
        assert_eq!([0, 1, 2].map(|class| count(&labels, &most, class)), [4, 2, 3]);
        assert!(subset.iter().all(|index| most.contains(index)), "a larger subset holds the smaller one");
    }

    #[test]
    fn classes_of_large_numbers_are_classes_of_their_own() {
        let labels: Vec<u32> = (0..40).map(|i| [0, 256, 300, 70_000][i % 4]).collect();
        let all: Vec<u32> = (0..40).collect();
        let subset = stratified_subset(&labels, &all, 8, 1);
        assert_eq!([0, 256, 300, 70_000].map(|class| count(&labels, &subset, class)), [2; 4]);
        let folds = stratified_folds(&labels, 5, 1);
        assert!(folds.iter().all(|fold| count(&labels, &fold.valid, 256) == 2));
    }

    #[test]
    fn seeds_differ() {
        let labels = vec![0; 1000];
        let all: Vec<u32> = (0..1000).collect();
        assert_ne!(stratified_subset(&labels, &all, 100, 1), stratified_subset(&labels, &all, 100, 2));
    }
}
