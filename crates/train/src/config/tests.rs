//! What layers, schema and check make of a configuration.

use std::path::Path;

use data::augment::AugmentConfig;
use model::NetworkConfig;
use toml::{Table, Value};

use super::*;

#[test]
fn the_best_epoch_is_that_of_the_chosen_figure() {
    // More images right, but less sure of them.
    let (found, best) = ((0.03, 0.994), (0.02, 0.993));
    assert!(Best::Accuracy.is_better(found, best) && !Best::Loss.is_better(found, best));
    assert!(Best::Loss.is_better(best, found) && !Best::Accuracy.is_better(best, found));
    for by in [Best::Accuracy, Best::Loss] {
        assert!(!by.is_better(best, best));
        assert!(by.is_better((0.01, 0.994), best));
    }
}

#[test]
fn a_resolved_configuration_reads_back_to_itself() {
    let mut layers = ConfigLayers::default();
    layers.set("checkpoint.every", "10 minutes");
    layers.set_expression("regularization.class_weights=\"balanced\"").unwrap();
    let config = layers.resolve().unwrap();
    let text = config.to_toml().unwrap();
    assert_eq!(TrainConfig::from_toml(&text, Path::new("x")).unwrap(), config);
}

#[test]
fn later_layers_win_and_a_bare_word_is_a_string() {
    let mut layers = ConfigLayers::default();
    layers.set("optimizer.name", "sgd");
    layers.set_expression("optimizer.name=adamw").unwrap();
    layers.set_expression("epochs = 3").unwrap();
    let config = layers.resolve().unwrap();
    assert_eq!(config.optimizer.name, OptimizerName::AdamW);
    assert_eq!(config.epochs, 3);
}

#[test]
fn a_network_without_a_name_is_the_convolutional_one() {
    let mut layers = ConfigLayers::default();
    layers.set_expression("network.dense=[128]").unwrap();
    layers.set_default("network.dense", Value::Array(Vec::new()));
    layers.set_default("epochs", 7);
    let config = layers.resolve().unwrap();
    let summary = config.network.summary(model::Preprocessing::mnist().input, 10).unwrap();
    assert_eq!((summary.parameters(), config.epochs), (225_034, 7));
}

/// Every key of the schema below `table`, as the error for an unknown one lists them, with the tables in it.
fn keys_of(base: &[&str], table: &str) -> Vec<String> {
    let unknown = if table.is_empty() { "zzz=1".to_owned() } else { format!("{table}.zzz=1") };
    let error = resolved(base, &[&unknown]).unwrap_err().to_string();
    let listed = error.split_once("unknown field `zzz`, expected ").expect("a list of keys").1;
    let names = listed.lines().next().unwrap().split('`').skip(1).step_by(2);
    let dotted = |name: &str| if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
    let tables = ["data", "data.augment", "network", "optimizer", "schedule", "regularization"];
    let tables = [&tables[..], &["early_stopping", "checkpoint", "finetune"]].concat();
    // The tag is no key of the struct behind it.
    let tag = (table == "network").then_some("name");
    names
        .chain(tag)
        .map(dotted)
        .flat_map(|key| if tables.contains(&key.as_str()) { keys_of(base, &key) } else { vec![key] })
        .collect()
}

fn resolved(base: &[&str], set: &[&str]) -> Result<TrainConfig, ConfigError> {
    let mut layers = ConfigLayers::default();
    for expression in base.iter().chain(set) {
        layers.set_expression(expression)?;
    }
    layers.resolve()
}

/// The dotted keys of a configuration with their values; a list and the initialisation are values.
fn flat(config: &TrainConfig) -> std::collections::BTreeMap<String, Value> {
    fn walk(prefix: &str, table: Table, found: &mut std::collections::BTreeMap<String, Value>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(table) if !key.ends_with("initialization") => walk(&key, table, found),
                value => drop(found.insert(key, value)),
            }
        }
    }
    let mut found = std::collections::BTreeMap::new();
    walk("", Table::try_from(config).unwrap(), &mut found);
    found
}

