//! A photo of a digit in the geometry of MNIST: light on dark, the longer side 20 pixels of 28, the centre
//! of mass in the centre (LeCun, Cortes & Burges, "The MNIST database of handwritten digits").
//!
//! Measured on 20,000 training images: the longer side of the box is 20 in all but 3, the centre of mass
//! lies within half a pixel of index 14 in both directions, and the mean stroke, taken as twice the area
//! by the length of the outline, is 2.5 pixels wide (2.1 at the lower quartile).

use crate::{
    InputShape, Picture,
    input::ink::{Component, Ink, Plane, grey},
};

/// Longest side on which ink is searched for.
const SEARCH: usize = 512;

/// Strokes thinner than this share of the longer side are widened to it: MNIST's lower quartile.
const THIN: f32 = 2.1 / 20.0;

/// Longer side of the drawing on which strokes are widened.
const DRAWING: usize = 80;

/// Length of the box for a side of the input.
fn box_side(side: usize) -> usize {
    ((side * 20) as f64 / 28.0).round().max(1.0) as usize
}

/// The digit of a picture as an image of the network's size, with its channels; black where there is no
/// ink. A picture that has the geometry already stays as it is.
pub(crate) fn fitted(picture: &Picture, input: InputShape) -> Picture {
    searched(picture, input).0
}

/// [`fitted`], and the ink of the picture where it had to be searched for.
pub(crate) fn searched(picture: &Picture, input: InputShape) -> (Picture, Option<Ink>) {
    let grey = grey(picture);
    if has_geometry(&grey, input) {
        return (with_channels(grey.pixels().to_vec(), input), None);
    }
    let ink = Ink::find(&grey, SEARCH);
    (with_channels(single(&ink, input), input), Some(ink))
}

/// A grey image `[H, W]` with the channels of the input.
pub(crate) fn with_channels(image: Vec<u8>, input: InputShape) -> Picture {
    let pixels = image.into_iter().flat_map(|value| std::iter::repeat_n(value, input.channels)).collect();
    Picture::from_parts(input.width, input.height, input.channels, pixels)
}

/// Whether a grey picture is what MNIST consists of: its size, its box, its centre, black around.
fn has_geometry(grey: &Picture, input: InputShape) -> bool {
    /// Below this a pixel is black.
    const DARK: u8 = 16;
    if (grey.width(), grey.height()) != (input.width, input.height) || input.width != input.height {
        return false;
    }
    let (side, pixels) = (input.width, grey.pixels());
    let Some(frame) = frame(pixels, side, |value| value > DARK) else { return false };
    let Some((x, y)) = center_of_mass(pixels, side) else { return false };
    let centered = |at: f64| (at - side as f64 / 2.0).abs() <= 0.75;
    frame.side().abs_diff(box_side(side)) <= 1 && centered(x) && centered(y)
}

/// The box around the accepted pixels.
fn frame(pixels: &[u8], width: usize, accept: impl Fn(u8) -> bool) -> Option<Component> {
    let mut frame: Option<Component> = None;
    for (at, _) in pixels.iter().enumerate().filter(|&(_, &value)| accept(value)) {
        let (x, y) = (at % width, at / width);
        let pixel = Component { left: x, top: y, right: x + 1, bottom: y + 1, area: 1 };
        frame = Some(frame.map_or(pixel, |frame| frame.union(&pixel)));
    }
    frame
}

/// The mean index of the mass, across and down.
fn center_of_mass(pixels: &[u8], width: usize) -> Option<(f64, f64)> {
    let (mut mass, mut x, mut y) = (0.0, 0.0, 0.0);
    for (at, &value) in pixels.iter().enumerate() {
        let value = f64::from(value);
        mass += value;
        x += value * (at % width) as f64;
        y += value * (at / width) as f64;
    }
    (mass > 0.0).then(|| (x / mass, y / mass))
}

