//! A row of samples as the picture has it.

use super::layout::{Color, Layout, Opacity};
use crate::formats::raster::{Depth, Row};

/// A row as the picture has it.
pub(super) struct Line {
    pub(super) depth: Depth,
    pub(super) bytes: Vec<u8>,
    pub(super) words: Vec<u16>,
    pub(super) floats: Vec<f32>,
}

impl Line {
    pub(super) fn new(depth: Depth) -> Self {
        Self { depth, bytes: Vec::new(), words: Vec::new(), floats: Vec::new() }
    }

    pub(super) fn row(&self) -> Row<'_> {
        match self.depth {
            Depth::Bytes => Row::Bytes(&self.bytes),
            Depth::Words => Row::Words(&self.words),
            Depth::Floats => Row::Floats(&self.floats),
        }
    }

    /// From samples as the file has them to colours and opacity.
    pub(super) fn fill(&mut self, line: &[f64], layout: &Layout, palette: &[[u8; 3]]) {
        self.bytes.clear();
        self.words.clear();
        self.floats.clear();
        let colors = layout.color.samples();
        // Whole numbers of other than 8 or 16 bits are stretched to them.
        let (most, full) = match self.depth {
            Depth::Bytes if layout.color == Color::Palette => (1.0, 1.0),
            Depth::Bytes => (((1u64 << layout.bits) - 1) as f64, 255.0),
            Depth::Words => (((1u64 << layout.bits) - 1) as f64, 65535.0),
            Depth::Floats => (1.0, 1.0),
        };
        let stretched = |value: f64| if most == full { value } else { (value * full / most).round() };
        for pixel in line.chunks_exact(layout.samples) {
            let opacity = (layout.opacity != Opacity::None).then(|| stretched(pixel[colors]));
            let straight = |value: f64| match (layout.opacity, opacity) {
                (Opacity::Associated, Some(opacity)) if opacity > 0.0 => {
                    let whole = if self.depth == Depth::Floats { 1.0 } else { full };
                    (value * whole / opacity).min(whole)
                }
                _ => value,
            };
            let mut rgb = [0.0; 3];
            let shown: &[f64] = match layout.color {
                Color::Grey { inverted } => {
                    let value = stretched(pixel[0]);
                    rgb[0] = match (inverted, self.depth) {
                        (true, Depth::Floats) => -value,
                        (true, _) => full - value,
                        (false, _) => value,
                    };
                    &rgb[..1]
                }
                Color::Rgb => {
                    rgb = [0, 1, 2].map(|channel| stretched(pixel[channel]));
                    &rgb
                }
                Color::Palette => {
                    let entry = palette.get(pixel[0] as usize).copied().unwrap_or_default();
                    rgb = entry.map(f64::from);
                    &rgb
                }
                Color::Cmyk => {
                    // In single precision and cut off, as `image` does.
                    let full = full as f32;
                    let light = 1.0 - pixel[3] as f32 / full;
                    rgb =
                        [0, 1, 2].map(|channel| f64::from(((full - pixel[channel] as f32) * light).floor()));
                    &rgb
                }
                Color::YCbCr if layout.compression == 7 && !layout.planar => {
                    // The JPEG decoder has given RGB.
                    rgb = [0, 1, 2].map(|channel| pixel[channel]);
                    &rgb
                }
                Color::YCbCr => {
                    let (luma, blue, red) = (pixel[0], pixel[1] - 128.0, pixel[2] - 128.0);
                    rgb =
                        [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
                    rgb = rgb.map(|value| value.round().clamp(0.0, 255.0));
                    &rgb
                }
            };
            for value in shown.iter().map(|&value| straight(value)).chain(opacity) {
                match self.depth {
                    Depth::Bytes => self.bytes.push((value + 0.5) as u8),
                    Depth::Words => self.words.push((value + 0.5) as u16),
                    Depth::Floats => self.floats.push(value as f32),
                }
            }
        }
    }
}
