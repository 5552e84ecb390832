//! The networks that have a name on the command line.

use crate::{
    AlexNetConfig, CnnConfig, InputShape, LeNet5Config, MlpConfig, NetworkConfig, ResNetConfig, RnnConfig,
    VggConfig, VitConfig, rnn::Cell,
};

/// A named network: a configuration, and the images and classes for which its figures are known.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// The configuration.
    pub config: NetworkConfig,
    /// Keys of the configuration that make it this network rather than another of its family.
    pub keys: &'static [&'static str],
    /// Images that it was published for.
    pub input: InputShape,
    /// Classes that it was published for.
    pub classes: usize,
    /// Where it comes from.
    pub source: &'static str,
}

/// MNIST's images.
const DIGITS: InputShape = InputShape::new(1, 28, 28);
/// CIFAR's images.
const SMALL: InputShape = InputShape::new(3, 32, 32);
/// ImageNet's images as torchvision crops them.
const LARGE: InputShape = InputShape::new(3, 224, 224);

/// Every network with a name.
pub fn catalog() -> Vec<CatalogEntry> {
    let digits =
        |name, config, keys, source| CatalogEntry { name, config, keys, input: DIGITS, classes: 10, source };
    let large =
        |name, config, keys, source| CatalogEntry { name, config, keys, input: LARGE, classes: 1000, source };
    let mut all = vec![
        digits("cnn", NetworkConfig::Cnn(CnnConfig::default()), &[], "two convolutions and a dense layer"),
        digits("mlp", NetworkConfig::Mlp(MlpConfig::default()), &[], "dense layers only"),
        digits(
            "rnn",
            NetworkConfig::Rnn(RnnConfig { cell: Cell::Lstm, ..RnnConfig::default() }),
            &[],
            "LSTM or GRU over the rows",
        ),
        digits("lenet5", NetworkConfig::LeNet5(LeNet5Config::default()), &[], "LeCun et al. 1998"),
        digits(
            "vit-tiny",
            NetworkConfig::Vit(VitConfig::default()),
            &["patch", "width", "depth", "heads", "mlp"],
            "Dosovitskiy et al. 2021, made small",
        ),
        large("alexnet", NetworkConfig::AlexNet(AlexNetConfig::default()), &[], "Krizhevsky 2014"),
    ];
    for (depth, plain, normalised) in [
        (11, "vgg11", "vgg11-bn"),
        (13, "vgg13", "vgg13-bn"),
        (16, "vgg16", "vgg16-bn"),
        (19, "vgg19", "vgg19-bn"),
    ] {
        for (name, batch_norm) in [(plain, false), (normalised, true)] {
            let config = NetworkConfig::Vgg(VggConfig { depth, batch_norm, ..VggConfig::default() });
            all.push(large(name, config, &["depth", "batch_norm"], "Simonyan & Zisserman 2015"));
        }
    }
    let residual = |depth| NetworkConfig::ResNet(ResNetConfig { depth, ..ResNetConfig::default() });
    for (depth, name) in
        [(18, "resnet18"), (34, "resnet34"), (50, "resnet50"), (101, "resnet101"), (152, "resnet152")]
    {
        all.push(large(name, residual(depth), &["depth"], "He et al. 2016, table 1"));
    }
    for (depth, name) in
        [(20, "resnet20"), (32, "resnet32"), (44, "resnet44"), (56, "resnet56"), (110, "resnet110")]
    {
        let source = "He et al. 2016, section 4.2";
        all.push(CatalogEntry {
            name,
            config: residual(depth),
            keys: &["depth"],
            input: SMALL,
            classes: 10,
            source,
        });
    }
    let base = VitConfig { patch: 16, width: 768, depth: 12, heads: 12, mlp: 3072, ..VitConfig::default() };
    let keys = &["patch", "width", "depth", "heads", "mlp"];
    all.push(large("vit-b-16", NetworkConfig::Vit(base), keys, "Dosovitskiy et al. 2021"));
    all
}