/// The one digit of a picture.
fn single(ink: &Ink, input: InputShape) -> Vec<u8> {
    let components = &ink.components;
    let largest = |inside: bool| {
        components.iter().filter(|c| !inside || !ink.at_edge(c)).max_by_key(|component| component.area)
    };
    // What reaches the edge is a shadow or the edge of the paper, if there is a digit inside.
    let Some(mut main) = largest(false) else { return vec![0; input.height * input.width] };
    let inside = largest(true).filter(|inside| inside.area * 8 >= main.area);
    let edge_counts = inside.is_none();
    main = inside.unwrap_or(main);
    let speck = 4.max(ink.width.max(ink.height) / 32);
    if main.side() < speck {
        return vec![0; input.height * input.width];
    }
    // Parts of a broken digit: large enough and near enough.
    let belongs = |component: &Component| {
        let gap = |a: usize, b: usize, c: usize, d: usize| c.saturating_sub(b).max(a.saturating_sub(d));
        let across = gap(main.left, main.right, component.left, component.right);
        let down = gap(main.top, main.bottom, component.top, component.bottom);
        component.area * 25 >= main.area
            && across.max(down) * 3 <= main.side()
            && (edge_counts || !ink.at_edge(component))
    };
    let kept: Vec<bool> = components.iter().map(belongs).collect();
    let frame = components.iter().zip(&kept).filter(|&(_, &kept)| kept).map(|(component, _)| *component);
    let frame = frame.reduce(|a, b| a.union(&b)).unwrap_or(*main);
    place(ink, &frame, |label| kept[label as usize - 1], input)
}

/// The ink inside `frame` with the accepted labels as a grey image `[H, W]` in MNIST's geometry.
pub(crate) fn place(ink: &Ink, frame: &Component, keep: impl Fn(u32) -> bool, input: InputShape) -> Vec<u8> {
    let (height, width) = (input.height, input.width);
    let plane = widened(ink.cut(frame, 0, keep));
    let boxed = box_side(height.min(width));
    let scale = boxed as f64 / plane.width.max(plane.height) as f64;
    let scaled = |length: usize| ((length as f64 * scale).round() as usize).clamp(1, boxed);
    let (w, h) = (scaled(plane.width), scaled(plane.height));
    // Thin strokes fade when they are made small; MNIST's are white somewhere.
    let digit = brightened(Picture::from_parts(plane.width, plane.height, 1, plane.values).resize(w, h), 3.0);
    let (x, y) = center_of_mass(digit.pixels(), w).unwrap_or((w as f64 / 2.0, h as f64 / 2.0));
    let corner = |center: f64, side: usize, length: usize| {
        ((side as f64 / 2.0 - center).round().max(0.0) as usize).min(side - length)
    };
    digit.on_ground(width, height, corner(x, width, w), corner(y, height, h), 0).pixels().to_vec()
}

/// The picture with its brightest pixel made white, by at most `most` times.
fn brightened(picture: Picture, most: f32) -> Picture {
    let peak = picture.pixels().iter().copied().max().unwrap_or_default();
    let gain = (255.0 / f32::from(peak.max(1))).min(most);
    picture.map(|value| (f32::from(value) * gain + 0.5) as u8)
}

