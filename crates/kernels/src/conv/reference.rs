//! The fused block written down once more, as its definition reads, in `f64`.

use super::geometry::ConvBlock;
use crate::{pointwise::Activation, pool::Pool};

/// Output and gradients of images, weight and bias.
pub(crate) struct Reference {
    pub(crate) output: Vec<f64>,
    pub(crate) images: Vec<f64>,
    pub(crate) weight: Vec<f64>,
    pub(crate) bias: Vec<f64>,
}

/// Positions `(row, column)` of a window at `at` that lie inside `size`.
fn inside(
    at: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    size: [usize; 2],
) -> Vec<([usize; 2], [usize; 2])> {
    let mut positions = Vec::new();
    for row in 0..kernel[0] {
        for column in 0..kernel[1] {
            let y = (at[0] * stride[0] + row).checked_sub(padding[0]);
            let x = (at[1] * stride[1] + column).checked_sub(padding[1]);
            if let (Some(y), Some(x)) = (y, x)
                && y < size[0]
                && x < size[1]
            {
                positions.push(([y, x], [row, column]));
            }
        }
    }
    positions
}

fn output_size(size: [usize; 2], kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> [usize; 2] {
    std::array::from_fn(|axis| (size[axis] + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1)
}

/// `upstream(index)` is the gradient of output `index`.
pub(crate) fn conv_block(
    images: (&[f32], [usize; 4]),
    weight: (&[f32], [usize; 4]),
    bias: &[f32],
    block: &ConvBlock,
    upstream: impl Fn(usize) -> f32,
) -> Reference {
    let (x, [count, total, height, width]) = images;
    let (w, [features, channels, kernel_height, kernel_width]) = weight;
    let (size, kernel) = ([height, width], [kernel_height, kernel_width]);
    let inner = output_size(size, kernel, block.stride, block.padding);
    let (window, window_stride, window_padding, is_max) = match block.pool {
        Pool::None => ([1, 1], [1, 1], [0, 0], true),
        Pool::Max { kernel, stride, padding } => (kernel, stride, padding, true),
        Pool::Average { kernel, stride, padding } => (kernel, stride, padding, false),
    };
    let outer = output_size(inner, window, window_stride, window_padding);
    let share = 1.0 / (window[0] * window[1]) as f64;
    let mut result = Reference {
        output: Vec::new(),
        images: vec![0.0; x.len()],
        weight: vec![0.0; w.len()],
        bias: vec![0.0; features],
    };
    for image in 0..count {
        for (feature, &shift) in bias.iter().enumerate() {
            let first = feature / (features / block.groups) * channels;
            // Index into images and weight of every term of one value of the convolution.
            let terms = |at: [usize; 2]| {
                let positions = inside(at, kernel, block.stride, block.padding, size);
                (0..channels).flat_map(move |channel| {
                    positions.clone().into_iter().map(move |([y, column], [row, tap])| {
                        let from = ((image * total + first + channel) * height + y) * width + column;
                        let by = ((feature * channels + channel) * kernel_height + row) * kernel_width + tap;
                        (from, by)
                    })
                })
            };
            let value = |at: [usize; 2]| {
                let sum: f64 = terms(at).map(|(from, by)| f64::from(x[from]) * f64::from(w[by])).sum();
                let value = sum + f64::from(shift);
                match block.activation {
                    Activation::None => value,
                    Activation::Relu => value.max(0.0),
                    Activation::Tanh => value.tanh(),
                }
            };
            for row in 0..outer[0] {
                for column in 0..outer[1] {
                    let seen: Vec<_> = inside([row, column], window, window_stride, window_padding, inner)
                        .into_iter()
                        .map(|(at, _)| (at, value(at)))
                        .collect();
                    let gradient = f64::from(upstream(result.output.len()));
                    let mut send = |at: [usize; 2], value: f64, gradient: f64| {
                        let gradient = match block.activation {
                            Activation::Relu if value <= 0.0 => return,
                            Activation::Tanh => gradient * (1.0 - value * value),
                            _ => gradient,
                        };
                        result.bias[feature] += gradient;
                        for (from, by) in terms(at) {
                            result.images[from] += gradient * f64::from(w[by]);
                            result.weight[by] += gradient * f64::from(x[from]);
                        }
                    };
                    if is_max {
                        let mut best = seen[0];
                        for &next in &seen {
                            if next.1 > best.1 {
                                best = next;
                            }
                        }
                        send(best.0, best.1, gradient);
                        result.output.push(best.1);
                    } else {
                        for &(at, value) in &seen {
                            send(at, value, gradient * share);
                        }
                        result.output.push(seen.iter().map(|(_, value)| value * share).sum());
                    }
                }
            }
        }
    }
    result
}
