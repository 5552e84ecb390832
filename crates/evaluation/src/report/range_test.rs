//! The learning-rate range test: the loss against the rate.

use plotters::backend::DrawingBackend;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Scale, number};
use super::canvas::{BLUE, Canvas, Drawn, GRID, INK, MUTED, ORANGE, Picture, Text};

/// What the picture shows.
#[derive(Clone, Debug)]
pub struct RangeTestPicture {
    /// Rate, loss of the batch and smoothed loss of each step.
    pub points: Vec<[f64; 3]>,
    /// The rate to use.
    pub suggestion: Option<f64>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = WIDTH - 22.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = HEIGHT - 46.0;
const LABEL: f64 = 11.0;

impl Picture for RangeTestPicture {
    const NAME: &'static str = "range test";

    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, HEIGHT as u32)
    }

    fn description(&self) -> String {
        let range = self.points.first().zip(self.points.last()).map_or_else(String::new, |(first, last)| {
            format!(
                " from {} to {}: smoothed from {:.3} to {:.3}",
                rate(first[0]),
                rate(last[0]),
                first[2],
                last[2]
            )
        });
        let suggestion =
            self.suggestion.map_or_else(String::new, |found| format!("; suggested: {}", rate(found)));
        format!("Loss against the learning rate{range}{suggestion}")
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        canvas.text("Learning-rate range test", (14.0, 18.0), Text::new(14.0))?;
        let mut right = RIGHT;
        for (name, color) in [("smoothed", BLUE), ("loss of a batch", MUTED)] {
            let text = Text::new(LABEL).align(HPos::Right);
            canvas.text(name, (right, 18.0), text)?;
            right -= canvas.width(name, text)? + 8.0;
            canvas.dot((right, 18.0), 3.5, color)?;
            right -= 16.0;
        }
        // The end of a diverging curve would flatten the rest: the axis ends at twice the first loss.
        let first = self.points.first().map_or(f64::INFINITY, |point| point[2]);
        let highest = self.points.iter().map(|point| point[2]).filter(|loss| *loss <= 2.0 * first);
        let rates = Axis::around(&Scale::Log, self.points.iter().map(|point| point[0]));
        let (Some(rates), Some(losses)) = (rates, Axis::around(&Scale::Linear, highest)) else {
            return Ok(());
        };
        let label = Text::new(LABEL).color(MUTED);
        let x = |value: f64| LEFT + rates.share(value) * (RIGHT - LEFT);
        let y = |value: f64| BOTTOM - losses.share(value) * (BOTTOM - TOP);
        for (mark, text) in losses.ticks() {
            canvas.line(&[(LEFT, y(mark)), (RIGHT, y(mark))], GRID, 1.0)?;
            canvas.text(&text, (LEFT - 6.0, y(mark)), label.align(HPos::Right))?;
        }
        canvas.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], MUTED, 1.0)?;
        for (mark, text) in rates.ticks() {
            canvas.line(&[(x(mark), BOTTOM), (x(mark), BOTTOM + 4.0)], MUTED, 1.0)?;
            canvas.text(&text, (x(mark), BOTTOM + 13.0), label.align(HPos::Center))?;
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        canvas.text("learning rate (log scale)", (middle, BOTTOM + 32.0), label.align(HPos::Center))?;

        for (column, color, width) in [(1, MUTED, 1.0), (2, BLUE, 2.5)] {
            let inside = |point: &[f64; 3]| (TOP - 1.0..=BOTTOM + 1.0).contains(&y(point[column]));
            for part in self.points.split(|point| !inside(point)).filter(|part| part.len() > 1) {
                let line: Vec<_> = part.iter().map(|point| (x(point[0]), y(point[column]))).collect();
                canvas.line(&line, color, width)?;
            }
        }
        if let Some(suggestion) = self.suggestion {
            let mut from = TOP - 4.0;
            while from < BOTTOM {
                canvas.line(
                    &[(x(suggestion), from), (x(suggestion), (from + 4.0).min(BOTTOM))],
                    ORANGE,
                    1.5,
                )?;
                from += 8.0;
            }
            let text = format!("suggested: {}", rate(suggestion));
            let half = canvas.width(&text, label)? / 2.0;
            let at = x(suggestion).clamp(LEFT + half, RIGHT - half);
            canvas.text(&text, (at, TOP - 13.0), label.color(INK).align(HPos::Center))?;
        }
        Ok(())
    }
}

/// A rate in two digits.
fn rate(value: f64) -> String {
    number(format!("{value:.1e}").parse().unwrap_or(value))
}
