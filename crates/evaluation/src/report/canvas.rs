//! Drawing one picture as SVG and as PNG through plotters: sizes in layout units, one set of colours.

use std::io::Cursor;

use image::{ImageFormat, RgbImage, imageops};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{BitMapElement, Circle, PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, IntoFont, RGBAColor, RGBColor, ShapeStyle,
    TextStyle, register_font,
};

use super::error::ReportError;
use super::text::escape;

/// Text and axes. The page's style sheet maps this colour and the next to those of its theme.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
/// Labels of less weight.
pub(super) const MUTED: RGBColor = RGBColor(0x6b, 0x72, 0x80);
/// Grid lines and frames.
pub(super) const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
/// Behind everything.
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Training, and right answers. Told from [`ORANGE`] with every common colour blindness.
pub(super) const BLUE: RGBColor = RGBColor(0x25, 0x63, 0xeb);
/// Validation, and wrong answers.
pub(super) const ORANGE: RGBColor = RGBColor(0xea, 0x58, 0x0c);

/// Pixels of a finished picture per layout unit: sharp on a screen of high density and in print.
const DENSITY: u32 = 2;

/// The bitmap is drawn this much larger and [`halved`], because plotters does not smooth thick lines.
const OVERSAMPLING: u32 = 2;

/// `DejaVu` Sans reduced to what [`has_glyph`] names; the licence stands beside it.
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Something that can draw itself.
pub(super) trait Picture {
    /// Name in error messages.
    const NAME: &'static str;

    /// Width and height in layout units.
    fn size(&self) -> (u32, u32);

    /// What it shows, for someone who cannot see it.
    fn description(&self) -> String;

    /// Draws on an empty canvas of that size.
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn;
}

/// Outcome of a drawing step; the reason is text because each plotters backend has its own error type.
pub(super) type Drawn = Result<(), String>;

/// An SVG document with its description as accessible name.
pub(super) fn svg<P: Picture>(picture: &P) -> Result<String, ReportError> {
    let (width, height) = picture.size();
    let mut document = String::new();
    let backend = SVGBackend::with_string(&mut document, (width * DENSITY, height * DENSITY));
    paint(picture, &backend.into_drawing_area(), DENSITY, |_| true)?;
    let name = escape(&picture.description()).to_string();
    Ok(document.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{name}\" "), 1))
}

/// A PNG file.
pub(super) fn png<P: Picture>(picture: &P) -> Result<Vec<u8>, ReportError> {
    let (width, height) = picture.size();
    let scale = DENSITY * OVERSAMPLING;
    let (full_width, full_height) = (width * scale, height * scale);
    let mut pixels = vec![0; full_width as usize * full_height as usize * 3];
    let backend = BitMapBackend::with_buffer(&mut pixels, (full_width, full_height));
    paint(picture, &backend.into_drawing_area(), scale, has_glyph)?;
    let smooth =
        RgbImage::from_raw(full_width / 2, full_height / 2, halved(&pixels, full_width as usize * 3))
            .ok_or_else(|| ReportError::draw(P::NAME, "the bitmap is shorter than its size"))?;
    encode_png(&smooth)
}

/// Rows of `row_len` RGB values with every two by two pixels averaged; `image`'s own routine takes a second for a
/// report.
fn halved(pixels: &[u8], row_len: usize) -> Vec<u8> {
    let mut halved = vec![0; pixels.len() / 4];
    for (to, rows) in halved.chunks_exact_mut(row_len / 2).zip(pixels.chunks_exact(row_len * 2)) {
        let (upper, lower) = rows.split_at(row_len);
        let pairs = upper.chunks_exact(6).zip(lower.chunks_exact(6));
        for (to, (upper, lower)) in to.chunks_exact_mut(3).zip(pairs) {
            for channel in 0..3 {
                let sum = u16::from(upper[channel]) + u16::from(upper[channel + 3]);
                let sum = sum + u16::from(lower[channel]) + u16::from(lower[channel + 3]);
                to[channel] = ((sum + 2) / 4) as u8;
            }
        }
    }
    halved
}

/// The image as a PNG file.
pub(super) fn encode_png(image: &RgbImage) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(ReportError::Encode)?;
    Ok(bytes.into_inner())
}

fn paint<P: Picture, DB: DrawingBackend>(
    picture: &P,
    area: &DrawingArea<DB, Shift>,
    scale: u32,
    has_glyph: fn(char) -> bool,
) -> Result<(), ReportError> {
    let canvas = Canvas { area, scale: f64::from(scale), bitmap: scale != DENSITY, has_glyph };
    use_font()
        .and_then(|()| area.fill(&PAPER).map_err(|error| error.to_string()))
        .and_then(|()| picture.draw(&canvas))
        .and_then(|()| area.present().map_err(|error| error.to_string()))
        .map_err(|reason| ReportError::draw(P::NAME, &reason))
}

/// Makes the built-in font known to plotters; again and again is allowed.
fn use_font() -> Drawn {
    register_font("sans-serif", FontStyle::Normal, FONT)
        .map_err(|_| "the built-in font cannot be read".to_owned())
}

/// Width in layout units of a line of text whose em is `size`, before there is a canvas.
pub(super) fn text_width(text: &str, size: f64) -> Result<f64, String> {
    use_font()?;
    let (width, _) = font(size * MEASURE).box_size(text).map_err(|error| error.to_string())?;
    Ok(f64::from(width) / MEASURE)
}

/// plotters measures in whole pixels: text is measured at this many times its size.
const MEASURE: f64 = 8.0;

/// The font with an em of `size` pixels; plotters' sizes are line heights, 1.24 em in its SVG backend.
fn font(size: f64) -> FontDesc<'static> {
    (FontFamily::SansSerif, size * 1.24).into_font()
}

