//! Recurrent networks that read an image row by row.

use serde::{Deserialize, Serialize};

use super::architecture::{Architecture, Catalogue, DIGITS, in_pytorch};
use crate::{Cell, Graph, GraphBuilder, Initialization, InputShape, ShapeError};

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

impl Architecture for RnnConfig {
    fn initialization(&self) -> Initialization {
        self.initialization
    }

    fn graph(&self, input: InputShape, classes: usize) -> Result<Graph, ShapeError> {
        let Self { cell, hidden, layers, dropout, .. } = *self;
        for (field, size) in [("hidden", hidden), ("layers", layers)] {
            if size == 0 {
                return Err(ShapeError::Zero { layer: "blocks".into(), field });
            }
        }
        if layers > MAX_LAYERS {
            return Err(ShapeError::TooLarge { layer: "blocks".into(), what: "layers", limit: MAX_LAYERS });
        }
        let mut net = GraphBuilder::new("Rnn", input, classes)?;
        let mut x = net.rows("rows", net.image())?;
        for index in 0..layers {
            let name = format!("blocks.{index}");
            x = net.recurrent(&name, x, cell, hidden)?;
            if index + 1 < layers {
                x = net.shared_dropout(&format!("{name}.dropout"), x, dropout)?;
            }
        }
        x = net.last_step("last", x)?;
        x = net.shared_dropout("dropout", x, dropout)?;
        net.finish(x)
    }

    fn catalogue() -> Catalogue<Self> {
        vec![("rnn", Self::default(), &[], DIGITS, "LSTM or GRU over the rows")]
    }

    /// A module with `rnn = nn.LSTM(...)` or `nn.GRU(...)` and `head = nn.Linear(...)`.
    fn published_names(&self, ours: &str) -> Vec<String> {
        match ours.split('.').collect::<Vec<_>>()[..] {
            ["blocks", layer, side, part] => {
                let side = if side == "input" { "ih" } else { "hh" };
                vec![format!("rnn.{part}_{side}_l{layer}")]
            }
            _ => vec![in_pytorch(ours)],
        }
    }
}
