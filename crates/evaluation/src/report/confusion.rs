//! The confusion matrix as a picture.

use model::thousands;
use plotters::backend::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::canvas::{BLUE, Canvas, Drawn, GRID, INK, MUTED, ORANGE, Picture, Text, text_width};
use super::error::ReportError;
use super::text::percent;
use crate::metrics::Evaluation;

/// Rows are targets, columns are predictions. Right answers are blue, by their share of the row;
/// mistakes are orange, by the logarithm of their count, so that a single one among thousands shows.
pub(super) struct ConfusionPicture<'a> {
    evaluation: &'a Evaluation,
    /// Which images, as `test`.
    subset: &'a str,
    /// Count of the most frequent mistake.
    most: u64,
    /// Width of the longest class name, as far as there is room for it.
    names: f64,
}

/// Above this many classes the cells carry no numbers.
const MAX_NUMBERED: usize = 20;
/// Strongest cell colour: text in [`INK`] stays readable on it.
const STRONGEST: f64 = 0.6;
/// Longer class names end in an ellipsis.
const MAX_NAME_WIDTH: f64 = 150.0;
const NAME: f64 = 11.5;
/// Room for the title of the rows.
const SIDE: f64 = 26.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Below the class names: the title of the columns and two lines of legend.
const FOOT: f64 = 92.0;
/// Narrower than this the legend would be cut.
const MIN_WIDTH: f64 = 380.0;

impl<'a> ConfusionPicture<'a> {
    pub(super) fn new(evaluation: &'a Evaluation, subset: &'a str) -> Result<Self, ReportError> {
        let mut names: f64 = 0.0;
        for name in &evaluation.class_names {
            names =
                names.max(text_width(name, NAME).map_err(|reason| ReportError::draw(Self::NAME, &reason))?);
        }
        let most = evaluation.confusion.top_confusions(1).first().map_or(0, |top| top.count);
        Ok(Self { evaluation, subset, most, names: names.min(MAX_NAME_WIDTH) })
    }

    fn classes(&self) -> usize {
        self.evaluation.confusion.classes()
    }

    /// Side of a cell.
    fn cell(&self) -> f64 {
        match self.classes() {
            0..=5 => 84.0,
            classes @ 6..=MAX_NUMBERED => (460.0 / classes as f64).max(36.0),
            classes => (680.0 / classes as f64).max(4.0),
        }
    }

    fn side(&self) -> f64 {
        self.cell() * self.classes() as f64
    }

    /// Left edge of the cells.
    fn left(&self) -> f64 {
        SIDE + self.names + 10.0
    }

    /// How many classes share a name where the cells are smaller than the letters.
    fn every(&self) -> usize {
        (NAME * 1.15 / self.cell()).ceil() as usize
    }

    /// Whether the names under the columns stand upright because they do not fit side by side.
    fn upright(&self) -> bool {
        self.names > self.cell() * self.every() as f64 - 4.0
    }

    /// Height of the names under the columns.
    fn under(&self) -> f64 {
        if self.upright() { self.names } else { NAME }
    }

    /// Opacity of a single mistake: stronger where the cells are small and have no numbers.
    fn faintest(&self) -> f64 {
        if self.classes() <= MAX_NUMBERED { 0.14 } else { 0.35 }
    }

    /// Opacity of a cell.
    fn strength(&self, target: usize, predicted: usize) -> f64 {
        let confusion = &self.evaluation.confusion;
        let count = confusion.count(target, predicted) as f64;
        if target == predicted {
            return STRONGEST * count / confusion.support(target).max(1) as f64;
        }
        let most = self.most as f64;
        if count == 0.0 {
            0.0
        } else if most <= 1.0 {
            f64::midpoint(self.faintest(), STRONGEST)
        } else {
            self.faintest() + (STRONGEST - self.faintest()) * count.ln() / most.ln()
        }
    }

