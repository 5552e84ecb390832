//! The networks that are compared with other frameworks; `benches/peers/nets.py` has the same.

use model::{Activation, CnnConfig, ConvBlockConfig, InputShape, NetworkConfig, PoolConfig, PoolKind};
use train::command::Failure;
use train::config::ConfigLayers;

/// What is measured when no network is named.
pub(super) const NAMES: [&str; 4] = ["cnn", "cnn-dense", "lenet5", "stack"];

/// A network with the input it is measured on.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) name: String,
    pub(super) network: NetworkConfig,
    pub(super) input: InputShape,
}

/// One of [`NAMES`], or what `network.name` means in a configuration, on `input`.
pub(super) fn find(name: &str, input: Option<InputShape>) -> Result<Net, Failure> {
    let (network, own_input) = match name {
        "cnn" => (NetworkConfig::Cnn(CnnConfig::default()), InputShape::new(1, 28, 28)),
        "cnn-dense" => (
            NetworkConfig::Cnn(CnnConfig { dense: vec![128], ..CnnConfig::default() }),
            InputShape::new(1, 28, 28),
        ),
        "lenet5" => (NetworkConfig::Cnn(lenet5()), InputShape::new(1, 28, 28)),
        "stack" => (NetworkConfig::Cnn(stack()), InputShape::new(3, 32, 32)),
        other => {
            let mut layers = ConfigLayers::default();
            layers.set("network.name", other);
            let config = layers.resolve().map_err(|error| {
                Failure::usage(format!("--net {other}: expected {} or a network: {error}", NAMES.join(", ")))
            })?;
            (config.network, InputShape::new(1, 28, 28))
        }
    };
    let input = input.unwrap_or(own_input);
    network
        .summary(input, 10)
        .map_err(|error| Failure::usage(format!("--net {name} on {input}: {error}")))?;
    Ok(Net { name: name.to_owned(), network, input })
}

/// LeCun et al. 1998, figure 2, with the full connection table: 61,706 parameters.
fn lenet5() -> CnnConfig {
    let average = PoolConfig { kind: PoolKind::Average, ..PoolConfig::default() };
    let block = |channels, padding| ConvBlockConfig {
        kernel: 5,
        padding,
        pool: Some(average),
        ..ConvBlockConfig::new(channels)
    };
    CnnConfig {
        blocks: vec![block(6, 2), block(16, 0)],
        dense: vec![120, 84],
        activation: Activation::Tanh,
        ..CnnConfig::default()
    }
}

/// The plain net of He et al. 2016, section 4.2, with n = 1, and no pooling before the classifier: 115,370
/// parameters.
fn stack() -> CnnConfig {
    let block = |channels, stride| ConvBlockConfig { stride, padding: 1, ..ConvBlockConfig::new(channels) };
    CnnConfig {
        blocks: vec![
            block(16, 1),
            block(16, 1),
            block(16, 1),
            block(32, 2),
            block(32, 1),
            block(64, 2),
            block(64, 1),
        ],
        ..CnnConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same counts as in `benches/peers/nets.py`, where every framework is held to them.
    #[test]
    fn the_nets_are_those_of_the_peers() {
        for (name, parameters) in NAMES.into_iter().zip([34_826, 225_034, 61_706, 115_370]) {
            let Ok(net) = find(name, None) else { panic!("{name}") };
            let summary = net.network.summary(net.input, 10).expect("it fits");
            assert_eq!(summary.parameters(), parameters, "{name}");
        }
        let text = include_str!("../../../../benches/peers/nets.py");
        for count in ["34_826", "225_034", "61_706", "115_370"] {
            assert!(text.contains(count), "{count}");
        }
    }
}