/// Another value than the default, as `--set` takes it.
fn other(key: &str, value: Option<&Value>) -> String {
    let word = match key {
        "backend" => "ndarray",
        "kernels" => "portable",
        "test" => "false",
        "task" => "multi-label",
        "data.dataset" => "mnist-sample",
        "data.input" => "3x32x32",
        "data.fit" => "stretch",
        "data.on_bad_image" => "skip",
        "data.sampler" => "balanced",
        "data.valid_fraction" => "0.2",
        "data.limit_per_class" | "data.limit" => "50",
        "data.folds" => "5",
        "data.fold" => "2",
        "finetune.feature_rate" | "finetune.layer_decay" => "0.5",
        "data.channels" => "3",
        "optimizer.name" => "sgd",
        "optimizer.nesterov" | "finetune.allow_mismatch" => "true",
        "schedule.name" => "cosine",
        "regularization.class_weights" => "[1.0, 2.0]",
        "checkpoint.every" => "500 steps",
        "checkpoint.best" => "loss",
        "finetune.from" => "other.kiln",
        "finetune.from_weights_sha256" => "abc",
        "finetune.freeze" => "features",
        "finetune.unfreeze_at" => "[2, 4]",
        "finetune.keep_head" => "fitting",
        "network.activation" => "sigmoid",
        "network.initialization" => "{ normal = { std = 0.05 } }",
        "network.pool" => "max",
        "network.cell" => "gru",
        "network.blocks" => "[{ channels = 8 }]",
        "network.dense" | "network.hidden" if !matches!(value, Some(Value::Integer(_))) => "[7]",
        _ => "",
    };
    match value {
        _ if !word.is_empty() => word.to_owned(),
        Some(Value::Boolean(value)) => (!value).to_string(),
        Some(Value::Integer(value)) => (value + 1).to_string(),
        Some(Value::Float(value)) => format!("{:?}", if *value > 0.0 { value / 2.0 } else { 0.25 }),
        value => panic!("{key} = {value:?}: give this test another value"),
    }
}

/// For every network: a key that is set to its default changes nothing, and to another value only itself.
#[test]
fn a_key_means_itself_alone() {
    for network in ["cnn", "mlp", "rnn", "lenet5", "alexnet", "vgg", "resnet", "vit"] {
        let name = format!("network.name={network}");
        // With the default of `optimizer.name`, not through it; and where `elastic_alpha` and `fold` have a meaning.
        let mut base =
            vec!["data.folds=4", "data.augment.elastic_sigma=3.0", "data.fit=crop", "optimizer.momentum=0.5"];
        base.push(&name);
        let whole = resolved(&base, &[]).unwrap();
        let before = flat(&whole);
        let keys = keys_of(&base, "");
        assert!(keys.len() > 60, "{keys:?}");
        assert!(before.keys().all(|key| keys.contains(key)), "{network}: {keys:?}");
        for key in &keys {
            let default = before.get(key);
            if let Some(value) = default {
                let mut layers = ConfigLayers::default();
                layers.set(key, value.clone());
                let mut under = ConfigLayers::default();
                for expression in &base {
                    under.set_expression(expression).unwrap();
                }
                assert_eq!(layers.over(under).resolve().unwrap(), whole, "{network}: {key} = {value}");
            }
            if key == "network.name" {
                continue;
            }
            let expression = format!("{key}={}", other(key, default));
            let after = flat(&resolved(&base, &[&expression]).unwrap());
            let changed: Vec<&String> = before
                .keys()
                .chain(after.keys().filter(|key| !before.contains_key(*key)))
                .filter(|key| before.get(*key) != after.get(*key))
                // The table comes with its defaults; the rate that is not given is that of the rule.
                .filter(|changed| !key.starts_with("finetune.") || *changed == key)
                .filter(|changed| key != "optimizer.name" || *changed == key)
                .collect();
            assert_eq!(changed, [key], "{network}: {expression}");
        }
    }
}

#[test]
fn a_table_given_in_part_keeps_the_defaults_that_hold_without_it() {
    let default = TrainConfig::default();
    let config = resolved(&[], &["network.dropout=0.1"]).unwrap();
    let summary = config.network.summary(model::Preprocessing::mnist().input, 10).unwrap();
    assert_eq!(summary.parameters(), 225_034);
    let config = resolved(&[], &["data.augment.flip=true"]).unwrap();
    assert_eq!(config.data.augment, AugmentConfig { flip: true, ..default.data.augment });
    let text = "[network]\nname = \"cnn\"\n[data]\nlimit = 5\n[data.augment]\nshift = 1.0";
    let config = TrainConfig::from_toml(text, Path::new("x")).unwrap();
    assert_eq!(config.network, default.network);
    assert_eq!(config.data, DataConfig { limit: 5, ..default.data.clone() });
    // Settings that say what holds anyway are none.
    for nothing in ["finetune.freeze=none", "finetune.keep_head=false", "regularization.class_weights=none"] {
        assert_eq!(resolved(&[], &[nothing]).unwrap(), resolved(&[], &[]).unwrap(), "{nothing}");
    }
}

/// Layers over layers: another family of networks and another distribution replace what is under them.
#[test]
fn what_is_no_part_replaces() {
    let layers = |text: &str| ConfigLayers::from(text.parse::<Table>().unwrap());
    let over = |under: &str, over: &str| layers(over).over(layers(under)).resolve().unwrap().network;
    let NetworkConfig::Mlp(mlp) =
        over("[network]\ndense = [7]\ndropout = 0.5", "[network]\nname = \"mlp\"\nhidden = [9]")
    else {
        panic!("a perceptron")
    };
    assert_eq!((mlp.hidden, mlp.dropout), (vec![9], 0.0));
    let NetworkConfig::Mlp(mlp) = over("[network]\nname = \"mlp\"\nhidden = [9]", "[network]\ndropout = 0.5")
    else {
        panic!("a perceptron")
    };
    assert_eq!((mlp.hidden, mlp.dropout), (vec![9], 0.5));
    let uniform = "[network]\ninitialization = { uniform = { limit = 0.1 } }";
    let normal = "[network]\ninitialization = { normal = { std = 0.2 } }";
    let NetworkConfig::Cnn(cnn) = over(uniform, normal) else { panic!("a CNN") };
    assert_eq!(cnn.initialization, model::Initialization::Normal { std: 0.2 });
    assert_eq!(cnn.dense, [128]);
}

