//! Vision transformers: Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for
//! image recognition at scale".

use burn::{
    module::{Module, Param},
    nn::{Dropout, LayerNorm, Linear},
    tensor::{Device, Tensor, activation},
};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, ConvBlock, ConvBlockConfig, Initialization, InputShape, ShapeError, Summary,
    cnn::{dense_layer, linear},
    initialization::Builder,
    shape::ShapeTrace,
};

/// Added to the variance in every layer normalisation, as in the paper's code and in torchvision.
const EPSILON: f64 = 1e-6;

/// Width of the distribution of positions and class token, as in the paper's code.
const TOKEN_STD: f64 = 0.02;

/// More layers than this are a typo.
const MAX_LAYERS: usize = 256;

/// A vision transformer: patches of the image become tokens, a class token goes before them, learned
/// positions are added, and encoder layers (normalisation first) mix them; the class token goes to the
/// head.
///
/// The default, `vit-tiny` on the command line, is small enough for MNIST on a CPU: patches of 7x7
/// (16 of them in 28x28), width 64, 4 layers, 4 heads, 128 hidden features; 139,018 parameters with
/// grey 28x28 images and 10 classes. `vit-b-16` is torchvision's `vit_b_16`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of a patch; it must divide the sides of the image.
    pub patch: usize,
    /// Features of a token.
    pub width: usize,
    /// Encoder layers.
    pub depth: usize,
    /// Attention heads; they must divide the width.
    pub heads: usize,
    /// Hidden features of the two dense layers in every encoder layer.
    pub mlp: usize,
    /// Dropout after the positions and after both parts of every layer, probability in `[0, 1)`.
    pub dropout: f64,
    /// How weights are drawn.
    pub initialization: Initialization,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            patch: 7,
            width: 64,
            depth: 4,
            heads: 4,
            mlp: 128,
            dropout: 0.0,
            initialization: Initialization::XavierUniform,
        }
    }
}

impl VitConfig {
    /// The convolution that turns patches into tokens.
    fn embedding(&self) -> ConvBlockConfig {
        ConvBlockConfig { kernel: self.patch, stride: self.patch, ..ConvBlockConfig::new(self.width) }
    }

    /// Tokens of one image, the class token included.
    fn tokens(&self, input: InputShape) -> usize {
        (input.height / self.patch) * (input.width / self.patch) + 1
    }

    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        self.initialization.validate()?;
        let Self { patch, width, depth, heads, mlp, dropout, .. } = *self;
        for (layer, field, size) in
            [("embedding", "patch", patch), ("blocks", "heads", heads), ("blocks", "mlp", mlp)]
        {
            if size == 0 {
                return Err(ShapeError::Zero { layer: layer.into(), field });
            }
        }
        if depth > MAX_LAYERS {
            return Err(ShapeError::TooLarge { layer: "blocks".into(), what: "layers", limit: MAX_LAYERS });
        }
        let mut trace = ShapeTrace::new(input, classes)?;
        for (what, value) in [("height", input.height), ("width", input.width)] {
            if value % patch != 0 {
                return Err(ShapeError::Indivisible {
                    layer: "embedding".into(),
                    what,
                    value,
                    divisor_name: "the patch of",
                    divisor: patch,
                    advice: "choose network.patch so that it divides the image",
                });
            }
        }
        trace.conv_block("embedding.patches", &self.embedding(), true, false, None)?;
        if width % heads != 0 {
            return Err(ShapeError::Indivisible {
                layer: "blocks".into(),
                what: "width",
                value: width,
                divisor_name: "the heads,",
                divisor: heads,
                advice: "choose network.heads so that they divide network.width",
            });
        }
        let tokens = self.tokens(input);
        let shape = vec![tokens, width];
        trace.layer(
            "embedding",
            "class token, positions",
            shape.clone(),
            0,
            &[("class_token", vec![1, 1, width]), ("positions", vec![1, tokens, width])],
        )?;
        trace.dropout("dropout", dropout)?;
        let norm = [("gamma", vec![width]), ("beta", vec![width])];
        // Every token is compared with every other, and as many products mix their values.
        let mixing = 2 * (tokens as u64).saturating_pow(2).saturating_mul(width as u64);
        for index in 0..depth {
            let name = |part: &str| format!("blocks.{index}.{part}");
            trace.layer(&name("attention_norm"), "layer norm", shape.clone(), 0, &norm)?;
            trace.linear(&name("attention.inputs"), width.saturating_mul(3))?;
            // A weight for every pair of tokens.
            trace.holds(&name("attention"), &[heads, tokens, tokens])?;
            trace.layer(
                &name("attention"),
                format!("attention, {heads} heads"),
                shape.clone(),
                mixing,
                &[],
            )?;
            trace.linear(&name("attention.output"), width)?;
            trace.layer(&name("mlp_norm"), "layer norm", shape.clone(), 0, &norm)?;
            trace.linear(&name("widen"), mlp)?;
            trace.activation(&name("activation"), Activation::Gelu)?;
            trace.linear(&name("narrow"), width)?;
        }
        trace.layer("norm", "layer norm", shape, 0, &norm)?;
        trace.layer("class_token", "first token", vec![width], 0, &[])?;
        trace.linear("head", classes)?;
        trace.finish()
    }

    /// Builds the network; without a seed all weights are zero.
    pub(crate) fn init(
        &self,
        input: InputShape,
        classes: usize,
        seed: Option<u64>,
        device: &Device,
    ) -> Result<Vit, ShapeError> {
        self.summary(input, classes)?;
        let Self { width, depth, heads, mlp, .. } = *self;
        let mut builder = Builder::new(self.initialization, seed, device);
        let embedding = Embedding {
            patches: builder.conv_block(input.channels, &self.embedding(), true, false, None),
            class_token: builder.normal([1, 1, width], TOKEN_STD),
            positions: builder.normal([1, self.tokens(input), width], TOKEN_STD),
        };
        let mut blocks = Vec::with_capacity(depth);
        for _ in 0..depth {
            blocks.push(EncoderLayer {
                attention_norm: builder.layer_norm(width, EPSILON),
                attention: Attention {
                    inputs: builder.linear(width, 3 * width),
                    output: builder.linear(width, width),
                    heads,
                },
                mlp_norm: builder.layer_norm(width, EPSILON),
                widen: builder.linear(width, mlp),
                narrow: builder.linear(mlp, width),
            });
        }
        let norm = builder.layer_norm(width, EPSILON);
        let head = builder.linear(width, classes);
        Ok(Vit { embedding, blocks, norm, head, dropout: builder.dropout(self.dropout) })
    }
}

