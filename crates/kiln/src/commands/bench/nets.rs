//! The networks that are compared with other frameworks; `benches/peers/nets.py` has the same.

use model::{CnnConfig, ConvBlockConfig, InputShape, NetworkConfig};
use train::command::Failure;

use super::sample::CLASSES;

/// What is measured when no network is named.
pub(super) const NAMES: [&str; 4] = ["cnn", "cnn-dense", "lenet5", "stack"];

/// A network with the input it is measured on.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) name: String,
    pub(super) network: NetworkConfig,
    pub(super) input: InputShape,
}

/// One of [`NAMES`], or any network that `kiln models` lists; with 10 classes, on `input` or on the images that it
/// was published for.
pub(super) fn find(name: &str, input: Option<InputShape>) -> Result<Net, Failure> {
    let digits = InputShape::new(1, 28, 28);
    let (network, own_input) = match name {
        "cnn-dense" => (NetworkConfig::Cnn(CnnConfig { dense: vec![128], ..CnnConfig::default() }), digits),
        "stack" => (NetworkConfig::Cnn(stack()), InputShape::new(3, 32, 32)),
        other => match NetworkConfig::named(other) {
            Some(entry) => (entry.config, entry.input),
            None => {
                return Err(Failure::usage(format!(
                    "--net {other}: expected {}, or a name that `kiln models` lists",
                    NAMES.join(", ")
                )));
            }
        },
    };
    let input = input.unwrap_or(own_input);
    network
        .summary(input, CLASSES)
        .map_err(|error| Failure::usage(format!("--net {name} on {input}: {error}")))?;
    Ok(Net { name: name.to_owned(), network, input })
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
            let summary = net.network.summary(net.input, CLASSES).expect("it fits");
            assert_eq!(summary.parameters(), parameters, "{name}");
        }
        assert!(find("resnet20", None).is_ok_and(|net| net.input == InputShape::new(3, 32, 32)));
        assert!(find("stack", Some(InputShape::new(3, 0, 0))).is_err());
        assert!(find("teapot", None).is_err_and(|failure| failure.message.contains("kiln models")));
        let text = include_str!("../../../../../benches/peers/nets.py");
        for count in ["34_826", "225_034", "61_706", "115_370"] {
            assert!(text.contains(count), "{count}");
        }
    }
}
