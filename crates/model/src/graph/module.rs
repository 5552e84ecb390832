//! The network as a module of Burn.
//!
//! Longer than other files: the visitors, the record and the forward passes of one module.

use std::{fmt, sync::Arc};

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
        RunningState,
    },
    nn::{BatchNorm, Linear, conv::Conv2d},
    store::{ModuleRecord, RecordError},
    tensor::{Device, Tensor},
};

use super::{
    build::{self, Layer, Part},
    forward::{self, Block, Value},
    nodes::{Graph, NodeId, Operator},
    plan::{Plan, Step, Work},
};
use crate::{Initialization, ops};

/// Any network that a [`crate::NetworkConfig`] can describe: the weights of its layers, and the steps in which they are
/// computed.
///
/// In Burn's records the path of a parameter begins with the network's family, as in `Cnn.blocks.0.conv.weight`.
#[derive(Clone, Debug)]
pub struct Network {
    /// In the order of a visit.
    parts: Vec<Part>,
    form: Arc<Form>,
}

/// What does not change with the weights.
#[derive(Debug)]
struct Form {
    graph: Graph,
    /// For every node the index of its module.
    places: Vec<Option<usize>>,
    /// In as few steps as can be.
    fast: Plan,
    /// The maps of all stages are seen.
    staged: Plan,
}

impl Form {
    fn new(graph: Graph, places: Vec<Option<usize>>) -> Self {
        let signature: Vec<NodeId> = graph.signature.into_iter().collect();
        let seen: Vec<NodeId> = graph.stages().chain(graph.signature).collect();
        let (fast, staged) = (Plan::new(&graph, &signature), Plan::new(&graph, &seen));
        Self { graph, places, fast, staged }
    }
}

/// The outputs of the nodes that are still needed.
struct Values(Vec<Option<Value>>);

impl Values {
    /// The outputs of `nodes` nodes, of which one is known.
    fn new(nodes: usize, known: NodeId, value: Value) -> Self {
        let mut values = Self(vec![None; nodes]);
        values.0[known.index()] = Some(value);
        values
    }

    fn take(&mut self, (id, is_last): (NodeId, bool), kept: &[NodeId]) -> Option<Value> {
        let value = &mut self.0[id.index()];
        if is_last && !kept.contains(&id) { value.take() } else { value.clone() }
    }
}

impl Network {
    /// A network of the given layers; without a seed all weights are zero.
    pub(crate) fn new(
        graph: Graph,
        initialization: Initialization,
        seed: Option<u64>,
        device: &Device,
    ) -> Self {
        let (parts, places) = build::build(&graph, initialization, seed, device);
        Self { parts, form: Arc::new(Form::new(graph, places)) }
    }

    /// Its layers.
    pub fn graph(&self) -> &Graph {
        &self.form.graph
    }