    fn draw_names<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        let style = Text::new(NAME).align(HPos::Right);
        for (class, name) in self.evaluation.class_names.iter().enumerate().step_by(self.every()) {
            let middle = (class as f64 + 0.5) * self.cell();
            let name = canvas.fitted(name, self.names, style)?;
            canvas.text(&name, (self.left() - 7.0, TOP + middle), style)?;
            let (x, y) = (self.left() + middle, TOP + self.side() + 7.0);
            if self.upright() {
                canvas.text(&name, (x, y), style.upward())?;
            } else {
                canvas.text(&name, (x, y + 6.0), style.align(HPos::Center))?;
            }
        }
        Ok(())
    }

    fn draw_legend<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, top: f64) -> Drawn {
        let text = Text::new(NAME).color(MUTED);
        let scales = [
            (BLUE, 0.0, "0 %".to_owned(), "100 %".to_owned(), "right, share of the row"),
            (ORANGE, self.faintest(), "1".to_owned(), thousands(self.most), "wrong, count (log scale)"),
        ];
        for (line, (color, faintest, from, to, what)) in scales.into_iter().enumerate() {
            if line == 1 && self.most == 0 {
                break;
            }
            let y = top + 20.0 * line as f64;
            canvas.text(&from, (SIDE + 34.0, y), text.align(HPos::Right))?;
            let steps = 24;
            for step in 0..steps {
                let strength = faintest + (STRONGEST - faintest) * f64::from(step) / f64::from(steps - 1);
                let x = SIDE + 40.0 + 4.0 * f64::from(step);
                canvas.fill((x, y - 6.0), (x + 4.0, y + 6.0), color.mix(strength))?;
            }
            canvas.text(&to, (SIDE + 142.0, y), text)?;
            canvas.text(what, (SIDE + 190.0, y), text)?;
        }
        Ok(())
    }
}

impl Picture for ConfusionPicture<'_> {
    const NAME: &'static str = "confusion matrix";

    fn size(&self) -> (u32, u32) {
        let width = (self.left() + self.side() + RIGHT).max(MIN_WIDTH);
        (width.ceil() as u32, (TOP + self.side() + self.under() + FOOT).ceil() as u32)
    }

    fn description(&self) -> String {
        let confusion = &self.evaluation.confusion;
        let name = |class: usize| self.evaluation.class_names.get(class).map_or("?", String::as_str);
        let worst = confusion.top_confusions(1).first().map_or_else(String::new, |top| {
            let (target, predicted) = (name(top.target), name(top.predicted));
            format!("; most frequent mistake: {target} taken for {predicted}, {} times", thousands(top.count))
        });
        format!(
            "Confusion matrix of {} {} images in {} classes, {} right{worst}",
            thousands(confusion.total()),
            self.subset,
            self.classes(),
            percent(confusion.accuracy()),
        )
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        let (cell, side, classes) = (self.cell(), self.side(), self.classes());
        let left = self.left();
        let corner = |row: usize, column: usize| (left + cell * column as f64, TOP + cell * row as f64);
        let confusion = &self.evaluation.confusion;
        let digits = (0..classes)
            .map(|class| confusion.count(class, class))
            .fold(self.most, u64::max)
            .to_string()
            .len();
        let number = Text::new(((cell - 6.0) / (0.64 * digits as f64)).min(13.0)).align(HPos::Center);

        for row in 0..classes {
            for column in 0..classes {
                let strength = self.strength(row, column);
                let color = if row == column { BLUE } else { ORANGE };
                if strength > 0.0 {
                    canvas.fill(corner(row, column), corner(row + 1, column + 1), color.mix(strength))?;
                }
            }
        }
        if cell >= 12.0 {
            for line in 1..classes {
                canvas.line(&[corner(line, 0), corner(line, classes)], GRID, 1.0)?;
                canvas.line(&[corner(0, line), corner(classes, line)], GRID, 1.0)?;
            }
        }
        let frame =
            [corner(0, 0), corner(0, classes), corner(classes, classes), corner(classes, 0), corner(0, 0)];
        canvas.line(&frame, MUTED, 1.0)?;
        if classes <= MAX_NUMBERED {
            for row in 0..classes {
                for column in 0..classes {
                    let count = confusion.count(row, column);
                    let (x, y) = corner(row, column);
                    // Zeros stay faint: what is there should stand out.
                    let (text, color) =
                        if count == 0 { ("·".to_owned(), MUTED) } else { (count.to_string(), INK) };
                    canvas.text(&text, (x + cell / 2.0, y + cell / 2.0), number.color(color))?;
                }
            }
        }

        self.draw_names(canvas)?;
        let title = Text::new(NAME + 1.0).align(HPos::Center);
        canvas.text("true class", (12.0, TOP + side / 2.0), title.upward())?;
        let foot = TOP + side + self.under() + 24.0;
        canvas.text("predicted class", (left + side / 2.0, foot), title)?;
        self.draw_legend(canvas, foot + 28.0)
    }
}
