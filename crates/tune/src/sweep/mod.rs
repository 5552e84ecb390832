//! Choosing hyper-parameters: many runs on the same images, judged on their validation split.
//!
//! ```text
//! artifacts/<name>/
//!   sweep.toml       what was asked for; the trials are a function of it
//!   sweep.json       every trial with its figures so far
//!   trial-001/ ...   run folders, or those of a cross-validation
//!   report/          the picture
//!   best.toml        the winner's configuration, for `train --config`
//! ```
//!
//! No trial reads the test split.

mod error;
mod file;
mod halving;
mod record;
mod space;
mod trial;

pub use error::SweepError;
pub use file::{Strategy, SweepConfig, SweepFile};
pub use halving::{Rung, rungs};
pub use record::{SweepRecord, TrialRecord, TrialStatus};
pub use space::{Parameter, Range, Values, grid, parameters, random};
pub use trial::{Trial, in_words};

use trial::Score;

use std::path::Path;

use train::config::TrainConfig;
use train::fit::{FitError, Surroundings, load_pair_at};
use train::run::data_record;
use train::run::folder::RunFolder;
use train::series::folds::cross_validate;
use train::series::{Member, Spread, complete};

/// The file that makes a folder one of a sweep.
pub const SWEEP_FILE: &str = "sweep.toml";

/// A sweep that is ready to run.
#[derive(Clone, Debug)]
pub struct Sweep {
    file: SweepFile,
    trials: Vec<Trial>,
    rungs: Vec<Rung>,
    /// Where the data lies.
    place: String,
}

impl Sweep {
    /// Draws the trials and checks all of them against the data, before anything is trained. `begun` is the folder of a
    /// sweep to go on with, and `dataset` where its data lies now, when that is said anew.
    ///
    /// # Errors
    /// On settings out of range, a trial that cannot work, data that cannot be had, and data that changed since.
    pub fn prepare(
        file: SweepFile,
        search: &data::Search,
        begun: Option<&Path>,
        dataset: Option<&str>,
    ) -> Result<Self, SweepError> {
        let drawn = file.draw()?;
        let base = file.base()?;
        let place = match begun {
            Some(folder) => data_record::place(folder, dataset, &base.data.dataset)?,
            None => base.data.dataset.clone(),
        };
        let pair = load_pair_at(&base, &place, search)?;
        if let Some(folder) = begun {
            data_record::check_series(folder, &place, &pair)?;
        }
        let (input, classes) = (pair.preprocessing.input, pair.train.class_names.len());
        drop(pair);
        let mut trials = Vec::with_capacity(drawn.len());
        for (index, values) in drawn.into_iter().enumerate() {
            let number = index + 1;
            let refused = |source: FitError| SweepError::Trial {
                number,
                values: in_words(&values),
                source: Box::new(source),
            };
            let config = file.trial(&values).map_err(|error| refused(error.into()))?;
            let summary =
                config.network.summary(input, classes).map_err(|error| refused(FitError::from(error)))?;
            trials.push(Trial { number, values, config, parameters: summary.parameters() });
        }
        let rungs = file.rungs(trials.len())?;
        Ok(Self { file, trials, rungs, place })
    }

    /// The trials, as drawn.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The rounds; one for a grid or a random sweep.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// What was asked for.
    pub fn file(&self) -> &SweepFile {
        &self.file
    }

    /// Runs what has not finished, in order; `None` when a signal stopped a trial.
    ///
    /// # Errors
    /// On anything but a trial that diverges; what is done stays done.
    pub fn run(
        &self,
        folder: &RunFolder,
        surroundings: &Surroundings,
    ) -> Result<Option<SweepRecord>, SweepError> {
        let mut record = SweepRecord::open(folder, &self.file, &self.rungs, &self.trials)?;
        let surroundings = &Surroundings { dataset: Some(self.place.clone()), ..surroundings.clone() };
        let mut alive: Vec<usize> = (0..self.trials.len()).collect();
        for (round, rung) in self.rungs.iter().enumerate() {
            if round > 0 {
                alive = record.best_of(&alive, rung.trials);
                alive.sort_unstable();
            }
            for (position, &index) in alive.iter().enumerate() {
                if record.trials[index].diverged_within(rung.epochs) {
                    continue;
                }
                let trial = &self.trials[index];
                tracing::info!(
                    "trial {} ({} of {} with {} epochs): {}",
                    trial.number,
                    position + 1,
                    alive.len(),
                    rung.epochs,
                    in_words(&trial.values)
                );
                let name = self.folder_of(trial, round);
                match score(trial, rung.epochs, folder, &name, surroundings)? {
                    Score::Interrupted => return Ok(None),
                    score => record.trials[index].take(folder, &name, rung.epochs, score),
                }
                record.write(folder)?;
            }
        }
        let best = record.choose().ok_or(SweepError::AllDiverged(self.trials.len()))?;
        let winner = &self.trials[best];
        let text = record.best_toml(folder, winner)?;
        folder.write("best.toml", text.as_bytes())?;
        folder.write_report(
            &evaluation::report::render_trials(&record.picture(&self.file, &self.trials))
                .map_err(FitError::from)?,
        )?;
        record.write(folder)?;
        Ok(Some(record))
    }

    /// A trial goes on in its folder where the rates of the epochs that are done do not depend on how many follow
    /// (constant, step and plateau schedules); else every round is a run of its own, from the first epoch.
    fn folder_of(&self, trial: &Trial, round: usize) -> String {
        let first = self.rungs[0].epochs;
        if round == 0 || trial.config.schedule.ignores_later_epochs(first) {
            format!("trial-{:03}", trial.number)
        } else {
            format!("trial-{:03}-round-{}", trial.number, round + 1)
        }
    }
}

/// Brings one round of one trial to its end.
fn score(
    trial: &Trial,
    epochs: usize,
    folder: &RunFolder,
    name: &str,
    surroundings: &Surroundings,
) -> Result<Score, SweepError> {
    let config = TrainConfig { epochs, ..trial.config.clone() };
    let outcome = if config.data.is_cross_validation() {
        let runs = folder.member(name)?;
        cross_validate(&config, &runs, surroundings).map(|result| {
            result.map_or(Score::Interrupted, |result| Score::Finished {
                accuracy: result.valid_accuracy,
                loss: result.valid_loss,
                seconds: result.seconds,
                epochs: result.runs.iter().map(|run| run.epochs).max().unwrap_or_default(),
                best_epoch: result.runs.iter().map(|run| run.best_epoch).max().unwrap_or_default(),
            })
        })
    } else {
        complete(&config, folder.path(), name, surroundings).map(|member| match member {
            Member::Interrupted => Score::Interrupted,
            Member::Finished(result) => Score::Finished {
                accuracy: Spread::of(&[result.valid_accuracy]),
                loss: Spread::of(&[result.valid_loss]),
                seconds: result.seconds,
                epochs: result.epochs,
                best_epoch: result.best_epoch,
            },
        })
    };
    match outcome {
        Ok(score) => Ok(score),
        Err(error @ FitError::Diverged { .. }) => {
            let message = error.to_string().lines().next().unwrap_or_default().to_owned();
            tracing::warn!("trial {}: {message}", trial.number);
            Ok(Score::Diverged(message))
        }
        Err(error) => Err(error.into()),
    }
}
