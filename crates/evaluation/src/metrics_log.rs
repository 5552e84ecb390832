//! `metrics.jsonl`: one JSON object per finished epoch, appended as it ends.
//!
//! ```json
//! {"epoch":1,"train_loss":0.21,"train_accuracy":0.94,"valid_loss":0.07,"valid_accuracy":0.98,
//!  "learning_rate":0.001,"samples_per_second":9100.0,"seconds":6.1}
//! ```
//! (on one line). A figure that was not measured, or is not a finite number, is `null`; it reads back as NaN.
//! A killed run may leave a last line without its line end: [`parse`] leaves it out and says where the
//! whole lines end. A resumed run may write an epoch again: the later line counts, and what an
//! abandoned continuation wrote after it is dropped.

use serde::{Deserialize, Deserializer, Serialize};

/// The figures of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss over the training samples during the epoch: with dropout, augmentation and label
    /// smoothing on, as the optimizer saw it.
    #[serde(deserialize_with = "figure")]
    pub train_loss: f64,
    /// Share of right answers during the epoch, 0 to 1.
    #[serde(deserialize_with = "figure")]
    pub train_accuracy: f64,
    /// Mean cross-entropy over the validation split after the epoch.
    #[serde(deserialize_with = "figure")]
    pub valid_loss: f64,
    /// Share of right answers on the validation split after the epoch, 0 to 1.
    #[serde(deserialize_with = "figure")]
    pub valid_accuracy: f64,
    /// Mean average precision on the validation split after the epoch, 0 to 1, where a picture may have several labels;
    /// `*_accuracy` are the shares of images with all labels right then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_mean_average_precision: Option<f64>,
    /// Learning rate of the last step.
    #[serde(deserialize_with = "figure")]
    pub learning_rate: f64,
    /// Training samples per second, validation not counted.
    #[serde(deserialize_with = "figure")]
    pub samples_per_second: f64,
    /// Wall time of the epoch's training in seconds, validation not counted.
    #[serde(deserialize_with = "figure")]
    pub seconds: f64,
}

/// JSON has no NaN: `serde_json` writes it as `null`.
fn figure<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A whole line of the log that is not a record: the file was edited or damaged.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the metrics log is not an epoch record: {source}")]
pub struct MetricsLogError {
    /// Counted from 1.
    pub line: usize,
    /// What the JSON reader found, with the column.
    pub source: serde_json::Error,
}

/// A log as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsLog {
    /// Ascending by epoch.
    pub records: Vec<EpochRecord>,
    /// Length in bytes of the whole lines. Bytes after it are a torn line, which must be cut off before
    /// anything is appended.
    pub whole_bytes: usize,
}

impl EpochRecord {
    /// The record as a line of the log, with its line end: append it in a single write.
    pub fn to_line(&self) -> String {
        // A struct of numbers always serialises; the fallback keeps the signature free of a `Result`
        // that no caller could act on.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Reads the content of a log. Blank lines are skipped.
///
/// # Errors
/// [`MetricsLogError`] for a line that has its line end and still is not a record.
pub fn parse(bytes: &[u8]) -> Result<MetricsLog, MetricsLogError> {
    let whole_bytes = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut records: Vec<EpochRecord> = Vec::new();
    for (number, line) in bytes[..whole_bytes].split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record: EpochRecord =
            serde_json::from_slice(line).map_err(|source| MetricsLogError { line: number + 1, source })?;
        records.retain(|earlier| earlier.epoch < record.epoch);
        records.push(record);
    }
    Ok(MetricsLog { records, whole_bytes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(epoch: usize) -> EpochRecord {
        EpochRecord {
            epoch,
            train_loss: 0.5 / epoch as f64,
            train_accuracy: 0.9,
            valid_loss: 0.25,
            valid_accuracy: 0.95,
            valid_mean_average_precision: None,
            learning_rate: 1e-3,
            samples_per_second: 9000.0,
            seconds: 6.5,
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_documented_names() {
        assert_eq!(
            record(1).to_line(),
            "{\"epoch\":1,\"train_loss\":0.5,\"train_accuracy\":0.9,\"valid_loss\":0.25,\"valid_accuracy\":0.95,\
             \"learning_rate\":0.001,\"samples_per_second\":9000.0,\"seconds\":6.5}\n"
        );
    }

    #[test]
    fn an_unmeasured_figure_is_null_and_reads_back_as_nan() {
        let unmeasured = EpochRecord { valid_loss: f64::NAN, ..record(1) };
        let line = unmeasured.to_line();
        assert!(line.contains("\"valid_loss\":null"), "{line}");
        let log = parse(line.as_bytes()).expect("parses");
        assert!(log.records[0].valid_loss.is_nan());
    }

    #[test]
    fn a_repeated_epoch_replaces_what_came_after_it() {
        let again = EpochRecord { train_loss: 0.125, ..record(2) };
        let text = [record(1), record(2), record(3), again].map(|r| r.to_line()).concat();
        assert_eq!(parse(text.as_bytes()).expect("parses").records, [record(1), again]);
    }

    #[test]
    fn a_damaged_whole_line_is_an_error_with_its_number() {
        let text = format!("{}\n{{\"epoch\":2}}\n{}", record(1).to_line(), record(3).to_line());
        let error = parse(text.as_bytes()).expect_err("line 3 lacks its figures");
        assert!(
            error.to_string().starts_with("line 3 of the metrics log is not an epoch record: missing field")
        );
    }

    proptest! {
        /// A log cut at any byte gives the whole lines before the cut, and never an error.
        #[test]
        fn a_torn_log_gives_its_whole_lines(epochs in 0..6_usize, cut in 0.0..=1.0_f64) {
            let lines: Vec<String> = (1..=epochs).map(|epoch| record(epoch).to_line()).collect();
            let text = lines.concat();
            let cut = (cut * text.len() as f64) as usize;
            let log = parse(&text.as_bytes()[..cut]).expect("a torn log is not an error");
            let whole = text[..cut].matches('\n').count();
            prop_assert_eq!(log.whole_bytes, lines[..whole].concat().len());
            prop_assert_eq!(log.records, (1..=whole).map(record).collect::<Vec<_>>());
        }
    }
}