    /// Images `[N, C, H, W]` to logits `[N, K]`. Dropout and batch normalisation act as in
    /// training on an autodiff device, and as in evaluation elsewhere (after `valid()`).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let head = self.form.graph.head();
        self.run(&self.form.fast, NodeId(0), Value::Maps(images), &[head]).remove(0).features()
    }

    /// Images `[N, C, H, W]` to the maps of every convolution stage, `[N, C', H', W']` each, after the
    /// activation and before the pooling, from the image on. Empty for a network without convolutions.
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let stages: Vec<NodeId> = self.form.graph.stages().collect();
        let found = self.run(&self.form.staged, NodeId(0), Value::Maps(images), &stages);
        found.into_iter().map(Value::maps).collect()
    }

    /// The last of [`Self::stages`] to what [`Self::features`] gives; for a network without convolutions it
    /// takes the images.
    pub fn gather(&self, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let last = self.form.graph.stages().next_back().unwrap_or(NodeId(0));
        self.judged(&self.form.staged, last, maps)
    }

    /// Images `[N, C, H, W]` to features `[N, F]`, the input of the last layer, and to the signature
    /// `[N, S]`, which tells an out-of-distribution image from an ordinary one (see [`crate::Novelty`]): the mean over the places of
    /// what the last convolution (or its block) says; the features without convolutions, and where they are such means.
    pub fn features(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        self.judged(&self.form.fast, NodeId(0), images)
    }

    /// Features and signature, from the maps of a node on.
    fn judged(&self, plan: &Plan, from: NodeId, maps: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        let graph = &self.form.graph;
        let wanted: Vec<NodeId> = [graph.features()].into_iter().chain(graph.signature).collect();
        let mut found = self.run(plan, from, Value::Maps(maps), &wanted);
        let signature = (found.len() > 1).then(|| found.pop()).flatten();
        // The features are always there.
        let features = found.remove(0).features();
        let signature = match signature {
            Some(maps) => maps.maps().mean_dim(3).mean_dim(2).flatten(1, 3), // [N, C']
            None => features.clone(),
        };
        (features, signature)
    }

    /// Features `[N, F]` to logits `[N, K]`: with [`Self::features`], the same as [`Self::forward`].
    pub fn classify_features(&self, features: Tensor<2>) -> Tensor<2> {
        match self.dense(self.form.graph.head()) {
            Some(head) => forward::linear(head, features, ops::Activation::None),
            None => features,
        }
    }

    /// Weights of the first convolution, `[O, C, K, K]`, if there is one whose maps are a stage.
    pub fn filters(&self) -> Option<Tensor<4>> {
        self.form.graph.stages().next()?;
        let first = self.parts.iter().find_map(|part| match &part.layer {
            Layer::Convolution(conv) => Some(conv),
            _ => None,
        });
        first.map(|conv| conv.weight.val())
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        match self.dense(self.form.graph.head()) {
            Some(head) => head.weight.val().device(),
            None => Device::flex(),
        }
    }

    /// The outputs of the nodes `wanted`, from the known output of one.
    fn run(&self, plan: &Plan, known: NodeId, value: Value, wanted: &[NodeId]) -> Vec<Value> {
        let end = wanted.iter().max().copied().unwrap_or(known);
        let mut values = Values::new(self.form.graph.nodes.len(), known, value);
        for step in plan.steps.iter().filter(|step| step.output > known && step.output <= end) {
            if let Some(output) = self.step(plan, step, &mut values, wanted) {
                values.0[step.output.index()] = Some(output);
            }
        }
        wanted.iter().filter_map(|id| values.0[id.index()].clone()).collect()
    }

    /// One step; `None` where an input is missing, which the builder of graphs rules out.
    fn step(&self, plan: &Plan, step: &Step, values: &mut Values, kept: &[NodeId]) -> Option<Value> {
        let mut inputs = step.inputs.iter().map(|&input| values.take(input, kept));
        let x = inputs.next()??;
        let other = inputs.next().flatten();
        Some(match &step.work {
            Work::Convolution { next, .. } => {
                let next = next.and_then(|next| self.block(plan.convolution(next)?));
                let shortcut = other.map(Value::maps);
                Value::Maps(self.block(step)?.forward(x.maps(), shortcut, next.as_ref()))
            }
            Work::BatchNorm(after) => {
                let norm = self.batch_norm(after.norm?)?;
                Value::Maps(forward::normalised(norm, x.maps(), other.map(Value::maps), after.activation))
            }
            Work::Dense { node, activation } => forward::dense(self.dense(*node)?, x, *activation),
            Work::NormalisedFirst { norm } => {
                let Layer::LayerNorm(norm) = self.layer(*norm)? else { return None };
                Value::Features(norm.forward(x.tokens().narrow(1, 0, 1)).squeeze_dim(1)) // [N, D]
            }
            Work::Single => {
                let more = std::iter::once(other).flatten().chain(inputs.flatten()).collect();
                self.single(step.output, x, more)?
            }
        })
    }

    /// A node by itself; `more` are its inputs but the first.
    fn single(&self, id: NodeId, x: Value, more: Vec<Value>) -> Option<Value> {
        let mut others = more.into_iter();
        Some(match (&self.form.graph.node(id).operator, self.layer(id)) {
            (Operator::Activation(activation), _) => x.each(*activation),
            (Operator::Pool(pool), _) => Value::Maps(pool.forward(x.maps())),
            (Operator::Average { side }, _) => Value::Maps(forward::average(x.maps(), *side)),
            (Operator::Add, _) => match (x, others.next()?) {
                (Value::Maps(x), shortcut) => Value::Maps(shortcut.maps() + x),
                (Value::Tokens(x), shortcut) => Value::Tokens(shortcut.tokens() + x),
                (Value::Steps(x), shortcut) => Value::Steps(
                    shortcut.steps().into_iter().zip(x).map(|(shortcut, x)| shortcut + x).collect(),
                ),
                (Value::Features(x), shortcut) => Value::Features(shortcut.features() + x),
            },
            (Operator::Concatenate, _) => {
                let all = std::iter::once(x).chain(others).map(Value::maps).collect();
                Value::Maps(Tensor::cat(all, 1))
            }
            (Operator::Scale, _) => Value::Maps(forward::scale(x.maps(), others.next()?.features())),
            (Operator::Dropout { .. }, Some(Layer::Dropout(dropout))) => x.each(dropout),
            (Operator::LayerNorm { .. }, Some(Layer::LayerNorm(norm))) => x.each(norm),
            (Operator::Flatten, _) => Value::Features(x.features()),
            (Operator::Rows, _) => Value::Steps(forward::rows(&x.maps())),
            (Operator::Recurrent { cell, .. }, Some(Layer::Recurrent(layer))) => {
                Value::Steps(layer.forward(*cell, x.steps()))
            }
            (Operator::LastStep, _) => Value::Features(x.steps().pop()?),
            (Operator::Tokens, Some(Layer::Tokens(tokens))) => Value::Tokens(tokens.forward(x.maps())),
            (Operator::Attention { heads }, _) => Value::Tokens(forward::attention(x.tokens(), *heads)),
            (Operator::FirstToken, _) => Value::Features(x.tokens().narrow(1, 0, 1).squeeze_dim(1)),
            (Operator::Thin { stride, channels }, _) => {
                Value::Maps(forward::thin(x.maps(), *stride, *channels))
            }
            _ => return None,
        })
    }

    fn layer(&self, id: NodeId) -> Option<&Layer> {
        self.form.places[id.index()].map(|place| &self.parts[place].layer)
    }

    fn dense(&self, id: NodeId) -> Option<&Linear> {
        match self.layer(id)? {
            Layer::Dense(dense) => Some(dense),
            _ => None,
        }
    }

    fn batch_norm(&self, id: NodeId) -> Option<&BatchNorm> {
        match self.layer(id)? {
            Layer::BatchNorm(norm) => Some(norm),
            _ => None,
        }
    }

    /// The convolution of a step with its weights.
    fn block(&self, step: &Step) -> Option<Block<'_>> {
        let Work::Convolution { node, after, pool, .. } = &step.work else { return None };
        let Layer::Convolution(conv) = self.layer(*node)? else { return None };
        let Operator::Convolution(convolution) = self.form.graph.node(*node).operator else { return None };
        Some(Block {
            convolution,
            conv,
            norm: after.norm.and_then(|norm| self.batch_norm(norm)),
            is_joined: after.is_joined,
            activation: after.activation,
            pool: *pool,
        })
    }

    /// The same function of an image with fewer operators: batch normalisation by running statistics becomes part
    /// of the convolution before it. For a network in evaluation, without autodiff; the result belongs to no
    /// [`crate::NetworkConfig`], so it can be neither trained nor saved.
    ///
    /// The normalisation before the sum with a shortcut stays: one operator has that, the sum and the rectifier.
    #[must_use]
    pub fn folded(mut self) -> Self {
        let graph = &self.form.graph;
        let consumers = graph.consumers();
        let is_joined = |id: NodeId| match consumers[id.index()][..] {
            [next] => {
                let next = graph.node(next);
                next.operator == Operator::Add && next.inputs[0] == id
            }
            _ => false,
        };
        let convolution_before = |id: NodeId| {
            let node = graph.node(id);
            let before = *node.inputs.first()?;
            let is_pair = matches!(node.operator, Operator::BatchNorm { .. })
                && matches!(graph.node(before).operator, Operator::Convolution(_))
                && consumers[before.index()].len() == 1
                && !is_joined(id);
            is_pair.then_some((before, id))
        };
        let pairs: Vec<(NodeId, NodeId)> =
            graph.iter().filter_map(|(id, _)| convolution_before(id)).collect();
        let mut removed = Vec::new();
        for (before, id) in pairs {
            let places = (self.form.places[before.index()], self.batch_norm(id).cloned());
            if let (Some(place), Some(norm)) = places
                && let Layer::Convolution(conv) = &mut self.parts[place].layer
            {
                fold(conv, &norm);
                removed.push(id);
            }
        }
        let mut graph = self.form.graph.clone();
        for id in &removed {
            let before = graph.node(*id).inputs[0];
            if let Operator::Convolution(convolution) = &mut graph.nodes[before.index()].operator {
                convolution.bias = true;
            }
        }
        let gone: Vec<usize> = removed.iter().filter_map(|id| self.form.places[id.index()]).collect();
        let mut index = 0;
        self.parts.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        let graph = graph.without(&removed);
        let mut places = vec![None; graph.nodes.len()];
        for (part, (_, id)) in graph.modules().into_iter().enumerate() {
            build::place(&graph, id, part, &mut places);
        }
        Self { parts: self.parts, form: Arc::new(Form::new(graph, places)) }
    }

    /// The same network with its running statistics merged and its own.
    ///
    /// In Burn the clones of a module share the running statistics of batch normalisation, also
    /// when one of them is mapped or loaded, and a record of a network in training lacks the last
    /// step's update. Call this before taking `into_record` of a network in training; this crate's
    /// own functions do.
    #[must_use]
    pub fn with_own_statistics(mut self) -> Self {
        for part in &mut self.parts {
            if let Layer::BatchNorm(norm) = &mut part.layer {
                norm.running_mean = own(&norm.running_mean);
                norm.running_var = own(&norm.running_var);
            }
        }
        self
    }
}

