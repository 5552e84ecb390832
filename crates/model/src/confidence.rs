//! How far the answers of a model can be trusted: calibrated probabilities, and a score of how far an
//! image is out of distribution.
//!
//! Longer than other files: a third of it are tests against values by hand.
//!
//! Both are fitted at the end of training on images that training did not see, and travel in the model
//! file. Neither needs an image of another kind.

use serde::{Deserialize, Serialize};

use crate::numbers::{SPLITMIX_INCREMENT, splitmix};

/// What calibrates a model's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// Logits are divided by it before the softmax, or before the sigmoid of each (Guo et al. 2017, "On calibration of modern neural
    /// networks", section 4.2).
    pub temperature: f32,
    /// How far an image is out of distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<Novelty>,
}

/// A confidence that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("confidence: `{field}` {fault}")]
pub struct ConfidenceError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: String,
}

fn fault(field: &'static str, fault: impl Into<String>) -> ConfidenceError {
    ConfidenceError { field, fault: fault.into() }
}

impl Confidence {
    /// Checks the sizes and that every number is finite.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn validate(&self) -> Result<(), ConfidenceError> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(fault("temperature", format!("is {}; it must be positive", self.temperature)));
        }
        self.novelty.as_ref().map_or(Ok(()), Novelty::validate)
    }
}

/// What the network says about one image, before anything is made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Logits `[K]`.
    pub logits: Vec<f32>,
    /// Mean activation of the last convolution's channels, `[S]`, for [`crate::Novelty`].
    pub signature: Vec<f32>,
    /// Whether there was nothing to see: one value in every pixel.
    pub blank: bool,
}

/// Logits `[N, K]` of labelled images, one row for each.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// What the network said.
    pub scores: &'a [Scores],
    /// Classes, `[N]`.
    pub labels: &'a [u32],
}

/// How much the prior of [`fit_temperature`] weighs, in images.
const PRIOR: f64 = 1.0;

/// Mistakes that a validation split must hold before it can make answers surer than the network's own.
const MISTAKES: f64 = 10.0;

/// The temperature with the highest posterior probability, between 1/20 and 20; 1 for no images.
///
/// The likelihood is that of the labels (Guo et al. 2017, section 4.2). The prior of the inverse temperature is a
/// gamma density with its mode at 1 that weighs as much as one image: its logarithm is `log x - x`, so the whole stays
/// convex in `x` and has one minimum, found by golden sections of the logarithm.
///
/// Only mistakes limit how sure answers may be: without any, the likelihood grows with the inverse temperature without
/// end, and what would come out is the bound of the search. Their number `m` is known to a relative error of
/// `1 / sqrt(m)`, so a temperature below 1 is drawn towards 1 (its logarithm times `1 - 10 / m`, the positive part, as
/// in James & Stein 1961), and up to ten mistakes make no answer surer than the network's own softmax. Towards less
/// sure answers one mistake is evidence enough.
pub fn fit_temperature(images: Labelled) -> f32 {
    temperature_of(|temperature| cross_entropy(images, temperature), images.scores.len(), || mistakes(images))
}

/// As [`fit_temperature`], for any loss by temperature, the mean over `images`, and the mistakes that do not depend on it.
pub fn temperature_of(loss: impl Fn(f64) -> f64, images: usize, mistakes: impl Fn() -> usize) -> f32 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    if images == 0 {
        return 1.0;
    }
    let weight = PRIOR / images as f64;
    // log x - x of the inverse temperature x = exp(-log).
    let loss = |log: f64| loss(log.exp()) + weight * ((-log).exp() + log);
    let ends = [-20f64.ln(), 20f64.ln()];
    let [mut low, mut high] = ends;
    let mut a = high - GOLDEN * (high - low);
    let mut b = low + GOLDEN * (high - low);
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    while high - low > 1e-5 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - GOLDEN * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + GOLDEN * (high - low);
            at_b = loss(b);
        }
    }
    // The search comes close to an end, never to it.
    let better = |best: f64, other: f64| if loss(other) < loss(best) { other } else { best };
    let found = ends.into_iter().fold(f64::midpoint(low, high), better);
    let known = (1.0 - MISTAKES / mistakes() as f64).max(0.0);
    (if found < 0.0 { found * known } else { found }).exp() as f32
}

