//! The sheet that explains one answer: where the network looked, and what its filters saw.

use image::{Rgb, RgbImage};
use model::{Explanation, Map, Picture as Photo};
use plotters::backend::DrawingBackend;

use super::canvas::{self, BLUE, Canvas, Drawn, INK, MUTED, ORANGE, Picture, Text};
use super::error::ReportError;
use super::text::percent;

/// Sides and distances in layout units.
const IMAGE: f64 = 180.0;
const MARGIN: f64 = 16.0;
const TILE: f64 = 44.0;
const GAP: f64 = 4.0;
const LINE: f64 = 16.0;
const HEADING: f64 = 30.0;
const COLUMNS: usize = 16;

/// Maps drawn of a stage: those with the most in them.
const MOST_MAPS: usize = 32;

struct Sheet<'a> {
    title: String,
    /// Image and overlays with their captions.
    pictures: Vec<(RgbImage, &'static str, &'static str)>,
    /// Rows of small maps with their headings.
    stages: Vec<(String, Vec<RgbImage>)>,
    class: &'a str,
}

/// The sheet as a PNG file: what the network saw, its class-activation map, its occlusion map and its
/// saliency laid over it, the filters of the first convolution and the maps of every stage. `seen` is
/// the image of the network's size, `label` the class that is explained.
///
/// # Errors
/// When plotters refuses.
pub fn explanation_png(seen: &Photo, explanation: &Explanation, label: &str) -> Result<Vec<u8>, ReportError> {
    let image = rgb(seen);
    let mut pictures = vec![(image.clone(), "What the network saw", "")];
    if let Some(map) = &explanation.activation {
        pictures.push((overlay(&image, map), "Class activation", "orange: speaks for it (Grad-CAM)"));
    }
    let note = "orange: needed; blue: in the way";
    pictures.push((overlay(&image, &explanation.occlusion), "Occlusion", note));
    pictures.push((
        overlay(&black(&image), &explanation.saliency),
        "Saliency",
        "pixels that change the answer",
    ));
    let mut stages = Vec::new();
    if !explanation.filters.is_empty() {
        let tiles = explanation.filters.iter().take(MOST_MAPS).map(|map| signed(map, map.peak())).collect();
        stages.push((format!("Filters of the first convolution ({})", explanation.filters.len()), tiles));
    }
    for (number, maps) in explanation.stages.iter().enumerate() {
        let sum = |map: &Map| map.values.iter().map(|value| value.abs()).sum::<f32>();
        let mut order: Vec<usize> = (0..maps.len()).collect();
        order.sort_by(|&a, &b| sum(&maps[b]).total_cmp(&sum(&maps[a])));
        let peak = maps.iter().map(Map::peak).fold(0.0, f32::max);
        let tiles: Vec<RgbImage> =
            order.iter().take(MOST_MAPS).map(|&index| signed(&maps[index], peak)).collect();
        let (width, height) = maps.first().map_or((0, 0), |map| (map.width, map.height));
        let shown =
            if maps.len() > tiles.len() { format!(", the {} strongest", tiles.len()) } else { String::new() };
        stages.push((format!("Stage {}: {} maps of {height}x{width}{shown}", number + 1, maps.len()), tiles));
    }
    let title = format!("{label}  {}", percent(explanation.probability.into()));
    canvas::png(&Sheet { title, pictures, stages, class: label })
}

impl Picture for Sheet<'_> {
    const NAME: &'static str = "explanation";

    fn size(&self) -> (u32, u32) {
        let pictures = self.pictures.len() as f64 * (IMAGE + MARGIN);
        let tiles = COLUMNS as f64 * (TILE + GAP);
        let stages: f64 = self.stages.iter().map(|(_, tiles)| stage_height(tiles.len())).sum();
        let height = HEADING + MARGIN + IMAGE + 2.0 * LINE + MARGIN + stages;
        ((pictures.max(tiles) + MARGIN) as u32 + 1, (height + MARGIN) as u32)
    }

    fn description(&self) -> String {
        format!("Why the answer is {}", self.class)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        canvas.text(&self.title, (MARGIN, MARGIN + 6.0), Text::new(18.0).color(INK))?;
        let mut y = HEADING + MARGIN;
        for (index, (image, caption, note)) in self.pictures.iter().enumerate() {
            let x = MARGIN + index as f64 * (IMAGE + MARGIN);
            canvas.image((x, y), canvas.resample(image, IMAGE))?;
            canvas.text(caption, (x, y + IMAGE + 11.0), Text::new(12.0).color(INK))?;
            let style = Text::new(8.5).color(MUTED);
            let note = canvas.fitted(note, IMAGE, style)?;
            canvas.text(&note, (x, y + IMAGE + 11.0 + LINE), style)?;
        }
        y += IMAGE + 2.0 * LINE + MARGIN;
        for (heading, tiles) in &self.stages {
            canvas.text(heading, (MARGIN, y + 6.0), Text::new(12.0).color(INK))?;
            for (index, tile) in tiles.iter().enumerate() {
                let x = MARGIN + (index % COLUMNS) as f64 * (TILE + GAP);
                let row = y + 18.0 + (index / COLUMNS) as f64 * (TILE + GAP);
                canvas.image((x, row), canvas.resample(tile, TILE))?;
            }
            y += stage_height(tiles.len());
        }
        Ok(())
    }
}

