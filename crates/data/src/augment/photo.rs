//! What is done to photographs: on bytes before the distortions, and holes in the normalised image after them.

use model::{InputShape, Picture};

use super::config::AugmentConfig;
use super::pixels::{brightness, contrast, saturation, with_pixels};
use super::trivial;
use crate::rng::Stream;

/// Crop, flip, colours and `TrivialAugment`, in this order.
pub(super) fn change(config: &AugmentConfig, stream: &mut Stream, picture: Picture) -> Picture {
    // A stream for each, so that turning one on does not change what the others draw.
    let [mut crop, mut flip, mut colors, mut one] = std::array::from_fn(|_| stream.fork());
    let mut picture = picture;
    if config.crop > 0.0 {
        picture = resized_crop(f64::from(config.crop), &mut crop, &picture);
    }
    if config.flip && flip.chance(0.5) {
        picture = mirrored(&picture);
    }
    let mut factor = |limit: f32| colors.between(1.0 - f64::from(limit), 1.0 + f64::from(limit)) as f32;
    let factors = [config.brightness, config.contrast, config.saturation].map(&mut factor);
    if config.brightness > 0.0 {
        picture = brightness(picture, factors[0]);
    }
    if config.contrast > 0.0 {
        picture = contrast(picture, factors[1]);
    }
    if config.saturation > 0.0 {
        picture = saturation(picture, factors[2]);
    }
    if config.trivial {
        picture = trivial::one_operation(&mut one, picture);
    }
    picture
}

/// A part of `smallest` to all of the area with an aspect of 3/4 to 4/3, enlarged to the whole (Szegedy et al.,
/// "Going Deeper with Convolutions", 2015, section 6; torchvision's `RandomResizedCrop`).
fn resized_crop(smallest: f64, stream: &mut Stream, picture: &Picture) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let area = (width * height) as f64;
    let limit = (4.0f64 / 3.0).ln();
    for _ in 0..10 {
        let part = area * stream.between(smallest, 1.0);
        let aspect = stream.between(-limit, limit).exp();
        let w = (part * aspect).sqrt().round() as usize;
        let h = (part / aspect).sqrt().round() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let left = stream.below((width - w + 1) as u64) as usize;
            let top = stream.below((height - h + 1) as u64) as usize;
            return picture.crop(left, top, w, h).resize(width, height);
        }
    }
    picture.clone()
}

/// Left and right exchanged.
fn mirrored(picture: &Picture) -> Picture {
    let (channels, row_len) = (picture.channels(), picture.width() * picture.channels());
    let rows = picture.pixels().chunks_exact(row_len);
    let pixels = rows.flat_map(|row| row.chunks_exact(channels).rev().flatten().copied());
    let pixels = pixels.collect();
    with_pixels(picture, pixels)
}

/// Cutout (`DeVries` and Taylor, arXiv:1708.04552: a square around a random pixel, cut off at the border), then random
/// erasing (Zhong et al., arXiv:1708.04896: 2 to 33 % of the area, aspect 0.3 to 3.3, within the image). A hole has the
/// mean colour, 0 after the normalisation.
pub(super) fn make_holes(config: &AugmentConfig, stream: &mut Stream, input: InputShape, image: &mut [f32]) {
    let InputShape { height, width, .. } = input;
    let (mut cutout, mut erase) = (stream.fork(), stream.fork());
    if config.cutout > 0 {
        let centre = [cutout.below(width as u64) as usize, cutout.below(height as u64) as usize];
        let from = |centre: usize| centre.saturating_sub(config.cutout / 2);
        let to = |centre: usize, length: usize| (centre + config.cutout.div_ceil(2)).min(length);
        let rectangle = [from(centre[0]), from(centre[1]), to(centre[0], width), to(centre[1], height)];
        fill(input, image, rectangle);
    }
    if config.erase > 0.0 && erase.chance(f64::from(config.erase)) {
        let limit = 3.3f64.ln();
        for _ in 0..10 {
            let part = (width * height) as f64 * erase.between(0.02, 0.33);
            let aspect = erase.between(-limit, limit).exp();
            let (w, h) = ((part * aspect).sqrt().round() as usize, (part / aspect).sqrt().round() as usize);
            if (1..width).contains(&w) && (1..height).contains(&h) {
                let left = erase.below((width - w + 1) as u64) as usize;
                let top = erase.below((height - h + 1) as u64) as usize;
                fill(input, image, [left, top, left + w, top + h]);
                break;
            }
        }
    }
}

