//! Loss and accuracy over the epochs.

use plotters::backend::DrawingBackend;
use plotters::style::text_anchor::HPos;

use super::axis::{decimals, linear_marks, log_marks};
use super::canvas::{BLUE, Canvas, Drawn, GRID, INK, MUTED, ORANGE, Picture, Text};
use crate::metrics_log::EpochRecord;

/// Which of the two curves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// On a logarithmic axis, so that the late epochs are not squeezed to the bottom by the first one.
    Loss,
    /// In per cent, on a linear axis.
    Accuracy,
}

/// One panel: the curve of the training and of the validation samples.
pub(super) struct Curve<'a> {
    pub(super) quantity: Quantity,
    pub(super) epochs: &'a [EpochRecord],
    pub(super) best_epoch: Option<usize>,
}

/// Both panels side by side.
pub(super) struct Curves<'a> {
    pub(super) epochs: &'a [EpochRecord],
    pub(super) best_epoch: Option<usize>,
}

const WIDTH: f64 = 430.0;
const HEIGHT: f64 = 290.0;
/// Edges of the plot inside a panel.
const LEFT: f64 = 58.0;
const RIGHT: f64 = WIDTH - 18.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = HEIGHT - 44.0;
const MIDDLE: f64 = f64::midpoint(LEFT, RIGHT);
const LABEL: f64 = 11.0;

impl Quantity {
    fn title(self) -> &'static str {
        match self {
            Self::Loss => "Loss (log scale)",
            Self::Accuracy => "Accuracy",
        }
    }

    fn of(self, record: &EpochRecord) -> [f64; 2] {
        match self {
            Self::Loss => [record.train_loss, record.valid_loss],
            Self::Accuracy => [record.train_accuracy, record.valid_accuracy],
        }
    }

    /// Whether the axis has a place for it: a loss of 0 has none on a logarithmic axis.
    fn has_place(self, figure: f64) -> bool {
        figure.is_finite() && (self == Self::Accuracy || figure > 0.0)
    }

    /// From the figure to a length along the axis.
    fn position(self, figure: f64) -> f64 {
        match self {
            Self::Loss => figure.ln(),
            Self::Accuracy => figure,
        }
    }

    fn label(self, figure: f64, step: f64) -> String {
        match self {
            Self::Loss => format!("{figure:.*}", decimals(step)),
            Self::Accuracy => format!("{:.*} %", decimals(step * 100.0), figure * 100.0),
        }
    }
}

/// The labelled figures of an axis with their texts.
fn ticks(quantity: Quantity, low: f64, high: f64) -> Vec<(f64, String)> {
    if quantity == Quantity::Loss
        && let Some(marks) = log_marks(low, high, 4)
    {
        return marks.into_iter().map(|mark| (mark, quantity.label(mark, mark))).collect();
    }
    let (step, marks) = linear_marks(low, high);
    marks.into_iter().map(|mark| (mark, quantity.label(mark, step))).collect()
}

