//! What images are labelled with: one class each, or a set of classes each.

use std::ops::Index;

use serde::{Deserialize, Serialize};

/// The classes of images, in the order of the images. Written as a list of numbers, or as a list of lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// One class each, `[N]`.
    One(Vec<u32>),
    /// Any number of classes each, in ascending order, none twice; an empty set is a picture of none of them.
    Sets(Vec<Vec<u32>>),
}

impl Labels {
    /// The number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::One(labels) => labels.len(),
            Self::Sets(sets) => sets.len(),
        }
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether each image has a set of classes.
    pub fn is_sets(&self) -> bool {
        matches!(self, Self::Sets(_))
    }

    /// The one class of each image, `[N]`; `None` where images have sets of them.
    pub fn ones(&self) -> Option<&[u32]> {
        match self {
            Self::One(labels) => Some(labels),
            Self::Sets(_) => None,
        }
    }

    /// All classes of image `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Labels::len`].
    pub fn of(&self, index: usize) -> &[u32] {
        match self {
            Self::One(labels) => std::slice::from_ref(&labels[index]),
            Self::Sets(sets) => &sets[index],
        }
    }

    /// The classes of each image.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|index| self.of(index))
    }

    /// Those of the images `indices`, in that order.
    ///
    /// # Panics
    /// When an index is not below [`Labels::len`].
    #[must_use]
    pub fn subset(&self, indices: &[u32]) -> Self {
        let indices = indices.iter().map(|&index| index as usize);
        match self {
            Self::One(labels) => Self::One(indices.map(|index| labels[index]).collect()),
            Self::Sets(sets) => Self::Sets(indices.map(|index| sets[index].clone()).collect()),
        }
    }

    /// These and then `others`; sets, where either are.
    #[must_use]
    pub fn joined(self, others: Self) -> Self {
        match (self, others) {
            (Self::One(mut labels), Self::One(others)) => {
                labels.extend(others);
                Self::One(labels)
            }
            (own, others) => Self::Sets(own.each().chain(others.each()).collect()),
        }
    }

    /// Each class as a set of one.
    #[must_use]
    pub fn into_sets(self) -> Self {
        Self::Sets(self.each().collect())
    }

    fn each(self) -> Box<dyn Iterator<Item = Vec<u32>>> {
        match self {
            Self::One(labels) => Box::new(labels.into_iter().map(|label| vec![label])),
            Self::Sets(sets) => Box::new(sets.into_iter()),
        }
    }

    /// No image, of the same kind.
    #[must_use]
    pub fn emptied(&self) -> Self {
        self.subset(&[])
    }

    /// The number of images of each class.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &class in self.iter().flatten() {
            if let Some(count) = counts.get_mut(class as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// Each image as numbers of the classes, 1 for its own and 0 for the others, `[N, classes]`.
    pub fn dense(&self, classes: usize) -> Vec<f32> {
        let mut targets = vec![0.0; self.len() * classes];
        for (row, own) in targets.chunks_exact_mut(classes.max(1)).zip(self.iter()) {
            for &class in own {
                row[class as usize] = 1.0;
            }
        }
        targets
    }
}

impl From<Vec<u32>> for Labels {
    fn from(labels: Vec<u32>) -> Self {
        Self::One(labels)
    }
}

/// The class of an image that has one.
///
/// # Panics
/// For an image that has not just one, and for one that is not there.
impl Index<usize> for Labels {
    type Output = u32;

    fn index(&self, index: usize) -> &u32 {
        match self.of(index) {
            [only] => only,
            other => panic!("image {index} has {} classes, and one was asked for", other.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_is_a_set_of_one_and_both_are_written_as_lists() {
        let one = Labels::from(vec![2, 0, 2]);
        let sets = Labels::Sets(vec![vec![0, 2], vec![], vec![1]]);
        assert_eq!((one.of(0), sets.of(0), sets.of(1)), (&[2][..], &[0, 2][..], &[][..]));
        assert_eq!((one.counts(3), sets.counts(3)), (vec![1, 0, 2], vec![1, 1, 1]));
        assert_eq!(sets.dense(3), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(sets.subset(&[2, 0]), Labels::Sets(vec![vec![1], vec![0, 2]]));
        assert_eq!((one[2], sets[2], one.ones().is_some(), sets.ones()), (2, 1, true, None));
        assert_eq!(one.clone().joined(sets.emptied()), one.clone().into_sets());
        for labels in [one, sets] {
            let json = serde_json::to_string(&labels).unwrap();
            assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels, "{json}");
        }
        assert_eq!(serde_json::to_string(&Labels::from(vec![1, 0])).unwrap(), "[1,0]");
    }
}
