//! Recurrent networks that read an image row by row.

use burn::{
    module::Module,
    nn::{Dropout, Linear},
    tensor::{Device, Tensor},
};
use kernels::{Pointwise, pointwise};
use serde::{Deserialize, Serialize};

use crate::{
    Initialization, InputShape, ShapeError, Summary, cnn::linear, initialization::Builder, shape::ShapeTrace,
};

/// The recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// Hochreiter & Schmidhuber 1997 with the forget gate of Gers, Schmidhuber & Cummins 2000, no
    /// peepholes.
    #[default]
    Lstm,
    /// Cho et al. 2014, with the reset gate after the product with the hidden weights, as in `PyTorch`
    /// and cuDNN.
    Gru,
}

impl Cell {
    /// Products of the hidden state that one step needs.
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
        }
    }
}

/// A recurrent network over the rows of the image, from the top; every row is one step with
/// `C * W` inputs. The state after the last row goes to the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RnnConfig {
    /// `lstm` or `gru`.
    pub cell: Cell,
    /// Size of the state.
    pub hidden: usize,
    /// Recurrent layers on top of each other.
    pub layers: usize,
    /// Dropout between the layers and before the head, probability in `[0, 1)`.
    pub dropout: f64,
    /// How weights are drawn.
    pub initialization: Initialization,
}

impl Default for RnnConfig {
    fn default() -> Self {
        Self {
            cell: Cell::Lstm,
            hidden: 128,
            layers: 1,
            dropout: 0.0,
            initialization: Initialization::FanInUniform,
        }
    }
}

/// More layers than this are a typo.
const MAX_LAYERS: usize = 64;

impl RnnConfig {
    /// See [`crate::NetworkConfig::summary`].
    pub(crate) fn summary(&self, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
        self.initialization.validate()?;
        let Self { cell, hidden, layers, .. } = *self;
        for (field, size) in [("hidden", hidden), ("layers", layers)] {
            if size == 0 {
                return Err(ShapeError::Zero { layer: "blocks".into(), field });
            }
        }
        if layers > MAX_LAYERS {
            return Err(ShapeError::TooLarge { layer: "blocks".into(), what: "layers", limit: MAX_LAYERS });
        }
        let mut trace = ShapeTrace::new(input, classes)?;
        let steps = input.height;
        let mut inputs = input.channels.saturating_mul(input.width);
        trace.layer("rows", "rows as steps", vec![steps, inputs], 0, &[])?;
        for index in 0..layers {
            let name = format!("blocks.{index}");
            let outputs = hidden.saturating_mul(cell.gates());
            let macs = (steps as u64)
                .saturating_mul(outputs as u64)
                .saturating_mul(inputs.saturating_add(hidden) as u64);
            let tensors = [
                ("input.weight", vec![inputs, outputs]),
                ("input.bias", vec![outputs]),
                ("state.weight", vec![hidden, outputs]),
                ("state.bias", vec![outputs]),
            ];
            trace.layer(&name, cell.name(), vec![steps, hidden], macs, &tensors)?;
            if index + 1 < layers {
                trace.dropout(&format!("{name}.dropout"), self.dropout)?;
            }
            inputs = hidden;
        }
        trace.layer("last", "last step", vec![hidden], 0, &[])?;
        trace.dropout("dropout", self.dropout)?;
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
    ) -> Result<Rnn, ShapeError> {
        self.summary(input, classes)?;
        let Self { cell, hidden, layers, .. } = *self;
        let mut builder = Builder::new(self.initialization, seed, device);
        let mut inputs = input.channels * input.width;
        let mut blocks = Vec::with_capacity(layers);
        for _ in 0..layers {
            let outputs = hidden * cell.gates();
            blocks.push(RecurrentLayer {
                input: builder.linear(inputs, outputs),
                state: builder.linear(hidden, outputs),
                cell,
            });
            inputs = hidden;
        }
        let head = builder.linear(hidden, classes);
        Ok(Rnn { blocks, head, dropout: builder.dropout(self.dropout) })
    }
}

