//! What refusing answers costs and gains: coverage against error, and what is kept against what is refused.

use plotters::backend::DrawingBackend;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::axis::{decimals, linear_marks};
use super::canvas::{self, BLUE, Canvas, Drawn, GRID, INK, MUTED, ORANGE, Picture, Point, Text};
use super::error::ReportError;
use super::text::percent;
use crate::confidence::CoveragePoint;

const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 46.0;
const LABEL: f64 = 11.0;

/// One axis: its ends and what stands beside it.
struct Axis {
    low: f64,
    high: f64,
    name: &'static str,
}

impl Axis {
    /// Round figures between the ends.
    fn ticks(&self) -> Vec<(f64, String)> {
        let (step, marks) = linear_marks(self.low, self.high);
        let decimals = decimals(step * 100.0);
        marks.into_iter().map(|mark| (mark, format!("{:.decimals$} %", mark * 100.0))).collect()
    }

    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low).max(1e-9)).clamp(0.0, 1.0)
    }
}

fn draw_axes<DB: DrawingBackend>(canvas: &Canvas<DB>, title: &str, x: &Axis, y: &Axis) -> Drawn {
    let label = Text::new(LABEL).color(MUTED);
    canvas.text(title, (LEFT, 20.0), Text::new(14.0))?;
    for (mark, text) in y.ticks() {
        let at = BOTTOM - y.share(mark) * (BOTTOM - TOP);
        canvas.line(&[(LEFT, at), (RIGHT, at)], GRID, 1.0)?;
        canvas.text(&text, (LEFT - 6.0, at), label.align(HPos::Right))?;
    }
    canvas.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], MUTED, 1.0)?;
    for (mark, text) in x.ticks() {
        let at = LEFT + x.share(mark) * (RIGHT - LEFT);
        canvas.line(&[(at, BOTTOM), (at, BOTTOM + 4.0)], MUTED, 1.0)?;
        canvas.text(&text, (at, BOTTOM + 13.0), label.align(HPos::Center))?;
    }
    canvas.text(x.name, (f64::midpoint(LEFT, RIGHT), BOTTOM + 31.0), label.align(HPos::Center))?;
    canvas.text(y.name, (12.0, f64::midpoint(TOP, BOTTOM)), label.align(HPos::Center).upward())
}

fn place(x: &Axis, y: &Axis, at: (f64, f64)) -> Point {
    (LEFT + x.share(at.0) * (RIGHT - LEFT), BOTTOM - y.share(at.1) * (BOTTOM - TOP))
}

fn draw_points<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    points: &[Point],
    color: RGBColor,
    dots: bool,
) -> Drawn {
    if points.len() > 1 {
        canvas.line(points, color, 2.0)?;
    }
    if dots || points.len() == 1 {
        for &point in points {
            canvas.dot(point, 3.0, color)?;
        }
    }
    Ok(())
}

/// Share answered against share of wrong answers.
pub(super) struct CoveragePicture<'a> {
    pub(super) curve: &'a [CoveragePoint],
}

impl CoveragePicture<'_> {
    /// The part that matters: below half of the answers nobody goes.
    fn axes(&self) -> (Axis, Axis) {
        let worst = self.curve.iter().filter(|p| p.coverage >= 0.5).map(|p| p.error).fold(0.0, f64::max);
        (
            Axis { low: 0.5, high: 1.0, name: "answered" },
            Axis { low: 0.0, high: if worst > 0.0 { worst * 1.1 } else { 0.01 }, name: "wrong of these" },
        )
    }
}

impl Picture for CoveragePicture<'_> {
    const NAME: &'static str = "coverage curve";

    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, HEIGHT as u32)
    }

    fn description(&self) -> String {
        let course = self.curve.first().map_or_else(String::new, |all| {
            let half = self.curve.iter().rfind(|point| point.coverage >= 0.9).unwrap_or(all);
            format!(
                ": {} wrong of all, {} of the surest {}",
                percent(all.error),
                percent(half.error),
                percent(half.coverage)
            )
        });
        format!("Coverage against error{course}")
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        let (x, y) = self.axes();
        draw_axes(canvas, "Error among the answered", &x, &y)?;
        // Ten thousand answers are as many points; a line needs a few hundred.
        let mut last = f64::INFINITY;
        let points: Vec<Point> = self
            .curve
            .iter()
            .filter(|point| point.coverage >= x.low)
            .filter(|point| {
                let far = last - point.coverage >= 0.001;
                if far {
                    last = point.coverage;
                }
                far
            })
            .map(|point| place(&x, &y, (point.coverage, point.error)))
            .collect();
        draw_points(canvas, &points, BLUE, false)
    }
}

/// Coverage against error as a PNG file.
///
/// # Errors
/// When plotters refuses.
pub fn coverage_png(curve: &[CoveragePoint]) -> Result<Vec<u8>, ReportError> {
    canvas::png(&CoveragePicture { curve })
}

/// A novelty threshold, and what it does to two data sets.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RefusalPoint {
    /// Share of the validation images that the threshold was set to keep.
    pub keep: f32,
    /// Share of the model's own test images that it keeps.
    pub kept: f64,
    /// Share of the foreign images that it refuses.
    pub refused: f64,
    /// Share of wrong answers among what is kept of the own test images.
    pub error: f64,
}

struct RefusalPicture<'a> {
    curve: &'a [RefusalPoint],
    own: &'a str,
    foreign: &'a str,
}

impl Picture for RefusalPicture<'_> {
    const NAME: &'static str = "refusal curve";

    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, HEIGHT as u32)
    }

    fn description(&self) -> String {
        format!("Share of {} kept against share of {} refused", self.own, self.foreign)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        let low = |figure: fn(&RefusalPoint) -> f64| {
            let lowest = self.curve.iter().map(figure).fold(1.0, f64::min);
            (lowest - 0.02).max(0.0)
        };
        let x = Axis { low: low(|point| point.kept), high: 1.0, name: "own images kept" };
        let y = Axis { low: low(|point| point.refused), high: 1.0, name: "foreign images refused" };
        draw_axes(canvas, &format!("{} kept, {} refused", self.own, self.foreign), &x, &y)?;
        let points: Vec<Point> =
            self.curve.iter().map(|point| place(&x, &y, (point.kept, point.refused))).collect();
        draw_points(canvas, &points, ORANGE, true)?;
        for (point, at) in self.curve.iter().zip(&points) {
            let text = format!("{}", point.keep);
            canvas.text(&text, (at.0 - 6.0, at.1 + 10.0), Text::new(9.0).color(INK).align(HPos::Right))?;
        }
        Ok(())
    }
}

/// What a novelty threshold keeps of the model's own images against what it refuses of foreign ones, as a PNG file.
///
/// # Errors
/// When plotters refuses.
pub fn refusal_png(curve: &[RefusalPoint], own: &str, foreign: &str) -> Result<Vec<u8>, ReportError> {
    canvas::png(&RefusalPicture { curve, own, foreign })
}