fn own(statistic: &RunningState<Tensor<1>>) -> RunningState<Tensor<1>> {
    // `valid` merges and copies; `train` only puts the copy back on the device it came from.
    let copy = statistic.valid();
    if statistic.value().device().is_autodiff() { copy.train() } else { copy }
}

/// `gamma (w * x + b - mean) / sqrt(variance + epsilon) + beta` is a convolution with other weights and another bias.
fn fold(conv: &mut Conv2d, norm: &BatchNorm) {
    let factor = norm.gamma.val() / (norm.running_var.value() + norm.epsilon).sqrt(); // [O]
    let mean = norm.running_mean.value();
    let centred = match conv.bias.as_ref().map(Param::val) {
        Some(bias) => bias - mean,
        None => -mean,
    };
    let bias = centred * factor.clone() + norm.beta.val();
    let outputs = factor.dims()[0];
    let weight = conv.weight.val() * factor.reshape([outputs, 1, 1, 1]);
    conv.weight = Param::from_tensor(weight);
    conv.bias = Some(Param::from_tensor(bias));
}

/// What a layer's module makes of itself, as a layer again.
macro_rules! layer {
    ($layer:expr, $module:ident => $result:expr) => {
        match $layer {
            Layer::Convolution($module) => Layer::Convolution($result),
            Layer::BatchNorm($module) => Layer::BatchNorm($result),
            Layer::LayerNorm($module) => Layer::LayerNorm($result),
            Layer::Dense($module) => Layer::Dense($result),
            Layer::Recurrent($module) => Layer::Recurrent($result),
            Layer::Tokens($module) => Layer::Tokens($result),
            Layer::Dropout($module) => Layer::Dropout($result),
        }
    };
}

