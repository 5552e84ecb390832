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
use train::fit::{FitError, RunContext};
use train::run::data_record;
use train::run::folder::RunFolder;
use train::series::folds::cross_validate;
use train::series::{Member, Spread, complete};
use train::task::load_pair_at;

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
        let series: Vec<&Path> = begun.into_iter().collect();
        let mut pair =
            load_pair_at(&data_record::with_input(&series, &base), &place, search).map_err(FitError::from)?;
        if let Some(folder) = begun {
            data_record::join_series(folder, &place, &mut pair)?;
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
    pub fn run(&self, folder: &RunFolder, context: &RunContext) -> Result<Option<SweepRecord>, SweepError> {
        let mut record = SweepRecord::open(folder, &self.file, &self.rungs, &self.trials)?;
        let context = &RunContext { dataset: Some(self.place.clone()), ..context.clone() };
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
                match score(trial, rung.epochs, folder, &name, context)? {
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
    context: &RunContext,
) -> Result<Score, SweepError> {
    let config = TrainConfig { epochs, ..trial.config.clone() };
    let outcome = if config.data.is_cross_validation() {
        let runs = folder.member(name)?;
        cross_validate(&config, &runs, folder.path(), context).map(|result| {
            result.map_or(Score::Interrupted, |result| Score::Finished {
                accuracy: result.valid_accuracy,
                loss: result.valid_loss,
                seconds: result.seconds,
                epochs: result.runs.iter().map(|run| run.epochs).max().unwrap_or_default(),
                best_epoch: result.runs.iter().map(|run| run.best_epoch).max().unwrap_or_default(),
            })
        })
    } else {
        complete(&config, &folder.path().join(name), folder.path(), context).map(|member| match member {
            Member::Interrupted => Score::Interrupted,
            Member::Finished(result) => Score::Finished {
                accuracy: Spread::of(&[result.valid_score()]),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use image::{GrayImage, Luma};
    use train::config::arguments::ProgressMode;
    use train::run::record::{RunRecord, read_record};

    use super::*;

    /// Begins the sweep `at`, or goes on with it; up to the first batch when `stopped`.
    fn sweep(at: &Path, text: &str, stopped: bool) -> Option<SweepRecord> {
        let parent = at.parent().unwrap();
        let context = RunContext {
            command: "sweep",
            artifacts: parent.to_owned(),
            name: None,
            search: data::Search { cache_dir: Some(parent.join("cache")), ..data::Search::default() },
            dataset: None,
            accept_changed_data: false,
            progress: ProgressMode::None,
            stop: Arc::new(stopped.into()),
            adapts_budget: false,
        };
        let begun = at.is_dir().then_some(at);
        let folder = match begun {
            Some(at) => RunFolder::open_with(at, SWEEP_FILE).unwrap(),
            None => RunFolder::create(parent, Some("sweep"), "x").unwrap(),
        };
        folder.write(SWEEP_FILE, text.as_bytes()).unwrap();
        let file = SweepFile::stored(&at.join(SWEEP_FILE)).unwrap();
        let sweep = Sweep::prepare(file, &context.search, begun, None).unwrap();
        sweep.run(&folder, &context).unwrap()
    }

    /// The records of the runs in a folder and below, in the order of their names.
    fn runs(folder: &Path) -> Vec<RunRecord> {
        if let Ok(record) = read_record(folder) {
            return vec![record];
        }
        let mut inside: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        inside.iter().filter(|path| path.is_dir()).flat_map(|path| runs(path)).collect()
    }

    fn last_weights(at: &Path) -> Vec<Option<String>> {
        runs(at).into_iter().map(|run| run.result.map(|result| result.last_weights_sha256)).collect()
    }

    fn copy_folder(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy_folder(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    /// Fourteen pictures of each of three classes.
    fn pictures(folder: &Path) {
        for (class, base) in [("circle", 0), ("cross", 60), ("square", 120)] {
            fs::create_dir_all(folder.join(class)).unwrap();
            for n in 0..14 {
                let pixel = |x, y| Luma([(base + n * 4 + x * y) as u8]);
                GrayImage::from_fn(12, 12, pixel).save(folder.join(format!("{class}/{n:02}.png"))).unwrap();
            }
        }
    }

    /// The first run settles order, size and channels of the pictures, also for trials that begin in another process.
    #[test]
    fn all_trials_see_the_same_pictures_in_the_same_size() {
        for folds in [0, 2] {
            let of = |data: &Path| {
                format!(
                    "epochs = 1\nbatch_size = 8\ndata = {{ dataset = {data:?}, valid_fraction = 0.2 }}\nnetwork = {{ name \
                     = 'cnn', dense = [] }}\n[sweep]\nstrategy = 'grid'\nfolds = {folds}\n[sweep.parameters]\n\
                     'optimizer.learning_rate' = [1e-3, 2e-3]"
                )
            };
            let folder = tempfile::tempdir().unwrap();
            let (at, data) = (folder.path().join("sweep"), folder.path().join("data"));
            pictures(&data);
            sweep(&at, &of(&data), false).unwrap();
            let whole = last_weights(&at);
            assert!(whole.len() == 2 * folds.max(1) && whole.iter().all(Option::is_some), "{whole:?}");
            fs::remove_dir_all(&at).unwrap();
            assert!(sweep(&at, &of(&data), true).is_none());
            assert_eq!(last_weights(&at), [None]);
            fs::rename(data.join("circle/02.png"), data.join("circle/zz.png")).unwrap();
            let grey = image::open(data.join("cross/06.png")).unwrap();
            grey.to_rgb8().save(data.join("cross/06.png")).unwrap();
            sweep(&at, &of(&data), false).unwrap();
            assert_eq!(last_weights(&at), whole, "{folds} folds");
        }
    }

    /// What a sweep's table says, without times.
    fn table(record: &SweepRecord) -> Vec<(usize, usize, Option<Spread>, Option<Spread>)> {
        let row =
            |trial: &TrialRecord| (trial.budget, trial.best_epoch, trial.valid_accuracy, trial.valid_loss);
        record.trials.iter().map(row).collect()
    }

    /// A trial that was prolonged still has the figures of the rounds before, whatever was lost since.
    #[test]
    fn a_sweep_goes_on_after_its_trials_were_prolonged() {
        let folder = tempfile::tempdir().unwrap();
        let (at, kept) = (folder.path().join("sweep"), folder.path().join("kept"));
        for folds in [0, 2] {
            let text = format!(
                "batch_size = 20\ntest = false\ncheckpoint = {{ every = '2steps', keep = 4 }}\nschedule = {{ name = \
                 'constant', warmup_epochs = 0.5 }}\ndata = {{ dataset = 'mnist-sample', limit = 80, valid_fraction = \
                 0.25, workers = 0 }}\nnetwork = {{ name = 'cnn', blocks = [{{ channels = 2, kernel = 5, stride = 3, pool \
                 = {{ kernel = 2 }} }}], dense = [] }}\n[sweep]\nstrategy = 'halving'\ntrials = 3\nepochs = 4\n\
                 min_epochs = 2\nfolds = {folds}\n[sweep.parameters]\n'optimizer.learning_rate' = {{ log_uniform = \
                 [1e-3, 1e-1] }}"
            );
            let whole = sweep(&at, &text, false).unwrap();
            let best = format!("trial-{:03}", whole.best.unwrap());
            let best = if folds == 0 { best } else { format!("{best}/fold-2") };
            copy_folder(&at, &kept);
            let cases = ["nothing", "the end", "the last checkpoints", "all checkpoints", "the run"];
            for &lost in &cases[if folds == 0 { 0..5 } else { 2..3 }] {
                fs::remove_dir_all(&at).unwrap();
                copy_folder(&kept, &at);
                let run = at.join(&best);
                if lost != "nothing" {
                    fs::remove_file(at.join("sweep.json")).unwrap();
                    let record = fs::read_to_string(run.join("run.json")).unwrap();
                    fs::write(run.join("run.json"), record.replace("\"finished\"", "\"running\"")).unwrap();
                }
                let mut steps: Vec<_> = fs::read_dir(run.join("checkpoints"))
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .collect();
                steps.sort();
                // The first that is left is within an epoch of the first round.
                let harmed = match lost {
                    "the last checkpoints" => &steps[1..],
                    "all checkpoints" => &steps[..],
                    _ => &[],
                };
                for step in harmed {
                    fs::write(step.join("state.json"), "").unwrap();
                }
                if lost == "the run" {
                    fs::remove_dir_all(&run).unwrap();
                }
                assert_eq!(
                    table(&sweep(&at, &text, false).unwrap()),
                    table(&whole),
                    "{folds} folds, lost: {lost}"
                );
                assert_eq!(last_weights(&at), last_weights(&kept), "{folds} folds, lost: {lost}");
            }
            fs::remove_dir_all(&at).unwrap();
            fs::remove_dir_all(&kept).unwrap();
        }
    }

    /// One epoch without progress stops a trial, also when it may train on.
    #[test]
    fn a_trial_that_stopped_early_takes_part_in_the_next_round() {
        let folder = tempfile::tempdir().unwrap();
        let text = "batch_size = 40\ntest = false\nearly_stopping = { patience = 1, min_delta = 10.0 }\nschedule = { name = \
                    'constant', warmup_epochs = 0.5 }\ndata = { dataset = 'mnist-sample', limit = 80, valid_fraction = \
                    0.25, workers = 0 }\nnetwork = { name = 'cnn', blocks = [{ channels = 2, kernel = 5, stride = 3, pool = \
                    { kernel = 2 } }], dense = [] }\n[sweep]\nstrategy = 'halving'\ntrials = 2\nepochs = 6\nmin_epochs = \
                    3\n[sweep.parameters]\n'optimizer.learning_rate' = { log_uniform = [1e-3, 1e-1] }";
        let record = sweep(&folder.path().join("sweep"), text, false).unwrap();
        let ends: Vec<_> = record.trials.iter().map(|trial| (trial.budget, trial.epochs)).collect();
        assert!(ends == [(3, 2), (6, 2)] || ends == [(6, 2), (3, 2)], "{ends:?}");
    }
}