/// Images whose label is not the class with the highest logit.
pub fn mistakes(images: Labelled) -> usize {
    let wrong = |scores: &Scores, label: u32| {
        let own = scores.logits[label as usize];
        scores.logits.iter().any(|&logit| logit > own)
    };
    images.scores.iter().zip(images.labels).filter(|&(scores, &label)| wrong(scores, label)).count()
}

/// Mean cross-entropy at a temperature.
pub fn cross_entropy(images: Labelled, temperature: f64) -> f64 {
    let sum: f64 = images
        .scores
        .iter()
        .zip(images.labels)
        .map(|(scores, &label)| {
            let logit = |value: f32| f64::from(value) / temperature;
            log_sum_exp(scores.logits.iter().map(|&value| logit(value)))
                - logit(scores.logits[label as usize])
        })
        .sum();
    sum / images.scores.len().max(1) as f64
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|value| (value - largest).exp()).sum::<f64>().ln()
}

/// Bins of [`calibration_error`].
pub const CALIBRATION_BINS: usize = 15;

/// Expected calibration error: over bins of equal width of the probability, the mean distance between
/// accuracy and mean probability, weighted by the images in the bin (Guo et al. 2017, equation 3).
/// Answers are pairs of probability and whether the answer is right.
pub fn calibration_error(answers: impl Iterator<Item = (f32, bool)>) -> f64 {
    let mut bins = [(0usize, 0f64, 0usize); CALIBRATION_BINS];
    let mut all = 0;
    for (probability, right) in answers {
        // Bins are open at the bottom: (0, 1/15], ...
        let bin = (f64::from(probability) * CALIBRATION_BINS as f64).ceil() as usize;
        let (count, sum, hits) = &mut bins[bin.clamp(1, CALIBRATION_BINS) - 1];
        *count += 1;
        *sum += f64::from(probability);
        *hits += usize::from(right);
        all += 1;
    }
    let gap: f64 = bins.iter().map(|&(_, sum, hits)| (hits as f64 - sum).abs()).sum();
    gap / f64::from(all.max(1))
}

/// Most values of a signature; longer ones are projected.
const SIGNATURE: usize = 64;

/// Share of the mean variance added to each direction, so that one in which the training images do not
/// vary cannot decide alone.
const SHRINKAGE: f64 = 1e-3;

/// Shares of the validation images whose novelty is kept in the file, as the threshold that keeps them.
const SHARES: [f32; 9] = [0.5, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 1.0];

/// The share of images like the training images that a threshold keeps when nothing else is asked for.
pub const DEFAULT_KEEP: f32 = 0.99;

/// How far an image is out of distribution: the sum of its free energy (Liu et al. 2020, "Energy-based out-of-distribution
/// detection") and of the Mahalanobis distance to the nearest class (Lee et al. 2018, "A simple unified
/// framework for detecting out-of-distribution samples") of its signature, the square roots of the mean
/// activations of the last convolution's channels. Each is scaled on validation images, 0 at their
/// median and 1 at their 95th percentile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// Length of a signature before projection.
    channels: usize,
    /// Inverse of the Cholesky factor of the covariance within classes, its rows `1, 2, ... D` long one
    /// after the other.
    whitening: Vec<f32>,
    /// Whitened class means, `[K][D]`.
    means: Vec<Vec<f32>>,
    /// Median and 95th percentile of the free energy.
    energy: [f32; 2],
    /// Median and 95th percentile of the distance.
    distance: [f32; 2],
    /// Pairs of a share and the novelty below which that share of the validation images lies, ascending.
    quantiles: Vec<[f32; 2]>,
}

