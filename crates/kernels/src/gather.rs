//! From stored `u8` images to a normalised batch.

use rayon::prelude::*;

/// Images that one task of the thread pool takes.
const IMAGES_PER_TASK: usize = 32;

/// Gathers images and normalises them: `out[i] = (pixels[indices[i]] / 255 - mean) / std` per
/// channel.
///
/// `pixels` holds images of `image_len` bytes, `[channels, height, width]` each; `out` holds
/// `indices.len() * image_len` values.
///
/// # Panics
/// `out`, `mean`, `std` or `image_len` of the wrong length, or an index past the last image.
pub fn gather_normalize(
    pixels: &[u8],
    image_len: usize,
    indices: &[u32],
    channels: usize,
    mean: &[f32],
    std: &[f32],
    out: &mut [f32],
) {
    assert_eq!(out.len(), indices.len() * image_len, "gather_normalize: length of out");
    assert_eq!(mean.len(), channels, "gather_normalize: length of mean");
    assert_eq!(std.len(), channels, "gather_normalize: length of std");
    if out.is_empty() {
        return;
    }
    assert_eq!(image_len % channels, 0, "gather_normalize: channels must divide image_len");
    // A byte has 256 values: looking the result up is faster than two divisions, and as exact.
    let tables: Vec<[f32; 256]> = mean
        .iter()
        .zip(std)
        .map(|(mean, std)| std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std))
        .collect();
    let plane = image_len / channels;
    let gather = |(out, indices): (&mut [f32], &[u32])| {
        for (image, &index) in out.chunks_exact_mut(image_len).zip(indices) {
            let start = index as usize * image_len;
            let from = pixels[start..start + image_len].chunks_exact(plane);
            for ((to, from), table) in image.chunks_exact_mut(plane).zip(from).zip(&tables) {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = table[usize::from(from)];
                }
            }
        }
    };
    out.par_chunks_mut(IMAGES_PER_TASK * image_len).zip(indices.par_chunks(IMAGES_PER_TASK)).for_each(gather);
}

#[cfg(test)]
mod tests {
    use super::gather_normalize;

    #[test]
    fn matches_the_formula() {
        let (images, channels, plane) = (300, 3, 35);
        let image_len = channels * plane;
        let pixels: Vec<u8> = (0..images * image_len).map(|index| (index * 37 % 256) as u8).collect();
        let indices: Vec<u32> = (0..100).map(|index| (index * 13 % images) as u32).collect();
        let (mean, std) = ([0.1, 0.5, 0.9], [0.3, 0.2, 0.7]);
        let mut out = vec![f32::NAN; indices.len() * image_len];
        gather_normalize(&pixels, image_len, &indices, channels, &mean, &std, &mut out);
        for (position, &found) in out.iter().enumerate() {
            let (image, offset) = (position / image_len, position % image_len);
            let pixel = pixels[indices[image] as usize * image_len + offset];
            let channel = offset / plane;
            let expected = (f32::from(pixel) / 255.0 - mean[channel]) / std[channel];
            assert_eq!(found.to_bits(), expected.to_bits(), "value {position}");
        }
    }

    #[test]
    fn accepts_no_image() {
        gather_normalize(&[], 784, &[], 1, &[0.0], &[1.0], &mut []);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn refuses_an_index_past_the_end() {
        gather_normalize(&[0; 8], 4, &[2], 1, &[0.0], &[1.0], &mut [0.0; 4]);
    }
}