/// Whether the built-in font draws `c`: Latin, Greek and Cyrillic letters and a few signs.
fn has_glyph(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{17f}' | '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{45f}' | '–' | '’' | '…' | '→')
}

/// A point in layout units, from the upper left corner.
pub(super) type Point = (f64, f64);

/// A drawing area whose coordinates are layout units, whatever the backend and its density.
pub(super) struct Canvas<'a, DB: DrawingBackend> {
    area: &'a DrawingArea<DB, Shift>,
    scale: f64,
    bitmap: bool,
    has_glyph: fn(char) -> bool,
}

/// How a piece of text is set; vertically it is always centred on its point.
#[derive(Clone, Copy)]
pub(super) struct Text {
    /// Height of an em in layout units.
    pub(super) size: f64,
    pub(super) color: RGBColor,
    pub(super) align: HPos,
    /// Reads from bottom to top.
    pub(super) upward: bool,
}

impl Text {
    /// Left-aligned text in [`INK`].
    pub(super) fn new(size: f64) -> Self {
        Self { size, color: INK, align: HPos::Left, upward: false }
    }

    pub(super) fn color(self, color: RGBColor) -> Self {
        Self { color, ..self }
    }

    pub(super) fn align(self, align: HPos) -> Self {
        Self { align, ..self }
    }

    pub(super) fn upward(self) -> Self {
        Self { upward: true, ..self }
    }
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    fn pixel(&self, (x, y): Point) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn stroke(&self, color: impl Color, width: f64) -> ShapeStyle {
        color.stroke_width((width * self.scale).round().max(1.0) as u32)
    }

    /// A filled rectangle between two corners.
    pub(super) fn fill(&self, from: Point, to: Point, color: RGBAColor) -> Drawn {
        self.area
            .draw(&Rectangle::new([self.pixel(from), self.pixel(to)], color.filled()))
            .map_err(|error| error.to_string())
    }

    /// A line through some points.
    pub(super) fn line(&self, points: &[Point], color: RGBColor, width: f64) -> Drawn {
        let points: Vec<_> = points.iter().map(|&point| self.pixel(point)).collect();
        self.area
            .draw(&PathElement::new(points, self.stroke(color, width)))
            .map_err(|error| error.to_string())
    }

    /// A filled disc.
    pub(super) fn dot(&self, center: Point, radius: f64, color: RGBColor) -> Drawn {
        self.area
            .draw(&Circle::new(self.pixel(center), (radius * self.scale).round() as u32, color.filled()))
            .map_err(|error| error.to_string())
    }

    /// An image of `size` layout units, its pixels already resampled by [`Self::resample`].
    pub(super) fn image(&self, upper_left: Point, image: RgbImage) -> Drawn {
        let size = image.dimensions();
        let element = BitMapElement::with_owned_buffer(self.pixel(upper_left), size, image.into_raw())
            .ok_or("the image is shorter than its size")?;
        self.area.draw(&element).map_err(|error| error.to_string())
    }

    /// Fits an image into a square of `side` layout units: small ones keep their square pixels.
    pub(super) fn resample(&self, image: &RgbImage, side: f64) -> RgbImage {
        let side = side * self.scale;
        let (width, height) = image.dimensions();
        let zoom = side / f64::from(width.max(height));
        let scaled = |length: u32| ((f64::from(length) * zoom).round() as u32).max(1);
        let (to_width, to_height) = (scaled(width), scaled(height));
        if zoom < 1.0 {
            return imageops::resize(image, to_width, to_height, imageops::FilterType::Triangle);
        }
        RgbImage::from_fn(to_width, to_height, |x, y| {
            *image.get_pixel(x * width / to_width, y * height / to_height)
        })
    }

    /// One line of text. A character without a glyph in the built-in font is drawn as U+FFFD in a bitmap.
    pub(super) fn text(&self, text: &str, (x, y): Point, style: Text) -> Drawn {
        let text = self.drawable(text);
        // plotters sets a glyph 0.21 em too high in bitmaps: it counts the baseline from the middle of
        // the line height.
        let drop = if self.bitmap { 0.25 * style.size } else { 0.0 };
        let at = if style.upward { (x + drop, y) } else { (x, y + drop) };
        self.area.draw_text(&text, &self.style(style), self.pixel(at)).map_err(|error| error.to_string())
    }

    /// `text`, or as much of it as fits into `width` with an ellipsis.
    pub(super) fn fitted(&self, text: &str, width: f64, style: Text) -> Result<String, String> {
        if self.width(text, style)? <= width {
            return Ok(text.to_owned());
        }
        let mut kept: Vec<char> = text.chars().collect();
        while kept.pop().is_some() {
            let shortened = format!("{}…", kept.iter().collect::<String>().trim_end());
            if self.width(&shortened, style)? <= width {
                return Ok(shortened);
            }
        }
        Ok(String::new())
    }

    /// Width of a line of text in layout units.
    pub(super) fn width(&self, text: &str, style: Text) -> Result<f64, String> {
        text_width(&self.drawable(text), style.size)
    }

    fn drawable(&self, text: &str) -> String {
        text.chars()
            .map(|c| match c {
                c if c.is_control() => ' ',
                c if (self.has_glyph)(c) => c,
                _ => char::REPLACEMENT_CHARACTER,
            })
            .collect()
    }

    fn style(&self, text: Text) -> TextStyle<'static> {
        let font = font(text.size * self.scale);
        let font = if text.upward { font.transform(FontTransform::Rotate270) } else { font };
        TextStyle { font, color: text.color.to_backend_color(), pos: Pos::new(text.align, VPos::Center) }
    }
}