/// Sets `[left, top, right, bottom)` of every channel to 0.
fn fill(input: InputShape, image: &mut [f32], [left, top, right, bottom]: [usize; 4]) {
    for row in image.chunks_exact_mut(input.width).enumerate() {
        let (number, row) = row;
        if (top..bottom).contains(&(number % input.height)) {
            row[left..right].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn stream(number: u64) -> Stream {
        Stream::new(1, Purpose::Photo, [0, number])
    }

    fn rgb(width: usize, height: usize, pixels: &[u8]) -> Picture {
        Picture::new(width, height, 3, pixels.to_vec()).unwrap()
    }

    #[test]
    fn a_mirror_exchanges_columns_and_keeps_colours() {
        let picture = rgb(2, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(mirrored(&picture).pixels(), [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
        assert_eq!(mirrored(&mirrored(&picture)), picture);
        let config = AugmentConfig { flip: true, ..AugmentConfig::default() };
        let flipped =
            (0..1000).filter(|&n| change(&config, &mut stream(n), picture.clone()) != picture).count();
        // 4 standard deviations of a fair coin.
        assert!((437..563).contains(&flipped), "{flipped} of 1000");
    }

    #[test]
    fn a_crop_shows_a_part_of_the_size_asked_for() {
        // Samples count up along both sides, so that a corner tells where it came from.
        let side = 40;
        let pixels: Vec<u8> =
            (0..side * side).flat_map(|i| [(i % side * 6) as u8, (i / side * 6) as u8, 0]).collect();
        let picture = rgb(side, side, &pixels);
        let mut smallest = 1.0f64;
        for number in 0..300 {
            let part = resized_crop(0.25, &mut stream(number), &picture);
            assert_eq!((part.width(), part.height()), (side, side));
            let corner =
                |x: usize, y: usize, c: usize| f64::from(part.pixels()[3 * (y * side + x) + c]) / 6.0;
            // First and last column show the part's first and last, so their distance is its width less 1.
            let width = corner(side - 1, 0, 0) - corner(0, 0, 0) + 1.0;
            let height = corner(0, side - 1, 1) - corner(0, 0, 1) + 1.0;
            let (area, aspect) = (width * height / 1600.0, width / height);
            assert!((0.22..=1.01).contains(&area), "{area}");
            assert!((0.70..=1.43).contains(&aspect), "{aspect}");
            smallest = smallest.min(area);
        }
        assert!(smallest < 0.3, "small parts come, too: {smallest}");
    }

    #[test]
    fn holes_have_the_size_asked_for() {
        let input = InputShape::new(2, 20, 30);
        let config = AugmentConfig { cutout: 6, ..AugmentConfig::default() };
        let mut sizes = Vec::new();
        for number in 0..200 {
            let mut image = vec![1.0; input.len()];
            make_holes(&config, &mut stream(number), input, &mut image);
            let holes: Vec<usize> =
                image.chunks_exact(600).map(|plane| plane.iter().filter(|&&v| v == 0.0).count()).collect();
            assert_eq!(holes[0], holes[1], "the same place in every channel");
            assert!((9..=36).contains(&holes[0]), "{holes:?}");
            sizes.push(holes[0]);
        }
        assert!(sizes.contains(&36) && sizes.iter().any(|&size| size < 36));

        let config = AugmentConfig { erase: 0.5, ..AugmentConfig::default() };
        let mut erased = 0;
        for number in 0..1000 {
            let mut image = vec![1.0; input.len()];
            make_holes(&config, &mut stream(number), input, &mut image);
            let share = image.iter().filter(|&&v| v == 0.0).count() as f64 / input.len() as f64;
            erased += usize::from(share > 0.0);
            // Sides are rounded to pixels.
            assert!(share == 0.0 || (0.012..0.36).contains(&share), "{share}");
        }
        assert!((437..563).contains(&erased), "{erased} of 1000");
    }

    #[test]
    fn one_change_does_not_move_what_the_others_draw() {
        let picture = rgb(8, 8, &(0..192).map(|i| (i * 31 % 256) as u8).collect::<Vec<u8>>());
        let flip = AugmentConfig { flip: true, ..AugmentConfig::default() };
        let both = AugmentConfig { brightness: 1e-6, crop: 1.0, ..flip };
        for number in 0..20 {
            let alone = change(&flip, &mut stream(number), picture.clone());
            let flipped = alone != picture;
            let other = change(&both, &mut stream(number), picture.clone());
            // A crop of the whole with an aspect of its own may shift pixels, but left stays left.
            let left = |p: &Picture| i32::from(p.pixels()[0]) - i32::from(p.pixels()[21]);
            assert_eq!(flipped, left(&other).signum() != left(&picture).signum(), "{number}");
        }
    }
}