impl Novelty {
    /// Fits the classes to training images and the thresholds to validation images. `None` when there is
    /// too little of either, or the network gives no finite signatures.
    pub fn fit(train: Labelled, valid: &[Scores]) -> Option<Self> {
        let first = train.scores.first()?;
        let (classes, channels) = (first.logits.len(), first.signature.len());
        if valid.len() < 20 || channels == 0 {
            return None;
        }
        let signatures: Vec<Vec<f64>> =
            train.scores.iter().map(|scores| compact(&scores.signature)).collect();
        let dimensions = signatures.first()?.len();
        let mut sums = vec![vec![0.0; dimensions]; classes];
        let mut counts = vec![0usize; classes];
        for (signature, &label) in signatures.iter().zip(train.labels) {
            counts[label as usize] += 1;
            sums[label as usize].iter_mut().zip(signature).for_each(|(sum, value)| *sum += value);
        }
        for (sum, &count) in sums.iter_mut().zip(&counts) {
            for value in sum.iter_mut() {
                *value /= count.max(1) as f64;
            }
        }
        let means = sums;
        let mut covariance = vec![vec![0.0; dimensions]; dimensions];
        for (signature, &label) in signatures.iter().zip(train.labels) {
            let residual: Vec<f64> =
                signature.iter().zip(&means[label as usize]).map(|(a, b)| a - b).collect();
            for (row, &a) in covariance.iter_mut().zip(&residual) {
                row.iter_mut().zip(&residual).for_each(|(cell, &b)| *cell += a * b);
            }
        }
        let n = signatures.len() as f64;
        covariance.iter_mut().flatten().for_each(|cell| *cell /= n);
        let variance: f64 = (0..dimensions).map(|at| covariance[at][at]).sum::<f64>() / dimensions as f64;
        for (at, row) in covariance.iter_mut().enumerate() {
            row[at] += SHRINKAGE * variance;
        }
        let whitening = inverse_cholesky(&covariance)?;
        let mut novelty = Self {
            channels,
            means: (0..classes)
                // A class that training has not seen is near to nothing.
                .filter(|&class| counts[class] > 0)
                .map(|class| whiten(&whitening, &means[class]))
                .collect(),
            whitening,
            energy: [0.0, 1.0],
            distance: [0.0, 1.0],
            quantiles: Vec::new(),
        };
        novelty.energy = scale(valid.iter().map(energy))?;
        novelty.distance = scale(valid.iter().map(|scores| novelty.distance_of(&scores.signature)))?;
        let sorted = sorted(valid.iter().map(|scores| novelty.raw(scores)));
        novelty.quantiles = SHARES.iter().map(|&share| [share, quantile(&sorted, share)]).collect();
        novelty.validate().is_ok().then_some(novelty)
    }

    /// The novelty of an image in units of the threshold that keeps [`DEFAULT_KEEP`] of the validation
    /// images, from their median: 0 is ordinary, above 1 is out of distribution.
    pub fn of(&self, scores: &Scores) -> f32 {
        self.relative(self.raw(scores))
    }

    /// The value of [`Self::of`] below which `share` of the validation images lie.
    pub fn threshold(&self, share: f32) -> f32 {
        self.relative(self.raw_threshold(share))
    }

    fn relative(&self, raw: f32) -> f32 {
        let (median, limit) = (self.raw_threshold(0.5), self.raw_threshold(DEFAULT_KEEP));
        (raw - median) / (limit - median).max(f32::MIN_POSITIVE)
    }

    /// Between the stored shares linear.
    fn raw_threshold(&self, share: f32) -> f32 {
        let mut before = self.quantiles[0];
        for &next in &self.quantiles {
            if share <= next[0] {
                let width = (next[0] - before[0]).max(f32::MIN_POSITIVE);
                let part = ((share - before[0]) / width).clamp(0.0, 1.0);
                return before[1] + (next[1] - before[1]) * part;
            }
            before = next;
        }
        before[1]
    }

    fn raw(&self, scores: &Scores) -> f32 {
        let scaled = |value: f32, [median, limit]: [f32; 2]| (value - median) / (limit - median);
        let sum =
            scaled(energy(scores), self.energy) + scaled(self.distance_of(&scores.signature), self.distance);
        // What cannot be measured is no image of the kind.
        if sum.is_finite() { sum } else { f32::MAX }
    }

    /// Distance to the nearest class in standard deviations.
    fn distance_of(&self, signature: &[f32]) -> f32 {
        if signature.len() != self.channels {
            return f32::INFINITY;
        }
        let whitened = whiten(&self.whitening, &compact(signature));
        let square =
            |mean: &Vec<f32>| -> f32 { mean.iter().zip(&whitened).map(|(a, b)| (a - b) * (a - b)).sum() };
        self.means.iter().map(square).fold(f32::INFINITY, f32::min).sqrt()
    }

