//! From a network to the nodes of a trainer.

use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::layers::{Activation, BatchNorm, Conv2d, Dense as DenseLayer};
use rekindle_nn::{
    Interpreter, Network, NetworkError, Op, Pool, Section, Shape, VariableSpec, correct_pad,
};

use super::{Conv, Dense, Kept, Node, Norm, Parameter, Trainer, Window, Work, map};
use crate::PlanError;
use crate::lower::host;

/// What a [`Trainer`] is made of.
#[derive(Clone, Copy)]
pub struct TrainerConfig<'a> {
    /// The layer behind which it begins; nothing for the network's input.
    pub after: Option<&'a str>,
    /// The shape of that layer's output.
    pub input: Shape,
    /// Whether a layer trains, by its Keras name.
    pub trains: &'a dyn Fn(&str) -> bool,
    /// Whether a normalization takes the batch's statistics in training passes, with the moving ones following; by
    /// its Keras name. Others take the moving ones, which then stay as they are.
    pub live: &'a dyn Fn(&str) -> bool,
    /// Whether the gradient of the input is wanted.
    pub input_gradient: bool,
}

impl std::fmt::Debug for TrainerConfig<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainerConfig")
            .field("after", &self.after)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Takes what comes behind the cut of `network`, with its parameters as they are now.
    ///
    /// # Errors
    /// When there is no such layer, it cannot be cut there, or a layer cannot be trained here.
    pub fn new<B: Backend, N: Network<B>>(
        network: &N,
        config: &TrainerConfig<'_>,
    ) -> Result<Self, PlanError> {
        let mut build =
            Build { config: *config, nodes: Vec::new(), parameters: Vec::new(), error: None };
        build.nodes.push(Node {
            work: Work::Input,
            inputs: Vec::new(),
            shape: config.input,
            wanted: config.input_gradient,
        });
        let output = match config.after {
            Some(layer) => Section::after(network, &mut build, layer, 0),
            None => network.walk(&mut build, 0),
        };
        if let Some(error) = build.error {
            return Err(error);
        }
        let output = output?;
        let Build { mut nodes, parameters, .. } = build;
        fuse(&mut nodes, output)?;
        for index in 1..nodes.len() {
            let by_inputs = nodes[index].inputs.iter().any(|&input| nodes[input].wanted);
            let trains = |index: &usize| parameters[*index].trains();
            let own = nodes[index].work.parameters().iter().any(trains);
            nodes[index].wanted = by_inputs || own;
        }
        let count = nodes.len();
        Ok(Self {
            nodes,
            parameters,
            output,
            values: vec![Vec::new(); count],
            kept: (0..count).map(|_| Kept::Nothing).collect(),
            batch: 0,
            free: Vec::new(),
        })
    }
}

impl Work {
    /// The parameters that gradients may reach.
    fn parameters(&self) -> Vec<usize> {
        match self {
            Self::Conv(conv) => [conv.kernel].into_iter().chain(conv.bias).collect(),
            Self::Norm(norm) => norm.gamma.into_iter().chain([norm.beta]).collect(),
            Self::Dense(dense) => vec![dense.kernel, dense.bias],
            _ => Vec::new(),
        }
    }
}

/// Paddings become part of the convolution behind them, clamps take the normalization before them.
fn fuse(nodes: &mut [Node], output: usize) -> Result<(), PlanError> {
    let mut uses = vec![0; nodes.len()];
    for node in nodes.iter() {
        node.inputs.iter().for_each(|&input| uses[input] += 1);
    }
    uses[output] += 1;
    for index in 0..nodes.len() {
        let Some(&input) = nodes[index].inputs.first() else { continue };
        let (before, rest) = nodes.split_at_mut(index);
        let (source, node) = (&mut before[input], &mut rest[0]);
        let is_only = uses[input] == 1;
        match (&mut node.work, &mut source.work) {
            (Work::Conv(conv), &mut Work::Pad { before }) if is_only => {
                conv.window.before[0] += before[0];
                conv.window.before[1] += before[1];
                node.inputs.clone_from(&source.inputs);
                source.work = Work::Fused;
            }
            (&mut Work::Clamp { low, high }, Work::Norm(_)) if is_only => {
                let Work::Norm(norm) = std::mem::replace(&mut source.work, Work::Fused) else {
                    unreachable!("it has just been one")
                };
                node.work = Work::Norm(Norm { low, high, ..norm });
                node.inputs.clone_from(&source.inputs);
            }
            _ => {}
        }
    }
    Ok(())
}

struct Build<'a> {
    config: TrainerConfig<'a>,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    error: Option<PlanError>,
}