impl Curve<'_> {
    /// Lowest and highest figure with some room; `None` when nothing was measured.
    fn range(&self) -> Option<(f64, f64)> {
        let figures = self.epochs.iter().flat_map(|record| self.quantity.of(record));
        let (low, high) = figures
            .filter(|figure| self.quantity.has_place(*figure))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), figure| {
                (low.min(figure), high.max(figure))
            });
        if low > high {
            return None;
        }
        Some(match self.quantity {
            Quantity::Loss => {
                let room = (high / low).powf(0.06).max(1.05);
                (low / room, high * room)
            }
            Quantity::Accuracy => {
                let room = ((high - low) * 0.06).max(0.002);
                ((low - room).max(0.0), (high + room).min(1.0))
            }
        })
    }

    fn draw_at<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, x0: f64) -> Drawn {
        let label = Text::new(LABEL).color(MUTED);
        canvas.text(self.quantity.title(), (x0 + 14.0, 18.0), Text::new(14.0))?;
        let mut right = x0 + RIGHT;
        for (name, color) in [("validation", ORANGE), ("training", BLUE)] {
            let text = Text::new(LABEL).align(HPos::Right);
            canvas.text(name, (right, 18.0), text)?;
            right -= canvas.width(name, text)? + 8.0;
            canvas.dot((right, 18.0), 3.5, color)?;
            right -= 16.0;
        }

        let (Some((low, high)), Some(first), Some(last)) =
            (self.range(), self.epochs.first(), self.epochs.last())
        else {
            return canvas.text(
                "not measured",
                (x0 + MIDDLE, f64::midpoint(TOP, BOTTOM)),
                label.align(HPos::Center),
            );
        };
        let (bottom, top) = (self.quantity.position(low), self.quantity.position(high));
        let y = |figure: f64| {
            BOTTOM - (self.quantity.position(figure) - bottom) / (top - bottom) * (BOTTOM - TOP)
        };
        let span = (last.epoch - first.epoch) as f64;
        let x = |epoch: usize| {
            // A single epoch stands in the middle.
            let share = if span == 0.0 { 0.5 } else { (epoch - first.epoch) as f64 / span };
            x0 + LEFT + 10.0 + share * (RIGHT - LEFT - 20.0)
        };

        for (mark, text) in ticks(self.quantity, low, high) {
            canvas.line(&[(x0 + LEFT, y(mark)), (x0 + RIGHT, y(mark))], GRID, 1.0)?;
            canvas.text(&text, (x0 + LEFT - 6.0, y(mark)), label.align(HPos::Right))?;
        }
        canvas.line(&[(x0 + LEFT, BOTTOM), (x0 + RIGHT, BOTTOM)], MUTED, 1.0)?;
        let every = (last.epoch - first.epoch).div_ceil(10).max(1);
        for epoch in (first.epoch..=last.epoch).filter(|epoch| epoch % every == 0 || every == 1) {
            canvas.line(&[(x(epoch), BOTTOM), (x(epoch), BOTTOM + 4.0)], MUTED, 1.0)?;
            canvas.text(&epoch.to_string(), (x(epoch), BOTTOM + 13.0), label.align(HPos::Center))?;
        }
        canvas.text("epoch", (x0 + MIDDLE, BOTTOM + 31.0), label.align(HPos::Center))?;

        if let Some(best) = self.best_epoch.filter(|best| (first.epoch..=last.epoch).contains(best)) {
            let mut from = TOP - 4.0;
            while from < BOTTOM {
                canvas.line(&[(x(best), from), (x(best), (from + 4.0).min(BOTTOM))], MUTED, 1.0)?;
                from += 8.0;
            }
            let text = format!("best: epoch {best}");
            let half = canvas.width(&text, label)? / 2.0;
            let middle = x(best).clamp(x0 + LEFT + half, x0 + RIGHT - half);
            canvas.text(&text, (middle, TOP - 13.0), label.color(INK).align(HPos::Center))?;
        }

        for (series, color) in [BLUE, ORANGE].into_iter().enumerate() {
            let points: Vec<_> = self
                .epochs
                .iter()
                .map(|record| (record.epoch, self.quantity.of(record)[series]))
                .map(|(epoch, figure)| self.quantity.has_place(figure).then(|| (x(epoch), y(figure))))
                .collect();
            // An epoch that was not measured leaves a gap.
            for part in points.split(Option::is_none) {
                let part: Vec<_> = part.iter().flatten().copied().collect();
                if part.len() > 1 {
                    canvas.line(&part, color, 2.0)?;
                }
                if self.epochs.len() <= 40 || part.len() == 1 {
                    for point in part {
                        canvas.dot(point, 3.0, color)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Picture for Curve<'_> {
    const NAME: &'static str = "curve";

    fn size(&self) -> (u32, u32) {
        (WIDTH as u32, HEIGHT as u32)
    }

    fn description(&self) -> String {
        let (name, format): (_, fn(f64) -> String) = match self.quantity {
            Quantity::Loss => ("Loss", |loss| format!("{loss:.4}")),
            Quantity::Accuracy => ("Accuracy", |accuracy| format!("{:.2} %", accuracy * 100.0)),
        };
        let course = self.epochs.first().zip(self.epochs.last()).map_or_else(String::new, |(first, last)| {
            let [train_from, valid_from] = self.quantity.of(first).map(format);
            let [train_to, valid_to] = self.quantity.of(last).map(format);
            format!(": training from {train_from} to {train_to}, validation from {valid_from} to {valid_to}")
        });
        let best = self.best_epoch.map_or_else(String::new, |best| format!("; best epoch {best}"));
        format!("{name} over {} epochs{course}{best}", self.epochs.len())
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        self.draw_at(canvas, 0.0)
    }
}

impl Curves<'_> {
    fn panels(&self) -> [Curve<'_>; 2] {
        [Quantity::Loss, Quantity::Accuracy].map(|quantity| Curve {
            quantity,
            epochs: self.epochs,
            best_epoch: self.best_epoch,
        })
    }
}

impl Picture for Curves<'_> {
    const NAME: &'static str = "curves";

    fn size(&self) -> (u32, u32) {
        (2 * WIDTH as u32, HEIGHT as u32)
    }

    fn description(&self) -> String {
        self.panels().map(|panel| panel.description()).join(". ")
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        for (panel, x0) in self.panels().iter().zip([0.0, WIDTH]) {
            panel.draw_at(canvas, x0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(quantity: Quantity, low: f64, high: f64) -> Vec<String> {
        ticks(quantity, low, high).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn axes_get_a_few_round_figures() {
        assert_eq!(texts(Quantity::Accuracy, 0.931, 1.0), ["94 %", "96 %", "98 %", "100 %"]);
        assert_eq!(texts(Quantity::Accuracy, 0.9911, 0.9942), ["99.2 %", "99.3 %", "99.4 %"]);
        assert_eq!(texts(Quantity::Loss, 0.009, 0.4), ["0.01", "0.03", "0.1", "0.3"]);
        assert_eq!(texts(Quantity::Loss, 0.0009, 12.0), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(texts(Quantity::Loss, 0.41, 0.44), ["0.41", "0.42", "0.43", "0.44"]);
    }
}
