//! The trials of a sweep: validation accuracy against each parameter.

use plotters::backend::DrawingBackend;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, Scale};
use super::canvas::{BLUE, Canvas, Drawn, GRID, MUTED, ORANGE, Picture, Text};

/// One trial in the picture.
#[derive(Clone, Debug)]
pub struct TrialPoint {
    /// Its value of each parameter, in their order.
    pub values: Vec<f64>,
    /// Accuracy on the validation split, 0 to 1.
    pub accuracy: f64,
    /// How it is drawn.
    pub kind: TrialKind,
}

/// What became of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialKind {
    /// The winner.
    Best,
    /// Trained to the last epoch.
    Full,
    /// Given up before.
    Short,
}

/// What the picture shows.
#[derive(Clone, Debug)]
pub struct TrialPicture {
    /// Names and scales of the parameters.
    pub parameters: Vec<(String, Scale)>,
    /// The trials; the later are drawn over the earlier.
    pub points: Vec<TrialPoint>,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 260.0;
/// Panels in a row.
const COLUMNS: usize = 3;
/// Above the panels, for the legend.
const HEAD: f64 = 34.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = HEIGHT - 50.0;
const LABEL: f64 = 11.0;

impl TrialPicture {
    fn accuracy_axis(&self) -> Option<Axis> {
        let percent = self.points.iter().map(|point| point.accuracy * 100.0);
        Some(Axis::around(&Scale::Linear, percent)?.within(-0.5, 100.5))
    }

    fn legend<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        canvas.text("Validation accuracy of the trials", (14.0, 18.0), Text::new(14.0))?;
        let mut left = 14.0 + canvas.width("Validation accuracy of the trials", Text::new(14.0))? + 22.0;
        let kinds = [(TrialKind::Best, "best"), (TrialKind::Full, "all"), (TrialKind::Short, "given up")];
        for (kind, name) in kinds {
            if self.points.iter().any(|point| point.kind == kind) {
                canvas.dot((left, 18.0), kind.radius(), kind.color())?;
                canvas.text(name, (left + 9.0, 18.0), Text::new(LABEL))?;
                left += canvas.width(name, Text::new(LABEL))? + 26.0;
            }
        }
        Ok(())
    }

    fn panel<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, index: usize, accuracy: &Axis) -> Drawn {
        let (name, scale) = &self.parameters[index];
        let x0 = (index % COLUMNS) as f64 * WIDTH;
        let y0 = HEAD + (index / COLUMNS) as f64 * HEIGHT;
        let label = Text::new(LABEL).color(MUTED);
        let Some(axis) = Axis::around(scale, self.points.iter().map(|point| point.values[index])) else {
            return Ok(());
        };
        let x = |value: f64| x0 + LEFT + axis.share(value) * (RIGHT - LEFT);
        let y = |value: f64| y0 + BOTTOM - accuracy.share(value) * (BOTTOM - TOP);
        for (mark, text) in accuracy.ticks() {
            canvas.line(&[(x0 + LEFT, y(mark)), (x0 + RIGHT, y(mark))], GRID, 1.0)?;
            canvas.text(&format!("{text} %"), (x0 + LEFT - 6.0, y(mark)), label.align(HPos::Right))?;
        }
        canvas.line(&[(x0 + LEFT, y0 + BOTTOM), (x0 + RIGHT, y0 + BOTTOM)], MUTED, 1.0)?;
        let ticks = axis.ticks();
        let room = (RIGHT - LEFT) / ticks.len().max(1) as f64 - 4.0;
        for (mark, text) in &ticks {
            canvas.line(&[(x(*mark), y0 + BOTTOM), (x(*mark), y0 + BOTTOM + 4.0)], MUTED, 1.0)?;
            let text = canvas.fitted(text, room, label)?;
            canvas.text(&text, (x(*mark), y0 + BOTTOM + 13.0), label.align(HPos::Center))?;
        }
        let name = canvas.fitted(name, RIGHT - LEFT, Text::new(LABEL))?;
        let middle = x0 + f64::midpoint(LEFT, RIGHT);
        canvas.text(&name, (middle, y0 + BOTTOM + 32.0), Text::new(LABEL).align(HPos::Center))?;
        for point in &self.points {
            let at = (x(point.values[index]), y(point.accuracy * 100.0));
            canvas.dot(at, point.kind.radius(), point.kind.color())?;
        }
        Ok(())
    }
}

impl TrialKind {
    fn color(self) -> plotters::style::RGBColor {
        match self {
            Self::Best => ORANGE,
            Self::Full => BLUE,
            Self::Short => MUTED,
        }
    }

    fn radius(self) -> f64 {
        match self {
            Self::Best => 5.0,
            Self::Full => 3.5,
            Self::Short => 2.5,
        }
    }
}

impl Picture for TrialPicture {
    const NAME: &'static str = "trials";

    fn size(&self) -> (u32, u32) {
        let columns = self.parameters.len().clamp(1, COLUMNS);
        let rows = self.parameters.len().div_ceil(COLUMNS).max(1);
        // One panel is too narrow for the legend.
        let width = (columns as f64 * WIDTH).max(1.4 * WIDTH);
        (width as u32, (HEAD + rows as f64 * HEIGHT) as u32)
    }

    fn description(&self) -> String {
        let names: Vec<&str> = self.parameters.iter().map(|(name, _)| name.as_str()).collect();
        let best = self.points.iter().find(|point| point.kind == TrialKind::Best);
        let best =
            best.map_or_else(String::new, |best| format!("; the best has {:.2} %", best.accuracy * 100.0));
        format!("Validation accuracy of {} trials against {}{best}", self.points.len(), names.join(", "))
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn {
        self.legend(canvas)?;
        let Some(accuracy) = self.accuracy_axis() else { return Ok(()) };
        (0..self.parameters.len()).try_for_each(|index| self.panel(canvas, index, &accuracy))
    }
}
