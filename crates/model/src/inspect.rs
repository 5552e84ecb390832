//! A network taken apart: what explaining, judging and teaching need beside the logits.
//!
//! A new network joins by implementing [`Inspect`] and taking an arm in [`Network::parts`].

use burn::{
    nn::Linear,
    tensor::{Device, Tensor},
};

use crate::{Cnn, Mlp, Network, ResNet, Rnn, Vit};

/// The parts of a network, named by what flows between them: images, maps, features, logits.
pub(crate) trait Inspect {
    /// Images `[N, C, H, W]` to what each convolution stage says after its activation and before its
    /// pooling, `[N, C', H', W']` each, from the image on. Empty without convolutions.
    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>>;

    /// From the last of [`Self::stages`] (the images, where there is none) to what [`Self::features`] gives.
    fn gather(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>);

    /// Images `[N, C, H, W]` to what the head sees, `[N, F]`, and to the signature `[N, S]`, the mean over
    /// the places of what the last convolution (or its block) says; the features without convolutions.
    /// The fast way.
    fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>);

    /// The last layer, from features to logits.
    fn head(&self) -> &Linear;

    /// Weights of the first convolution, `[O, C, K, K]`.
    fn filters(&self) -> Option<Tensor<4>>;
}

impl Network {
    fn parts(&self) -> &dyn Inspect {
        match self {
            Self::Cnn(network) => network,
            Self::Mlp(network) => network,
            Self::Rnn(network) => network,
            Self::ResNet(network) => network,
            Self::Vit(network) => network,
        }
    }

    /// Images `[N, C, H, W]` to the maps of every convolution stage, `[N, C', H', W']` each, after the
    /// activation and before the pooling, from the image on. Empty for a network without convolutions.
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        self.parts().stages(images)
    }

    /// The last of [`Self::stages`] to what [`Self::features`] gives; for a network without convolutions it
    /// takes the images.
    pub fn gather(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.parts().gather(maps)
    }

    /// Images `[N, C, H, W]` to features `[N, F]`, the input of the last layer, and to the signature
    /// `[N, S]`, which tells a strange image from an ordinary one (see [`crate::Novelty`]).
    pub fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.parts().features(images)
    }

    /// Features `[N, F]` to logits `[N, K]`: with [`Self::features`], the same as [`Self::forward`].
    pub fn classify_features(&self, features: Tensor<2>) -> Tensor<2> {
        let head = self.parts().head();
        let bias = head.bias.as_ref().map(burn::module::Param::val);
        kernels::linear(features, head.weight.val(), bias, kernels::Activation::None)
    }

    /// Weights of the first convolution, `[O, C, K, K]`, if there is one.
    pub fn filters(&self) -> Option<Tensor<4>> {
        self.parts().filters()
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.parts().head().weight.val().device()
    }
}

impl Cnn {
    /// From the last block's output `[N, C', H', W']` to features and signature.
    fn judged(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        if self.blocks.is_empty() {
            let features = self.flat_features(maps);
            return (features.clone(), features);
        }
        let signature = maps.clone().mean_dim(3).mean_dim(2).flatten(1, 3); // [N, C']
        (self.flat_features(maps), signature)
    }
}

impl Inspect for Cnn {
    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut stages: Vec<Tensor<4>> = Vec::with_capacity(self.blocks.len());
        let mut x = images;
        for (index, block) in self.blocks.iter().enumerate() {
            if let Some(maps) = stages.last() {
                x = self.blocks[index - 1].finish(maps.clone());
            }
            stages.push(block.maps(x.clone()));
        }
        stages
    }

    fn gather(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        match self.blocks.last() {
            Some(block) => self.judged(block.finish(maps)),
            None => self.judged(maps),
        }
    }

    fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.judged(self.trunk(images))
    }

    fn head(&self) -> &Linear {
        &self.head
    }

    fn filters(&self) -> Option<Tensor<4>> {
        self.blocks.first().map(|block| block.conv.weight.val())
    }
}

impl Inspect for ResNet {
    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut stages = vec![self.stem.maps(images)];
        let mut x = self.stem.finish(stages[0].clone());
        for block in &self.blocks {
            x = block.forward(x);
            stages.push(x.clone());
        }
        stages
    }

    fn gather(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        // The features are the means over the places already.
        let features = self.average(maps);
        (features.clone(), features)
    }

    fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.gather(self.trunk(images))
    }

    fn head(&self) -> &Linear {
        &self.head
    }

    fn filters(&self) -> Option<Tensor<4>> {
        Some(self.stem.conv.weight.val())
    }
}

/// A network without convolution stages: its features are what it is judged by.
macro_rules! without_convolutions {
    ($($network:ty),+) => {$(
        impl Inspect for $network {
            fn stages(&self, _images: Tensor<4>) -> Vec<Tensor<4>> {
                Vec::new()
            }

            fn gather(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
                let features = <$network>::features(self, images);
                (features.clone(), features)
            }

            fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
                self.gather(images)
            }

            fn head(&self) -> &Linear {
                &self.head
            }

            fn filters(&self) -> Option<Tensor<4>> {
                None
            }
        }
    )+};
}

without_convolutions!(Mlp, Rnn, Vit);