fn stage_height(tiles: usize) -> f64 {
    18.0 + tiles.div_ceil(COLUMNS) as f64 * (TILE + GAP) + MARGIN
}

fn rgb(photo: &Photo) -> RgbImage {
    let (width, channels) = (photo.width(), photo.channels());
    RgbImage::from_fn(width as u32, photo.height() as u32, |x, y| {
        let at = (y as usize * width + x as usize) * channels;
        let sample = |channel: usize| photo.pixels()[at + channel.min(channels - 1)];
        Rgb([sample(0), sample(1), sample(2)])
    })
}

fn black(image: &RgbImage) -> RgbImage {
    RgbImage::new(image.width(), image.height())
}

/// Pixels of an overlay for one of a small image, so that a coarse map is laid on smoothly.
const FINENESS: u32 = 8;

/// The image in grey with the map over it, orange where positive and blue where negative.
fn overlay(image: &RgbImage, map: &Map) -> RgbImage {
    let fineness = if image.width().max(image.height()) <= 64 { FINENESS } else { 1 };
    let (width, height) = (image.width() * fineness, image.height() * fineness);
    let map = map.resized(width as usize, height as usize);
    let peak = map.peak().max(f32::MIN_POSITIVE);
    RgbImage::from_fn(width, height, |x, y| {
        let value = map.values[y as usize * width as usize + x as usize] / peak;
        let Rgb([r, g, b]) = *image.get_pixel(x / fineness, y / fineness);
        let luma = (u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000;
        mix([luma as u8; 3], value, 0.85)
    })
}

/// A map with `peak` as its full colour: orange where positive, blue where negative, black for 0.
fn signed(map: &Map, peak: f32) -> RgbImage {
    let peak = peak.max(f32::MIN_POSITIVE);
    RgbImage::from_fn(map.width as u32, map.height as u32, |x, y| {
        mix([16; 3], map.values[y as usize * map.width + x as usize] / peak, 1.0)
    })
}

/// A colour moved towards orange by a value up to 1, towards blue by one down to -1.
fn mix(ground: [u8; 3], value: f32, strength: f32) -> Rgb<u8> {
    let color = if value >= 0.0 { ORANGE } else { BLUE };
    // A NaN leaves the ground.
    let share = (value.abs() * strength).clamp(0.0, 1.0);
    let share = if share.is_nan() { 0.0 } else { share };
    let channel =
        |ground: u8, color: u8| (f32::from(ground) * (1.0 - share) + f32::from(color) * share) as u8;
    Rgb([channel(ground[0], color.0), channel(ground[1], color.1), channel(ground[2], color.2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_sign() {
        assert_eq!(mix([0; 3], 1.0, 1.0), Rgb([ORANGE.0, ORANGE.1, ORANGE.2]));
        assert_eq!(mix([0; 3], -1.0, 1.0), Rgb([BLUE.0, BLUE.1, BLUE.2]));
        assert_eq!(mix([7; 3], 0.0, 1.0), Rgb([7; 3]));
        assert_eq!(mix([7; 3], f32::NAN, 1.0), Rgb([7; 3]));
    }

    #[test]
    fn a_sheet_is_drawn_with_and_without_convolutions() {
        let map = |side: usize| Map { width: side, height: side, values: vec![0.5; side * side] };
        let mut explanation = Explanation {
            class: 1,
            probability: 0.75,
            activation: Some(map(3)),
            occlusion: map(8),
            saliency: map(8),
            stages: vec![vec![map(6); 40], vec![map(3); 2]],
            filters: vec![map(3); 4],
        };
        let seen = Photo::new(8, 8, 1, (0..64).map(|i| i * 3).collect()).expect("a picture");
        let size = |bytes: Vec<u8>| image::load_from_memory(&bytes).expect("PNG").to_rgb8().dimensions();
        let with = size(explanation_png(&seen, &explanation, "seven").expect("drawn"));
        explanation.activation = None;
        (explanation.stages, explanation.filters) = (vec![], vec![]);
        let colour = Photo::new(8, 8, 3, vec![9; 192]).expect("a picture");
        let without = size(explanation_png(&colour, &explanation, "?").expect("drawn"));
        assert!(with.1 > without.1 && with.0 > without.0, "{with:?} {without:?}");
    }
}