/// What a layer's module gives.
macro_rules! module_of {
    ($layer:expr, $module:ident => $result:expr) => {
        match $layer {
            Layer::Convolution($module) => $result,
            Layer::BatchNorm($module) => $result,
            Layer::LayerNorm($module) => $result,
            Layer::Dense($module) => $result,
            Layer::Recurrent($module) => $result,
            Layer::Tokens($module) => $result,
            Layer::Dropout($module) => $result,
        }
    };
}

/// What modules are called on the way to a part; Burn's own containers are called alike.
const CONTAINER: &str = "Struct:Network";

impl Network {
    fn each_part(self, change: impl Fn(Layer) -> Layer) -> Self {
        let parts = self.parts.into_iter().map(|Part { path, layer }| Part { path, layer: change(layer) });
        Self { parts: parts.collect(), form: self.form }
    }
}

impl Module for Network {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let family = self.form.graph.family;
        visitor.enter_module(family, CONTAINER);
        self.visit_parts(visitor);
        visitor.exit_module(family, CONTAINER);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let family = self.form.graph.family;
        mapper.enter_module(family, CONTAINER);
        let network = self.map_parts(mapper);
        mapper.exit_module(family, CONTAINER);
        network
    }

    /// Reads a record of a network, and one whose names lack the family, such as a model file.
    fn try_load_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        let copy = record.clone();
        match Prefixed(self.clone()).try_load_record(record) {
            Ok(loaded) => Ok(loaded.0),
            Err(error) => Bare(self).try_load_record(copy).map(|loaded| loaded.0).map_err(|_| error),
        }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        self.parts
            .iter()
            .fold(devices, |devices, part| module_of!(&part.layer, module => module.collect_devices(devices)))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each_part(|layer| layer!(layer, module => module.to_device(device)))
    }

    fn fork(self, device: &Device) -> Self {
        self.each_part(|layer| layer!(layer, module => module.fork(device)))
    }

    fn train(self) -> Self {
        self.each_part(|layer| layer!(layer, module => module.train()))
    }

    fn valid(&self) -> Self {
        let parts = self.parts.iter().map(|Part { path, layer }| Part {
            path: path.clone(),
            layer: layer!(layer, module => module.valid()),
        });
        Self { parts: parts.collect(), form: self.form.clone() }
    }

    fn materialize(self) -> Self {
        self.each_part(|layer| layer!(layer, module => module.materialize()))
    }
}