/// One recurrent layer. The gates lie side by side in the columns of the weights, in `PyTorch`'s
/// order: input, forget, cell, output for an LSTM; reset, update, new for a GRU.
#[derive(Module, Debug)]
pub struct RecurrentLayer {
    /// From the step's input, `[I, gates * H]`.
    pub input: Linear,
    /// From the state of the step before, `[H, gates * H]`.
    pub state: Linear,
    #[module(skip)]
    cell: Cell,
}

impl RecurrentLayer {
    /// The inputs of all steps, each `[N, I]`, to the states after them, each `[N, H]`; the state
    /// before the first is zero.
    fn forward(&self, steps: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        let [hidden, _] = self.state.weight.dims();
        let mut states: Vec<Tensor<2>> = Vec::with_capacity(steps.len());
        let mut memory = None;
        for step in steps {
            let zeros = || Tensor::zeros([step.dims()[0], hidden], &step.device());
            let mut state = states.last().cloned().unwrap_or_else(zeros);
            let from_state = linear(&self.state, state.clone(), kernels::Activation::None);
            let from_input = linear(&self.input, step.clone(), kernels::Activation::None); // [N, gates * H]
            match self.cell {
                Cell::Lstm => {
                    let gates = from_input + from_state;
                    let gate = |index| gates.clone().narrow(1, index * hidden, hidden);
                    let input = pointwise(Pointwise::Sigmoid, gate(0));
                    let forget = pointwise(Pointwise::Sigmoid, gate(1));
                    let cell = pointwise(Pointwise::Tanh, gate(2));
                    let output = pointwise(Pointwise::Sigmoid, gate(3));
                    let next = forget * memory.take().unwrap_or_else(zeros) + input * cell;
                    state = output * pointwise(Pointwise::Tanh, next.clone());
                    memory = Some(next);
                }
                Cell::Gru => {
                    let gate = |x: &Tensor<2>, index| x.clone().narrow(1, index * hidden, hidden);
                    let reset = pointwise(Pointwise::Sigmoid, gate(&from_input, 0) + gate(&from_state, 0));
                    let update = pointwise(Pointwise::Sigmoid, gate(&from_input, 1) + gate(&from_state, 1));
                    let new = pointwise(Pointwise::Tanh, gate(&from_input, 2) + reset * gate(&from_state, 2));
                    state = new.clone() + update * (state - new);
                }
            }
            states.push(state);
        }
        states
    }
}

/// A recurrent network, see [`RnnConfig`].
#[derive(Module, Debug)]
pub struct Rnn {
    /// The recurrent layers, from the image on.
    pub blocks: Vec<RecurrentLayer>,
    /// The classifier: one output for each class.
    pub head: Linear,
    /// Between the layers and before the head.
    pub dropout: Option<Dropout>,
}

impl Rnn {
    /// Images `[N, C, H, W]` to logits `[N, K]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        linear(&self.head, self.features(images), kernels::Activation::None) // [N, K]
    }

    /// Images `[N, C, H, W]` to what the head sees, `[N, H]`.
    pub(crate) fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let [n, channels, height, width] = images.dims();
        let row = |row| images.clone().narrow(2, row, 1).reshape([n, channels * width]); // [N, C * W]
        let mut steps: Vec<Tensor<2>> = (0..height).map(row).collect();
        for (index, block) in self.blocks.iter().enumerate() {
            if index > 0 {
                steps = steps.into_iter().map(|state| self.drop(state)).collect();
            }
            steps = block.forward(steps); // H times [N, H]
        }
        // An image has at least one row.
        self.drop(steps.swap_remove(height - 1))
    }

    fn drop(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.dropout {
            Some(dropout) => dropout.forward(x),
            None => x,
        }
    }
}
