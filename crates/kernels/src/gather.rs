//! From stored `u8` images to a normalised batch.

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
    assert_eq!(
        out.len(),
        indices.len() * image_len,
        "gather_normalize: length of out"
    );
    assert_eq!(mean.len(), channels, "gather_normalize: length of mean");
    assert_eq!(std.len(), channels, "gather_normalize: length of std");
    assert_eq!(
        image_len % channels,
        0,
        "gather_normalize: channels must divide image_len"
    );
    if image_len == 0 {
        return;
    }
    let plane = image_len / channels;
    for (&index, image) in indices.iter().zip(out.chunks_exact_mut(image_len)) {
        let start = index as usize * image_len;
        let source = &pixels[start..start + image_len];
        for (channel, (from, to)) in source
            .chunks_exact(plane)
            .zip(image.chunks_exact_mut(plane))
            .enumerate()
        {
            for (&from, to) in from.iter().zip(to) {
                *to = (f32::from(from) / 255.0 - mean[channel]) / std[channel];
            }
        }
    }
}
