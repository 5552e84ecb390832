//! How a graph is made: the size of every layer's output is computed and checked here alone.
//!
//! Longer than other files: every operator has its checks, its shape and its tensors in one place.

use super::layers::{Activation, Cell, Convolution, PoolConfig};
use super::nodes::{
    BATCH_NORM_EPSILON, Graph, HEAD, Node, NodeId, Operator, SHARED_DROPOUT, parameters, product,
};
use super::shape::ShapeError;
use super::summary::TensorSpec;
use crate::InputShape;

/// Most trainable parameters a network may have; beyond it a typo is likelier than a plan (VGG-19
/// has 144 million).
const MAX_PARAMETERS: usize = 1 << 31;

/// Most values a layer may put out for one image (a 4096 x 4096 grey image; VGG's largest is 3.2
/// million); the same for a layer's padded input.
const MAX_OUTPUT: usize = 1 << 24;

/// Most values in the unfolded patches of one image, `H' W' C K K`, which a convolution may
/// materialise (VGG's largest is 28.9 million).
const MAX_PATCHES: usize = 1 << 28;

/// Most layers; ResNet-110, the deepest on offer, has a few hundred.
const MAX_LAYERS: usize = 1 << 14;

/// Most values that all layers together put out for one image, besides those for each parameter. A network of few
/// parameters on a huge image would keep a reader busy for minutes and fill its memory; those that are trained stay
/// far below (ResNet-20 on 224 x 224: 25 million).
const MAX_VALUES: u64 = 1 << 26;
const MAX_VALUES_PER_PARAMETER: u64 = 1 << 11;

/// Most multiply-accumulates for one image, besides those for each parameter (ResNet-20 on 1024 x 1024: 42
/// thousand million, 155 thousand for each parameter).
const MAX_MACS: u64 = 1 << 33;
const MAX_MACS_PER_PARAMETER: u64 = 1 << 17;

/// Output length of a convolution or a pooling along one axis,
/// `floor((n + padding - kernel) / stride) + 1` with the padding of both ends, or `None` where no window fits.
/// (Dumoulin & Visin 2016, "A guide to convolution arithmetic", relationship 6.)
fn output_size(n: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some((n + padding).checked_sub(kernel)? / stride + 1)
}

/// The windows of a convolution or a pooling.
struct Windows {
    /// With the places that a dilation leaves out.
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Top, left, bottom, right.
    padding: [usize; 4],
}

/// Makes a [`Graph`] layer by layer; every shape and bound is checked as a layer is added.
pub struct GraphBuilder {
    graph: Graph,
    classes: usize,
    parameters: usize,
    /// What the layers put out for one image, and hold meanwhile.
    values: u64,
}

impl GraphBuilder {
    /// A network of `classes` classes on images of a size; see [`Graph::family`].
    ///
    /// # Errors
    /// A size of zero or beyond all measure, fewer than two classes.
    pub fn new(family: &'static str, input: InputShape, classes: usize) -> Result<Self, ShapeError> {
        if classes < 2 {
            return Err(ShapeError::Classes { classes });
        }
        for (field, size) in [("channels", input.channels), ("height", input.height), ("width", input.width)]
        {
            positive("input", field, size)?;
        }
        let graph = Graph { family, nodes: Vec::new(), signature: None };
        let mut builder = Self { graph, classes, parameters: 0, values: 0 };
        let shape = vec![input.channels, input.height, input.width];
        builder.push("input", Operator::Image, vec![], shape, 0, vec![])?;
        Ok(builder)
    }

    /// The image.
    pub fn image(&self) -> NodeId {
        NodeId(0)
    }

    /// Output of a node for one image.
    pub fn shape(&self, x: NodeId) -> &[usize] {
        &self.graph.nodes[x.0].output
    }

