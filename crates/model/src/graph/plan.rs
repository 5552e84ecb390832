//! In which steps a network is computed: nodes of its graph that one fused operator can do together.
//!
//! A plan is made of the graph alone. It needs no weights and no device, and knows nothing of Burn.

use super::{Activation, NodeId, Operator, PoolConfig, nodes::Graph};

/// One step. Its result is the output of a node; those between its inputs and that node are never seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) work: Work,
    /// Whose outputs it takes, and whether it is the last that takes it.
    pub(crate) inputs: Vec<(NodeId, bool)>,
    /// Whose output it gives.
    pub(crate) output: NodeId,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// A convolution with what follows it.
    Convolution {
        node: NodeId,
        after: After,
        pool: Option<PoolConfig>,
        /// The convolution that alone takes the output: between the two it may lie channels last.
        next: Option<NodeId>,
    },
    /// Batch normalisation that follows no convolution, with what follows it.
    BatchNorm(After),
    /// A dense layer.
    Dense { node: NodeId, activation: Option<Activation> },
    /// Of all normalised tokens the first: every token is normalised by itself, so that the first is enough.
    NormalisedFirst { norm: NodeId },
    /// A node by itself.
    Single,
}

/// What follows a convolution, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct After {
    /// Batch normalisation.
    pub(crate) norm: Option<NodeId>,
    /// The sum with a shortcut, the second input of the step.
    pub(crate) is_joined: bool,
    /// A function of every value.
    pub(crate) activation: Option<Activation>,
}

impl After {
    /// Whether it is a sum of the convolution with a bias, and an activation perhaps.
    fn is_plain(self) -> bool {
        self.norm.is_none() && !self.is_joined
    }
}

/// All steps, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

/// How far a chain of nodes goes that one step does.
struct Chain<'a> {
    graph: &'a Graph,
    consumers: &'a [Vec<NodeId>],
    /// Nodes whose outputs somebody wants to see.
    kept: &'a [NodeId],
    /// The last node so far.
    end: NodeId,
    inputs: Vec<NodeId>,
}

impl Chain<'_> {
    /// The node that alone takes the output, where nobody wants to see it.
    fn next(&self) -> Option<NodeId> {
        match self.consumers[self.end.0][..] {
            [next] if !self.kept.contains(&self.end) => Some(next),
            _ => None,
        }
    }

    /// Takes the next node in if `wanted` finds something in it.
    fn take<T>(&mut self, wanted: impl FnOnce(NodeId, &Operator) -> Option<T>) -> Option<T> {
        let next = self.next()?;
        let found = wanted(next, &self.graph.node(next).operator)?;
        self.end = next;
        Some(found)
    }

    fn norm(&mut self) -> Option<NodeId> {
        self.take(|id, operator| matches!(operator, Operator::BatchNorm { .. }).then_some(id))
    }

    fn activation(&mut self) -> Option<Activation> {
        self.take(|_, operator| match operator {
            Operator::Activation(activation) => Some(*activation),
            _ => None,
        })
    }

    fn pool(&mut self) -> Option<PoolConfig> {
        self.take(|_, operator| match operator {
            Operator::Pool(pool) => Some(*pool),
            _ => None,
        })
    }

    /// The sum whose way through the layers this is.
    fn join(&mut self) -> bool {
        let end = self.end;
        let graph = self.graph;
        let shortcut = self.take(|id, operator| {
            let inputs = &graph.node(id).inputs;
            (*operator == Operator::Add && inputs[0] == end).then(|| inputs[1])
        });
        self.inputs.extend(shortcut);
        shortcut.is_some()
    }

    fn after(&mut self, norm: Option<NodeId>) -> After {
        let is_joined = self.join();
        After { norm, is_joined, activation: self.activation() }
    }
}

impl Plan {
    /// The steps of a graph, of which the outputs of some nodes are to be seen.
    pub(crate) fn new(graph: &Graph, kept: &[NodeId]) -> Self {
        let consumers = graph.consumers();
        let mut is_done = vec![false; graph.nodes.len()];
        let mut steps: Vec<Step> = Vec::new();
        for (id, node) in graph.iter() {
            if is_done[id.0] || node.operator == Operator::Image {
                continue;
            }
            let inputs = node.inputs.clone();
            let mut chain = Chain { graph, consumers: &consumers, kept, end: id, inputs };
            let work = match node.operator {
                Operator::Convolution(_) => {
                    let norm = chain.norm();
                    let after = chain.after(norm);
                    let pool = if after.is_joined { None } else { chain.pool() };
                    Work::Convolution { node: id, after, pool, next: None }
                }
                Operator::BatchNorm { .. } => Work::BatchNorm(chain.after(Some(id))),
                Operator::Dense { .. } => Work::Dense { node: id, activation: chain.activation() },
                Operator::LayerNorm { .. } => {
                    let first = |_, operator: &Operator| (*operator == Operator::FirstToken).then_some(());
                    match chain.take(first) {
                        Some(()) => Work::NormalisedFirst { norm: id },
                        None => Work::Single,
                    }
                }
                _ => Work::Single,
            };
            // What lies between the first and the last node is on the one way from one to the other.
            let mut inside = id;
            while inside != chain.end {
                inside = consumers[inside.0][0];
                is_done[inside.0] = true;
            }
            let (output, inputs) =
                (chain.end, chain.inputs.into_iter().map(|input| (input, false)).collect());
            steps.push(Step { work, inputs, output });
        }
        // A step that waits for a shortcut comes after it.
        steps.sort_by_key(|step| step.output);
        let mut plan = Self { steps };
        plan.find_last_uses(graph);
        plan.find_pairs(&consumers, kept);
        plan
    }

    fn find_last_uses(&mut self, graph: &Graph) {
        let mut is_needed = vec![false; graph.nodes.len()];
        for (input, is_last) in self.steps.iter_mut().rev().flat_map(|step| step.inputs.iter_mut().rev()) {
            *is_last = !std::mem::replace(&mut is_needed[input.0], true);
        }
    }

    /// Convolutions of which one alone takes the output of the other.
    fn find_pairs(&mut self, consumers: &[Vec<NodeId>], kept: &[NodeId]) {
        let is_convolution = |step: &Step| match step.work {
            Work::Convolution { node, .. } => Some(node),
            _ => None,
        };
        let convolutions: Vec<NodeId> = self.steps.iter().filter_map(is_convolution).collect();
        for step in &mut self.steps {
            let output = step.output;
            if let Work::Convolution { after, next, .. } = &mut step.work
                && after.is_plain()
                && !kept.contains(&output)
                && let [only] = consumers[output.0][..]
            {
                *next = convolutions.contains(&only).then_some(only);
            }
        }
    }

    /// The step that does the convolution.
    pub(crate) fn convolution(&self, convolution: NodeId) -> Option<&Step> {
        self.steps
            .iter()
            .find(|step| matches!(step.work, Work::Convolution { node, .. } if node == convolution))
    }
}
