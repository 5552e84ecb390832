//! The layers of a configuration, one over the other: default, file, flags, `--set`.

use std::path::{Path, PathBuf};

use model::NetworkConfig;
use toml::{Table, Value};

use crate::config::error::ConfigError;
use crate::config::schema::{ClassWeighting, ClassWeights, FinetuneConfig, TrainConfig};

/// The layers of a configuration, merged key by key in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct ConfigLayers {
    table: Table,
    origin: Option<PathBuf>,
}

impl From<Table> for ConfigLayers {
    fn from(table: Table) -> Self {
        Self { table, origin: None }
    }
}

impl ConfigLayers {
    /// Starts from a TOML file.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let table = text.parse::<Table>().map_err(|error| ConfigError::Parse {
            origin: path.display().to_string(),
            message: error.to_string().trim().to_owned(),
        })?;
        Ok(Self { table, origin: Some(path.to_owned()) })
    }

    /// These layers over others.
    #[must_use]
    pub fn over(self, mut under: Self) -> Self {
        merge(&mut under.table, self.table);
        Self { origin: self.origin, ..under }
    }

    /// All keys that were given.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes out a top-level key.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    /// The value of a dotted key, if it was given.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut found = self.table.get(key.split('.').next().unwrap_or_default());
        for part in key.split('.').skip(1) {
            found = found.and_then(|value| value.get(part));
        }
        found
    }

    /// Sets one dotted key, over what was there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = &mut self.table;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let entry = table.entry(part.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(next) = entry else { return };
            table = next;
        }
    }

    /// Names the weights to start from; the digest of others is none of theirs.
    pub fn set_start(&mut self, from: &str) {
        self.set("finetune.from", from);
        if let Some(Value::Table(finetune)) = self.table.get_mut("finetune") {
            finetune.remove("from_weights_sha256");
        }
    }

    /// The same with paths that mean the same in any folder: the data's, where that is no known name, and that of the
    /// weights to start from.
    #[must_use]
    pub fn with_absolute_paths(mut self) -> Self {
        for key in ["data.dataset", "finetune.from"] {
            let Some(name) = self.get(key).and_then(Value::as_str) else { continue };
            if !data::known_names().contains(&name) && Path::new(name).exists() {
                let path = absolute(Path::new(name));
                self.set(key, path);
            }
        }
        self
    }

    /// Chooses a network by its name, such as `vgg16-bn`. What a lower layer says about the same family
    /// of networks stays, as far as it does not make another network of it; what it says about another
    /// family goes.
    ///
    /// # Errors
    /// When there is no such network.
    pub fn set_network(&mut self, name: &str) -> Result<(), ConfigError> {
        let entry = NetworkConfig::named(name).ok_or_else(|| ConfigError::Network {
            name: name.to_owned(),
            known: model::catalog().iter().map(|entry| entry.name).collect(),
        })?;
        let table = Table::try_from(&entry.config).map_err(|error| ConfigError::Parse {
            origin: format!("--model {name}"),
            message: error.to_string(),
        })?;
        let before = self.table.get("network").and_then(Value::as_table);
        if before.is_none_or(|before| family(before) != family(&table)) {
            self.table.remove("network");
        }
        for (key, value) in table {
            let dotted = format!("network.{key}");
            if key == "name" || entry.keys.contains(&key.as_str()) {
                self.set(&dotted, value);
            } else {
                // All of it: the network under these layers may be another of the family.
                self.set_default(&dotted, value);
            }
        }
        Ok(())
    }

    /// Sets one dotted key unless a layer has it.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if self.get(key).is_none() {
            self.set(key, value);
        }
    }

    /// Applies one `--set key=value`; the value is TOML, or a bare string.
    ///
    /// # Errors
    /// When there is no `=` or no key.
    pub fn set_expression(&mut self, expression: &str) -> Result<(), ConfigError> {
        let (key, text) =
            expression.split_once('=').ok_or_else(|| ConfigError::Set(expression.to_owned()))?;
        let key = key.trim();
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(ConfigError::Set(expression.to_owned()));
        }
        let value = format!("v = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(text.trim().to_owned()));
        match value.as_str() {
            Some(from) if key == "finetune.from" => self.set_start(from),
            _ => self.set(key, value),
        }
        Ok(())
    }

    /// The configuration, with defaults under it, checked. The defaults are those of [`TrainConfig`], down to every
    /// single key: a table that is given in part leaves the rest of it as it is without that table.
    ///
    /// # Errors
    /// On unknown keys, wrong types and values out of range.
    pub fn resolve(self) -> Result<TrainConfig, ConfigError> {
        let origin =
            self.origin.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
        let fault = |message: String| ConfigError::Parse { origin: origin.clone(), message };
        let mut table = Table::try_from(TrainConfig::default()).map_err(|error| fault(error.to_string()))?;
        merge(&mut table, self.table);
        // Through text, so that the message shows the offending line.
        let mut config: TrainConfig =
            toml::from_str(&table.to_string()).map_err(|error| fault(error.to_string().trim().to_owned()))?;
        config.optimizer.learning_rate = Some(config.optimizer.rate());
        config.optimizer.momentum = Some(config.optimizer.momentum());
        // Fine-tuning that starts nowhere and changes nothing is none, and so are weights that are all the same.
        config.finetune = config.finetune.filter(|finetune| *finetune != FinetuneConfig::default());
        if config.regularization.class_weights == ClassWeights::Named(ClassWeighting::None) {
            config.regularization.class_weights = ClassWeights::Equal;
        }
        config.check()?;
        Ok(config)
    }
}

/// Puts `over` into `under`, key by key.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) if is_part(&key, under, &over) => {
                merge(under, over);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Whether a table speaks of some keys of the one under it, rather than replacing it: a network of another family has
/// other keys, and the distribution of initial weights is a single value.
fn is_part(key: &str, under: &Table, over: &Table) -> bool {
    match key {
        "network" => over.get("name").is_none_or(|name| name.as_str() == Some(family(under))),
        "initialization" => false,
        _ => true,
    }
}

/// The family of networks that a table `network` describes; without a name it is the convolutional one.
fn family(network: &Table) -> &str {
    network.get("name").and_then(Value::as_str).unwrap_or("cnn")
}

impl TrainConfig {
    /// Reads a resolved configuration, for example from a run folder.
    ///
    /// # Errors
    /// As [`ConfigLayers::resolve`].
    pub fn from_toml(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let table = text.parse::<Table>().map_err(|error| ConfigError::Parse {
            origin: origin.display().to_string(),
            message: error.to_string().trim().to_owned(),
        })?;
        ConfigLayers { table, origin: Some(origin.to_owned()) }.resolve()
    }

    /// The text that [`TrainConfig::from_toml`] reads back to the same value.
    ///
    /// # Errors
    /// Never for a checked configuration; the serializer's message otherwise.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Parse {
            origin: "configuration".to_owned(),
            message: error.to_string(),
        })
    }
}

/// A path that means the same in any folder.
pub fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.components().collect::<PathBuf>().display().to_string()
}
