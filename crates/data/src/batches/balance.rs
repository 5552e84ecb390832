//! A warning when classes are skewed, and weights that even them out.

use std::fmt;

/// Beyond this ratio of the largest to the smallest class a data set counts as skewed.
const SKEW_LIMIT: f64 = 5.0;

/// A data set whose classes are too unequal; its text is the warning for the user.
#[derive(Clone, Debug, PartialEq)]
pub struct Skew {
    /// Class with the most samples, and their number.
    pub largest: (String, usize),
    /// Class with the fewest samples, and their number.
    pub smallest: (String, usize),
}

impl Skew {
    /// `Some` when the largest class has more than five times the samples of the smallest, or when
    /// a class has none. `names` must be as long as `counts`.
    pub fn of(counts: &[usize], names: &[String]) -> Option<Self> {
        let named = |(class, &count): (usize, &usize)| (names.get(class).cloned().unwrap_or_default(), count);
        let largest = counts.iter().enumerate().max_by_key(|&(_, count)| count).map(named)?;
        let smallest = counts.iter().enumerate().min_by_key(|&(_, count)| count).map(named)?;
        let skewed = largest.1 > 0 && largest.1 as f64 > SKEW_LIMIT * smallest.1 as f64;
        skewed.then_some(Self { largest, smallest })
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((most, largest), (least, smallest)) = (&self.largest, &self.smallest);
        write!(f, "the classes are skewed: `{most}` has {largest} samples, `{least}` {smallest}")?;
        if *smallest > 0 {
            write!(f, " (1 : {:.1})", *largest as f64 / *smallest as f64)?;
        }
        write!(
            f,
            "; consider --class-weights balanced or --set data.sampler=balanced, and judge by the macro average, not by \
             accuracy"
        )
    }
}

/// Weights that give every class the same influence on the loss: `n / (k * count)` with `n` samples in `k`
/// classes (King and Zeng, "Logistic Regression in Rare Events Data", 2001; scikit-learn's
/// `class_weight="balanced"`). A class without samples does not count and gets weight 0.
pub fn balanced_weights(counts: &[usize]) -> Vec<f32> {
    let samples: usize = counts.iter().sum();
    let classes = counts.iter().filter(|&&count| count > 0).count();
    let weight = |&count: &usize| match count {
        0 => 0.0,
        _ => (samples as f64 / (classes * count) as f64) as f32,
    };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn skew_begins_beyond_one_to_five() {
        assert_eq!(Skew::of(&[10, 50, 20], &names()), None);
        let skew = Skew::of(&[10, 51, 20], &names()).unwrap();
        assert!(skew.to_string().contains("`b` has 51 samples, `a` 10 (1 : 5.1)"), "{skew}");
        assert!(Skew::of(&[0, 1, 1], &names()).is_some());
        assert_eq!(Skew::of(&[], &names()), None);
    }

    #[test]
    fn weights_as_scikit_learn() {
        // compute_class_weight("balanced", classes=np.unique(y), y=y), y with counts 1, 3, 4: 8/3, 8/9, 8/12
        let weights = balanced_weights(&[1, 3, 0, 4]);
        let expected = [8.0 / 3.0, 8.0 / 9.0, 0.0, 8.0 / 12.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-6, "{weights:?}");
        }
    }
}
