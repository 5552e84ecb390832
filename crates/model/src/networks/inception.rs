//! Inception modules: Szegedy et al. 2015, "Going deeper with convolutions", figure 2 (b), made small.

use serde::{Deserialize, Serialize};

use super::{
    architecture::{Architecture, Catalogue, DIGITS},
    cnn::BlockForm,
};
use crate::{
    Activation, Convolution, Graph, GraphBuilder, Initialization, InputShape, NodeId, PoolConfig, PoolKind,
    ShapeError,
};

/// A small network of inception modules: a 3x3 convolution and a pooling, then modules whose four branches see the same
/// maps in different ways and put their own side by side. Batch normalisation follows every convolution. The 5x5
/// convolution of the paper is a 3x3 one with dilation 2, which sees as far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InceptionConfig {
    /// Channels of each of the four branches of a module.
    pub channels: usize,
    /// Modules; a 2x2 max pooling stands between two of them.
    pub modules: usize,
    /// Channels are weighed by what all of them say, through a dense layer of a `squeeze`-th of their number (Hu, Shen &
    /// Sun 2018, "Squeeze-and-excitation networks"); 0 for none.
    pub squeeze: usize,
    /// How weights are drawn.
    pub initialization: Initialization,
    /// Dropout before the head, probability in `[0, 1)`.
    pub dropout: f64,
}

impl Default for InceptionConfig {
    fn default() -> Self {
        Self { channels: 16, modules: 2, squeeze: 0, initialization: Initialization::HeNormal, dropout: 0.0 }
    }
}

/// More modules than this are a typo.
const MAX_MODULES: usize = 64;

const FORM: BlockForm = BlockForm { bias: false, batch_norm: true, activation: Some(Activation::Relu) };

impl InceptionConfig {
    /// Adds a module.
    fn module(&self, net: &mut GraphBuilder, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let point = Convolution::square(self.channels, 1, 1, 0, false);
        let near = Convolution::square(self.channels, 3, 1, 1, false);
        let far = Convolution { dilation: [2; 2], padding: [2; 4], ..near };
        let mut branches = vec![net.convolved(&format!("{name}.branches.0"), x, point, FORM)?];
        for (branch, wide) in [(1, near), (2, far)] {
            let layer = |index: usize| format!("{name}.branches.{branch}.{index}");
            let y = net.convolved(&layer(0), x, point, FORM)?;
            branches.push(net.convolved(&layer(1), y, wide, FORM)?);
        }
        let pool = PoolConfig { kind: PoolKind::Max, kernel: 3, stride: Some(1), padding: 1 };
        let y = net.pool(&format!("{name}.branches.3.pool"), x, pool)?;
        branches.push(net.convolved(&format!("{name}.branches.3"), y, point, FORM)?);
        let maps = net.concatenate(&format!("{name}.concatenation"), &branches)?;
        if self.squeeze == 0 {
            return Ok(maps);
        }
        let part = |part: &str| format!("{name}.squeeze.{part}");
        let all = net.shape(maps)[0];
        let mut y = net.average(&part("average"), maps, 1)?;
        y = net.flatten(&part("flatten"), y)?;
        y = net.dense(&part("reduce"), y, (all / self.squeeze).max(1))?;
        y = net.activation(&part("activation"), y, Activation::Relu)?;
        y = net.dense(&part("expand"), y, all)?;
        y = net.activation(&part("gate"), y, Activation::Sigmoid)?;
        net.scale(&part("scale"), maps, y)
    }
}

impl Architecture for InceptionConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        if self.modules > MAX_MODULES {
            return Err(ShapeError::TooLarge { layer: "blocks".into(), what: "modules", limit: MAX_MODULES });
        }
        let mut net = GraphBuilder::new("Inception", input, classes)?;
        let stem = Convolution::square(self.channels.saturating_mul(2), 3, 1, 1, false);
        let mut x = net.convolved("stem", net.image(), stem, FORM)?;
        net.stage(x);
        x = net.pool("stem.pool", x, PoolConfig::default())?;
        for index in 0..self.modules {
            let name = format!("blocks.{index}");
            x = self.module(&mut net, &name, x)?;
            net.stage(x);
            if index + 1 < self.modules {
                x = net.pool(&format!("{name}.pool"), x, PoolConfig::default())?;
            }
        }
        x = net.average("average", x, 1)?;
        x = net.flatten("flatten", x)?;
        x = net.shared_dropout("dropout", x, self.dropout)?;
        net.finish(x)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("inception", Self::default(), &[], DIGITS, "Szegedy et al. 2015, made small")]
    }
}
