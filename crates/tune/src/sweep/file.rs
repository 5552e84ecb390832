//! The file that describes a sweep: a configuration as `train --config` takes it, and a table `[sweep]`.

use std::path::Path;

use data::Search;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use train::config::{ConfigError, ConfigLayers, TrainConfig};
use train::start::resolve_start;

use super::error::SweepError;
use super::halving::{Rung, rungs};
use super::space::{MOST_TRIALS, Parameter, Values, grid, parameters, random};

/// How trials are chosen, and how long each may train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Every combination.
    Grid,
    /// Independent draws (Bergstra & Bengio, JMLR 13, 2012).
    Random,
    /// Independent draws, of which the better half goes on each time; see [`rungs`].
    Halving,
}

/// The table `[sweep]`. It may also hold `base`, the path (relative to the file) of a configuration that the file's own
/// keys are laid over; reading the file does that.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// How trials are chosen.
    pub strategy: Strategy,
    /// How many, for all strategies but the grid.
    #[serde(default)]
    pub trials: Option<usize>,
    /// Seed of the draws; the configuration's own seed when absent.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Epochs of a trial that trains to the end; the configuration's when absent.
    #[serde(default)]
    pub epochs: Option<usize>,
    /// Every trial is a cross-validation of so many folds; 0: one run with the validation split.
    #[serde(default)]
    pub folds: usize,
    /// Halving: one trial in so many goes on. 2 when absent.
    #[serde(default)]
    pub eta: Option<usize>,
    /// Halving: epochs of the first round at least. 1 when absent.
    #[serde(default)]
    pub min_epochs: Option<usize>,
    /// Ranges by key, see [`parameters`].
    pub parameters: Table,
}

/// A sweep as asked for: the base configuration's keys and the checked table.
#[derive(Clone, Debug)]
pub struct SweepFile {
    base: ConfigLayers,
    sweep: SweepConfig,
    table: Table,
    parameters: Vec<Parameter>,
}

/// A file's configuration and its table `[sweep]`.
fn parts(path: &Path) -> Result<(ConfigLayers, Table), SweepError> {
    let mut layers = ConfigLayers::from_file(path)?;
    match layers.take("sweep") {
        Some(Value::Table(sweep)) => Ok((layers, sweep)),
        Some(other) => Err(SweepError::setting("sweep", other, "a table with strategy and parameters")),
        None => Err(SweepError::setting(
            &path.display().to_string(),
            "no [sweep]",
            "a table [sweep] with strategy and parameters",
        )),
    }
}

impl SweepFile {
    /// Reads a sweep's file, with `--set` expressions over its base.
    ///
    /// # Errors
    /// When it or its base cannot be read, or a setting is out of range.
    pub fn read(path: &Path, set: &[String], search: &Search) -> Result<Self, SweepError> {
        let (mut layers, mut sweep) = parts(path)?;
        if let Some(base) = sweep.remove("base") {
            let name = base
                .as_str()
                .ok_or_else(|| SweepError::setting("sweep.base", &base, "the path of a configuration"))?;
            let under = ConfigLayers::from_file(&path.parent().unwrap_or(Path::new("")).join(name))?;
            layers = layers.over(under);
        }
        for expression in set {
            layers.set_expression(expression)?;
        }
        let (layers, _) = resolve_start(layers, search)?;
        Self::new(layers, sweep, path)
    }

    /// Reads back what [`SweepFile::to_toml`] wrote.
    ///
    /// # Errors
    /// As [`SweepFile::read`].
    pub fn stored(path: &Path) -> Result<Self, SweepError> {
        // As it is: the trials were made for it.
        let (layers, sweep) = parts(path)?;
        Self::new(layers, sweep, path)
    }

