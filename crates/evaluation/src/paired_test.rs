//! Whether two classifiers differ: `McNemar`'s test on their answers to the same images.

use serde::Serialize;

/// The four ways in which two classifiers can answer one image, counted, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairedTest {
    /// Both were right.
    pub both_right: u64,
    /// Only the first was right.
    pub only_first_right: u64,
    /// Only the second was right.
    pub only_second_right: u64,
    /// Both were wrong.
    pub both_wrong: u64,
    /// Accuracy of the first less that of the second, -1 to 1.
    pub difference: f64,
    /// See [`mcnemar`].
    pub p_value: f64,
}

impl PairedTest {
    /// Compares the answers of two classifiers, image by image: `(first right, second right)`.
    pub fn new(answers: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = [[0u64; 2]; 2];
        for (first, second) in answers {
            counts[usize::from(first)][usize::from(second)] += 1;
        }
        let [[both_wrong, only_second_right], [only_first_right, both_right]] = counts;
        let images = (both_wrong + only_second_right + only_first_right + both_right).max(1);
        Self {
            both_right,
            only_first_right,
            only_second_right,
            both_wrong,
            difference: (only_first_right as f64 - only_second_right as f64) / images as f64,
            p_value: mcnemar(only_first_right, only_second_right),
        }
    }
}

/// `McNemar`'s test (Psychometrika 12, 1947) in its exact form: the probability that a fair coin, thrown once for
/// each image on which exactly one of two classifiers is right, falls at least as unevenly as `(b, c)`. Two-sided:
/// `p = min(1, 2 P(X <= min(b, c)))` with `X ~ Binomial(b + c, 1/2)`.
///
/// Exact for any count: the chi-square approximation that is common above 25 disagreements is not needed.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let n = b + c;
    let mut term = -(n as f64) * std::f64::consts::LN_2; // ln of P(X = 0)
    let mut tail = term.exp();
    for i in 0..b.min(c) {
        // C(n, i + 1) = C(n, i) (n - i) / (i + 1)
        term += ((n - i) as f64 / (i + 1) as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// The p-values of several tests, adjusted so that the chance of any false finding among them stays below the level
/// that each is compared with (Holm, Scandinavian Journal of Statistics 6, 1979).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(((p_values.len() - rank) as f64 * p_values[index]).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.max(1e-3), "{found}, expected {expected}");
    }

    /// By hand: twice the sum of binomial coefficients over 2^n.
    #[test]
    fn the_exact_test_takes_its_hand_computed_values() {
        close(mcnemar(0, 0), 1.0);
        close(mcnemar(3, 3), 1.0);
        close(mcnemar(0, 5), 2.0 / 32.0);
        close(mcnemar(9, 1), 22.0 / 1024.0);
        close(mcnemar(2, 8), 2.0 * (1.0 + 10.0 + 45.0) / 1024.0);
        close(mcnemar(8, 2), mcnemar(2, 8));
    }

    /// `float(2 * Fraction(sum(comb(n, i) for i in range(k + 1)), 2**n))` in Python.
    #[test]
    fn large_counts_agree_with_exact_fractions() {
        close(mcnemar(40, 60), 0.056_887_933_640_980_79);
        close(mcnemar(480, 620), 2.713_138_109_300_707_8e-5);
        // More disagreements than a power of two has room for.
        assert!(mcnemar(5000, 5000) > 0.99 && mcnemar(4000, 6000) < 1e-80);
    }

    #[test]
    fn answers_are_counted() {
        let answers = [(true, true), (true, false), (true, false), (false, true), (false, false)];
        let test = PairedTest::new(answers);
        assert_eq!(
            (test.both_right, test.only_first_right, test.only_second_right, test.both_wrong),
            (1, 2, 1, 1)
        );
        close(test.difference, 0.2);
    }

    /// 0.01, 0.04, 0.03 times 3, 1, 2, and never falling: by hand.
    #[test]
    fn holm_takes_its_hand_computed_values() {
        for (found, expected) in holm(&[0.01, 0.04, 0.03]).into_iter().zip([0.03, 0.06, 0.06]) {
            close(found, expected);
        }
        assert!(holm(&[]).is_empty());
    }
}
