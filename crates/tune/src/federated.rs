//! Federated averaging (`McMahan` et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
//! AISTATS 2017, algorithm 1): nodes train on images that they do not share, and only weights travel.
//!
//! All nodes run in this process, one after the other, and every node takes part in every round. A round begins with
//! the same weights everywhere; each node trains for some epochs on its own shard with an optimiser that begins anew,
//! at the base learning rate; the new weights are the mean of theirs, weighted by the sizes of the shards.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::{Device, TensorData};
use burn_train::TrainStep;
use data::{BatchLoader, LoaderConfig};
use model::{Network, TaskName};
use serde::Serialize;
use train::config::TrainConfig;
use train::engine::evaluate::evaluate;
use train::engine::optimizer::optimizer;
use train::engine::step::{Objective, Trainable};
use train::fit::{FitError, RunContext};
use train::seed::mix;
use train::start::StartError;
use train::task::dealt;
use train::task::{Splits, TaskError, class_weights};

/// How the work is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FederatedConfig {
    /// Nodes; each holds an equal share of the training images, with the class shares of the whole. Data sets with a name are
    /// dealt by position, others by what the pictures show: copies, and pictures of one group, are on one node.
    pub nodes: usize,
    /// Rounds of communication.
    pub rounds: usize,
    /// Epochs of each node on its shard, in every round.
    pub local_epochs: usize,
    /// Every node takes its whole shard as one batch: with one local epoch and plain SGD that is the paper's `FedSGD`,
    /// whose updates are those of central training on all images.
    pub whole_shard: bool,
}

/// What came out; with `--json`, what is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FederatedResult {
    /// How the work was divided.
    pub federated: FederatedConfig,
    /// Data set.
    pub dataset: String,
    /// Images of each node.
    pub shards: Vec<usize>,
    /// Accuracy of the averaged network on the validation split after every round, 0 to 1.
    pub valid_accuracy: Vec<f64>,
    /// SHA-256 of the averaged weights at the end.
    pub weights_sha256: String,
}

/// Trains by federated averaging; gives the figures and the averaged network, `None` when a signal stopped it.
///
/// # Errors
/// As [`train::fit::fit`], for what the two have in common.
pub fn federated(
    config: &TrainConfig,
    federated: FederatedConfig,
    context: &RunContext,
) -> Result<Option<(FederatedResult, Network)>, FitError> {
    config.kernels.apply()?;
    let device = config.backend.device()?;
    let config = TrainConfig { test: false, ..config.clone() };
    let data = Splits::load(&config, &context.search)?;
    if data.task() != TaskName::Classify {
        let dataset = config.data.dataset.clone();
        return Err(TaskError::Sets { dataset, what: "federated averaging" }.into());
    }
    let shards: Vec<Arc<[u32]>> = dealt(&data.training, &data.train, federated.nodes, config.seed)
        .into_iter()
        .map(Into::into)
        .collect();
    let sizes: Vec<usize> = shards.iter().map(|shard| shard.len()).collect();
    if sizes.contains(&0) {
        // What belongs together is on one node.
        let unit = |&index: &u32| data.training.units.get(index as usize);
        let possible = if data.training.is_fixed() {
            data.train.len()
        } else {
            data.train.iter().map(unit).collect::<HashSet<_>>().len()
        };
        let reason = format!(
            "{} images to train on cannot be dealt to {} nodes; {possible} nodes are possible",
            data.train.len(),
            federated.nodes,
        );
        return Err(TaskError::TooFew { dataset: config.data.dataset.clone(), reason }.into());
    }
    let classes = data.classes();
    let mut network = config.network.init(data.pair.preprocessing.input, classes, config.seed, &device)?;
    let mut valid_accuracy = Vec::new();
    for round in 1..=federated.rounds {
        let mut locals = Vec::with_capacity(shards.len());
        for (node, shard) in shards.iter().enumerate() {
            if context.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let seed = mix(&[config.seed, round as u64, node as u64]);
            let local = train_node(&config, federated, &data, shard, (network.clone(), seed), &device)?;
            locals.push((shard.len() as f64, local));
        }
        network = average(network, &locals)?;
        let names = &data.training.class_names;
        let preprocessing = &data.pair.preprocessing;
        let accuracy =
            evaluate(&network, preprocessing, names, &data.training, &data.valid, &device)?.accuracy();
        tracing::info!("round {round}/{}  validation accuracy {:.2}%", federated.rounds, accuracy * 100.0);
        valid_accuracy.push(accuracy);
    }
    let result = FederatedResult {
        federated,
        dataset: config.data.dataset.clone(),
        shards: sizes,
        valid_accuracy,
        weights_sha256: model::weights_sha256(&network),
    };
    Ok(Some((result, network)))
}

