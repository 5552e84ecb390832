//! What many places ask of a few numbers: which is the largest, what shares they stand for, which number follows from
//! another as if by chance.

/// Index of the largest value: the first of equals, and no NaN where there is another value. 0 where there is none.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() && !value.is_nan() {
            best = index;
        }
    }
    best
}

/// `exp(x_i / t) / sum_j exp(x_j / t)`, shifted by the largest so that nothing overflows.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let mut shares: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    softmax_in_place(&mut shares, f64::from(temperature));
    shares.into_iter().map(|share| share as f32).collect()
}

/// [`softmax`] of `logits` in their place.
pub(crate) fn softmax_in_place(logits: &mut [f64], temperature: f64) {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for logit in &mut *logits {
        *logit = ((*logit - largest) / temperature).exp();
    }
    let sum: f64 = logits.iter().sum();
    for logit in logits {
        *logit /= sum;
    }
}

/// By how much the state of `SplitMix64` grows with each number: 2^64 divided by the golden ratio, made odd.
pub const SPLITMIX_INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64` (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
/// 2014, figure 14). It is written out here because its values must never change: seeds in old runs stay valid.
#[inline]
pub const fn splitmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_counts_and_nan_comes_last() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (values, expected) in [
            (&[][..], 0),
            (&[3.0], 0),
            (&[1.0, 3.0, 3.0], 1),
            (&[0.0, -0.0], 0),
            (&[-0.0, 0.0], 0),
            (&[-inf, -inf], 0),
            (&[1.0, inf, inf], 1),
            (&[nan, -inf, -inf], 1),
            (&[nan, 1.0, nan, 2.0, 2.0], 3),
            (&[2.0, nan], 0),
            (&[nan, nan], 0),
        ] {
            assert_eq!(argmax(values), expected, "{values:?}");
        }
    }

    #[test]
    fn softmax_of_hand_computed_logits() {
        // [0, ln 3] gives [1/4, 3/4].
        let probabilities = softmax(&[0.0, 3f32.ln()], 1.0);
        assert!((probabilities[0] - 0.25).abs() < 1e-7 && (probabilities[1] - 0.75).abs() < 1e-7);
        assert_eq!(softmax(&[1e30, -1e30], 1.0), [1.0, 0.0]);
        // A temperature of 2 takes the root of the ratio of 9.
        let probabilities = softmax(&[0.0, 9f32.ln()], 2.0);
        assert!((probabilities[1] - 0.75).abs() < 1e-7, "{probabilities:?}");
    }

    #[test]
    fn splitmix_gives_its_published_sequence() {
        // The first outputs for the state 1234567, as in the reference implementation's test vectors.
        let state = |n: u64| 1_234_567_u64.wrapping_add(n.wrapping_mul(SPLITMIX_INCREMENT));
        let values = [1, 2, 3].map(|n| splitmix(state(n)));
        assert_eq!(values, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
