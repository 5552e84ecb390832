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
use kernels::{
    Path,
    conv::{Geometry, Wanted},
    dense::Sizes,
    lanes, norm,
    optim::AdamStep,
    pointwise::{Activation, Pointwise},
    pool,
};

use super::{
    extension::KernelOps,
    host::{self, ConvState, Host, NormState},
};

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

#[derive(Debug)]
struct ConvBackward;

impl<B: Host> Backward<B, 3> for ConvBackward {
    type State = Saved<ConvState<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [images, weight, bias] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let wanted = Wanted { images: images.is_some(), weight: weight.is_some() };
        let (for_images, for_weight, for_bias) =
            host::conv_block_backward::<B>(&ops.state.0, gradient, wanted);
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

struct PointwiseState<B: Backend> {
    /// Output or input, whichever the derivative is a function of.
    kept: FloatTensor<B>,
    path: Path,
    function: Pointwise,
}

#[derive(Debug)]
struct PointwiseBackward;

impl<B: Host> Backward<B, 1> for PointwiseBackward {
    type State = Saved<PointwiseState<B>>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = x {
            let state = &*ops.state.0;
            let gradient = host::pointwise_backward::<B>(&state.kept, gradient, state.path, state.function);
            gradients.register::<B>(node.id, gradient);
        }
    }
}

struct PoolState {
    codes: Vec<u8>,
    path: Path,
    sizes: pool::Sizes,
    /// Of the planes.
    shape: [usize; 4],
}

#[derive(Debug)]
struct PoolBackward;

impl<B: Host> Backward<B, 1> for PoolBackward {
    type State = Saved<PoolState>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = x {
            let PoolState { codes, path, sizes, shape } = &*ops.state.0;
            let gradient = host::max_pool_backward::<B>(codes, gradient, *path, *sizes, *shape);
            gradients.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl<B: Host> Backward<B, 4> for NormBackward {
    type State = Saved<NormState<B>>;

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x, gamma, beta, residual] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (found, for_residual) =
            host::batch_norm_backward::<B>(&ops.state.0, gradient, residual.is_some());
        for (node, gradient) in [x, gamma, beta].into_iter().zip(found) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
        if let (Some(node), Some(gradient)) = (residual, for_residual) {
            gradients.register::<B>(node.id, gradient);
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
        let (images, geometry) = host::images::<B>(images.into_primitive(), path, geometry);
        let weight = B::contiguous(weight.into_primitive());
        let bias = bias.into_primitive();
        match prepared {
            OpsKind::Tracked(prepared) => {
                let (output, saved) = host::conv_block::<B>(&images, &weight, bias, path, &geometry, true);
                let kept = geometry.keeps_output(lanes(path)).then(|| output.clone());
                let state = ConvState::<B> { images, weight, output: kept, saved };
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

    fn kernel_batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        path: Path,
        sizes: norm::Sizes,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), gamma.node(), beta.node(), residual.node()];
        let prepared = NormBackward.prepare::<C>(nodes).compute_bound().stateful();
        let (x, gamma) = (B::contiguous(x.into_primitive()), B::contiguous(gamma.into_primitive()));
        let (beta, residual) = (beta.into_primitive(), residual.into_primitive());
        let (output, statistics) = host::batch_norm_train::<B>(&x, &gamma, beta, residual, path, sizes);
        let [mean, variance] = host::statistics::<B>(statistics.clone());
        let output = match prepared {
            OpsKind::Tracked(prepared) => {
                let kept = sizes.is_rectified().then(|| output.clone());
                let state = NormState::<B> { x, gamma, output: kept, statistics, path, sizes };
                prepared.finish(Saved::new(state), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        (output, FloatTensor::<Self>::new(mean), FloatTensor::<Self>::new(variance))
    }

    fn kernel_batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        path: Path,
        sizes: norm::Sizes,
    ) -> FloatTensor<Self> {
        // `batch_norm` composes Burn's operators where gradients may be asked for.
        let tensors = [x, gamma, beta, mean, variance, residual].map(FloatTensor::<Self>::into_primitive);
        FloatTensor::<Self>::new(host::batch_norm::<B>(tensors, path, sizes))
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

    fn kernel_pointwise(x: FloatTensor<Self>, path: Path, function: Pointwise) -> FloatTensor<Self> {
        let prepared = PointwiseBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = B::contiguous(x.into_primitive());
        let output = host::pointwise::<B>(&x, path, function);
        match prepared {
            OpsKind::Tracked(prepared) => {
                let kept = if function.keeps_output() { output.clone() } else { x };
                let state = PointwiseState::<B> { kept, path, function };
                prepared.finish(Saved::new(state), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn kernel_max_pool(x: FloatTensor<Self>, path: Path, sizes: pool::Sizes) -> FloatTensor<Self> {
        let prepared = PoolBackward.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = B::contiguous(x.into_primitive());
        let (output, codes) = host::max_pool::<B>(&x, path, sizes);
        match prepared {
            OpsKind::Tracked(prepared) => {
                let shape = x.shape();
                let shape = [shape[0], shape[1], shape[2], shape[3]];
                prepared.finish(Saved::new(PoolState { codes, path, sizes, shape }), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
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
