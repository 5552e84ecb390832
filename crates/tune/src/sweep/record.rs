//! `sweep.json`: the trials of a sweep with what is known of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::ErrorKind;

use evaluation::report::{Scale, TrialKind, TrialPicture, TrialPoint};
use serde::{Deserialize, Serialize};
use toml::Value;
use train::config::TrainConfig;
use train::run::folder::RunFolder;
use train::series::Spread;

use super::error::SweepError;
use super::file::{Strategy, SweepFile};
use super::halving::Rung;
use super::space::{Parameter, Range};
use super::trial::{Score, Trial, in_words};

const RECORD_FILE: &str = "sweep.json";

/// `sweep.json`; with `--json`, what is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// The sweep's folder.
    pub sweep: String,
    /// How trials were chosen.
    pub strategy: Strategy,
    /// The rounds.
    pub rungs: Vec<Rung>,
    /// Every trial, in the order of their numbers.
    pub trials: Vec<TrialRecord>,
    /// Number of the winner, once all is done.
    pub best: Option<usize>,
    /// The winner's configuration.
    pub best_config: Option<String>,
}

/// What became of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialStatus {
    /// Not begun, or not finished.
    Waiting,
    /// Trained for the epochs of its last round.
    Finished,
    /// Its loss became infinite or no number.
    Diverged,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// From 1.
    pub number: usize,
    /// What it varies.
    pub values: BTreeMap<String, Value>,
    /// Trainable parameters of its network.
    pub parameters: usize,
    /// How far it has come.
    pub status: TrialStatus,
    /// Its folder in the last round that it took part in.
    pub run: Option<String>,
    /// Epochs of that round.
    pub budget: usize,
    /// Epochs trained; fewer than the budget after an early stop.
    pub epochs: usize,
    /// The epoch that was kept; the latest of the folds'.
    pub best_epoch: usize,
    /// Accuracy on the images held back, 0 to 1; the deviation is that over the folds.
    pub valid_accuracy: Option<Spread>,
    /// Mean cross-entropy on the images held back.
    pub valid_loss: Option<Spread>,
    /// Seconds of training, in that run.
    pub seconds: f64,
    /// What went wrong.
    pub error: Option<String>,
}

impl TrialRecord {
    fn new(trial: &Trial) -> Self {
        Self {
            number: trial.number,
            values: trial.values.iter().cloned().collect(),
            parameters: trial.parameters,
            status: TrialStatus::Waiting,
            run: None,
            budget: 0,
            epochs: 0,
            best_epoch: 0,
            valid_accuracy: None,
            valid_loss: None,
            seconds: 0.0,
            error: None,
        }
    }

    /// Whether it is known to diverge within so many epochs: it would again.
    pub(super) fn diverged_within(&self, epochs: usize) -> bool {
        self.status == TrialStatus::Diverged && self.budget <= epochs
    }

    pub(super) fn take(&mut self, folder: &RunFolder, name: &str, budget: usize, score: Score) {
        self.run = Some(folder.path().join(name).display().to_string());
        self.budget = budget;
        match score {
            Score::Finished { accuracy, loss, seconds, epochs, best_epoch } => {
                self.status = TrialStatus::Finished;
                self.valid_accuracy = Some(accuracy);
                self.valid_loss = Some(loss);
                (self.seconds, self.epochs, self.best_epoch) = (seconds, epochs, best_epoch);
                self.error = None;
            }
            Score::Diverged(error) => {
                self.status = TrialStatus::Diverged;
                self.valid_accuracy = None;
                self.valid_loss = None;
                self.error = Some(error);
            }
            Score::Interrupted => {}
        }
    }

    /// The better first: accuracy, then loss, then the lower number. Without figures last.
    fn order(&self, other: &Self) -> Ordering {
        let figures = |trial: &Self| {
            let accuracy = trial.valid_accuracy.map_or(f64::NEG_INFINITY, |spread| spread.mean);
            let loss = trial.valid_loss.map_or(f64::INFINITY, |spread| spread.mean);
            (accuracy, loss)
        };
        let ((a, a_loss), (b, b_loss)) = (figures(self), figures(other));
        b.total_cmp(&a).then(a_loss.total_cmp(&b_loss)).then(self.number.cmp(&other.number))
    }
}

impl SweepRecord {
    /// What is known from an earlier process, or nothing.
    pub(super) fn open(
        folder: &RunFolder,
        file: &SweepFile,
        rungs: &[Rung],
        trials: &[Trial],
    ) -> Result<Self, SweepError> {
        let path = folder.path().join(RECORD_FILE);
        let fresh = Self {
            sweep: folder.path().display().to_string(),
            strategy: file.sweep().strategy,
            rungs: rungs.to_vec(),
            trials: trials.iter().map(TrialRecord::new).collect(),
            best: None,
            best_config: None,
        };
        let damaged = |reason: String| SweepError::Record { path: path.clone(), reason };
        let stored: Self = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let same = stored.trials.len() == fresh.trials.len()
            && stored.trials.iter().zip(&fresh.trials).all(|(stored, fresh)| stored.number == fresh.number);
        if !same || stored.rungs != fresh.rungs {
            return Err(damaged("its trials are not those of sweep.toml".to_owned()));
        }
        // Divergence is all that the trials' folders do not tell; the rest is read from them again.
        let mut record = fresh;
        for (fresh, stored) in record.trials.iter_mut().zip(stored.trials) {
            if stored.status == TrialStatus::Diverged {
                *fresh = stored;
            }
        }
        Ok(record)
    }

