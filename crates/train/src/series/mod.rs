//! Several runs in one folder, of which each is begun, gone on with, or taken as it stands.

pub mod folds;

use std::path::Path;

use crate::config::TrainConfig;
use crate::fit::{FitError, Outcome, Start, Surroundings, fit};
use crate::run::folder::{RunFolder, RunResult, RunStatus, read_record};
use crate::start::recorded_start;

/// How a member of a series ended.
#[derive(Debug)]
pub enum Member {
    /// With figures.
    Finished(Box<RunResult>),
    /// Stopped by a signal, with a checkpoint.
    Interrupted,
}

/// Brings the run `parent/name` to its end, whatever there is of it: nothing, a folder without a checkpoint (begun
/// anew), a checkpoint (gone on with), or the finished run of this configuration (taken as it is). A finished run
/// whose configuration differs by fewer epochs alone is prolonged where its schedule permits.
///
/// # Errors
/// As [`fit`], and [`FitError::ConfigChanged`] when the run there is of another configuration.
pub fn complete(
    config: &TrainConfig,
    parent: &Path,
    name: &str,
    surroundings: &Surroundings,
) -> Result<Member, FitError> {
    let path = parent.join(name);
    let start = if path.is_dir() {
        if let Some(result) = finished(&path, config) {
            return Ok(Member::Finished(Box::new(result)));
        }
        let folder = RunFolder::open_any(&path)?;
        if folder.checkpoints().steps()?.is_empty() {
            folder.discard()?;
            recorded_start(config, &surroundings.search)?
        } else {
            Start::Resume(folder)
        }
    } else {
        recorded_start(config, &surroundings.search)?
    };
    let surroundings =
        Surroundings { artifacts: parent.to_owned(), name: Some(name.to_owned()), ..surroundings.clone() };
    match fit(config, &surroundings, start)? {
        Outcome::Finished(finished) => Ok(Member::Finished(Box::new(finished.result))),
        Outcome::Interrupted { .. } => Ok(Member::Interrupted),
    }
}

/// The figures of a run that has finished with just this configuration.
fn finished(path: &Path, config: &TrainConfig) -> Option<RunResult> {
    let record = read_record(path).ok()?;
    if record.status != RunStatus::Finished {
        return None;
    }
    let stored = std::fs::read_to_string(path.join("config.toml")).unwrap_or_default();
    record.result.filter(|_| config.to_toml().is_ok_and(|text| text == stored))
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
