//! The table of layers that is printed before a training and checked before a load.

use std::fmt;

/// A tensor of a network's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the record, such as `blocks.0.conv.weight`.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Whether the optimiser updates it; running statistics of batch normalisation it does not.
    pub trainable: bool,
}

/// One layer of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Name, also the prefix of the names of its tensors: `blocks.0.conv`.
    pub name: String,
    /// What the layer does, with its sizes: `conv 3x3`.
    pub kind: String,
    /// Output for one image, without the batch: `[C, H, W]` or `[features]`.
    pub output: Vec<usize>,
    /// Trainable parameters.
    pub parameters: usize,
    /// Multiply-accumulates for one image. Counted for convolutions and dense layers; additions of
    /// biases and everything element-wise are not.
    pub macs: u64,
    /// The layer's tensors in the order of a visit.
    pub tensors: Vec<TensorSpec>,
}

/// The layers of a network for one input shape. `Display` prints an aligned table with totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// From the input to the head.
    pub layers: Vec<LayerSummary>,
}

impl Summary {
    /// Trainable parameters of all layers.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Multiply-accumulates of all layers for one image.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// All tensors of the record in the order of a visit.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        self.layers.iter().flat_map(|layer| &layer.tensors)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["layer", "kind", "output", "parameters", "MACs"].map(String::from)];
        rows.extend(self.layers.iter().map(|layer| {
            let output: Vec<String> = layer.output.iter().map(ToString::to_string).collect();
            [
                layer.name.clone(),
                layer.kind.clone(),
                output.join("x"),
                thousands(layer.parameters as u64),
                thousands(layer.macs),
            ]
        }));
        rows.push([
            "total".to_string(),
            String::new(),
            String::new(),
            thousands(self.parameters() as u64),
            thousands(self.macs()),
        ]);

        let mut width = [0; 5];
        for row in &rows {
            for (width, cell) in width.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let last = rows.len() - 1;
        for (index, [name, kind, output, parameters, macs]) in rows.iter().enumerate() {
            if index == 1 || index == last {
                writeln!(f, "{}", "-".repeat(width.iter().sum::<usize>() + 8))?;
            }
            let [w0, w1, w2, w3, w4] = width;
            write!(f, "{name:w0$}  {kind:w1$}  {output:>w2$}  {parameters:>w3$}  {macs:>w4$}")?;
            if index != last {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A number with its digits in groups: `34826` as `34,826`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InputShape, NetworkConfig};

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (34_826, "34,826"), (2_230_272, "2,230,272")];
        for (value, text) in cases {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn the_table_is_aligned_and_totalled() {
        let summary = NetworkConfig::default().summary(InputShape::new(1, 28, 28), 10).unwrap();
        let expected = "
layer                kind            output  parameters       MACs
------------------------------------------------------------------
input                image          1x28x28           0          0
blocks.0.conv        conv 3x3      32x26x26         320    194,688
blocks.0.activation  ReLU          32x26x26           0          0
blocks.0.pool        max pool 2x2  32x13x13           0          0
blocks.1.conv        conv 3x3      64x11x11      18,496  2,230,272
blocks.1.activation  ReLU          64x11x11           0          0
blocks.1.pool        max pool 2x2    64x5x5           0          0
flatten              flatten           1600           0          0
head                 dense               10      16,010     16,000
------------------------------------------------------------------
total                                            34,826  2,440,960";
        assert_eq!(format!("\n{summary}"), expected);
    }
}