    pub(super) fn write(&self, folder: &RunFolder) -> Result<(), SweepError> {
        let text = serde_json::to_string_pretty(self).map_err(|error| SweepError::Record {
            path: folder.path().join(RECORD_FILE),
            reason: error.to_string(),
        })?;
        Ok(folder.write(RECORD_FILE, format!("{text}\n").as_bytes())?)
    }

    /// The best `number` of some trials (by index), without those that diverged.
    pub(super) fn best_of(&self, among: &[usize], number: usize) -> Vec<usize> {
        let mut ranked: Vec<usize> = among
            .iter()
            .copied()
            .filter(|index| self.trials[*index].status == TrialStatus::Finished)
            .collect();
        ranked.sort_by(|a, b| self.trials[*a].order(&self.trials[*b]));
        ranked.truncate(number);
        ranked
    }

    /// The winner's index, among the trials that trained longest.
    pub(super) fn choose(&mut self) -> Option<usize> {
        let finished = |trial: &&TrialRecord| trial.status == TrialStatus::Finished;
        let longest = self.trials.iter().filter(finished).map(|trial| trial.budget).max()?;
        let among: Vec<usize> =
            (0..self.trials.len()).filter(|index| self.trials[*index].budget == longest).collect();
        let best = self.best_of(&among, 1).first().copied()?;
        self.best = Some(self.trials[best].number);
        Some(best)
    }

    /// The trials from the best to the worst, longest trained first.
    pub fn ranked(&self) -> Vec<&TrialRecord> {
        let mut ranked: Vec<&TrialRecord> = self.trials.iter().collect();
        ranked.sort_by(|a, b| {
            let rank = |trial: &TrialRecord| (trial.status == TrialStatus::Finished, trial.budget);
            rank(b).cmp(&rank(a)).then(a.order(b))
        });
        ranked
    }

    /// The winner's configuration as `train` takes it: it reads the test split, once, at the end.
    pub(super) fn best_toml(&mut self, folder: &RunFolder, winner: &Trial) -> Result<String, SweepError> {
        let trial = &self.trials[winner.number - 1];
        let mut config = TrainConfig { epochs: trial.budget, test: true, ..winner.config.clone() };
        config.data.folds = 0;
        let accuracy = trial.valid_accuracy.map_or(f64::NAN, |spread| spread.mean * 100.0);
        let header = format!(
            "# The best of {} trials of {} by validation accuracy: {accuracy:.2} % (trial {}).\n# {}\n\n",
            self.trials.len(),
            folder.name(),
            winner.number,
            in_words(&winner.values).replace('\n', " "),
        );
        self.best_config = Some(folder.path().join("best.toml").display().to_string());
        Ok(header + &config.to_toml()?)
    }

    /// Every finished trial as a point.
    pub(super) fn picture(&self, file: &SweepFile, trials: &[Trial]) -> TrialPicture {
        let axes: Vec<(Scale, Vec<Value>)> =
            file.parameters().iter().map(|parameter| axis(parameter, trials)).collect();
        let longest = self.trials.iter().map(|trial| trial.budget).max().unwrap_or_default();
        let mut points: Vec<TrialPoint> = Vec::new();
        for (trial, record) in trials.iter().zip(&self.trials) {
            let Some(accuracy) = record.valid_accuracy.filter(|_| record.status == TrialStatus::Finished)
            else {
                continue;
            };
            let values = trial.values.iter().zip(&axes).map(|((_, value), (scale, names))| match scale {
                Scale::Names(_) => {
                    names.iter().position(|name| name == value).map_or(f64::NAN, |position| position as f64)
                }
                _ => value.as_float().or_else(|| value.as_integer().map(|v| v as f64)).unwrap_or(f64::NAN),
            });
            let kind = match record {
                record if self.best == Some(record.number) => TrialKind::Best,
                record if record.budget == longest => TrialKind::Full,
                _ => TrialKind::Short,
            };
            points.push(TrialPoint { values: values.collect(), accuracy: accuracy.mean, kind });
        }
        points.sort_by_key(|point| match point.kind {
            TrialKind::Short => 0,
            TrialKind::Full => 1,
            TrialKind::Best => 2,
        });
        let names = file.parameters().iter().map(|parameter| parameter.key.clone());
        TrialPicture { parameters: names.zip(axes.into_iter().map(|(scale, _)| scale)).collect(), points }
    }
}

/// The scale of a parameter; for names also the values that they stand for, in their order.
fn axis(parameter: &Parameter, trials: &[Trial]) -> (Scale, Vec<Value>) {
    match &parameter.range {
        Range::Real { log: true, .. } => (Scale::Log, Vec::new()),
        Range::Real { .. } | Range::Integer { .. } => (Scale::Linear, Vec::new()),
        Range::Choice(values) => {
            let used = |value: &&Value| {
                trials.iter().any(|trial| {
                    trial.values.iter().any(|(key, of_trial)| *key == parameter.key && of_trial == *value)
                })
            };
            let values: Vec<Value> = values.iter().filter(used).cloned().collect();
            (Scale::Names(values.iter().map(name).collect()), values)
        }
    }
}

fn name(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
