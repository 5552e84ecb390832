//! The sheet of the worst mistakes, and single images for the page.

use std::borrow::Cow;

use image::{Rgb, RgbImage};
use plotters::backend::DrawingBackend;

use super::canvas::{Canvas, Drawn, INK, MUTED, Picture, Text};
use super::error::ReportError;
use super::text::percent;

/// An image of the data set: `u8`, `[C, H, W]`, one channel (grey) or three (red, green, blue).
#[derive(Clone, Debug)]
pub struct ReportImage<'a> {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `channels * height * width` bytes, channel by channel.
    pub pixels: Cow<'a, [u8]>,
}

impl ReportImage<'_> {
    /// Interleaves the channels. `index` is for the error message only.
    pub(super) fn to_rgb(&self, index: u32) -> Result<RgbImage, ReportError> {
        let plane = self.width * self.height;
        let expected = self.channels * plane;
        if !matches!(self.channels, 1 | 3) || plane == 0 || self.pixels.len() != expected {
            return Err(ReportError::Image {
                index,
                channels: self.channels,
                height: self.height,
                width: self.width,
                found: self.pixels.len(),
            });
        }
        Ok(RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let at = y as usize * self.width + x as usize;
            let channel = |c: usize| self.pixels[c * plane + at];
            if self.channels == 1 { Rgb([channel(0); 3]) } else { Rgb([0, 1, 2].map(channel)) }
        }))
    }
}

/// One mistake with its image.
pub(super) struct Mistake {
    /// Of the answer, calibrated.
    pub(super) probability: f32,
    /// Whether the answer would be rejected when nothing else is asked for.
    pub(super) rejected: bool,
    /// What the image is called.
    pub(super) file: String,
    pub(super) image: RgbImage,
    pub(super) target: String,
    pub(super) predicted: String,
}

impl Mistake {
    /// What stands behind the probability.
    pub(super) fn note(&self) -> &'static str {
        if self.rejected { ", rejected" } else { "" }
    }

    /// The last part of the file's path: there is no room for more on the sheet.
    fn short_file(&self) -> &str {
        self.file.rsplit(['/', '\\']).next().unwrap_or(&self.file)
    }
}

/// All on one sheet, eight in a row.
pub(super) struct Sheet<'a> {
    pub(super) mistakes: &'a [Mistake],
}

const COLUMNS: usize = 8;
const IMAGE: f64 = 128.0;
const MARGIN: f64 = 14.0;
const LINE: f64 = 14.0;
const TILE_WIDTH: f64 = IMAGE + MARGIN;
const TILE_HEIGHT: f64 = IMAGE + 4.0 * LINE + 18.0;

impl Picture for Sheet<'_> {
    const NAME: &'static str = "sheet of mistakes";

    fn size(&self) -> (u32, u32) {
        let columns = self.mistakes.len().clamp(1, COLUMNS) as f64;
        let rows = self.mistakes.len().div_ceil(COLUMNS).max(1) as f64;
        ((columns * TILE_WIDTH + MARGIN) as u32, (rows * TILE_HEIGHT + MARGIN) as u32)
    }

    fn description(&self) -> String {
        format!("The {} worst mistakes with true and predicted class", self.mistakes.len())
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        for (position, mistake) in self.mistakes.iter().enumerate() {
            let x = MARGIN + TILE_WIDTH * (position % COLUMNS) as f64;
            let y = MARGIN + TILE_HEIGHT * (position / COLUMNS) as f64;
            canvas.image((x, y), canvas.resample(&mistake.image, IMAGE))?;
            let lines = [
                (format!("true: {}", mistake.target), INK),
                (format!("predicted: {}", mistake.predicted), INK),
                (format!("{}{}", percent(mistake.probability.into()), mistake.note()), MUTED),
                (mistake.short_file().to_owned(), MUTED),
            ];
            for (line, (text, color)) in lines.into_iter().enumerate() {
                let style = Text::new(11.0).color(color);
                let text = canvas.fitted(&text, IMAGE, style)?;
                canvas.text(&text, (x, y + IMAGE + 11.0 + LINE * line as f64), style)?;
            }
        }
        Ok(())
    }
}