/// From images to tokens.
#[derive(Module, Debug)]
pub struct Embedding {
    /// A convolution whose windows are the patches.
    pub patches: ConvBlock,
    /// The first token of every image, `[1, 1, D]`.
    pub class_token: Param<Tensor<3>>,
    /// Added to the tokens, `[1, T, D]`.
    pub positions: Param<Tensor<3>>,
}

impl Embedding {
    /// `[N, C, H, W] -> [N, T, D]`
    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let patches = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2); // [N, T - 1, D]
        let [n, _, width] = patches.dims();
        let class_token = self.class_token.val().expand([n, 1, width]);
        Tensor::cat(vec![class_token, patches], 1) + self.positions.val()
    }
}

/// Attention of every token to all tokens of its image.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values side by side, `[D, 3 * D]`.
    pub inputs: Linear,
    /// `[D, D]`
    pub output: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    /// `[N, T, D] -> [N, T, D]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [n, tokens, width] = x.dims();
        let features = width / self.heads;
        let all = linear(&self.inputs, x.reshape([n * tokens, width]), kernels::Activation::None);
        let all = all.reshape([n, tokens, 3 * self.heads, features]).swap_dims(1, 2); // [N, 3 * heads, T, F]
        let part = |index: usize| all.clone().narrow(1, index * self.heads, self.heads);
        let (queries, keys, values) = (part(0), part(1), part(2)); // [N, heads, T, F]
        let scores = queries.matmul(keys.swap_dims(2, 3)).div_scalar((features as f64).sqrt());
        let mixed = activation::softmax(scores, 3).matmul(values); // [N, heads, T, F]
        let mixed = mixed.swap_dims(1, 2).reshape([n * tokens, width]);
        linear(&self.output, mixed, kernels::Activation::None).reshape([n, tokens, width])
    }
}

/// One layer of the encoder.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Before the attention.
    pub attention_norm: LayerNorm,
    /// Mixes the tokens.
    pub attention: Attention,
    /// Before the dense layers.
    pub mlp_norm: LayerNorm,
    /// The first dense layer, on every token by itself; a GELU follows.
    pub widen: Linear,
    /// The second dense layer.
    pub narrow: Linear,
}

impl EncoderLayer {
    /// `[N, T, D] -> [N, T, D]`
    fn forward(&self, x: Tensor<3>, drop: impl Fn(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let x = x.clone() + drop(self.attention.forward(self.attention_norm.forward(x)));
        let [n, tokens, width] = x.dims();
        let y = self.mlp_norm.forward(x.clone()).reshape([n * tokens, width]);
        let y = dense_layer(&self.widen, y, Activation::Gelu);
        let y = linear(&self.narrow, y, kernels::Activation::None);
        x + drop(y.reshape([n, tokens, width]))
    }
}

/// A vision transformer, see [`VitConfig`].
#[derive(Module, Debug)]
pub struct Vit {
    /// From images to tokens.
    pub embedding: Embedding,
    /// The encoder's layers.
    pub blocks: Vec<EncoderLayer>,
    /// Before the head.
    pub norm: LayerNorm,
    /// The classifier: one output for each class.
    pub head: Linear,
    /// After the positions and both parts of every layer.
    pub dropout: Option<Dropout>,
}

impl Vit {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        linear(&self.head, self.features(images), kernels::Activation::None) // [N, K]
    }

    /// Images `[N, C, H, W]` to what the head sees, `[N, D]`.
    pub(crate) fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.drop(self.embedding.forward(images)); // [N, T, D]
        for block in &self.blocks {
            x = block.forward(x, |x| self.drop(x)); // [N, T, D]
        }
        // Every token is normalised by itself, so that the first is enough.
        self.norm.forward(x.narrow(1, 0, 1)).squeeze_dim(1) // [N, D]
    }

    fn drop(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.dropout {
            Some(dropout) => dropout.forward(x),
            None => x,
        }
    }
}
