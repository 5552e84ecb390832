//! The backward passes.

use std::{fmt, sync::Arc};

use burn::backend::{
    Autodiff, Backend, TensorMetadata,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};

use super::{
    KernelOps,
    host::{self, Host},
};
use crate::{Activation, AdamStep, Path, conv::geometry::Geometry, dense::product::Sizes};

/// State of a backward pass, shared so that a clone costs nothing.
struct Saved<T>(Arc<T>);

impl<T> Saved<T> {
    fn new(state: T) -> Self {
        Self(Arc::new(state))
    }
}

impl<T> Clone for Saved<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Saved<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Saved")
    }
}

struct ConvState<B: Backend> {
    images: FloatTensor<B>,
    weight: FloatTensor<B>,
    codes: Vec<u8>,
    path: Path,
    geometry: Geometry,
}

#[derive(Debug)]
struct ConvBackward;

impl<B: Host> Backward<B, 3> for ConvBackward {
    type State = Saved<ConvState<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [images, weight, bias] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let state = &*ops.state.0;
        let (for_images, for_weight, for_bias) = host::conv_block_backward::<B>(
            &state.images,
            &state.weight,
            &state.codes,
            gradient,
            state.path,
            &state.geometry,
            images.is_some(),
        );
        if let (Some(node), Some(gradient)) = (images, for_images) {
            gradients.register::<B>(node.id, gradient);
        }
        if let Some(node) = weight {
            gradients.register::<B>(node.id, for_weight);
        }
        if let Some(node) = bias {
            gradients.register::<B>(node.id, for_bias);
        }
    }
}

struct LinearState<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    /// Kept for the rectifier.
    output: Option<FloatTensor<B>>,
    path: Path,
    sizes: Sizes,
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Host> Backward<B, 3> for LinearBackward {
    type State = Saved<LinearState<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x, weight, bias] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let state = &*ops.state.0;
        let (for_x, for_weight, for_bias) = host::linear_backward::<B>(
            &state.x,
            &state.weight,
            state.output.as_ref(),
            gradient,
            state.path,
            state.sizes,
            x.is_some(),
        );
        if let (Some(node), Some(gradient)) = (x, for_x) {
            gradients.register::<B>(node.id, gradient);
        }
        if let Some(node) = weight {
            gradients.register::<B>(node.id, for_weight);
        }
        if let Some(node) = bias {
            gradients.register::<B>(node.id, for_bias);
        }
    }
}

/// The gradient for the logits, and their shape.
struct LossState {
    gradient: Vec<f32>,
    shape: [usize; 2],
}

#[derive(Debug)]
struct LossBackward;

impl<B: Host> Backward<B, 1> for LossBackward {
    type State = Saved<LossState>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [logits] = ops.parents;
        let gradient = B::contiguous(gradients.consume::<B>(&ops.node));
        let Some(node) = logits else {
            return;
        };
        let factor = B::values(&gradient)[0];
        let state = &*ops.state.0;
        let values = state.gradient.iter().map(|value| value * factor).collect();
        gradients.register::<B>(node.id, B::from_values(values, &state.shape));
    }
}

impl<B: Host + KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn kernel_conv_block(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        path: Path,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [images.node(), weight.node(), bias.node()];
        let prepared = ConvBackward.prepare::<C>(nodes).compute_bound().stateful();
        let images = B::contiguous(images.into_primitive());
        let weight = B::contiguous(weight.into_primitive());
        let bias = bias.into_primitive();
        match prepared {
            OpsKind::Tracked(prepared) => {
                let (output, codes) = host::conv_block::<B>(&images, &weight, bias, path, &geometry, true);
                let state = ConvState::<B> { images, weight, codes, path, geometry };
                prepared.finish(Saved::new(state), output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(host::conv_block::<B>(&images, &weight, bias, path, &geometry, false).0)
            }
        }
    }

    fn kernel_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        path: Path,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let prepared = LinearBackward.prepare::<C>(nodes).compute_bound().stateful();
        let x = B::contiguous(x.into_primitive());
        let weight = B::contiguous(weight.into_primitive());
        let sizes = host::sizes::<B>(&x, &weight, activation);
        let output = host::linear::<B>(&x, &weight, bias.into_primitive(), path, sizes);
        match prepared {
            OpsKind::Tracked(prepared) => {
                let kept = sizes.relu.then(|| output.clone());
                let state = LinearState::<B> { x, weight, output: kept, path, sizes };
                prepared.finish(Saved::new(state), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn kernel_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        class_weights: FloatTensor<Self>,
        label_smoothing: f32,
    ) -> FloatTensor<Self> {
        let prepared = LossBackward.prepare::<C>([logits.node()]).compute_bound().stateful();
        let logits = logits.into_primitive();
        let shape = [logits.shape()[0], logits.shape()[1]];
        let class_weights = class_weights.into_primitive();
        let (loss, gradient) = host::cross_entropy::<B>(logits, targets, class_weights, label_smoothing);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(Saved::new(LossState { gradient, shape }), loss),
            OpsKind::UnTracked(prepared) => prepared.finish(loss),
        }
    }

    fn kernel_adam_step(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        path: Path,
        config: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (parameter, moment_1, moment_2) = host::adam_step::<B>(
            parameter.into_primitive(),
            gradient.into_primitive(),
            moment_1.into_primitive(),
            moment_2.into_primitive(),
            path,
            &config,
        );
        (
            FloatTensor::<Self>::new(parameter),
            FloatTensor::<Self>::new(moment_1),
            FloatTensor::<Self>::new(moment_2),
        )
    }
}
