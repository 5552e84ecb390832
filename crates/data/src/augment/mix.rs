//! Mixing images of a batch with their targets: Mixup (Zhang et al., arXiv:1710.09412, equation 1) and `CutMix` (Yun et
//! al., arXiv:1905.04899, section 3.1). Each image is mixed with the one after it in the batch, the last with the first.
//! The share of the image itself is at least 1/2, which mirrors half of the beta distribution and loses nothing, since
//! the order is random; so the label of a mixed image is still the likeliest target.

use model::InputShape;

use super::config::AugmentConfig;
use super::pick::Pick;
use crate::dataset::Labels;
use crate::rng::{Purpose, Stream};

/// Mixes `images` `[N, C, H, W]` in place and gives their targets, `[N, classes]`; each row has the sum 1 where each image
/// has one class. A class of both images of a mixture is wholly there.
pub(crate) fn mix(
    config: &AugmentConfig,
    seed: u64,
    epoch: usize,
    picks: &[Pick],
    (labels, classes): (&Labels, usize),
    (input, images): (InputShape, &mut [f32]),
) -> Vec<f32> {
    let length = input.len();
    let mut targets = vec![0.0; labels.len() * classes];
    let first = images.get(..length).map(<[f32]>::to_vec).unwrap_or_default();
    for (position, (own, &pick)) in labels.iter().zip(picks).enumerate() {
        let (before, after) = images.split_at_mut((position + 1) * length);
        let image = &mut before[position * length..];
        // Not mixed yet, whichever it is.
        let (neighbour, others) = if position + 1 < labels.len() {
            (&after[..length], labels.of(position + 1))
        } else {
            (&first[..], labels.of(0))
        };
        let mut stream = Stream::new(seed, Purpose::Mix, [epoch as u64, pick.key()]);
        let cut = stream.chance(0.5);
        let cut = if config.mixup > 0.0 && config.cutmix > 0.0 { cut } else { config.cutmix > 0.0 };
        let share = if cut {
            paste(f64::from(config.cutmix), &mut stream, input, image, neighbour)
        } else {
            blend(f64::from(config.mixup), &mut stream, image, neighbour)
        };
        let row = &mut targets[position * classes..][..classes];
        for &label in own {
            row[label as usize] += share;
        }
        for &label in others {
            row[label as usize] += 1.0 - share;
        }
    }
    targets
}

fn own_share(alpha: f64, stream: &mut Stream) -> f64 {
    let share = stream.symmetric_beta(alpha);
    share.max(1.0 - share)
}

/// Mixup; gives the image's own share.
fn blend(alpha: f64, stream: &mut Stream, image: &mut [f32], neighbour: &[f32]) -> f32 {
    let share = own_share(alpha, stream) as f32;
    for (value, other) in image.iter_mut().zip(neighbour) {
        *value = share * *value + (1.0 - share) * other;
    }
    share
}

/// `CutMix`: a rectangle of the image's aspect around a random pixel, cut off at the border; gives the share of the area
/// that stays.
fn paste(alpha: f64, stream: &mut Stream, input: InputShape, image: &mut [f32], neighbour: &[f32]) -> f32 {
    let InputShape { height, width, .. } = input;
    let side = (1.0 - own_share(alpha, stream)).sqrt();
    let mut span = |length: usize| {
        // Truncated, so that the rectangle never has more than half of the area.
        let half = (side * length as f64 / 2.0) as usize;
        let centre = stream.below(length as u64) as usize;
        centre.saturating_sub(half)..(centre + half).min(length)
    };
    let (columns, rows) = (span(width), span(height));
    for (number, (row, other)) in image.chunks_exact_mut(width).zip(neighbour.chunks_exact(width)).enumerate()
    {
        if rows.contains(&(number % height)) {
            row[columns.clone()].copy_from_slice(&other[columns.clone()]);
        }
    }
    1.0 - (columns.len() * rows.len()) as f32 / (width * height) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: InputShape = InputShape::new(2, 6, 8);

    /// Image `i` has the value `i` everywhere and the label `i`.
    fn mixed(config: &AugmentConfig, epoch: usize, count: usize) -> (Vec<f32>, Vec<f32>) {
        let picks: Vec<Pick> = (0..count as u32).map(Pick::from).collect();
        let labels = Labels::from((0..count as u32).collect::<Vec<_>>());
        let mut images: Vec<f32> = (0..count).flat_map(|i| vec![i as f32; INPUT.len()]).collect();
        let targets = mix(config, 3, epoch, &picks, (&labels, count), (INPUT, &mut images));
        (images, targets)
    }

    #[test]
    fn pixels_and_targets_have_the_same_shares() {
        let off = AugmentConfig::default();
        for config in [
            AugmentConfig { mixup: 0.4, ..off },
            AugmentConfig { cutmix: 1.0, ..off },
            AugmentConfig { mixup: 0.4, cutmix: 1.0, ..off },
        ] {
            for epoch in 0..30 {
                let (images, targets) = mixed(&config, epoch, 5);
                for (i, (image, row)) in
                    images.chunks_exact(INPUT.len()).zip(targets.chunks_exact(5)).enumerate()
                {
                    let next = (i + 1) % 5;
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
                    assert!(row[i] >= 0.5 && (row[i] + row[next] - 1.0).abs() < 1e-6, "{row:?}");
                    let mean = image.iter().sum::<f32>() / INPUT.len() as f32;
                    let expected = row[i] * i as f32 + row[next] * next as f32;
                    assert!((mean - expected).abs() < 1e-4, "{mean}, expected {expected}");
                    // A cut leaves values as they were.
                    if config.mixup == 0.0 {
                        assert!(image.iter().all(|value| [i as f32, next as f32].contains(value)));
                    }
                }
            }
        }
    }

    #[test]
    fn sets_are_mixed_class_by_class() {
        let config = AugmentConfig { mixup: 1.0, ..AugmentConfig::default() };
        let labels = Labels::Sets(vec![vec![0, 1], vec![1, 2], vec![]]);
        let picks: Vec<Pick> = (0..3).map(Pick::from).collect();
        let mut images: Vec<f32> = (0..3).flat_map(|i| vec![i as f32; INPUT.len()]).collect();
        let targets = mix(&config, 3, 0, &picks, (&labels, 3), (INPUT, &mut images));
        // The first image is 0 and its neighbour 1, so its value is the neighbour's share.
        let other = images[0];
        assert!((targets[0] - (1.0 - other)).abs() < 1e-6 && (targets[1] - 1.0).abs() < 1e-6);
        assert!((targets[2] - other).abs() < 1e-6 && other > 0.0, "{targets:?}");
    }

    #[test]
    fn strong_and_weak_shares_come() {
        let config = AugmentConfig { mixup: 1.0, ..AugmentConfig::default() };
        let shares: Vec<f32> = (0..200).map(|epoch| mixed(&config, epoch, 2).1[0]).collect();
        // Beta(1, 1) is uniform: its upper half has the mean 3/4 and the deviation 1/(2 sqrt 12).
        let mean = shares.iter().sum::<f32>() / 200.0;
        assert!((mean - 0.75).abs() < 0.045, "{mean}");
    }

    #[test]
    fn a_lonely_image_is_mixed_with_itself() {
        let config = AugmentConfig { mixup: 0.4, cutmix: 0.4, ..AugmentConfig::default() };
        let (images, targets) = mixed(&config, 0, 1);
        assert!(images.iter().all(|&value| value == 0.0));
        assert!((targets[0] - 1.0).abs() < 1e-6);
    }
}
