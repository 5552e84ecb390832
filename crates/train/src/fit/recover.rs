//! The checkpoint that a run goes on from.

use crate::config::{ConfigError, TrainConfig};
use crate::fit::error::FitError;
use crate::run::checkpoint::Snapshot;
use crate::run::files::sha256_hex;
use crate::run::folder::RunFolder;
use crate::run::history::CodeVersion;
use crate::run::record::read_record;

/// The checkpoint that a run goes on from, of this configuration or of the same with fewer epochs; `None` when it has
/// to begin again.
///
/// A `config.toml` that means the same in other words becomes `config_text`: its hash is that of the checkpoints.
pub(super) fn recover(
    run: &RunFolder,
    config: &TrainConfig,
    config_text: &mut String,
) -> Result<Option<Snapshot>, FitError> {
    let Some(mut snapshot) = run.checkpoints().recover()? else { return Ok(None) };
    let config_sha256 = sha256_hex(config_text.as_bytes());
    if snapshot.state.config_sha256 != config_sha256 {
        if is_as_written(run, config, &snapshot) {
            *config_text = run.config_text()?;
        } else if prolongs(config, &snapshot)? {
            snapshot.state.config_sha256 = config_sha256;
        } else {
            return Err(FitError::ConfigChanged(run.path().join("config.toml")));
        }
    }
    if snapshot.state.history.is_empty()
        && let Ok(record) = read_record(run.path())
    {
        // A checkpoint of the first version: the record says what computed it.
        let kiln = record.versions.get("kiln").cloned().unwrap_or_default();
        snapshot.state.history = vec![CodeVersion { from_step: 0, kernels: record.kernels, kiln }];
    }
    tracing::info!(
        "going on with {} after step {} (epoch {})",
        run.path().display(),
        snapshot.state.step,
        snapshot.state.epoch
    );
    Ok(Some(snapshot))
}

/// Whether the checkpoint belongs to the run's `config.toml` as it stands there, which means `config`: another version
/// of Kiln may have written it in other words.
fn is_as_written(run: &RunFolder, config: &TrainConfig, snapshot: &Snapshot) -> bool {
    run.config_text().is_ok_and(|text| {
        sha256_hex(text.as_bytes()) == snapshot.state.config_sha256
            && TrainConfig::from_toml(&text, run.path()).is_ok_and(|written| written == *config)
    })
}

/// Whether `config` is that of a run with nothing changed but more epochs, and the learning rates of its epochs would have
/// been the same: then it can go on from any of its checkpoints.
fn prolongs(config: &TrainConfig, snapshot: &Snapshot) -> Result<bool, ConfigError> {
    for epochs in (1..config.epochs).filter(|&epochs| config.schedule.ignores_later_epochs(epochs)) {
        let before = TrainConfig { epochs, ..config.clone() };
        if snapshot.state.config_sha256 == sha256_hex(before.to_toml()?.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}