    fn validate(&self) -> Result<(), ConfidenceError> {
        let dimensions = self.channels.min(SIGNATURE);
        if dimensions == 0 || self.whitening.len() != dimensions * (dimensions + 1) / 2 {
            let found = self.whitening.len();
            return Err(fault("whitening", format!("has {found} values for {dimensions} dimensions")));
        }
        if self.means.is_empty() || self.means.iter().any(|mean| mean.len() != dimensions) {
            return Err(fault("means", format!("must be rows of {dimensions} values")));
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&self.whitening) || !self.means.iter().all(|mean| finite(mean)) {
            return Err(fault("whitening", "or `means` hold a value that is no number"));
        }
        for (field, pair) in [("energy", self.energy), ("distance", self.distance)] {
            if !(finite(&pair) && pair[1] > pair[0]) {
                return Err(fault(field, format!("is {pair:?}; expected two ascending numbers")));
            }
        }
        let ascending = |pair: &[[f32; 2]]| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1];
        let sound = self.quantiles.len() >= 2
            && self.quantiles.iter().all(|pair| finite(pair))
            && self.quantiles.windows(2).all(ascending);
        if !sound {
            return Err(fault("quantiles", "must be at least two ascending pairs"));
        }
        if self.raw_threshold(DEFAULT_KEEP) <= self.raw_threshold(0.5) {
            return Err(fault("quantiles", "do not spread"));
        }
        Ok(())
    }
}

/// `-log sum exp` of the logits.
fn energy(scores: &Scores) -> f32 {
    -log_sum_exp(scores.logits.iter().map(|&value| f64::from(value))) as f32
}

/// Square roots with the sign kept; more than [`SIGNATURE`] values are projected on as many directions of
/// signs drawn by a hash (Achlioptas 2003), which keeps distances.
fn compact(signature: &[f32]) -> Vec<f64> {
    let root = |value: &f32| f64::from(value.abs().sqrt().copysign(*value));
    if signature.len() <= SIGNATURE {
        return signature.iter().map(root).collect();
    }
    let mut sums = vec![0.0; SIGNATURE];
    for (index, value) in signature.iter().map(root).enumerate() {
        // 64 bits, one sign for each direction.
        let bits = splitmix((index as u64 + 1).wrapping_mul(SPLITMIX_INCREMENT));
        for (direction, sum) in sums.iter_mut().enumerate() {
            *sum += if bits >> direction & 1 == 1 { value } else { -value };
        }
    }
    sums
}

/// The inverse of the lower Cholesky factor, packed by rows; `None` where there is none.
fn inverse_cholesky(matrix: &[Vec<f64>]) -> Option<Vec<f32>> {
    let n = matrix.len();
    let mut factor = vec![vec![0.0; n]; n];
    for row in 0..n {
        for column in 0..=row {
            let dot: f64 = (0..column).map(|k| factor[row][k] * factor[column][k]).sum();
            let rest = matrix[row][column] - dot;
            factor[row][column] = if row == column {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / factor[column][column]
            };
        }
    }
    let mut inverse = vec![vec![0.0; n]; n];
    for column in 0..n {
        inverse[column][column] = 1.0 / factor[column][column];
        for row in column + 1..n {
            let dot: f64 = (column..row).map(|k| factor[row][k] * inverse[k][column]).sum();
            inverse[row][column] = -dot / factor[row][row];
        }
    }
    Some(
        (0..n)
            .flat_map(|row| inverse[row][..=row].iter().map(|&value| value as f32).collect::<Vec<_>>())
            .collect(),
    )
}

/// A packed lower triangular matrix times a vector.
fn whiten(whitening: &[f32], vector: &[f64]) -> Vec<f32> {
    let mut start = 0;
    (0..vector.len())
        .map(|row| {
            let weights = &whitening[start..=start + row];
            start += row + 1;
            weights.iter().zip(vector).map(|(&a, &b)| f64::from(a) * b).sum::<f64>() as f32
        })
        .collect()
}

fn sorted(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    values
}

