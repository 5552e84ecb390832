//! The networks: one file for each, one line for each below.
//!
//! A network is a configuration that describes itself as a graph of layers, see [`Architecture`]. What else is to be
//! known of it follows from the graph.

pub(crate) mod architecture;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

pub use cnn::ConvBlockConfig;

use self::architecture::Architecture;
use crate::{Graph, InputShape, Network, ShapeError, Summary};

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

/// Makes [`NetworkConfig`] and the catalogue from one line for each network: its name in recipes, its file, its
/// configuration and the variant.
macro_rules! networks {
    ($($(#[$documentation:meta])* $name:literal = $file:ident::$config:ident as $variant:ident;)+) => {
        $(
            mod $file;
            pub use $file::$config;
        )+

        /// Which network, and its sizes. In TOML a table with the network's `name` and its own keys.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name")]
        pub enum NetworkConfig {
            $(
                $(#[$documentation])*
                #[serde(rename = $name)]
                $variant($config),
            )+
        }

        impl NetworkConfig {
            /// The network's `name` in a recipe.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$variant(config) => config,)+
                }
            }
        }

        /// Every network with a name.
        pub fn catalog() -> Vec<CatalogEntry> {
            let mut all = Vec::new();
            $(
                let entry = |(name, config, keys, (input, classes), source)| CatalogEntry {
                    name, config: NetworkConfig::$variant(config), keys, input, classes, source,
                };
                all.extend(<$config>::catalogue().into_iter().map(entry));
            )+
            all
        }
    };
}

networks! {
    /// A convolutional network, [`CnnConfig`].
    "cnn" = cnn::CnnConfig as Cnn;
    /// A multi-layer perceptron, [`MlpConfig`].
    "mlp" = mlp::MlpConfig as Mlp;
    /// A recurrent network over the rows, [`RnnConfig`].
    "rnn" = rnn::RnnConfig as Rnn;
    /// LeNet-5, [`LeNet5Config`].
    "lenet5" = lenet5::LeNet5Config as LeNet5;
    /// AlexNet, [`AlexNetConfig`].
    "alexnet" = alexnet::AlexNetConfig as AlexNet;
    /// VGG of any depth, [`VggConfig`].
    "vgg" = vgg::VggConfig as Vgg;
    /// A residual network of any depth, [`ResNetConfig`].
    "resnet" = resnet::ResNetConfig as ResNet;
    /// A vision transformer, [`VitConfig`].
    "vit" = vit::VitConfig as Vit;
    /// Inception modules, [`InceptionConfig`].
    "inception" = inception::InceptionConfig as Inception;
}

impl Default for NetworkConfig {
    /// The tutorials' net: two convolutions with max pooling and one dense layer.
    fn default() -> Self {
        Self::Cnn(CnnConfig::default())
    }
}

impl NetworkConfig {
    /// The network called `name`, such as `vgg16-bn`; torchvision's `vgg16_bn` is the same.
    pub fn named(name: &str) -> Option<CatalogEntry> {
        let name = name.replace('_', "-");
        catalog().into_iter().find(|entry| entry.name == name)
    }

    /// The network's layers.
    ///
    /// # Errors
    /// A layer that does not fit its input, a size of zero or beyond all measure, a probability
    /// outside `[0, 1)`. The message names the layer and the sizes.
    pub fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let architecture = self.architecture();
        architecture.initialization().validate()?;
        architecture.graph(input, classes)
    }

    /// Every layer with its output shape, parameters and multiply-accumulates; needs no device.
    ///
    /// # Errors
    /// As [`Self::graph`].
    pub fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        Ok(self.graph(input, classes)?.summary())
    }

    /// Builds the network with freshly drawn weights on `device`.
    ///
    /// The weights are a function of the configuration and `seed` alone: they are the same on every
    /// backend, and no generator of the device is touched. Parameter ids are 1, 2, 3 ... in the order
    /// of a visit, so that the optimiser states of two runs can be compared.
    ///
    /// # Errors
    /// As [`Self::graph`].
    ///
    /// # Examples
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use model::{InputShape, NetworkConfig};
    ///
    /// let digits = InputShape::new(1, 28, 28);
    /// let config = NetworkConfig::named("lenet5").expect("a known name").config;
    /// assert_eq!(config.summary(digits, 10)?.parameters(), 61_706);
    /// let network = config.init(digits, 10, 1, &Device::flex())?;
    /// let logits = network.forward(Tensor::zeros([2, 1, 28, 28], &Device::flex()));
    /// assert_eq!(logits.dims(), [2, 10]);
    /// # Ok::<(), model::ShapeError>(())
    /// ```
    pub fn init(
        &self,
        input: InputShape,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        let graph = self.graph(input, classes)?;
        Ok(Network::new(graph, self.architecture().initialization(), Some(seed), device))
    }

    /// The same network with all weights zero, for one whose weights come from elsewhere.
    pub(crate) fn init_empty(
        &self,
        input: InputShape,
        classes: usize,
        device: &Device,
    ) -> Result<Network, ShapeError> {
        let graph = self.graph(input, classes)?;
        Ok(Network::new(graph, self.architecture().initialization(), None, device))
    }

    /// Its layers for some images, where there are any that they take: their names are the same for all.
    pub(crate) fn any_graph(&self) -> Option<Graph> {
        let graph = |side| self.graph(InputShape::new(3, side, side), 2).ok();
        [224, 32, 28].into_iter().chain(1..=256).find_map(graph)
    }

    /// The names of a tensor in published implementations of this network.
    pub(crate) fn published_names(&self, ours: &str) -> Vec<String> {
        self.architecture().published_names(ours)
    }
}

#[cfg(test)]
mod tests;