impl Network {
    fn visit_parts<V: ModuleVisitor>(&self, visitor: &mut V) {
        for Part { path, layer } in &self.parts {
            path.split('.').for_each(|name| visitor.enter_module(name, CONTAINER));
            module_of!(layer, module => module.visit(visitor));
            path.rsplit('.').for_each(|name| visitor.exit_module(name, CONTAINER));
        }
    }

    fn map_parts<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mut parts = Vec::with_capacity(self.parts.len());
        for Part { path, layer } in self.parts {
            path.split('.').for_each(|name| mapper.enter_module(name, CONTAINER));
            let layer = layer!(layer, module => module.map(mapper));
            path.rsplit('.').for_each(|name| mapper.exit_module(name, CONTAINER));
            parts.push(Part { path, layer });
        }
        Self { parts, form: self.form }
    }
}

/// A network whose way of loading is Burn's own, by the names with or without the family.
macro_rules! loading {
    ($name:ident, $visit:ident, $map:ident) => {
        #[derive(Clone, Debug)]
        struct $name(Network);

        impl Module for $name {
            fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
                self.0.$visit(visitor);
            }

            fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
                Self(self.0.$map(mapper))
            }

            fn collect_devices(&self, devices: Devices) -> Devices {
                self.0.collect_devices(devices)
            }

            fn to_device(self, device: &Device) -> Self {
                Self(self.0.to_device(device))
            }

            fn fork(self, device: &Device) -> Self {
                Self(self.0.fork(device))
            }

            fn train(self) -> Self {
                Self(self.0.train())
            }

            fn valid(&self) -> Self {
                Self(self.0.valid())
            }

            fn materialize(self) -> Self {
                Self(self.0.materialize())
            }
        }
    };
}

loading!(Prefixed, visit, map);
loading!(Bare, visit_parts, map_parts);

impl ModuleDisplayDefault for Network {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content.set_top_level_type(self.form.graph.family);
        let parts = self.parts.iter();
        parts
            .fold(content, |content, part| module_of!(&part.layer, module => content.add(&part.path, module)))
            .optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Network {}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(burn::module::DisplaySettings::default()))
    }
}