/// The smallest value that at least `share` of the values do not exceed.
fn quantile(sorted: &[f32], share: f32) -> f32 {
    let rank = (f64::from(share) * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Median and 95th percentile; `None` where they do not differ.
fn scale(values: impl Iterator<Item = f32>) -> Option<[f32; 2]> {
    let values = sorted(values);
    let pair = [quantile(&values, 0.5), quantile(&values, 0.95)];
    (pair[1] > pair[0] && pair.iter().all(|value| value.is_finite())).then_some(pair)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(logits: &[f32], signature: &[f32]) -> Scores {
        Scores { logits: logits.to_vec(), signature: signature.to_vec(), blank: false }
    }

    /// `n` images with the logits `[margin, 0]`, of which `wrong` are of the second class.
    fn answered(n: usize, wrong: usize, margin: f32) -> (Vec<Scores>, Vec<u32>) {
        (0..n).map(|at| (scores(&[margin, 0.0], &[]), u32::from(at < wrong))).unzip()
    }

    fn temperature(n: usize, wrong: usize, margin: f32) -> f32 {
        let (all, labels) = answered(n, wrong, margin);
        fit_temperature(Labelled { scores: &all, labels: &labels })
    }

    #[test]
    fn the_temperature_that_explains_the_mistakes() {
        // Right in 3 of 4 cases: the probability is 3/4 where 2 / T = ln 3. The prior moves forty thousand by little.
        let expected = 2.0 / 3f32.ln();
        let found = temperature(40_000, 10_000, 2.0);
        assert!((found - expected).abs() < 1e-3, "{found}");
        // And four images by more, towards 1.
        let found = temperature(4, 1, 2.0);
        assert!((1.2..expected).contains(&found), "{found}");
        assert_eq!(fit_temperature(Labelled { scores: &[], labels: &[] }), 1.0);
        // 500 mistakes in 10,000 answers that say 73 %: surer, by 98 % of the way that the mistakes show.
        let expected = (1.0 / 19f32.ln()).powf(0.98);
        let found = temperature(10_000, 500, 1.0);
        assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");
    }

    #[test]
    fn few_mistakes_make_no_answer_surer() {
        for n in [1, 2, 13, 100, 5000] {
            for wrong in (0..=10).filter(|&wrong| 2 * wrong < n) {
                for margin in [0.01, 0.5, 2.0, 8.0] {
                    let found = temperature(n, wrong, margin);
                    assert!(found >= 1.0, "{wrong} of {n} wrong at {margin}: {found}");
                }
            }
            assert_eq!(temperature(n, 0, 3.0), 1.0);
        }
        // From there on it goes without a jump.
        let found = [10, 11, 12, 20, 40].map(|wrong| temperature(5000, wrong, 1.0));
        assert!(found.is_sorted_by(|a, b| a > b) && found[1] > 0.8, "{found:?}");
        // One mistake does make them less sure.
        assert!(temperature(40, 1, 12.0) > 2.0);
    }

    #[test]
    fn calibration_error_by_hand() {
        // Two bins: 0.9 and 0.9 with one right of two, 0.6 right: (|1 - 1.8| + |1 - 0.6|) / 3.
        let answers = [(0.9, true), (0.9, false), (0.6, true)];
        assert!((calibration_error(answers.into_iter()) - 0.4).abs() < 1e-6);
        assert_eq!(calibration_error(std::iter::empty()), 0.0);
        assert_eq!(calibration_error([(1.0, true), (0.0, false)].into_iter()), 0.0);
    }

    #[test]
    fn whitening_makes_the_covariance_one() {
        // [[4, 2], [2, 5]] has the factor [[2, 0], [1, 2]], whose inverse is [[1/2, 0], [-1/4, 1/2]].
        let packed = inverse_cholesky(&[vec![4.0, 2.0], vec![2.0, 5.0]]).unwrap();
        assert_eq!(packed, [0.5, -0.25, 0.5]);
        assert_eq!(whiten(&packed, &[2.0, 2.0]), [1.0, 0.5]);
        assert!(inverse_cholesky(&[vec![1.0, 2.0], vec![2.0, 1.0]]).is_none());
    }

    /// Two classes at signatures (1, 4) and (9, 1), with reproducible scatter.
    fn images(n: usize, seed: u32) -> (Vec<Scores>, Vec<u32>) {
        let mut state = seed;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n)
            .map(|i| {
                let label = (i % 2) as u32;
                let center = if label == 0 { [1.0, 4.0] } else { [9.0, 1.0] };
                let logits = if label == 0 { [6.0, 0.0] } else { [0.0, 6.0] };
                (scores(&logits.map(|v| v + noise()), &center.map(|v: f32| v + 0.3 * noise())), label)
            })
            .unzip()
    }

    fn fitted() -> Novelty {
        let (train, labels) = images(400, 1);
        let (valid, _) = images(400, 2);
        Novelty::fit(Labelled { scores: &train, labels: &labels }, &valid).unwrap()
    }

    #[test]
    fn the_threshold_keeps_the_share_it_is_asked_for() {
        let novelty = fitted();
        let (test, _) = images(4000, 3);
        for share in [0.8, 0.9, 0.95, 0.99] {
            let kept = test.iter().filter(|scores| novelty.of(scores) <= novelty.threshold(share)).count();
            let found = kept as f32 / 4000.0;
            // Three standard errors of a quantile of 400.
            let error = 3.0 * (share * (1.0 - share) / 400.0).sqrt() + 0.005;
            assert!((found - share).abs() < error, "{share}: {found}");
        }
        assert!((novelty.threshold(DEFAULT_KEEP) - 1.0).abs() < 1e-6);
        assert!(novelty.threshold(0.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_far_from_the_classes_or_undecided_is_strange() {
        let novelty = fitted();
        let ordinary = novelty.of(&scores(&[6.0, 0.0], &[1.0, 4.0]));
        assert!(ordinary < 0.5, "{ordinary}");
        // Between the classes, undecided, and a signature that cannot be.
        for strange in [
            scores(&[6.0, 0.0], &[4.0, 2.5]),
            scores(&[0.0, 0.0], &[1.0, 4.0]),
            scores(&[6.0, 0.0], &[f32::NAN, 4.0]),
            scores(&[6.0, 0.0], &[1.0]),
        ] {
            assert!(novelty.of(&strange) > 1.0, "{strange:?}: {}", novelty.of(&strange));
        }
    }

    #[test]
    fn too_little_gives_no_novelty() {
        let (train, labels) = images(400, 1);
        let all = Labelled { scores: &train, labels: &labels };
        assert!(Novelty::fit(all, &train[..10]).is_none());
        assert!(Novelty::fit(Labelled { scores: &[], labels: &[] }, &train).is_none());
        let flat = vec![scores(&[1.0, 0.0], &[1.0, 1.0]); 50];
        assert!(Novelty::fit(Labelled { scores: &flat, labels: &[0; 50] }, &flat).is_none());
    }

    #[test]
    fn long_signatures_are_projected() {
        let signature: Vec<f32> = (0..512).map(|i| (i % 7) as f32).collect();
        let compacted = compact(&signature);
        assert_eq!(compacted.len(), SIGNATURE);
        // The length is kept up to a factor of 8, the root of the number of directions.
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let ratio = length(&compacted)
            / 8.0
            / length(&signature.iter().map(|v| f64::from(v.sqrt())).collect::<Vec<_>>());
        assert!((0.6..1.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn damaged_values_are_refused() {
        let sound = Confidence { temperature: 1.5, novelty: Some(fitted()) };
        assert_eq!(sound.validate(), Ok(()));
        let json = serde_json::to_value(&sound).unwrap();
        let read: Confidence = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read, sound);
        for (pointer, value) in [
            ("/temperature", serde_json::json!(0.0)),
            ("/temperature", serde_json::json!(-1.0)),
            ("/novelty/channels", serde_json::json!(3)),
            ("/novelty/channels", serde_json::json!(0)),
            ("/novelty/channels", serde_json::json!(u64::MAX)),
            ("/novelty/means/0", serde_json::json!([1.0])),
            ("/novelty/means", serde_json::json!([])),
            ("/novelty/energy", serde_json::json!([1.0, 1.0])),
            ("/novelty/quantiles", serde_json::json!([])),
            ("/novelty/quantiles", serde_json::json!([[0.5, 1.0], [0.4, 2.0]])),
        ] {
            let mut broken = json.clone();
            *broken.pointer_mut(pointer).unwrap() = value.clone();
            let read: Confidence = serde_json::from_value(broken).unwrap();
            assert!(read.validate().is_err(), "{pointer} {value}");
        }
    }

    proptest! {
        #[test]
        fn a_temperature_is_a_minimum(
            rows in prop::collection::vec((prop::array::uniform3(-8f32..8.0), 0u32..3), 3..30),
        ) {
            let (all, labels): (Vec<Scores>, Vec<u32>) =
                rows.iter().map(|(logits, label)| (scores(logits, &[]), *label)).unzip();
            let images = Labelled { scores: &all, labels: &labels };
            let temperature = f64::from(fit_temperature(images));
            let loss = |t: f64| cross_entropy(images, t) + (1.0 / t + t.ln()) / all.len() as f64;
            let best = loss(temperature);
            for factor in [0.9, 0.99, 1.01, 1.1] {
                let other = (temperature * factor).clamp(0.05, 20.0);
                // Below 1 it stands between the minimum and 1.
                prop_assert!(temperature < 1.0 + 1e-5 && other < temperature || best <= loss(other) + 1e-7);
            }
            prop_assert!(temperature >= 1.0 || mistakes(images) > 10);
        }
    }
}
