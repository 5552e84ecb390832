//! All networks behind one type.

use burn::{module::Module, tensor::Tensor};

use crate::Cnn;

/// Any network that a [`crate::NetworkConfig`] can describe.
#[derive(Module, Debug)]
pub enum Network {
    /// A convolutional network.
    Cnn(Cnn),
}

impl Network {
    /// Images `[N, C, H, W]` to logits `[N, K]`. Dropout and batch normalisation act as in
    /// training on an autodiff device, and as in evaluation elsewhere (after `valid()`).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Cnn(network) => network.forward(images),
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
        }
    }
}