#[test]
fn a_named_network_replaces_another_family_and_keeps_its_own() {
    let named = |text: &str, model: &str, set: &[&str]| {
        let mut layers = ConfigLayers::from(text.parse::<Table>().unwrap());
        layers.set_network(model).unwrap();
        for expression in set {
            layers.set_expression(expression).unwrap();
        }
        layers.resolve().unwrap().network
    };
    let other = "[network]\nname = \"cnn\"\ndense = [128]";
    assert_eq!(named(other, "vgg16_bn", &[]), NetworkConfig::named("vgg16-bn").unwrap().config);
    let own = "[network]\nname = \"vgg\"\ndepth = 11\ndense = [64]";
    let NetworkConfig::Vgg(vgg) = named(own, "vgg19", &["network.grid=1"]) else { panic!("a VGG") };
    assert_eq!((vgg.depth, vgg.dense, vgg.grid, vgg.batch_norm), (19, vec![64], 1, false));
    let NetworkConfig::Cnn(cnn) = named("[network]\ndense = [7]", "cnn", &[]) else { panic!("a CNN") };
    assert_eq!(cnn.dense, [7]);
    let error = ConfigLayers::default().set_network("vgg17").unwrap_err().to_string();
    assert!(error.contains("vgg17") && error.contains("vgg16-bn"), "{error}");
}

#[test]
fn every_named_network_can_be_saved_and_read() {
    for entry in model::catalog() {
        let mut layers = ConfigLayers::default();
        layers.set_network(entry.name).unwrap();
        let config = layers.resolve().unwrap();
        assert_eq!(config.network, entry.config, "{}", entry.name);
        assert_eq!(TrainConfig::from_toml(&config.to_toml().unwrap(), Path::new("x")).unwrap(), config);
    }
}

#[test]
fn every_range_is_checked() {
    for (expression, key) in [
        ("epochs=0", "epochs"),
        ("batch_size=0", "batch_size"),
        ("data.channels=2", "data.channels"),
        ("data.valid_fraction=0.0", "data.valid_fraction"),
        ("data.valid_fraction=1.0", "data.valid_fraction"),
        ("data.test_fraction=1.0", "data.test_fraction"),
        ("data.resize=72", "data.resize"),
        ("data.memory_mib=0", "data.memory_mib"),
        ("data.input=64y", "64x64"),
        ("data.fit=squeeze", "squeeze"),
        ("data.sampler=often", "often"),
        ("data.augment.crop=2.0", "crop"),
        ("optimizer.learning_rate=0.0", "optimizer.learning_rate"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate"),
        ("optimizer.momentum=1.0", "optimizer.momentum"),
        ("optimizer.epsilon=0.0", "optimizer.epsilon"),
        ("schedule.gamma=0.0", "schedule.gamma"),
        ("regularization.ema_decay=1.0", "regularization.ema_decay"),
        ("regularization.accumulate=0", "regularization.accumulate"),
        ("regularization.class_weights=[0.0, 0.0]", "regularization.class_weights"),
        ("checkpoint.keep=0", "checkpoint.keep"),
    ] {
        let mut layers = ConfigLayers::default();
        layers.set_expression(expression).unwrap();
        let error = layers.resolve().unwrap_err().to_string();
        assert!(error.contains(key), "{expression}: {error}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let mut layers = ConfigLayers::default();
    layers.set_expression("optimizer.learning_rat=1").unwrap();
    let error = layers.resolve().unwrap_err().to_string();
    assert!(error.contains("learning_rat"), "{error}");
    assert!(ConfigLayers::default().set_expression("novalue").is_err());
    assert!(ConfigLayers::default().set_expression("=1").is_err());
}

#[test]
fn checkpoint_intervals_are_read_with_their_units() {
    assert_eq!("epoch".parse(), Ok(CheckpointEvery::Epoch));
    assert_eq!("500".parse(), Ok(CheckpointEvery::Steps(500)));
    assert_eq!("500 steps".parse(), Ok(CheckpointEvery::Steps(500)));
    assert_eq!("1.5m".parse(), Ok(CheckpointEvery::Minutes(1.5)));
    for bad in ["", "0", "0 minutes", "-1", "5 hours", "1.5 steps"] {
        assert!(bad.parse::<CheckpointEvery>().is_err(), "{bad}");
    }
}