/// One node's part of a round.
fn train_node(
    config: &TrainConfig,
    federated: FederatedConfig,
    data: &Splits,
    shard: &Arc<[u32]>,
    (network, seed): (Network, u64),
    device: &Device,
) -> Result<Network, FitError> {
    let training_device = device.clone().autodiff();
    let weights = class_weights(&config.regularization.class_weights, data)?;
    let objective = Objective::new(data.task(), &config.regularization, weights, None, &network)?;
    let augment = &config.data.augment;
    let loading = LoaderConfig {
        batch_size: if federated.whole_shard { shard.len() } else { config.batch_size },
        shuffle: Some(seed),
        sampler: config.data.sampler,
        augment: (!augment.is_off()).then_some((*augment, seed)),
        workers: 0,
    };
    let (images, preprocessing) = (Arc::clone(&data.training), data.pair.preprocessing.clone());
    let loader =
        BatchLoader::new(images, Arc::clone(shard), preprocessing, loading, training_device.clone())?;
    // Own statistics: in Burn the clones of a network share those of batch normalisation.
    let mut model = Trainable::new(network.with_own_statistics(), objective).train().fork(&training_device);
    let mut optimizer = optimizer(config);
    for epoch in 1..=federated.local_epochs {
        loader.seek(epoch, 0);
        for (number, batch) in loader.iter().enumerate() {
            let batch = batch.map_err(|error| FitError::Training(error.to_string()))?;
            training_device.seed(mix(&[seed, epoch as u64, number as u64]));
            let output = TrainStep::step(&model, batch);
            model = model.optimize(&mut optimizer, config.optimizer.rate().into(), output.grads);
        }
    }
    Ok(model.valid().network)
}

/// The mean of the nodes' tensors by weight, running statistics included; summed in `f64`.
fn average(into: Network, locals: &[(f64, Network)]) -> Result<Network, FitError> {
    let total: f64 = locals.iter().map(|(weight, _)| weight).sum();
    let tensors: Vec<(f64, Vec<(String, TensorData)>)> =
        locals.iter().map(|(weight, network)| (weight / total, model::named_tensors(network))).collect();
    let mean = |index: usize| {
        let (name, first) = &tensors[0].1[index];
        let mut sums = vec![0.0f64; first.num_elements()];
        for (share, tensors) in &tensors {
            for (sum, value) in sums.iter_mut().zip(tensors[index].1.iter::<f32>()) {
                *sum += share * f64::from(value);
            }
        }
        let values: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        (name.clone(), TensorData::new(values, first.shape().to_vec()))
    };
    let count = tensors.first().map_or(0, |(_, tensors)| tensors.len());
    let mean = model::load(into, &(0..count).map(mean).collect::<Vec<_>>());
    Ok(mean.map_err(StartError::from)?)
}

#[cfg(test)]
mod tests {
    use train::config::ConfigLayers;
    use train::config::arguments::ProgressMode;

    use super::*;

    fn run_context() -> RunContext {
        RunContext {
            command: "federated",
            artifacts: "unused".into(),
            name: None,
            search: data::Search::default(),
            dataset: None,
            accept_changed_data: false,
            progress: ProgressMode::None,
            stop: Arc::default(),
            adapts_budget: false,
        }
    }

    fn config(expressions: &[&str]) -> TrainConfig {
        let mut layers = ConfigLayers::default();
        for expression in ["data.dataset=mnist-sample", "data.augment.shift=0.0", "data.augment.rotate=0.0"] {
            layers.set_expression(expression).unwrap();
        }
        for expression in expressions {
            layers.set_expression(expression).unwrap();
        }
        layers.resolve().unwrap()
    }

    fn run(
        config: &TrainConfig,
        nodes: usize,
        rounds: usize,
        local_epochs: usize,
    ) -> (FederatedResult, Network) {
        let whole_shard = config.batch_size == 1_000_000;
        let federation = FederatedConfig { nodes, rounds, local_epochs, whole_shard };
        federated(config, federation, &run_context()).unwrap().unwrap()
    }

    fn values(network: &Network) -> Vec<f32> {
        model::named_tensors(network).iter().flat_map(|(_, data)| data.iter::<f32>()).collect()
    }

    /// The gradient of a mean is the weighted mean of the shards' gradients, so the weights agree but for rounding; at
    /// the kink of a ReLU or a maximum, rounding would decide about a whole image.
    #[test]
    fn full_batch_steps_of_several_nodes_are_those_of_central_training() {
        let config = config(&[
            "data.limit=310",
            "network.blocks=[{channels=4, pool={kind='average'}}, {channels=6, pool={kind='average'}}]",
            "network.dense=[]",
            "network.activation=tanh",
            "optimizer.name=sgd",
            "optimizer.momentum=0.0",
            "optimizer.learning_rate=0.2",
            "batch_size=1000000",
        ]);
        let start = config
            .network
            .init(model::Preprocessing::mnist().input, 10, config.seed, &Device::flex())
            .unwrap();
        let (_, central) = run(&config, 1, 4, 1);
        let (result, federated) = run(&config, 3, 4, 1);
        assert!(
            result.shards.iter().max() > result.shards.iter().min(),
            "unequal shards: {:?}",
            result.shards
        );
        let (start, central, federated) = (values(&start), values(&central), values(&federated));
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let moved = distance(&start, &central);
        assert!(moved > 0.01, "central training moves: {moved}");
        let apart = distance(&central, &federated);
        assert!(apart < 1e-5, "{apart} apart after moving by {moved}");
    }

    #[test]
    fn local_epochs_reach_about_the_central_accuracy() {
        let config = config(&["network.dense=[]", "optimizer.learning_rate=0.002", "batch_size=32"]);
        let last =
            |(result, _): (FederatedResult, Network)| result.valid_accuracy[result.valid_accuracy.len() - 1];
        let central = last(run(&config, 1, 3, 2));
        let federated = last(run(&config, 4, 3, 2));
        assert!(central > 0.85, "{central}");
        assert!(federated > central - 0.08, "{federated}, central {central}");
    }
}
