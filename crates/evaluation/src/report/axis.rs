//! Axes: where a value stands, and which values are labelled.

/// What equal lengths along an axis stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences.
    Linear,
    /// Equal ratios; values above 0 only.
    Log,
    /// Names in their order; the values are their positions, from 0.
    Names(Vec<String>),
}

/// An axis over a range of values.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis that holds all `values`, with some room; values without a place on it are passed over.
    pub(super) fn around(scale: &Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let axis = |low, high| Some(Self { scale: scale.clone(), low, high });
        if let Scale::Names(names) = scale {
            return axis(-0.5, names.len() as f64 - 0.5);
        }
        let places = values.filter(|value| value.is_finite() && (*scale == Scale::Linear || *value > 0.0));
        let (low, high) = places
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if *scale == Scale::Log {
            let room = (high / low).powf(0.06).max(1.05);
            return axis(low / room, high * room);
        }
        let room = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-6);
        axis(low - room, high + room)
    }

    /// The same axis, not beyond these bounds.
    pub(super) fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.max(low), high: self.high.min(high), ..self }
    }

    /// From a value to its share of the axis, 0 to 1 inside.
    pub(super) fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
            Scale::Linear | Scale::Names(_) => (value - self.low) / (self.high - self.low),
        }
    }

    /// The labelled values with their texts.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match &self.scale {
            Scale::Names(names) => {
                names.iter().enumerate().map(|(position, name)| (position as f64, name.clone())).collect()
            }
            Scale::Log => self.log_ticks(),
            Scale::Linear => self.linear_ticks(),
        }
    }

    fn log_ticks(&self) -> Vec<(f64, String)> {
        match log_marks(self.low, self.high, 3) {
            Some(marks) => {
                let every = marks.len().div_ceil(8);
                marks.iter().step_by(every).map(|mark| (*mark, number(*mark))).collect()
            }
            None => self.linear_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let (step, marks) = linear_marks(self.low, self.high);
        let decimals = decimals(step);
        marks.into_iter().map(|mark| (mark, format!("{mark:.decimals$}"))).collect()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, about five of them, and the step between them.
pub(super) fn linear_marks(low: f64, high: f64) -> (f64, Vec<f64>) {
    let rough = (high - low).max(f64::MIN_POSITIVE) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    // An end that is a multiple but for rounding counts as one.
    let room = 1e-9;
    let first = (low / step - room).ceil() as i64;
    let marks = (first..first.saturating_add(20)).map(|n| n as f64 * step);
    (step, marks.take_while(|mark| *mark <= high + step * room).collect())
}

/// Powers of ten from `low` to `high`, with what lies between them where there are fewer than `least`; none where there
/// are still fewer.
pub(super) fn log_marks(low: f64, high: f64, least: usize) -> Option<Vec<f64>> {
    [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0]].into_iter().find_map(|digits| {
        let marks: Vec<f64> = (-30..30)
            .flat_map(|power| {
                digits.iter().map(move |digit| format!("{digit}e{power}").parse().unwrap_or(f64::NAN))
            })
            .filter(|mark| (low..=high).contains(mark))
            .collect();
        (marks.len() >= least).then_some(marks)
    })
}

/// Digits after the point that tell multiples of `step` (1, 2, 3 or 5 times a power of ten) apart.
pub(super) fn decimals(step: f64) -> usize {
    // 0.1 has logarithm -1 but for rounding: the small term keeps it there.
    (-(step.log10() + 1e-9).floor()).max(0.0) as usize
}

/// A round number, short.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || (1e-2..1e5).contains(&value.abs()) { format!("{value}") } else { format!("{value:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::around(scale, values.iter().copied()).unwrap();
        axis.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn axes_get_a_few_round_figures() {
        assert_eq!(texts(&Scale::Log, &[1e-4, 0.1]), ["1e-4", "1e-3", "0.01", "0.1"]);
        assert_eq!(texts(&Scale::Log, &[2e-3, 0.02]), ["2e-3", "5e-3", "0.01", "0.02"]);
        assert_eq!(texts(&Scale::Linear, &[0.0, 0.5]), ["0.0", "0.2", "0.4"]);
        assert_eq!(texts(&Scale::Names(vec!["a".to_owned(), "b".to_owned()]), &[]), ["a", "b"]);
        assert!(Axis::around(&Scale::Log, [0.0, f64::NAN].into_iter()).is_none());
    }

    #[test]
    fn marks_are_round_and_an_end_that_is_round_is_marked() {
        assert_eq!(linear_marks(0.0, 1.0), (0.2, [0, 1, 2, 3, 4, 5].map(|n| f64::from(n) * 0.2).to_vec()));
        // 0.3 / 0.1 is less than 3, and 3 * 0.1 more than 0.3.
        let (step, marks) = linear_marks(0.3, 0.6);
        assert_eq!((step, marks.len()), (0.1, 4), "{marks:?}");
        assert!(linear_marks(0.5, 0.5).1.len() <= 20);
        assert_eq!(log_marks(1e-4, 0.1, 3), Some(vec![1e-4, 1e-3, 1e-2, 0.1]));
        assert_eq!(log_marks(1.5, 1.7, 3), None);
    }

    #[test]
    fn values_stand_where_they_belong() {
        let axis = Axis { scale: Scale::Log, low: 1e-4, high: 1e-2 };
        assert!((axis.share(1e-3) - 0.5).abs() < 1e-12);
        let names = Axis::around(&Scale::Names(vec![String::new(); 4]), [].into_iter()).unwrap();
        assert!((names.share(0.0) - 0.125).abs() < 1e-12);
        // A single value stands in the middle, whatever it is.
        for (scale, value) in [(Scale::Linear, 0.0), (Scale::Linear, 7.0), (Scale::Log, 1e-9)] {
            let axis = Axis::around(&scale, [value].into_iter()).unwrap();
            assert!((axis.share(value) - 0.5).abs() < 1e-9, "{scale:?} {value}");
        }
    }
}
