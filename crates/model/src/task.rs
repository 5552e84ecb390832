//! What the logits of a network are asked: which one class a picture is of, or which of the classes are on it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kinds of task, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// One class a picture.
    #[default]
    Classify,
    /// Any number of classes a picture.
    MultiLabel,
}

impl TaskName {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Classify, Self::MultiLabel];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::MultiLabel => "multi-label",
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TaskName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(" or ");
        Self::ALL
            .into_iter()
            .find(|task| task.name() == text)
            .ok_or_else(|| format!("expected {}, found `{text}`", known()))
    }
}

/// What a model's logits mean, with what was fitted for it; part of the model file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// One class a picture: the softmax of the logits `[K]` has the probabilities.
    #[default]
    Classify,
    /// Any number of classes a picture: the sigmoid of each logit is the probability that the class is on the picture.
    MultiLabel {
        /// For each class the least probability `[K]` with which it is said to be on a picture.
        thresholds: Vec<f32>,
    },
}

/// A task that does not fit the classes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("task: `thresholds` {0}")]
pub struct TaskError(String);

impl Task {
    /// Its kind.
    pub fn name(&self) -> TaskName {
        match self {
            Self::Classify => TaskName::Classify,
            Self::MultiLabel { .. } => TaskName::MultiLabel,
        }
    }

    /// Whether it is the task of the first versions, which their files do not name.
    pub fn is_classify(&self) -> bool {
        *self == Self::Classify
    }

    /// The thresholds `[K]`, where classes have them.
    pub fn thresholds(&self) -> Option<&[f32]> {
        match self {
            Self::Classify => None,
            Self::MultiLabel { thresholds } => Some(thresholds),
        }
    }

    /// The probability of every class `[K]` of logits `[K]` that are divided by `temperature` first, computed in `f64`.
    pub fn probabilities(&self, logits: &[f32], temperature: f32) -> Vec<f32> {
        match self {
            Self::Classify => crate::softmax(logits, temperature),
            Self::MultiLabel { .. } => logits.iter().map(|&logit| sigmoid(logit, temperature)).collect(),
        }
    }

    /// Whether there is a threshold for each of `classes`, a probability.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(crate) fn validate(&self, classes: usize) -> Result<(), TaskError> {
        let Some(thresholds) = self.thresholds() else { return Ok(()) };
        if thresholds.len() != classes {
            return Err(TaskError(format!(
                "are {}; expected one for each of {classes} classes",
                thresholds.len()
            )));
        }
        match thresholds.iter().find(|threshold| !(0.0..=1.0).contains(*threshold)) {
            Some(wrong) => Err(TaskError(format!("hold {wrong}; expected probabilities from 0 to 1"))),
            None => Ok(()),
        }
    }
}

/// The probability of a class by its logit alone, computed in `f64`.
pub fn sigmoid(logit: f32, temperature: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit) / f64::from(temperature)).exp())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_written_by_their_names() {
        for task in TaskName::ALL {
            assert_eq!(task.name().parse(), Ok(task));
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
        let error = "sequence".parse::<TaskName>().unwrap_err();
        assert_eq!(error, "expected classify or multi-label, found `sequence`");
        let task = Task::MultiLabel { thresholds: vec![0.5, 0.25] };
        let json = serde_json::to_string(&task).unwrap();
        assert_eq!(json, "{\"name\":\"multi-label\",\"thresholds\":[0.5,0.25]}");
        assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
        assert!(serde_json::from_str::<Task>("{\"name\":\"multi-label\"}").is_err());
    }

    #[test]
    fn a_sigmoid_is_not_moved_by_the_other_classes() {
        let task = Task::MultiLabel { thresholds: vec![0.5; 3] };
        let found = task.probabilities(&[0.0, 3f32.ln(), -200.0], 1.0);
        assert_eq!(found[0].to_bits(), 0.5f32.to_bits());
        assert!((found[1] - 0.75).abs() < 1e-6 && found[2] < 1e-30, "{found:?}");
        assert!((task.probabilities(&[2.0 * 3f32.ln(); 3], 2.0)[0] - 0.75).abs() < 1e-6);
        assert_eq!(Task::Classify.probabilities(&[1.0, 1.0], 1.0), [0.5, 0.5]);
    }

    #[test]
    fn thresholds_are_one_for_each_class() {
        let task = |thresholds: &[f32]| Task::MultiLabel { thresholds: thresholds.to_vec() };
        assert_eq!(task(&[0.0, 1.0]).validate(2), Ok(()));
        assert_eq!(Task::Classify.validate(7), Ok(()));
        for (thresholds, word) in
            [(&[0.5][..], "are 1"), (&[0.5, 1.5], "hold 1.5"), (&[0.5, f32::NAN], "hold NaN")]
        {
            let error = task(thresholds).validate(2).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