impl NetworkConfig {
    /// The network called `name`, such as `vgg16-bn`; torchvision's `vgg16_bn` is the same.
    pub fn named(name: &str) -> Option<CatalogEntry> {
        let name = name.replace('_', "-");
        catalog().into_iter().find(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    /// Torchvision's counts (`sum(p.numel() for p in model.parameters())`, 0.24), and the papers'
    /// where it has none.
    const PARAMETERS: &[(&str, usize)] = &[
        ("cnn", 34_826),
        ("mlp", 535_818),
        ("rnn", 82_186),
        ("lenet5", 61_706),
        ("vit-tiny", 139_018),
        ("alexnet", 61_100_840),
        ("vgg11", 132_863_336),
        ("vgg11-bn", 132_868_840),
        ("vgg13", 133_047_848),
        ("vgg13-bn", 133_053_736),
        ("vgg16", 138_357_544),
        ("vgg16-bn", 138_365_992),
        ("vgg19", 143_667_240),
        ("vgg19-bn", 143_678_248),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("vit-b-16", 86_567_656),
    ];

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let found: Vec<_> = catalog()
            .iter()
            .map(|entry| (entry.name, entry.config.summary(entry.input, entry.classes).unwrap().parameters()))
            .collect();
        assert_eq!(found, PARAMETERS);
    }

    #[test]
    fn multiply_accumulates_are_the_published_ones() {
        // Figures of torchvision's documentation, in 10^9, rounded to two digits after the point.
        for (name, expected) in [
            ("alexnet", 0.71),
            ("vgg11", 7.61),
            ("vgg16", 15.47),
            ("vgg19-bn", 19.63),
            ("resnet18", 1.81),
            ("resnet34", 3.66),
            ("resnet50", 4.09),
        ] {
            let entry = NetworkConfig::named(name).unwrap();
            let macs = entry.config.summary(entry.input, entry.classes).unwrap().macs();
            let found = macs as f64 / 1e9;
            assert!((found - expected).abs() < 0.0051, "{name}: {found}, expected {expected}");
        }
    }

    #[test]
    fn names_are_found_in_both_spellings() {
        assert_eq!(NetworkConfig::named("vgg16_bn").unwrap().name, "vgg16-bn");
        assert_eq!(NetworkConfig::named("vgg16-bn").unwrap().name, "vgg16-bn");
        assert!(NetworkConfig::named("vgg17").is_none());
    }

    #[test]
    fn small_ones_give_what_their_summary_promises() {
        let device = Device::flex();
        for name in ["cnn", "mlp", "rnn", "lenet5", "vit-tiny", "resnet20", "resnet18", "resnet50"] {
            let entry = NetworkConfig::named(name).unwrap();
            for input in [entry.input, InputShape::new(3, 28, 35), InputShape::new(3, 32, 32)] {
                let Ok(summary) = entry.config.summary(input, 7) else {
                    assert_eq!((name, input.width), ("vit-tiny", 32), "{name} {input}");
                    continue;
                };
                let network = entry.config.init(input, 7, 1, &device).unwrap();
                let found: Vec<_> = crate::record::tensors_in_order(&network)
                    .into_iter()
                    .map(|(name, data)| (name, data.shape().to_vec()))
                    .collect();
                let expected: Vec<_> = summary.tensors().map(|t| (t.name.clone(), t.shape.clone())).collect();
                assert_eq!(found, expected, "{name} {input}");
                let images = Tensor::ones([2, input.channels, input.height, input.width], &device);
                assert_eq!(network.forward(images).dims(), [2, 7], "{name} {input}");
            }
        }
    }

    #[test]
    fn every_network_has_features_and_a_head() {
        let features = |name: &str| {
            // What FEATURES_PATTERN says, without the regular expressions that only `train` has.
            ["stem.", "embedding.", "blocks.", "norm."]
                .iter()
                .any(|part| name.starts_with(part) || name.contains(&format!(".{part}")))
        };
        for entry in catalog() {
            let summary = entry.config.summary(entry.input, entry.classes).unwrap();
            let names = summary.tensors().map(|tensor| tensor.name.as_str());
            let (head, rest): (Vec<&str>, Vec<&str>) = names.partition(|name| name.starts_with("head."));
            assert_eq!(head, ["head.weight", "head.bias"], "{}", entry.name);
            assert!(rest.iter().any(|name| features(name)), "{}", entry.name);
            for name in rest {
                assert!(features(name) || name.starts_with("dense."), "{}: {name}", entry.name);
            }
        }
    }
}