impl Build<'_> {
    fn parameter<B: Backend, const D: usize>(
        &mut self,
        layer: &str,
        specs: &[VariableSpec],
        name: &str,
        tensor: Tensor<B, D>,
    ) -> usize {
        let Some(spec) = specs.iter().find(|spec| spec.name == name).cloned() else {
            unreachable!("layers list each of their parameters")
        };
        let values = spec.from_burn(host(tensor));
        let trains = spec.trainable && (self.config.trains)(layer);
        let gradient = if trains { vec![0.0; values.len()] } else { Vec::new() };
        let layer = layer.to_owned();
        let (stale, changed) = (false, false);
        self.parameters.push(Parameter { layer, spec, values, gradient, stale, changed });
        self.parameters.len() - 1
    }

    fn conv<B: Backend>(&mut self, conv: &Conv2d<B>, specs: &[VariableSpec], input: Shape) -> Work {
        let pool = Pool { kernel: conv.kernel, stride: conv.stride, padding: conv.padding };
        let kernel = self.parameter(&conv.name, specs, "kernel", conv.weight.val());
        let bias =
            conv.bias.as_ref().map(|bias| self.parameter(&conv.name, specs, "bias", bias.val()));
        Work::Conv(Conv { depthwise: conv.depthwise, window: window(&pool, input), kernel, bias })
    }

    fn norm<B: Backend>(&mut self, norm: &BatchNorm<B>, specs: &[VariableSpec]) -> Work {
        let name = &norm.name;
        let gamma =
            norm.gamma.as_ref().map(|gamma| self.parameter(name, specs, "gamma", gamma.val()));
        let beta = self.parameter(name, specs, "beta", norm.beta.val());
        let mean = self.parameter(name, specs, "moving_mean", norm.moving_mean.val());
        let variance = self.parameter(name, specs, "moving_variance", norm.moving_variance.val());
        let is_live = (self.config.live)(name);
        Work::Norm(Norm {
            gamma,
            beta,
            mean,
            variance,
            epsilon: norm.epsilon,
            momentum: is_live.then_some(norm.momentum),
            low: f32::NEG_INFINITY,
            high: f32::INFINITY,
        })
    }

    fn dense<B: Backend>(&mut self, dense: &DenseLayer<B>, specs: &[VariableSpec]) -> Work {
        let kernel = self.parameter(&dense.name, specs, "kernel", dense.weight.val());
        let bias = self.parameter(&dense.name, specs, "bias", dense.bias.val());
        let is_off = dense.classifier && dense.activation.is_probability();
        let activation = if is_off { Activation::Linear } else { dense.activation };
        Work::Dense(Dense { kernel, bias, activation })
    }
}

/// A pool's or convolution's window on a map of this shape.
fn window(pool: &Pool, input: Shape) -> Window {
    let [height, width, _] = map(input);
    let before =
        |size, axis: usize| pool.padding.amount(size, pool.kernel[axis], pool.stride[axis])[0];
    Window {
        kernel: pool.kernel,
        stride: pool.stride,
        before: [before(height, 0), before(width, 1)],
    }
}

impl<B: Backend> Interpreter<B> for Build<'_> {
    /// A node's number.
    type Value = usize;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<usize>,
    ) -> Result<usize, NetworkError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.nodes[input].shape).collect();
        let shape = op.output_shape(name, &shapes)?;
        let specs = op.variables();
        let work = match op {
            Op::Conv2d(conv) => self.conv(conv, &specs, shapes[0]),
            Op::BatchNorm(norm) => self.norm(norm, &specs),
            Op::Dense(dense) => self.dense(dense, &specs),
            Op::Relu => Work::Clamp { low: 0.0, high: f32::INFINITY },
            Op::Relu6 => Work::Clamp { low: 0.0, high: 6.0 },
            Op::CorrectPad { kernel } => {
                let [height, width, _] = map(shapes[0]);
                Work::Pad { before: [height, width].map(|size| correct_pad(size, kernel)[0]) }
            }
            Op::MaxPool(pool) => Work::MaxPool(window(&pool, shapes[0])),
            Op::AvgPool(pool) => Work::AvgPool(window(&pool, shapes[0])),
            Op::GlobalAvgPool => Work::GlobalAvg,
            Op::GlobalMaxPool => Work::GlobalMax,
            Op::Flatten => Work::Flatten,
            Op::Rescale { scale, offset } => {
                Work::Scale { scale: scale as f32, offset: offset as f32 }
            }
            Op::Dropout(rate) => Work::Dropout(rate),
            Op::Add => Work::Add,
            Op::Concat => Work::Concat,
        };
        self.nodes.push(Node { work, inputs, shape, wanted: false });
        Ok(self.nodes.len() - 1)
    }
}