    fn new(base: ConfigLayers, table: Table, path: &Path) -> Result<Self, SweepError> {
        let sweep: SweepConfig = toml::from_str(&table.to_string()).map_err(|error| ConfigError::Parse {
            origin: format!("{} [sweep]", path.display()),
            message: error.to_string().trim().to_owned(),
        })?;
        let parameters = parameters(&sweep.parameters)?;
        let file = Self { base, sweep, table, parameters };
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), SweepError> {
        let sweep = &self.sweep;
        let refuse = |key: &str, found: &dyn std::fmt::Display, expected| {
            Err(SweepError::setting(key, found, expected))
        };
        match (sweep.strategy, sweep.trials) {
            (Strategy::Grid, Some(trials)) => {
                return refuse(
                    "sweep.trials",
                    &trials,
                    "nothing: a grid has as many as its values combine to",
                );
            }
            (Strategy::Random | Strategy::Halving, None) => {
                return refuse("sweep.trials", &"nothing", "a number of trials, 1 to 1000");
            }
            (_, Some(trials)) if !(1..=MOST_TRIALS).contains(&trials) => {
                return refuse("sweep.trials", &trials, "1 to 1000");
            }
            _ => {}
        }
        if sweep.epochs == Some(0) {
            return refuse("sweep.epochs", &0, "1 or more");
        }
        if sweep.folds == 1 {
            return refuse("sweep.folds", &1, "2 to 100, or 0: off");
        }
        let halving = sweep.strategy == Strategy::Halving;
        if let Some(eta) = sweep.eta.filter(|eta| !halving || !(2..=10).contains(eta)) {
            return refuse("sweep.eta", &eta, "2 to 10, with strategy = \"halving\" only");
        }
        let epochs = self.base()?.epochs;
        if let Some(least) = sweep.min_epochs.filter(|least| !halving || !(1..=epochs).contains(least)) {
            return refuse("sweep.min_epochs", &least, "1 to the epochs, with strategy = \"halving\" only");
        }
        let varied = |key: &str| self.parameters.iter().any(|parameter| parameter.key == key);
        if varied("epochs") && (halving || sweep.epochs.is_some()) {
            return refuse(
                "sweep.parameters.epochs",
                &"a range",
                "another key: the epochs are given by the sweep",
            );
        }
        if self.base()?.finetune.is_some()
            && let Some(parameter) =
                self.parameters.iter().find(|parameter| parameter.key.starts_with("network"))
        {
            return refuse(
                &format!("sweep.parameters.{}", parameter.key),
                &"a range",
                "another key: a fine-tuned network is that of its starting model",
            );
        }
        Ok(())
    }

    /// The table `[sweep]`.
    pub fn sweep(&self) -> &SweepConfig {
        &self.sweep
    }

    /// What is varied.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The text that [`SweepFile::stored`] reads back.
    pub fn to_toml(&self) -> String {
        let mut table = self.base.table().clone();
        table.insert("sweep".to_owned(), Value::Table(self.table.clone()));
        table.to_string()
    }

    /// The configuration that the trials differ from.
    ///
    /// # Errors
    /// When it is refused.
    pub fn base(&self) -> Result<TrainConfig, ConfigError> {
        self.trial(&Vec::new())
    }

    /// The checked configuration of a trial.
    ///
    /// # Errors
    /// When it is refused.
    pub fn trial(&self, values: &Values) -> Result<TrainConfig, ConfigError> {
        let mut layers = self.base.clone();
        for (key, value) in values {
            layers.set(key, value.clone());
        }
        if let Some(epochs) = self.sweep.epochs {
            layers.set("epochs", i64::try_from(epochs).unwrap_or(i64::MAX));
        }
        layers.set("data.folds", i64::try_from(self.sweep.folds).unwrap_or(i64::MAX));
        layers.set("test", false);
        layers.resolve()
    }

    /// The values of all trials, in their order.
    pub(super) fn draw(&self) -> Result<Vec<Values>, SweepError> {
        let seed = match self.sweep.seed {
            Some(seed) => seed,
            None => self.base()?.seed,
        };
        match self.sweep.strategy {
            Strategy::Grid => grid(&self.parameters),
            Strategy::Random | Strategy::Halving => {
                Ok(random(&self.parameters, self.sweep.trials.unwrap_or(1), seed))
            }
        }
    }

    /// The rounds of so many trials.
    pub(super) fn rungs(&self, trials: usize) -> Result<Vec<Rung>, SweepError> {
        let epochs = self.base()?.epochs;
        Ok(match self.sweep.strategy {
            Strategy::Grid | Strategy::Random => vec![Rung { trials, epochs }],
            Strategy::Halving => {
                rungs(trials, epochs, self.sweep.min_epochs.unwrap_or(1), self.sweep.eta.unwrap_or(2))
            }
        })
    }
}
