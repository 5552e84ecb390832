//! The confusion matrix as a picture.

use plotters::backend::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::canvas::{BLUE, Canvas, Drawn, GRID, INK, MUTED, ORANGE, Picture, Text};
use super::page::{percent, thousands};
use crate::metrics::Evaluation;

/// Rows are targets, columns are predictions. Right answers are blue, by their share of the row;
/// mistakes are orange, by the logarithm of their count, so that a single one among thousands shows.
pub(super) struct ConfusionPicture<'a> {
    evaluation: &'a Evaluation,
    /// Which images, as `test`.
    subset: &'a str,
    /// Count of the most frequent mistake.
    most: u64,
}

/// Above this many classes the cells carry no numbers.
const MAX_NUMBERED: usize = 20;
/// Strongest cell colour: text in [`INK`] stays readable on it.
const STRONGEST: f64 = 0.6;
/// Colour of the smallest count of mistakes.
const FAINTEST: f64 = 0.14;
/// Room for class names.
const NAME_WIDTH: f64 = 120.0;
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
    pub(super) fn new(evaluation: &'a Evaluation, subset: &'a str) -> Self {
        let most = evaluation.confusion.top_confusions(1).first().map_or(0, |top| top.count);
        Self { evaluation, subset, most }
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
            (FAINTEST + STRONGEST) / 2.0
        } else {
            FAINTEST + (STRONGEST - FAINTEST) * count.ln() / most.ln()
        }
    }

    /// Names under the columns stand upright when they do not fit side by side.
    fn draw_names<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, left: f64) -> Drawn {
        let style = Text::new(NAME).align(HPos::Right);
        let cell = self.cell();
        let names = &self.evaluation.class_names;
        let every = (NAME * 1.15 / cell).ceil().max(1.0) as usize;
        let mut upright = every > 1;
        for name in names {
            upright |= canvas.width(name, style)? > cell - 4.0;
        }
        for (class, name) in names.iter().enumerate().step_by(every) {
            let middle = (class as f64 + 0.5) * cell;
            let name = canvas.fitted(name, NAME_WIDTH, style)?;
            canvas.text(&name, (left - 7.0, TOP + middle), style)?;
            let under = TOP + self.side() + 7.0;
            if upright {
                canvas.text(&name, (left + middle, under), style.upward())?;
            } else {
                canvas.text(&name, (left + middle, under + 6.0), style.align(HPos::Center))?;
            }
        }
        Ok(())
    }

    fn draw_legend<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, top: f64) -> Drawn {
        let text = Text::new(NAME).color(MUTED);
        let scales = [
            (BLUE, 0.0, "0 %".to_owned(), "100 %".to_owned(), "right, share of the row"),
            (ORANGE, FAINTEST, "1".to_owned(), thousands(self.most), "wrong, count (log scale)"),
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
        let left = SIDE + NAME_WIDTH + 10.0;
        let width = (left + self.side() + RIGHT).max(MIN_WIDTH);
        (width as u32, (TOP + self.side() + NAME_WIDTH + FOOT) as u32)
    }

    fn description(&self) -> String {
        let confusion = &self.evaluation.confusion;
        let mut text = format!(
            "Confusion matrix of {} {} images in {} classes, {} right",
            thousands(confusion.total()),
            self.subset,
            self.classes(),
            percent(confusion.accuracy()),
        );
        if let Some(top) = confusion.top_confusions(1).first() {
            let name = |class: usize| self.evaluation.class_names.get(class).map_or("?", String::as_str);
            text += &format!(
                "; most frequent mistake: {} taken for {}, {} times",
                name(top.target),
                name(top.predicted),
                top.count
            );
        }
        text
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        let (cell, side, classes) = (self.cell(), self.side(), self.classes());
        let left = SIDE + NAME_WIDTH + 10.0;
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
        let frame = [corner(0, 0), corner(0, classes), corner(classes, classes), corner(classes, 0), corner(0, 0)];
        canvas.line(&frame, MUTED, 1.0)?;
        if classes <= MAX_NUMBERED {
            for row in 0..classes {
                for column in 0..classes {
                    let count = confusion.count(row, column);
                    let (x, y) = corner(row, column);
                    // Zeros stay faint: what is there should stand out.
                    let (text, color) = if count == 0 { ("·".to_owned(), MUTED) } else { (count.to_string(), INK) };
                    canvas.text(&text, (x + cell / 2.0, y + cell / 2.0), number.color(color))?;
                }
            }
        }

        self.draw_names(canvas, left)?;
        let title = Text::new(NAME + 1.0).align(HPos::Center);
        canvas.text("true class", (12.0, TOP + side / 2.0), title.upward())?;
        let foot = TOP + side + NAME_WIDTH + 22.0;
        canvas.text("predicted class", (left + side / 2.0, foot), title)?;
        self.draw_legend(canvas, foot + 28.0)
    }
}
