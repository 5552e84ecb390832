//! A sheet of training images beside what augmentation makes of them.

use image::RgbImage;
use plotters::backend::DrawingBackend;

use super::canvas::{self, Canvas, Drawn, INK, MUTED, Picture, Text};
use super::error::ReportError;
use super::mistakes::ReportImage;

/// An image, and how training sees it in some epochs.
#[derive(Debug)]
pub struct SampleRow<'a> {
    /// What stands under the original: its class.
    pub label: String,
    /// As it is in the data set.
    pub original: ReportImage<'a>,
    /// Each with what stands under it: the epoch, or the mixed targets.
    pub augmented: Vec<(ReportImage<'a>, String)>,
}

/// The rows under each other as a PNG file.
///
/// # Errors
/// An image that is none, or a picture that cannot be drawn.
pub fn sample_sheet(rows: &[SampleRow<'_>]) -> Result<Vec<u8>, ReportError> {
    let mut tiles = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let original = (row.original.to_rgb(index as u32)?, row.label.as_str(), true);
        let augmented =
            row.augmented.iter().map(|(image, text)| Ok((image.to_rgb(index as u32)?, text.as_str(), false)));
        let line: Result<Vec<_>, ReportError> = std::iter::once(Ok(original)).chain(augmented).collect();
        tiles.push(line?);
    }
    canvas::png(&Sheet { tiles })
}

struct Sheet<'a> {
    /// Image, text, and whether it is an original.
    tiles: Vec<Vec<(RgbImage, &'a str, bool)>>,
}

const IMAGE: f64 = 96.0;
const MARGIN: f64 = 12.0;
const GAP: f64 = 10.0;
const TEXT: f64 = 20.0;

impl Picture for Sheet<'_> {
    const NAME: &'static str = "sheet of samples";

    fn size(&self) -> (u32, u32) {
        let columns = self.tiles.iter().map(Vec::len).max().unwrap_or(1).max(1) as f64;
        let rows = self.tiles.len().max(1) as f64;
        (
            (2.0 * MARGIN + columns * IMAGE + columns * GAP) as u32,
            (2.0 * MARGIN + rows * (IMAGE + TEXT)) as u32,
        )
    }

    fn description(&self) -> String {
        format!("{} images, each with what augmentation makes of it", self.tiles.len())
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        for (row, tiles) in self.tiles.iter().enumerate() {
            let y = MARGIN + row as f64 * (IMAGE + TEXT);
            for (column, (image, text, original)) in tiles.iter().enumerate() {
                // A wider gap after the original.
                let x = MARGIN + column as f64 * (IMAGE + GAP) + if column > 0 { GAP } else { 0.0 };
                canvas.image((x, y), canvas.resample(image, IMAGE))?;
                let style = Text::new(10.0).color(if *original { INK } else { MUTED });
                let text = canvas.fitted(text, IMAGE, style)?;
                canvas.text(&text, (x, y + IMAGE + 9.0), style)?;
            }
        }
        Ok(())
    }
}