    /// Adds a convolution.
    ///
    /// # Errors
    /// A layer that does not fit its input, as with all that are added; the message names it.
    pub fn convolution(
        &mut self,
        name: &str,
        x: NodeId,
        convolution: Convolution,
    ) -> Result<NodeId, ShapeError> {
        let Convolution { channels, kernel, stride, dilation, groups, bias, .. } = convolution;
        for (field, size) in [
            ("channels", channels),
            ("kernel", kernel[0].min(kernel[1])),
            ("stride", stride[0].min(stride[1])),
            ("dilation", dilation[0].min(dilation[1])),
            ("groups", groups),
        ] {
            positive(name, field, size)?;
        }
        let [inputs, ..] = self.maps(name, x)?;
        for (what, value) in [("the input's channels", inputs), ("channels", channels)] {
            if value % groups != 0 {
                let advice = "choose groups that divide both";
                return Err(ShapeError::Indivisible {
                    layer: name.into(),
                    what,
                    value,
                    divisor_name: "the groups,",
                    divisor: groups,
                    advice,
                });
            }
        }
        let spread = |axis: usize| (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
        let windows = Windows { kernel: [spread(0), spread(1)], stride, padding: convolution.padding };
        let [height, width] = self.windows(name, x, &windows)?;

        let patches = product(&[inputs, kernel[0], kernel[1]])
            .and_then(|patch| product(&[patch, height, width]))
            .filter(|patches| *patches <= MAX_PATCHES);
        let Some(patches) = patches else {
            return Err(too_large(name, "the values under all kernel positions", MAX_PATCHES));
        };
        let mut tensors = vec![tensor(name, "weight", vec![channels, inputs / groups, kernel[0], kernel[1]])];
        if bias {
            tensors.push(tensor(name, "bias", vec![channels]));
        }
        let macs = (channels as u64).saturating_mul((patches / groups) as u64);
        let output = vec![channels, height, width];
        self.push(name, Operator::Convolution(convolution), vec![x], output, macs, tensors)
    }

    /// Adds batch normalisation over the channels.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn batch_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [channels, ..] = self.maps(name, x)?;
        let mut tensors: Vec<_> = ["gamma", "beta", "running_mean", "running_var"]
            .map(|part| tensor(name, part, vec![channels]))
            .into();
        for statistic in &mut tensors[2..] {
            statistic.trainable = false;
        }
        self.same(name, Operator::BatchNorm { epsilon: BATCH_NORM_EPSILON }, x, tensors)
    }

