//! Which images an epoch consists of, and in which order.

use serde::{Deserialize, Serialize};

use crate::augment::Pick;
use crate::rng::{Purpose, Stream};

/// Which images an epoch consists of. Either way an epoch has as many as the split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Every image once.
    #[default]
    Once,
    /// Every class equally often, to within one: of a frequent class a random part, the images of a rare one
    /// repeatedly. Within a class no image comes more than once more often than another.
    Balanced,
}

/// The images of `epoch`: those of `indices` once in random order, or balanced. `labels` are those of the data set.
pub(crate) fn order(sampler: Sampler, indices: &[u32], labels: &[u32], seed: u64, epoch: usize) -> Vec<Pick> {
    let mut order: Vec<Pick> = match sampler {
        Sampler::Once => indices.iter().copied().map(Pick::from).collect(),
        Sampler::Balanced => balanced(indices, labels, seed, epoch),
    };
    Stream::new(seed, Purpose::Order, [epoch as u64, 0]).shuffle(&mut order);
    order
}

fn balanced(indices: &[u32], labels: &[u32], seed: u64, epoch: usize) -> Vec<Pick> {
    let highest = indices.iter().map(|&index| labels[index as usize]).max();
    let mut classes = vec![Vec::new(); highest.map_or(0, |label| label as usize + 1)];
    for &index in indices {
        classes[labels[index as usize] as usize].push(index);
    }
    classes.retain(|members| !members.is_empty());
    // What does not divide evenly goes to other classes in every epoch.
    let mut stream = Stream::new(seed, Purpose::Balance, [epoch as u64, 0]);
    stream.shuffle(&mut classes);
    let (share, rest) = (indices.len() / classes.len().max(1), indices.len() % classes.len().max(1));
    let mut picks = Vec::with_capacity(indices.len());
    for (position, mut members) in classes.into_iter().enumerate() {
        let wanted = share + usize::from(position < rest);
        stream.shuffle(&mut members);
        let count = members.len();
        picks.extend((0..wanted).map(|n| Pick { index: members[n % count], repetition: (n / count) as u32 }));
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rare_images_are_repeated_and_frequent_ones_left_out() {
        // 90 of class 0, 9 of class 1, 1 of class 2.
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 90) + u32::from(i >= 99)).collect();
        let indices: Vec<u32> = (0..100).collect();
        let picks = order(Sampler::Balanced, &indices, &labels, 1, 0);
        assert_eq!(picks.len(), 100);
        let label = |pick: &&Pick| labels[pick.index as usize];
        let of = |class: u32| picks.iter().filter(move |pick| label(pick) == class);
        let counts = [0, 1, 2].map(|class| of(class).count());
        assert!(counts.iter().all(|count| (33..=34).contains(count)), "{counts:?}");
        let repetitions: Vec<u32> = of(2).map(|pick| pick.repetition).collect();
        let mut sorted = repetitions.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..counts[2] as u32).collect::<Vec<_>>());
        assert!(of(0).all(|pick| pick.repetition == 0));
        let other = order(Sampler::Balanced, &indices, &labels, 1, 1);
        assert_ne!(picks, other);
    }

    #[test]
    fn classes_of_large_numbers_are_classes_of_their_own() {
        let labels: Vec<u32> = (0..90).map(|i| [0, 0, 0, 256, 512][i % 5]).collect();
        let picks = order(Sampler::Balanced, &(0..90).collect::<Vec<_>>(), &labels, 1, 0);
        let of = |class: u32| picks.iter().filter(|pick| labels[pick.index as usize] == class).count();
        assert_eq!([0, 256, 512].map(of), [30; 3]);
    }

    proptest! {
        #[test]
        fn an_epoch_has_its_length_whatever_the_classes(
            labels in prop::collection::vec(0u32..5, 1..200), epoch in 0usize..4, seed: u64,
        ) {
            let indices: Vec<u32> = (0..labels.len() as u32).collect();
            let once = order(Sampler::Once, &indices, &labels, seed, epoch);
            let mut sorted: Vec<u32> = once.iter().map(|pick| pick.index).collect();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &indices);
            let picks = order(Sampler::Balanced, &indices, &labels, seed, epoch);
            prop_assert_eq!(picks.len(), indices.len());
            prop_assert_eq!(&picks, &order(Sampler::Balanced, &indices, &labels, seed, epoch));
            let mut by_class = std::collections::BTreeMap::<u32, usize>::new();
            let mut by_image = vec![0usize; labels.len()];
            for pick in &picks {
                *by_class.entry(labels[pick.index as usize]).or_default() += 1;
                by_image[pick.index as usize] += 1;
            }
            let present: std::collections::BTreeSet<u32> = labels.iter().copied().collect();
            let share = indices.len() / present.len();
            for class in present {
                let count = by_class.get(&class).copied().unwrap_or(0);
                prop_assert!(count == share || count == share + 1);
                let images = || indices.iter().filter(|&&i| labels[i as usize] == class).map(|&i| by_image[i as usize]);
                prop_assert!(images().max().unwrap() - images().min().unwrap() <= 1);
            }
            let mut distinct: Vec<(u32, u32)> = picks.iter().map(|pick| (pick.index, pick.repetition)).collect();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), picks.len());
        }
    }
}
