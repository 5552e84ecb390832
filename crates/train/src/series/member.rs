//! One run of a series: begun, gone on with, or taken as it stands.

use std::path::Path;

use crate::config::TrainConfig;
use crate::fit::{FitError, Outcome, RunContext, fit_member};
use crate::run::folder::RunFolder;
use crate::run::record::{RunResult, RunStatus, read_record};
use crate::start::{Start, recorded_start};

/// How a member of a series ended.
#[derive(Debug)]
pub enum Member {
    /// With figures.
    Finished(Box<RunResult>),
    /// Stopped by a signal, with a checkpoint.
    Interrupted,
}

/// Brings the run in the folder `path` to its end, whatever there is of it: nothing, a folder without a checkpoint (begun
/// anew), a checkpoint (gone on with), or the finished run of this configuration (taken as it is, even if it was
/// prolonged since). A run whose configuration differs by fewer epochs alone is prolonged where its schedule permits.
/// `series` is the folder of all the runs that are compared with this one.
///
/// # Errors
/// As [`fit`](crate::fit::fit), and [`FitError::ConfigChanged`] when the run there is of another configuration.
pub fn complete(
    config: &TrainConfig,
    path: &Path,
    series: &Path,
    context: &RunContext,
) -> Result<Member, FitError> {
    let start = if path.is_dir() {
        if let Some(result) = finished(path, config) {
            return Ok(Member::Finished(Box::new(result)));
        }
        let folder = RunFolder::open_any(path)?;
        if folder.checkpoints().steps()?.is_empty() {
            folder.discard()?;
            recorded_start(config, &context.search)?
        } else {
            Start::Resume(folder)
        }
    } else {
        recorded_start(config, &context.search)?
    };
    let context = RunContext {
        artifacts: path.parent().unwrap_or(series).to_owned(),
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()),
        ..context.clone()
    };
    match fit_member(config, &context, start, Some(series))? {
        Outcome::Finished(finished) => Ok(Member::Finished(Box::new(finished.result))),
        Outcome::Interrupted { .. } => Ok(Member::Interrupted),
    }
}

/// The figures with which a run has finished with just this configuration, whether it was prolonged since or not.
fn finished(path: &Path, config: &TrainConfig) -> Option<RunResult> {
    let mut record = read_record(path).ok()?;
    let text = std::fs::read_to_string(path.join("config.toml")).ok()?;
    let stored = TrainConfig::from_toml(&text, path).ok()?;
    let (epochs, alike) = (stored.epochs, TrainConfig { epochs: config.epochs, ..stored });
    if alike.to_toml().ok()? != config.to_toml().ok()? {
        return None;
    }
    let is_this = record.status == RunStatus::Finished && epochs == config.epochs;
    if is_this { record.result } else { record.earlier.remove(&config.epochs) }
}

/// Mean and sample standard deviation (with `n - 1`) of some figures; the deviation of a single one is 0.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub deviation: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Self {
        let n = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        Self { mean, deviation: (squares / (n - 1.0).max(1.0)).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn mean_and_deviation_by_hand() {
        let spread = Spread::of(&[2.0, 4.0, 9.0]);
        assert!((spread.mean - 5.0).abs() < 1e-12 && (spread.deviation - 13f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[3.0]), Spread { mean: 3.0, deviation: 0.0 });
    }
}
