//! All networks behind one type.

use burn::{module::Module, tensor::Tensor};

use crate::{Cnn, Mlp, ResNet, Rnn, Vit};

/// Any network that a [`crate::NetworkConfig`] can describe.
#[expect(clippy::large_enum_variant, reason = "a program holds a handful of networks")]
#[derive(Module, Debug)]
pub enum Network {
    /// A convolutional network: the configurable one, LeNet-5, `AlexNet`, VGG.
    Cnn(Cnn),
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// A recurrent network.
    Rnn(Rnn),
    /// A residual network.
    ResNet(ResNet),
    /// A vision transformer.
    Vit(Vit),
}

/// The layers that make features of an image, as a regular expression over parameter paths: everything
/// but the head, and but the dense layers between the convolutions of a [`Cnn`] and its head. A new
/// network names its modules so that this holds for it.
pub const FEATURES_PATTERN: &str = r"(^|\.)(stem|embedding|blocks|norm)\.";

/// What a parameter's path in Burn's module tree begins with, by network.
pub(crate) const VARIANTS: [&str; 5] = ["Cnn", "Mlp", "Rnn", "ResNet", "Vit"];

impl Network {
    /// Images `[N, C, H, W]` to logits `[N, K]`. Dropout and batch normalisation act as in
    /// training on an autodiff device, and as in evaluation elsewhere (after `valid()`).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Cnn(network) => network.forward(images),
            Self::Mlp(network) => network.forward(images),
            Self::Rnn(network) => network.forward(images),
            Self::ResNet(network) => network.forward(images),
            Self::Vit(network) => network.forward(images),
        }
    }

    /// The same function of an image with fewer operators: batch normalisation by running statistics becomes part
    /// of the convolution before it. For a network in evaluation, without autodiff; the result belongs to no
    /// [`crate::NetworkConfig`], so it can be neither trained nor saved.
    #[must_use]
    pub fn folded(self) -> Self {
        match self {
            Self::Cnn(network) => Self::Cnn(network.folded()),
            Self::ResNet(network) => Self::ResNet(network.folded()),
            Self::Mlp(_) | Self::Rnn(_) | Self::Vit(_) => self,
        }
    }

    /// The same network with its running statistics merged and its own.
    ///
    /// In Burn the clones of a module share the running statistics of batch normalisation, also
    /// when one of them is mapped or loaded, and a record of a network in training lacks the last
    /// step's update. Call this before taking `into_record` of a network in training; this crate's
    /// own functions do.
    #[must_use]
    pub fn with_own_statistics(self) -> Self {
        match self {
            Self::Cnn(network) => Self::Cnn(network.with_own_statistics()),
            Self::ResNet(network) => Self::ResNet(network.with_own_statistics()),
            // Without batch normalisation.
            Self::Mlp(_) | Self::Rnn(_) | Self::Vit(_) => self,
        }
    }
}
