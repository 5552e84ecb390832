//! Pictures with other samples: brightness, contrast, saturation, and any function of a sample.

use model::Picture;

/// A picture of the same size from new samples.
pub(super) fn with_pixels(picture: &Picture, pixels: Vec<u8>) -> Picture {
    // As many samples as before, so there is nothing to refuse.
    Picture::new(picture.width(), picture.height(), picture.channels(), pixels)
        .unwrap_or_else(|_| picture.clone())
}

fn to_byte(value: f32) -> u8 {
    // Saturates.
    (value + 0.5) as u8
}

/// `factor` times the samples.
pub(super) fn brightness(picture: Picture, factor: f32) -> Picture {
    map(picture, |value| factor * value)
}

/// Away from the mean luma by `factor` (1 changes nothing).
pub(super) fn contrast(picture: Picture, factor: f32) -> Picture {
    let luma = luma(&picture);
    let mean = luma.iter().map(|&value| f64::from(value)).sum::<f64>() / luma.len() as f64;
    let rest = (1.0 - factor) * mean.round() as f32;
    map(picture, |value| factor * value + rest)
}

/// Away from the luma of each pixel by `factor` (1 changes nothing, 0 is grey).
pub(super) fn saturation(picture: Picture, factor: f32) -> Picture {
    if picture.channels() == 1 {
        return picture;
    }
    let luma = luma(&picture);
    let pixels = picture.pixels().chunks_exact(3).zip(&luma);
    let pixels = pixels.flat_map(|(pixel, &luma)| {
        let rest = (1.0 - factor) * f32::from(luma);
        [0, 1, 2].map(|channel| to_byte(factor * f32::from(pixel[channel]) + rest))
    });
    let pixels = pixels.collect();
    with_pixels(&picture, pixels)
}

fn luma(picture: &Picture) -> Vec<u8> {
    let grey = picture.clone().with_channels(1);
    grey.map_or_else(|_| picture.pixels().to_vec(), |grey| grey.pixels().to_vec())
}

/// A function of a sample alone.
#[expect(clippy::needless_pass_by_value, reason = "a step of a chain, as the others")]
pub(super) fn map(picture: Picture, f: impl Fn(f32) -> f32) -> Picture {
    let table: [u8; 256] = std::array::from_fn(|value| to_byte(f(value as f32)));
    let pixels = picture.pixels().iter().map(|&value| table[usize::from(value)]).collect();
    with_pixels(&picture, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(width: usize, height: usize, pixels: &[u8]) -> Picture {
        Picture::new(width, height, 3, pixels.to_vec()).unwrap()
    }

    #[test]
    fn colours_by_hand() {
        let picture = rgb(2, 1, &[100, 100, 100, 200, 0, 0]);
        assert_eq!(brightness(picture.clone(), 1.5).pixels(), [150, 150, 150, 255, 0, 0]);
        // Lumas 100 and 60, mean 80: 80 + (value - 80) / 2.
        assert_eq!(contrast(picture.clone(), 0.5).pixels(), [90, 90, 90, 140, 40, 40]);
        assert_eq!(contrast(picture.clone(), 0.0).pixels(), [80; 6]);
        // (200 + 60) / 2 and (0 + 60) / 2.
        assert_eq!(saturation(picture.clone(), 0.5).pixels(), [100, 100, 100, 130, 30, 30]);
        assert_eq!(saturation(picture.clone(), 2.0).pixels(), [100, 100, 100, 255, 0, 0]);
        for same in [brightness, contrast, saturation] {
            assert_eq!(same(picture.clone(), 1.0), picture);
        }
        let grey = Picture::new(2, 1, 1, vec![3, 9]).unwrap();
        assert_eq!(saturation(grey.clone(), 0.0), grey);
    }
}