/// The drawing with strokes at least as wide as MNIST's, for a pen that is thin for the size of the digit.
fn widened(plane: Plane) -> Plane {
    let side = plane.width.max(plane.height);
    if side <= DRAWING / 2 {
        return plane;
    }
    let scale = (DRAWING as f64 / side as f64).min(1.0);
    let scaled = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    let (w, h) = (scaled(plane.width), scaled(plane.height));
    let stroke = stroke_width(&plane.values, plane.width) / side as f32;
    if stroke >= THIN || stroke == 0.0 {
        return plane;
    }
    // A line thinner than a pixel becomes a faint one of a pixel.
    let small = brightened(Picture::from_parts(plane.width, plane.height, 1, plane.values).resize(w, h), 8.0);
    let longer = w.max(h) as f32;
    let radius = (THIN * longer - (stroke * longer).max(1.0)) / 2.0;
    let margin = radius.ceil() as usize;
    let (w, h) = (w + 2 * margin, h + 2 * margin);
    let ground = small.on_ground(w, h, margin, margin, 0);
    // The largest value in a disc whose edge is as soft as a pixel.
    let reach = margin as isize;
    let mut disc = Vec::new();
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let weight = (radius + 0.5 - ((dx * dx + dy * dy) as f32).sqrt()).clamp(0.0, 1.0);
            if weight > 0.0 {
                disc.push((dx, dy, weight));
            }
        }
    }
    let pixels = ground.pixels();
    let mut values = Vec::with_capacity(w * h);
    for y in 0..h as isize {
        for x in 0..w as isize {
            let mut largest = 0.0f32;
            for &(dx, dy, weight) in &disc {
                let (x, y) = (x + dx, y + dy);
                if (0..w as isize).contains(&x) && (0..h as isize).contains(&y) {
                    largest = largest.max(weight * f32::from(pixels[y as usize * w + x as usize]));
                }
            }
            values.push(largest as u8);
        }
    }
    Plane { width: w, height: h, values }
}

