//! Where a run starts: from scratch, or from the weights that `finetune.from` names, whichever command is called.
//!
//! `config.toml` of a run holds all of it: with it, `train` and `finetune` both do again what was done. Paths in it are
//! absolute, so that it can be used from any folder.

use std::path::{Path, PathBuf};

use data::{InputRequest, Search};
use model::{ModelFileError, NetworkConfig, Seen};
use toml::{Table, Value};

use crate::config::arguments::published_network;
use crate::config::{ConfigError, ConfigLayers, TrainConfig, absolute};
use crate::device::processor;
use crate::run::folder::RunFolder;
use crate::start::error::StartError;
use crate::start::model_io::{ModelIoError, load, model_path};
use crate::start::weights::ForeignWeights;

/// Where training starts. The order is the precedence.
pub enum Start {
    /// From the newest valid checkpoint of a run; where it has none, from where the run began.
    Resume(RunFolder),
    /// From a trained model.
    Weights(Box<model::Model>),
    /// From weights that another program trained.
    Foreign(ForeignWeights),
    /// From freshly drawn weights.
    Scratch,
}

impl Start {
    /// The pictures that the starting model has seen, where its file records them.
    pub fn seen(&self) -> Option<Seen> {
        match self {
            Self::Weights(model) => model.metadata.seen.clone(),
            Self::Foreign(weights) => weights.seen(),
            Self::Scratch | Self::Resume(_) => None,
        }
    }
}

/// The checked configuration of a new run, and where it starts.
///
/// # Errors
/// When the configuration is refused, or the starting weights cannot be used.
pub fn configure(layers: ConfigLayers, search: &Search) -> Result<(TrainConfig, Start), StartError> {
    let (layers, start) = resolve_start(layers, search)?;
    Ok((layers.resolve()?, start))
}

/// As [`configure`], from weights that another program trained, as `--weights` names them.
///
/// # Errors
/// As [`configure`].
pub fn configure_foreign(
    layers: ConfigLayers,
    weights: &str,
    search: &Search,
) -> Result<(TrainConfig, Start), StartError> {
    // A wrong setting is known before anything is fetched.
    layers.clone().resolve()?;
    let weights = ForeignWeights::open(weights, search)?;
    let mut layers = layers.with_absolute_paths();
    layers.set("finetune.from", absolute(&weights.path));
    take_foreign(&mut layers, &weights)?;
    Ok((layers.resolve()?, Start::Foreign(weights)))
}

/// Layers with everything that follows from where they start: the network and the size of the images are those of the
/// starting model, and the digest of its weights is known.
///
/// # Errors
/// As [`configure`].
pub fn resolve_start(layers: ConfigLayers, search: &Search) -> Result<(ConfigLayers, Start), StartError> {
    let mut layers = layers.with_absolute_paths();
    let config = layers.clone().resolve()?;
    let Some(finetune) = &config.finetune else { return Ok((layers, Start::Scratch)) };
    let start = recorded_start(&config, search)?;
    match &start {
        Start::Weights(model) => {
            let from = model_path(Path::new(&finetune.from));
            take_network(&mut layers, &model.metadata.network, &from)?;
            // Other images are fitted to what the network takes.
            let input = InputRequest::from(model.metadata.preprocessing.input);
            layers.set_default("data.input", input.to_string());
            // The reference model inside the program has a name and no file.
            let path = if from.exists() { absolute(&from) } else { from.display().to_string() };
            layers.set("finetune.from", path);
            layers.set("finetune.from_weights_sha256", model.metadata.weights_sha256.clone());
        }
        Start::Foreign(weights) => {
            layers.set("finetune.from", absolute(&weights.path));
            take_foreign(&mut layers, weights)?;
        }
        Start::Scratch | Start::Resume(_) => {}
    }
    Ok((layers, start))
}

/// Where a checked configuration says that its run starts.
///
/// # Errors
/// When the file cannot be read, or has changed.
pub fn recorded_start(config: &TrainConfig, search: &Search) -> Result<Start, StartError> {
    let Some(finetune) = &config.finetune else { return Ok(Start::Scratch) };
    if finetune.from.is_empty() {
        return Err(StartError::NoWeights);
    }
    let path = PathBuf::from(&finetune.from);
    let (start, found) = match open_model(&path)? {
        Some(model) => {
            let sha256 = model.metadata.weights_sha256.clone();
            (Start::Weights(model), sha256)
        }
        None => {
            let weights = ForeignWeights::open(&finetune.from, search)?;
            let sha256 = weights.sha256.clone();
            (Start::Foreign(weights), sha256)
        }
    };
    let expected = &finetune.from_weights_sha256;
    if !expected.is_empty() && found != *expected {
        return Err(StartError::Changed { path, found, expected: expected.clone() });
    }
    Ok(start)
}

/// A model of ours; `None` where the name is that of weights of another program.
fn open_model(path: &Path) -> Result<Option<Box<model::Model>>, ModelIoError> {
    if path.to_str().and_then(published_network).is_some() {
        return Ok(None);
    }
    match load(path, &processor()) {
        Ok(model) => Ok(Some(Box::new(model))),
        Err(ModelIoError::Content {
            source: ModelFileError::NotAModel { .. } | ModelFileError::NoSeal { .. },
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The model's network, which the layers may repeat and not change.
fn take_network(layers: &mut ConfigLayers, network: &NetworkConfig, from: &Path) -> Result<(), StartError> {
    let own = Table::try_from(network).map_err(|error| ConfigError::Parse {
        origin: from.display().to_string(),
        message: error.to_string(),
    })?;
    let given = match layers.get("network") {
        Some(Value::Table(given)) => {
            ConfigLayers::from(Table::from_iter([("network".to_owned(), given.clone().into())]))
        }
        _ => ConfigLayers::default(),
    };
    let mut under = ConfigLayers::default();
    under.set("network", own.clone());
    let asked = given.over(under).resolve()?.network;
    if asked != *network {
        let asked = Table::try_from(&asked).unwrap_or_default();
        let differs = |key: &&String| asked.get(*key) != own.get(*key);
        let key = asked.keys().filter(|key| *key == "name").chain(asked.keys()).find(differs);
        let key = key.cloned().unwrap_or_default();
        let value = |table: &Table| table.get(&key).map_or_else(|| "none".to_owned(), Value::to_string);
        let (found, expected) = (value(&asked), value(&own));
        return Err(StartError::Network { key, found, expected, from: from.to_owned() });
    }
    layers.set("network", own);
    Ok(())
}

/// Images with the channels that the weights take, and their digest.
fn take_foreign(layers: &mut ConfigLayers, weights: &ForeignWeights) -> Result<(), StartError> {
    let config = layers.clone().resolve()?;
    if config.data.channels == 0
        && let Some(channels @ (1 | 3)) = weights.input_channels(&config.network)
    {
        layers.set("data.channels", channels as i64);
    }
    layers.set("finetune.from_weights_sha256", weights.sha256.clone());
    Ok(())
}