    /// Adds layer normalisation over the last axis.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn layer_norm(&mut self, name: &str, x: NodeId, epsilon: f64) -> Result<NodeId, ShapeError> {
        let width = self.last_axis(x);
        let tensors = ["gamma", "beta"].map(|part| tensor(name, part, vec![width])).into();
        self.same(name, Operator::LayerNorm { epsilon }, x, tensors)
    }

    /// Adds an element-wise function.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn activation(
        &mut self,
        name: &str,
        x: NodeId,
        activation: Activation,
    ) -> Result<NodeId, ShapeError> {
        self.same(name, Operator::Activation(activation), x, vec![])
    }

    /// Adds a pooling.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn pool(&mut self, name: &str, x: NodeId, pool: PoolConfig) -> Result<NodeId, ShapeError> {
        let (kernel, stride, padding) = (pool.kernel, pool.stride(), pool.padding);
        for (field, size) in [("kernel", kernel), ("stride", stride)] {
            positive(name, field, size)?;
        }
        if padding > kernel / 2 {
            return Err(ShapeError::PoolPadding { layer: name.into(), kernel, padding });
        }
        let [channels, ..] = self.maps(name, x)?;
        let windows = Windows { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4] };
        let [height, width] = self.windows(name, x, &windows)?;
        self.push(name, Operator::Pool(pool), vec![x], vec![channels, height, width], 0, vec![])
    }

    /// Adds dropout with a module of its own where the probability is not zero.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn dropout(&mut self, name: &str, x: NodeId, probability: f64) -> Result<NodeId, ShapeError> {
        self.dropped(name, x, probability, false)
    }

    /// Adds the network's one dropout, which may act in several places. Without a name it is left out of the summary.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn shared_dropout(&mut self, name: &str, x: NodeId, probability: f64) -> Result<NodeId, ShapeError> {
        self.dropped(name, x, probability, true)
    }

    fn dropped(
        &mut self,
        name: &str,
        x: NodeId,
        probability: f64,
        shared: bool,
    ) -> Result<NodeId, ShapeError> {
        if !(0.0..1.0).contains(&probability) {
            let layer = if name.is_empty() { SHARED_DROPOUT } else { name };
            return Err(ShapeError::Dropout { layer: layer.into(), value: probability });
        }
        if probability == 0.0 {
            return Ok(x);
        }
        self.same(name, Operator::Dropout { probability, shared }, x, vec![])
    }

    /// Adds an average over a grid of `side` x `side` cells, whatever the current size; with the side 1 the global
    /// pooling.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn average(&mut self, name: &str, x: NodeId, side: usize) -> Result<NodeId, ShapeError> {
        positive(name, "grid", side)?;
        let [channels, ..] = self.maps(name, x)?;
        self.push(name, Operator::Average { side }, vec![x], vec![channels, side, side], 0, vec![])
    }

    /// Turns `[C, H, W]` into `[C * H * W]`.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn flatten(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [channels, height, width] = self.maps(name, x)?;
        self.push(name, Operator::Flatten, vec![x], vec![channels * height * width], 0, vec![])
    }

    /// Adds a dense layer on the last axis of `[features]` or `[T, features]`.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn dense(&mut self, name: &str, x: NodeId, outputs: usize) -> Result<NodeId, ShapeError> {
        positive(name, "outputs", outputs)?;
        let mut output = self.shape(x).to_vec();
        if output.len() > 2 {
            return Err(self.form(name, x, "[features] or [steps, features]"));
        }
        let inputs = output.pop().unwrap_or(1);
        let rows: usize = output.iter().product();
        output.push(outputs);
        let tensors =
            vec![tensor(name, "weight", vec![inputs, outputs]), tensor(name, "bias", vec![outputs])];
        let macs = (inputs as u64).saturating_mul(outputs as u64).saturating_mul(rows as u64);
        self.push(name, Operator::Dense { outputs }, vec![x], output, macs, tensors)
    }

    /// Adds the sum of a way through layers and a shortcut around them.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn add(&mut self, x: NodeId, shortcut: NodeId) -> Result<NodeId, ShapeError> {
        let output = self.shape(x).to_vec();
        if output != self.shape(shortcut) {
            return Err(ShapeError::Form {
                layer: format!("the sum behind {}", self.graph.nodes[x.0].name),
                expected: format!("two inputs of {output:?}"),
                found: self.shape(shortcut).to_vec(),
            });
        }
        self.joint(Operator::Add, vec![x, shortcut], output)
    }

    /// Adds a layer that puts the channels of all its inputs after each other.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn concatenate(&mut self, name: &str, inputs: &[NodeId]) -> Result<NodeId, ShapeError> {
        let Some(&first) = inputs.first() else {
            return Err(ShapeError::Zero { layer: name.into(), field: "inputs" });
        };
        let [_, height, width] = self.maps(name, first)?;
        let mut channels = 0usize;
        for &input in inputs {
            let [more, other_height, other_width] = self.maps(name, input)?;
            if [other_height, other_width] != [height, width] {
                return Err(self.form(name, input, &format!("maps of {height}x{width}, as its first input")));
            }
            channels = channels.saturating_add(more);
        }
        self.push(name, Operator::Concatenate, inputs.to_vec(), vec![channels, height, width], 0, vec![])
    }

    /// Adds the product of every channel of `x` `[C, H, W]` with a value of `factors` `[C]` (squeeze and excite).
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn scale(&mut self, name: &str, x: NodeId, factors: NodeId) -> Result<NodeId, ShapeError> {
        let output = self.maps(name, x)?;
        if self.shape(factors) != [output[0]] {
            return Err(self.form(name, factors, &format!("[{}], a factor for each channel", output[0])));
        }
        self.push(name, Operator::Scale, vec![x, factors], output.into(), 0, vec![])
    }

    /// Adds the rows of an image as steps.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn rows(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [channels, height, width] = self.maps(name, x)?;
        let output = vec![height, channels.saturating_mul(width)];
        self.push(name, Operator::Rows, vec![x], output, 0, vec![])
    }

    /// Adds a recurrent layer over steps.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn recurrent(
        &mut self,
        name: &str,
        x: NodeId,
        cell: Cell,
        hidden: usize,
    ) -> Result<NodeId, ShapeError> {
        positive(name, "hidden", hidden)?;
        let [steps, inputs] = self.steps(name, x)?;
        let outputs = hidden.saturating_mul(cell.gates());
        let macs = (steps as u64)
            .saturating_mul(outputs as u64)
            .saturating_mul(inputs.saturating_add(hidden) as u64);
        let tensors = vec![
            tensor(name, "input.weight", vec![inputs, outputs]),
            tensor(name, "input.bias", vec![outputs]),
            tensor(name, "state.weight", vec![hidden, outputs]),
            tensor(name, "state.bias", vec![outputs]),
        ];
        self.push(name, Operator::Recurrent { cell, hidden }, vec![x], vec![steps, hidden], macs, tensors)
    }

    /// Adds the choice of the last step.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn last_step(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [_, features] = self.steps(name, x)?;
        self.push(name, Operator::LastStep, vec![x], vec![features], 0, vec![])
    }

    /// Adds tokens made of patches `[D, H, W]`.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn tokens(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [width, rows, columns] = self.maps(name, x)?;
        let tokens = rows.saturating_mul(columns).saturating_add(1);
        let tensors = vec![
            tensor(name, "class_token", vec![1, 1, width]),
            tensor(name, "positions", vec![1, tokens, width]),
        ];
        self.push(name, Operator::Tokens, vec![x], vec![tokens, width], 0, tensors)
    }

    /// Adds the mixing of an attention, from queries, keys and values side by side.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn attention(&mut self, name: &str, x: NodeId, heads: usize) -> Result<NodeId, ShapeError> {
        positive(name, "heads", heads)?;
        let [tokens, all] = self.steps(name, x)?;
        let width = all / 3;
        if !all.is_multiple_of(3) || !width.is_multiple_of(heads) {
            return Err(self.form(name, x, &format!("queries, keys and values for {heads} heads")));
        }
        // A weight for every pair of tokens.
        let pairs = product(&[heads, tokens, tokens]).filter(|values| *values <= MAX_PATCHES);
        let pairs = pairs.ok_or_else(|| too_large(name, "the values it holds", MAX_PATCHES))?;
        self.values += pairs as u64;
        // Every token is compared with every other, and as many products mix their values.
        let macs = 2 * (tokens as u64).saturating_pow(2).saturating_mul(width as u64);
        self.push(name, Operator::Attention { heads }, vec![x], vec![tokens, width], macs, vec![])
    }

    /// Adds the choice of the first token.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn first_token(&mut self, name: &str, x: NodeId) -> Result<NodeId, ShapeError> {
        let [_, features] = self.steps(name, x)?;
        self.push(name, Operator::FirstToken, vec![x], vec![features], 0, vec![])
    }

    /// Adds the shortcut without weights, see [`Operator::Thin`].
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn thin(&mut self, x: NodeId, stride: usize, channels: usize) -> Result<NodeId, ShapeError> {
        let name = "shortcut";
        positive(name, "stride", stride)?;
        let [inputs, height, width] = self.maps(name, x)?;
        let output = vec![inputs.saturating_add(channels), height.div_ceil(stride), width.div_ceil(stride)];
        self.joint(Operator::Thin { stride, channels }, vec![x], output)
    }

    /// Marks the maps of a convolution stage.
    pub fn stage(&mut self, x: NodeId) {
        self.graph.nodes[x.0].is_stage = true;
    }

    /// Marks the maps whose means are the signature, see [`Graph::signature`].
    pub fn signature(&mut self, x: NodeId) {
        self.graph.signature = Some(x);
    }

    /// Adds the head and gives the graph, if one image is no more work than a network of so many parameters may be.
    ///
    /// # Errors
    /// See [`Self::convolution`].
    pub fn finish(mut self, features: NodeId) -> Result<Graph, ShapeError> {
        let classes = self.classes;
        self.dense(HEAD, features, classes)?;
        let parameters = self.parameters as u64;
        let most = |base: u64, each: u64| base.saturating_add(parameters.saturating_mul(each));
        let macs = self.graph.nodes.iter().fold(0u64, |sum, node| sum.saturating_add(node.macs));
        for (what, found, limit) in [
            (
                "the values of all layers for one image",
                self.values,
                most(MAX_VALUES, MAX_VALUES_PER_PARAMETER),
            ),
            ("the multiply-accumulates for one image", macs, most(MAX_MACS, MAX_MACS_PER_PARAMETER)),
        ] {
            if found > limit {
                return Err(ShapeError::Work { what, found, parameters, limit });
            }
        }
        self.cut_stages();
        Ok(self.graph)
    }

    /// What follows the last stage may see the image through it alone: explanations go on from there.
    fn cut_stages(&mut self) {
        let stages: Vec<NodeId> = self.graph.stages().collect();
        for last in stages.into_iter().rev() {
            let mut behind = self.graph.nodes[last.0 + 1..].iter().flat_map(|node| &node.inputs);
            if behind.all(|input| *input >= last) {
                break;
            }
            self.graph.nodes[last.0].is_stage = false;
        }
    }

    fn form(&self, layer: &str, x: NodeId, expected: &str) -> ShapeError {
        ShapeError::Form { layer: layer.into(), expected: expected.into(), found: self.shape(x).to_vec() }
    }

    /// The sizes of `[C, H, W]`.
    fn maps(&self, name: &str, x: NodeId) -> Result<[usize; 3], ShapeError> {
        self.shape(x).try_into().map_err(|_| self.form(name, x, "maps [channels, height, width]"))
    }

    /// The sizes of `[T, F]`.
    fn steps(&self, name: &str, x: NodeId) -> Result<[usize; 2], ShapeError> {
        self.shape(x).try_into().map_err(|_| self.form(name, x, "[steps, features]"))
    }

    fn last_axis(&self, x: NodeId) -> usize {
        self.shape(x).last().copied().unwrap_or(1)
    }

    /// Rows and columns of window positions over `[C, H, W]`.
    fn windows(&self, name: &str, x: NodeId, windows: &Windows) -> Result<[usize; 2], ShapeError> {
        let Windows { kernel, stride, padding } = *windows;
        let [channels, height, width] = self.maps(name, x)?;
        // An operator may copy its input into a padded one.
        let around = [padding[0].checked_add(padding[2]), padding[1].checked_add(padding[3])];
        let padded = |n: usize, around: Option<usize>| around?.checked_add(n);
        let values = padded(height, around[0])
            .zip(padded(width, around[1]))
            .and_then(|(height, width)| product(&[channels, height, width]));
        if values.is_none_or(|values| values > MAX_OUTPUT) {
            return Err(too_large(name, "values of the padded input", MAX_OUTPUT));
        }
        let size = |axis: usize, n: usize| output_size(n, kernel[axis], stride[axis], around[axis]?);
        match (size(0, height), size(1, width)) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => Err(ShapeError::KernelTooLarge { layer: name.into(), kernel, height, width, padding }),
        }
    }

    /// A layer whose output has the shape of its input.
    fn same(
        &mut self,
        name: &str,
        operator: Operator,
        x: NodeId,
        tensors: Vec<TensorSpec>,
    ) -> Result<NodeId, ShapeError> {
        let output = self.shape(x).to_vec();
        if name.is_empty() {
            self.joint(operator, vec![x], output)
        } else {
            self.push(name, operator, vec![x], output, 0, tensors)
        }
    }

    /// A node without a name: nothing of it counts.
    fn joint(
        &mut self,
        operator: Operator,
        inputs: Vec<NodeId>,
        output: Vec<usize>,
    ) -> Result<NodeId, ShapeError> {
        let name = String::new();
        self.node(Node { name, operator, inputs, output, macs: 0, tensors: vec![], is_stage: false })
    }

    fn push(
        &mut self,
        name: &str,
        operator: Operator,
        inputs: Vec<NodeId>,
        output: Vec<usize>,
        macs: u64,
        tensors: Vec<TensorSpec>,
    ) -> Result<NodeId, ShapeError> {
        let values = product(&output).filter(|values| *values <= MAX_OUTPUT);
        let values = values.ok_or_else(|| too_large(name, "output values for one image", MAX_OUTPUT))?;
        let total = parameters(&tensors).and_then(|parameters| self.parameters.checked_add(parameters));
        let Some(total) = total.filter(|&total| total <= MAX_PARAMETERS) else {
            return Err(too_large(name, "the parameters so far", MAX_PARAMETERS));
        };
        let name = name.to_owned();
        let id = self.node(Node { name, operator, inputs, output, macs, tensors, is_stage: false })?;
        self.parameters = total;
        self.values += values as u64;
        Ok(id)
    }

    fn node(&mut self, node: Node) -> Result<NodeId, ShapeError> {
        let id = NodeId(self.graph.nodes.len());
        if id.0 == MAX_LAYERS {
            return Err(too_large(&node.name, "layers", MAX_LAYERS));
        }
        self.graph.nodes.push(node);
        Ok(id)
    }
}