/// Mean width of the strokes in pixels: twice the area by the length of the outline.
fn stroke_width(pixels: &[u8], width: usize) -> f32 {
    let area: f32 = pixels.iter().map(|&value| f32::from(value) / 255.0).sum();
    let inside = |value: &u8| *value > 127;
    let mut outline = 0;
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        let ends = usize::from(inside(&row[0])) + usize::from(inside(&row[width - 1]));
        outline += ends + row.windows(2).filter(|pair| inside(&pair[0]) != inside(&pair[1])).count();
        let next = pixels.get((y + 1) * width..(y + 2) * width);
        let below = |x: usize| next.is_some_and(|next| inside(&next[x]));
        outline += (0..width).filter(|&x| inside(&row[x]) != below(x)).count();
        if y == 0 {
            outline += row.iter().filter(|value| inside(value)).count();
        }
    }
    // Steps along pixels are longer than the line they follow: 4 / pi in the mean over all directions.
    if outline == 0 { 0.0 } else { 2.0 * area * 4.0 / (std::f32::consts::PI * outline as f32) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Fit;

    const MNIST: InputShape = InputShape::new(1, 28, 28);

    fn picture(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Picture {
        let pixels = (0..width * height).map(|at| value(at % width, at / width)).collect();
        Picture::new(width, height, 1, pixels).unwrap()
    }

    fn fit(picture: &Picture) -> Vec<u8> {
        picture.fitted(MNIST, Fit::Digit).unwrap().pixels().to_vec()
    }

    /// A ring: outer radius 100, stroke 24, around (cx, cy).
    fn ring(x: usize, y: usize, cx: f32, cy: f32) -> bool {
        let distance = ((x as f32 - cx).powi(2) + (y as f32 - cy).powi(2)).sqrt();
        (76.0..100.0).contains(&distance)
    }

    fn check_ring(image: &[u8]) {
        let frame = frame(image, 28, |value| value > 16).unwrap();
        assert_eq!((frame.width(), frame.height()), (20, 20));
        assert_eq!(image.iter().copied().max(), Some(255));
        let (x, y) = center_of_mass(image, 28).unwrap();
        assert!((x - 14.0).abs() <= 0.51 && (y - 14.0).abs() <= 0.51, "{x} {y}");
        assert_eq!(image[14 * 28 + 14], 0, "the hole of the ring");
    }

    #[test]
    fn a_ring_of_any_light_and_place_becomes_the_same_digit() {
        let at = |cx: f32, cy: f32, ink: u8, paper: u8| {
            fit(&picture(400, 300, |x, y| if ring(x, y, cx, cy) { ink } else { paper }))
        };
        let first = at(200.0, 150.0, 30, 230);
        check_ring(&first);
        for (cx, cy, ink, paper) in
            [(120.0, 110.0, 30, 230), (280.0, 190.0, 90, 160), (200.0, 150.0, 250, 10)]
        {
            let other = at(cx, cy, ink, paper);
            let worst = first.iter().zip(&other).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 12, "{cx} {cy} {ink} {paper}: {worst}");
        }
    }

    #[test]
    fn colour_and_channels() {
        // Blue ink on cream paper, for a network of three channels.
        let pixels = (0..400 * 300)
            .flat_map(
                |at| if ring(at % 400, at / 400, 200.0, 150.0) { [30, 40, 120] } else { [250, 240, 210] },
            )
            .collect();
        let fitted = Picture::new(400, 300, 3, pixels)
            .unwrap()
            .fitted(InputShape::new(3, 28, 28), Fit::Digit)
            .unwrap();
        let planes = fitted.planes();
        check_ring(&planes[..784]);
        assert_eq!(planes[..784], planes[784..1568]);
        assert_eq!(planes[..784], planes[1568..]);
    }

    #[test]
    fn specks_and_shadows_at_the_border_are_left_out() {
        let image = fit(&picture(400, 300, |x, y| {
            if ring(x, y, 190.0, 150.0) {
                40
            } else if x > 390 || y < 6 || (x < 330 && x > 326 && y > 280 && y < 284) {
                90
            } else {
                225
            }
        }));
        check_ring(&image);
    }

    #[test]
    fn a_thin_pen_is_widened() {
        // A circle of radius 100 drawn with one pixel.
        let image = fit(&picture(400, 300, |x, y| {
            let distance = ((x as f32 - 200.0).powi(2) + (y as f32 - 150.0).powi(2)).sqrt();
            if (distance - 100.0).abs() < 0.7 { 20 } else { 240 }
        }));
        check_ring(&image);
        let stroke = stroke_width(&image, 28);
        assert!((1.5..2.5).contains(&stroke), "{stroke}");
    }

    #[test]
    fn what_has_the_geometry_is_not_touched() {
        // 20x20, centred: a frame of grey 200 with a white stroke.
        let image = picture(28, 28, |x, y| {
            let inside = (4..24).contains(&x) && (4..24).contains(&y);
            if !inside {
                0
            } else if (6..22).contains(&x) && (6..22).contains(&y) {
                7
            } else {
                200
            }
        });
        // The centre of the box is at index 13.5, within MNIST's half pixel of 14.
        assert_eq!(fit(&image), image.pixels());
        let shifted = picture(28, 28, |x, y| if x >= 5 { image.pixels()[y * 28 + x - 5] } else { 0 });
        assert_ne!(fit(&shifted), shifted.pixels());
    }

    #[test]
    fn without_ink_the_image_is_black() {
        for value in [0, 128, 255] {
            assert!(fit(&picture(300, 200, |_, _| value)).iter().all(|&value| value == 0));
        }
    }

    proptest! {
        #[test]
        fn every_picture_gives_an_image(
            width in 1usize..120, height in 1usize..120, seed: u64, channels in prop::sample::select(vec![1, 3]),
            levels in 1u64..256, cell in 1usize..40,
        ) {
            let pixels = (0..width * height * channels)
                .map(|at| {
                    let (x, y) = (at / channels % width / cell, at / channels / width / cell);
                    let hash = (x as u64 * 31 + y as u64 * 17 + 1).wrapping_mul(seed | 1);
                    ((hash >> 30) % levels) as u8
                })
                .collect();
            let picture = Picture::new(width, height, channels, pixels).unwrap();
            for input in [MNIST, InputShape::new(3, 32, 32), InputShape::new(1, 1, 1), InputShape::new(1, 8, 20)] {
                let fitted = picture.fitted(input, Fit::Digit).unwrap();
                prop_assert_eq!(
                    (fitted.width(), fitted.height(), fitted.channels()),
                    (input.width, input.height, input.channels)
                );
            }
        }
    }
}
