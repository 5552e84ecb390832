//! Vision transformers: Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for
//! image recognition at scale".

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Catalogue, DIGITS, LARGE, part_in_pytorch};
use crate::{Activation, Convolution, Graph, GraphBuilder, Initialization, InputShape, ShapeError};

/// Added to the variance in every layer normalisation, as in the paper's code and in torchvision.
const EPSILON: f64 = 1e-6;

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

impl Architecture for VitConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
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
        let mut net = GraphBuilder::new("Vit", input, classes)?;
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
        let patches = Convolution::square(width, patch, patch, 0, true);
        let mut x = net.convolution("embedding.patches.conv", net.image(), patches)?;
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
        x = net.tokens("embedding", x)?;
        x = net.shared_dropout("dropout", x, dropout)?;
        for index in 0..depth {
            let name = |part: &str| format!("blocks.{index}.{part}");
            let mut y = net.layer_norm(&name("attention_norm"), x, EPSILON)?;
            y = net.dense(&name("attention.inputs"), y, width.saturating_mul(3))?;
            y = net.attention(&name("attention"), y, heads)?;
            y = net.dense(&name("attention.output"), y, width)?;
            y = net.shared_dropout("", y, dropout)?;
            x = net.add(y, x)?;
            y = net.layer_norm(&name("mlp_norm"), x, EPSILON)?;
            y = net.dense(&name("widen"), y, mlp)?;
            y = net.activation(&name("activation"), y, Activation::Gelu)?;
            y = net.dense(&name("narrow"), y, width)?;
            y = net.shared_dropout("", y, dropout)?;
            x = net.add(y, x)?;
        }
        x = net.layer_norm("norm", x, EPSILON)?;
        x = net.first_token("class_token", x)?;
        net.finish(x)
    }

    fn catalogue() -> Catalogue<Self> {
        let keys = &["patch", "width", "depth", "heads", "mlp"];
        let base = Self { patch: 16, width: 768, depth: 12, heads: 12, mlp: 3072, ..Self::default() };
        vec![
            ("vit-tiny", Self::default(), keys, DIGITS, "Dosovitskiy et al. 2021, made small"),
            ("vit-b-16", base, keys, LARGE, "Dosovitskiy et al. 2021"),
        ]
    }

    /// Torchvision's and timm's.
    fn published_names(&self, ours: &str) -> Vec<String> {
        let (layer, part) = ours.rsplit_once('.').unwrap_or(("", ours));
        let part = part_in_pytorch(part);
        let named = |layers: &[&str]| layers.iter().map(|layer| format!("{layer}.{part}")).collect();
        match ours.split('.').collect::<Vec<_>>()[..] {
            ["embedding", "patches", ..] => named(&["conv_proj", "patch_embed.proj"]),
            ["embedding", "class_token"] => vec!["class_token".into(), "cls_token".into()],
            ["embedding", ..] => vec!["encoder.pos_embedding".into(), "pos_embed".into()],
            ["blocks", block, ..] => {
                let place = format!("encoder.layers.encoder_layer_{block}");
                let layers: &[&str] = match layer.splitn(3, '.').nth(2) {
                    Some("attention_norm") => &["ln_1.", "norm1."],
                    Some("attention.inputs") => &["self_attention.in_proj_", "attn.qkv."],
                    Some("attention.output") => &["self_attention.out_proj.", "attn.proj."],
                    Some("mlp_norm") => &["ln_2.", "norm2."],
                    Some("widen") => &["mlp.0.", "mlp.fc1.", "mlp.linear_1."],
                    Some("narrow") => &["mlp.3.", "mlp.fc2.", "mlp.linear_2."],
                    _ => &[],
                };
                // timm's blocks are called as ours.
                let own = format!("blocks.{block}");
                layers
                    .iter()
                    .enumerate()
                    .map(|(at, layer)| format!("{}.{layer}{part}", if at == 1 { &own } else { &place }))
                    .collect()
            }
            ["norm", ..] => named(&["encoder.ln", "norm"]),
            ["head", ..] => named(&["heads.head", "head"]),
            _ => vec![],
        }
    }
}
