//! What may be chosen about answers, and the answer for one picture: one meaning for `kiln predict` and `kiln serve`.

use clap::Args;
use data::listed;
use model::{
    ClassProbability, Classifier, ClassifyError, Picture, Policy, Prediction, Reading, Reason, TaskName,
};
use serde::Serialize;

/// What may be chosen about answers: flags of `kiln predict`, parameters of a request to `kiln serve`.
#[derive(Args, Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Classes to name for each picture
    #[arg(long, value_name = "N", default_value_t = Self::default().top, value_parser = top)]
    pub(crate) top: u16,
    /// Read several digits in each picture, from the left, lines from the top; `?` for a rejected one
    #[arg(long)]
    pub(crate) digits: bool,
    /// Reject answers with a smaller probability
    #[arg(long, value_name = "P", default_value_t = Self::default().reject_below, value_parser = probability)]
    pub(crate) reject_below: f32,
    /// Reject pictures less like the training images than this share of the validation images, as out-of-distribution; 1
    /// rejects none for that
    #[arg(long, value_name = "SHARE", default_value_t = Self::default().keep, value_parser = share)]
    pub(crate) keep: f32,
}

impl Default for Choice {
    fn default() -> Self {
        let Policy { top, reject_below, keep } = Policy::default();
        Self { top: top as u16, digits: false, reject_below, keep }
    }
}

impl Choice {
    /// The names that [`Self::set`] knows.
    pub(crate) const NAMES: [&'static str; 4] = ["top", "digits", "reject_below", "keep"];

    /// Sets what a request calls `name`.
    ///
    /// # Errors
    /// What is wrong, for whoever sent it: an unknown name, or a value that is not accepted.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        // Not longer than a line, whatever was sent.
        let short = |text: &str| text.chars().take(40).collect::<String>();
        let done = match name {
            "top" => top(value).map(|top| self.top = top),
            "digits" => value
                .parse()
                .map(|digits| self.digits = digits)
                .map_err(|_| "expected `true` or `false`".to_owned()),
            "reject_below" => probability(value).map(|below| self.reject_below = below),
            "keep" => share(value).map(|keep| self.keep = keep),
            other => {
                let known = Self::NAMES.map(|name| format!("`{name}`")).join(", ");
                return Err(format!("unknown parameter `{}`; expected one of {known}", short(other)));
            }
        };
        done.map_err(|expected| format!("`{name}` is `{}`; {expected}", short(value)))
    }

    /// Whether all of it has a meaning for a model.
    ///
    /// # Errors
    /// What has none, by the name that flags and parameters have.
    pub(crate) fn check(&self, classifier: &Classifier) -> Result<(), String> {
        let default = Self::default();
        let task = classifier.metadata().task.name();
        let (name, reason) = match task {
            TaskName::Classify if self.digits && !classifier.reads_digits() => {
                return Err(format!(
                    "`digits` needs a model of digits; this one answers to whole pictures, and knows {}",
                    listed(&classifier.metadata().classes)
                ));
            }
            TaskName::MultiLabel if self.digits => ("digits", "it says which classes are on a whole picture"),
            TaskName::MultiLabel if self.keep.to_bits() != default.keep.to_bits() => {
                ("keep", "it cannot tell out-of-distribution pictures")
            }
            TaskName::Classify | TaskName::MultiLabel => return Ok(()),
        };
        Err(format!("`{name}` has no meaning for a {task} model: {reason}"))
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { top: self.top.into(), reject_below: self.reject_below, keep: self.keep }
    }
}

fn top(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(value @ 1..=1000) => Ok(value),
        _ => Err("expected a whole number from 1 to 1000".to_owned()),
    }
}

fn probability(text: &str) -> Result<f32, String> {
    within(text, 0.0).ok_or_else(|| "expected a probability from 0 to 1".to_owned())
}

fn share(text: &str) -> Result<f32, String> {
    within(text, 0.5).ok_or_else(|| "expected a share from 0.5 to 1".to_owned())
}

/// A number from `low` to 1, before it is rounded.
fn within(text: &str, low: f64) -> Option<f32> {
    let value = text.parse::<f64>().ok()?;
    (low..=1.0).contains(&value).then_some(value as f32)
}

/// What is said about one picture.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub(crate) prediction: Prediction,
    /// Only where digits were asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<Reading>,
}

/// Reads the digits of a picture; the prediction says of the text what it says of a class elsewhere.
///
/// # Errors
/// As [`Classifier::read`].
pub(crate) fn read_digits(
    classifier: &Classifier,
    picture: &Picture,
    policy: &Policy,
) -> Result<Answer, ClassifyError> {
    let reading = classifier.read(picture, policy)?;
    let probability = if reading.digits.is_empty() { 0.0 } else { reading.probability() };
    let rejected = reading.digits.is_empty() || reading.digits.iter().any(|digit| digit.rejected);
    let prediction = Prediction {
        label: reading.text.clone(),
        probability,
        labels: None,
        top: vec![ClassProbability { label: reading.text.clone(), probability }],
        rejected,
        reason: rejected.then_some(Reason::Unread),
    };
    Ok(Answer { prediction, reading: Some(reading) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        choice: Choice,
    }

    #[test]
    fn a_parameter_means_what_the_flag_means() {
        assert_eq!(Program::try_parse_from(["kiln"]).unwrap().choice, Choice::default());
        assert_eq!(Choice::default().policy(), Policy::default());
        for (name, values) in [
            ("top", ["1", "1000", "0", "1001", "-1", "1.5", "", "three"]),
            ("reject_below", ["0", "1", "0.25", "1.01", "-1e-60", "NaN", "", "inf"]),
            ("keep", ["0.5", "1", "0.99", "0.49", "1.0000000000000002", "NaN", "", "-1"]),
        ] {
            for value in values {
                let mut choice = Choice::default();
                let set = choice.set(name, value);
                let flag = format!("--{}={value}", name.replace('_', "-"));
                match Program::try_parse_from(["kiln", &flag]) {
                    Ok(program) => assert_eq!((set, program.choice), (Ok(()), choice), "{flag}"),
                    Err(_) => {
                        let message = set.unwrap_err();
                        assert!(
                            message.starts_with(&format!("`{name}` is `{value}`; expected")),
                            "{message}"
                        );
                        assert_eq!(choice, Choice::default());
                    }
                }
            }
        }
        let mut choice = Choice::default();
        assert_eq!(choice.set("digits", "true"), Ok(()));
        assert_eq!(choice, Program::try_parse_from(["kiln", "--digits"]).unwrap().choice);
        assert!(choice.set("digits", "").unwrap_err().contains("`true` or `false`"));
        assert!(
            choice
                .set("model", "x")
                .unwrap_err()
                .contains("unknown parameter `model`; expected one of `top`")
        );
    }
}
