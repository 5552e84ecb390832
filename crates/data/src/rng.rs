//! The one source of randomness in this crate: a stream of numbers that depends on a seed and a path such as
//! `(purpose, epoch, index)` alone, so that no generator state has to be saved or shared between threads.
//!
//! The generator is `SplitMix64` (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators",
//! OOPSLA 2014, figure 14). It is written out here because its values must never change: seeds in old runs
//! stay valid.

use model::{SPLITMIX_INCREMENT, splitmix};

/// What a stream is for. Streams with different purposes are unrelated, even with one seed.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    // 1 was that of a split into two parts.
    Folds = 2,
    Subset = 3,
    Order = 4,
    Augment = 5,
    Shard = 6,
    Photo = 8,
    Mix = 9,
    Balance = 10,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    state: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, path: [u64; 2]) -> Self {
        let state = [purpose as u64, path[0], path[1]]
            .iter()
            .fold(splitmix(seed.wrapping_add(SPLITMIX_INCREMENT)), |state, &part| {
                splitmix(state.wrapping_add(SPLITMIX_INCREMENT) ^ splitmix(part))
            });
        Self { state }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(SPLITMIX_INCREMENT);
        splitmix(self.state)
    }

    /// A number in `0..n`, without bias (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A stream of its own, at the price of one number of this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self { state: self.next_u64() }
    }

    /// A number in `0..1`, with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `low..high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// `true` with probability `share`.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Normally distributed (Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958).
    fn normal(&mut self) -> f64 {
        // 1 - u is never 0.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma distributed with scale 1 (Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables",
    /// 2000, with their section 6 for shapes below 1).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.unit();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta(alpha, alpha) distributed.
    pub(crate) fn symmetric_beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.gamma(alpha), self.gamma(alpha));
        // Both vanish for a tiny alpha: then the distribution is 0 or 1.
        if a + b > 0.0 { a / (a + b) } else { f64::from(u8::from(self.chance(0.5))) }
    }

    /// A number in `-limit..limit`, with 24 random bits.
    pub(crate) fn symmetric(&mut self, limit: f32) -> f32 {
        let unit = (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * limit
    }

    /// Fisher-Yates shuffle.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_its_published_sequence() {
        // The first outputs for the state 1234567, as in the reference implementation's test vectors.
        let mut stream = Stream { state: 1_234_567 };
        let values: Vec<u64> = (0..3).map(|_| stream.next_u64()).collect();
        assert_eq!(values, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_differ_by_seed_purpose_and_path() {
        let first = |seed, purpose, path| Stream::new(seed, purpose, path).next_u64();
        let values = [
            first(1, Purpose::Order, [0, 0]),
            first(2, Purpose::Order, [0, 0]),
            first(1, Purpose::Augment, [0, 0]),
            first(1, Purpose::Order, [1, 0]),
            first(1, Purpose::Order, [0, 1]),
        ];
        let distinct: std::collections::BTreeSet<u64> = values.into_iter().collect();
        assert_eq!(distinct.len(), values.len());
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new(0, Purpose::Order, [0, 0]);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        // Chi-square with 5 degrees of freedom: 20.5 is its 99.9 % quantile.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 20.5, "{counts:?}");
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        for alpha in [0.2, 1.0, 4.0] {
            let mut stream = Stream::new(0, Purpose::Mix, [0, 0]);
            let values: Vec<f64> = (0..40_000).map(|_| stream.symmetric_beta(alpha)).collect();
            assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
            let mean = values.iter().sum::<f64>() / 4e4;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 4e4;
            // Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)); 4 standard errors of the mean.
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 4.0 * (expected / 4e4_f64).sqrt(), "{alpha}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.03, "{alpha}: {variance}, expected {expected}");
        }
        assert!((0.0..=1.0).contains(&Stream::new(0, Purpose::Mix, [0, 1]).symmetric_beta(1e-9)));
    }

    #[test]
    fn symmetric_stays_in_its_interval() {
        let mut stream = Stream::new(0, Purpose::Augment, [0, 0]);
        let values: Vec<f32> = (0..10_000).map(|_| stream.symmetric(3.0)).collect();
        assert!(values.iter().all(|v| (-3.0..3.0).contains(v)));
        let mean: f32 = values.iter().sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.07, "{mean}"); // 4 standard errors of the mean
    }
}