fn positive(layer: &str, field: &'static str, size: usize) -> Result<(), ShapeError> {
    if size == 0 {
        return Err(ShapeError::Zero { layer: layer.into(), field });
    }
    Ok(())
}

fn too_large(layer: &str, what: &'static str, limit: usize) -> ShapeError {
    ShapeError::TooLarge { layer: layer.into(), what, limit }
}

fn tensor(layer: &str, part: &str, shape: Vec<usize>) -> TensorSpec {
    TensorSpec { name: format!("{layer}.{part}"), shape, trainable: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn output_sizes_of_the_default_net() {
        assert_eq!(output_size(28, 3, 1, 0), Some(26));
        assert_eq!(output_size(26, 2, 2, 0), Some(13));
        assert_eq!(output_size(13, 3, 1, 0), Some(11));
        assert_eq!(output_size(11, 2, 2, 0), Some(5));
        assert_eq!(output_size(2, 3, 1, 0), None);
        assert_eq!(output_size(2, 3, 1, 2), Some(2));
    }

    proptest! {
        /// The formula counts the start positions at which a window lies inside the padded input.
        #[test]
        fn output_size_counts_windows(n in 1usize..40, kernel in 1usize..9, stride in 1usize..6, padding in 0usize..9) {
            let padded = n + padding;
            let windows = (0..padded).step_by(stride).filter(|start| start + kernel <= padded).count();
            prop_assert_eq!(output_size(n, kernel, stride, padding).unwrap_or(0), windows);
        }
    }
}
