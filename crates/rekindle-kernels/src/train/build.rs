//! From a network to the nodes of a trainer.

use std::collections::HashMap;

use burn::tensor::backend::Backend;
use rekindle_nn::ops::{self, BatchNorm, Fit, MergeKind, PoolKind};
use rekindle_nn::{Activation, LayerView, Network, NetworkError, Op, Padding, Shape, Source};

use super::{
    Conv, Dense, Kept, Node, Norm, Parameter, Product, Stretch, Trainer, Window, Work, map,
};
use crate::lower::{along, center_crop, group_axes, normalization, prelu_sizes, sizes};
use crate::plain::{self, Axes, Plain};
use crate::{Isa, PlanError};

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
    pub fn new<B: Backend>(
        network: &Network<B>,
        config: &TrainerConfig<'_>,
    ) -> Result<Self, PlanError> {
        let graph = network.graph();
        let part = graph.part(config.after, None)?;
        let start = graph.shape(part.start);
        if start != config.input {
            let (layer, found) = (config.after.unwrap_or("input"), config.input);
            return Err(NetworkError::graph(format!(
                "what comes out of `{layer}` is {start}, and not {found}"
            ))
            .into());
        }
        let (isa, nodes, parameters) = (Isa::detect()?, Vec::new(), Vec::new());
        let mut build = Build { config: *config, isa, nodes, parameters };
        build.nodes.push(Node {
            work: Work::Input,
            inputs: Vec::new(),
            shape: config.input,
            wanted: config.input_gradient,
        });
        let mut values = HashMap::from([(part.start, 0)]);
        let value = |values: &HashMap<Source, usize>, source: &Source| {
            let found = values.get(source).copied();
            found.ok_or_else(|| NetworkError::graph("a value crosses the cut".into()))
        };
        for &position in &part.layers {
            let inputs = graph.layers()[position].inputs.iter();
            let inputs = inputs.map(|source| value(&values, source)).collect::<Result<_, _>>()?;
            let node = build.layer(&network.view(position), inputs)?;
            values.insert(Source::Layer(position), node);
        }
        let output = value(&values, &part.end)?;
        let Build { mut nodes, parameters, .. } = build;
        fuse(&mut nodes, output);
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
            Self::Norm(norm) => norm.gamma.into_iter().chain(norm.beta).collect(),
            Self::Stretch(stretch) => stretch.scale.into_iter().chain(stretch.shift).collect(),
            Self::Prelu(alpha, _) => vec![*alpha],
            Self::Dense(dense) => [dense.kernel].into_iter().chain(dense.bias).collect(),
            Self::Input
            | Self::Activation(_)
            | Self::Clamp { .. }
            | Self::MaxPool(_)
            | Self::AvgPool { .. }
            | Self::GlobalAvg
            | Self::GlobalMax
            | Self::Flatten
            | Self::Scale(_)
            | Self::Dropout(_)
            | Self::SharedDropout { .. }
            | Self::Noise(_)
            | Self::Plain(_)
            | Self::Pad { .. }
            | Self::Merge(_)
            | Self::Concat
            | Self::Fused => Vec::new(),
        }
    }
}

/// Paddings become part of the convolution behind them, clamps take the normalization before them.
fn fuse(nodes: &mut [Node], output: usize) {
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
}

struct Build<'a> {
    config: TrainerConfig<'a>,
    isa: Isa,
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
}

impl Build<'_> {
    /// A variable of a layer, where it has one of this name.
    fn find<B: Backend>(&mut self, layer: &LayerView<'_, B>, name: &str) -> Option<usize> {
        let (spec, id) = layer.variables().find(|(spec, _)| spec.name == name)?;
        let values = layer.host(name)?;
        let trains = spec.trainable && (self.config.trains)(layer.name);
        self.parameters.push(Parameter {
            layer: layer.name.to_owned(),
            spec: spec.clone(),
            id,
            values,
            trains,
            gradient: Vec::new(),
            stale: trains,
            pending: None,
            changed: false,
        });
        Some(self.parameters.len() - 1)
    }

    /// The same of one that the layer's operation lists.
    fn parameter<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        name: &str,
    ) -> Result<usize, PlanError> {
        let missing = || NetworkError::graph(format!("layer `{}` has no `{name}`", layer.name));
        Ok(self.find(layer, name).ok_or_else(missing)?)
    }

    fn conv<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        groups: usize,
        window: &rekindle_nn::Window,
        input: Shape,
    ) -> Result<Work, PlanError> {
        let kernel = self.parameter(layer, "kernel")?;
        let bias = self.find(layer, "bias");
        Ok(conv_work(kernel, bias, groups, window, input, layer.shape))
    }

    /// Mean 0 and variance 1, then gamma and beta.
    fn normalize<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        axes: Axes,
        epsilon: f64,
        sizes: [usize; 3],
        input: usize,
    ) -> usize {
        let norm = plain::Norm { axes, epsilon: Some(epsilon), gamma: None, beta: None };
        let x = self.push(Work::Plain(Plain::Norm(norm)), vec![input], layer.shape);
        let (scale, shift) = (self.find(layer, "gamma"), self.find(layer, "beta"));
        if scale.is_none() && shift.is_none() {
            return x;
        }
        self.push(Work::Stretch(Stretch { scale, shift, sizes }), vec![x], layer.shape)
    }

    fn norm<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        norm: &BatchNorm,
    ) -> Result<Work, PlanError> {
        let gamma = self.find(layer, "gamma");
        let beta = self.find(layer, "beta");
        let mean = self.parameter(layer, "moving_mean")?;
        let variance = self.parameter(layer, "moving_variance")?;
        let is_live = (self.config.live)(layer.name);
        Ok(Work::Norm(Norm {
            gamma,
            beta,
            mean,
            variance,
            epsilon: norm.epsilon,
            momentum: is_live.then_some(norm.momentum),
            low: f32::NEG_INFINITY,
            high: f32::INFINITY,
        }))
    }

    fn push(&mut self, work: Work, inputs: Vec<usize>, shape: Shape) -> usize {
        self.nodes.push(Node { work, inputs, shape, wanted: false });
        self.nodes.len() - 1
    }

    /// With a function of its values behind it; the network's last one is left off where it makes probabilities.
    fn activate<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        activation: Activation,
        input: usize,
    ) -> usize {
        let is_off = layer.is_output && activation.is_probability();
        let work = match activation.limits() {
            _ if is_off => return input,
            limits if limits == Activation::Linear.limits() => return input,
            Some([low, high]) => Work::Clamp { low, high },
            None => Work::Activation(activation),
        };
        self.push(work, vec![input], layer.shape)
    }

    fn layer<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        inputs: Vec<usize>,
    ) -> Result<usize, PlanError> {
        let name = layer.name;
        let unsupported = |what: &str| PlanError::Unsupported {
            layer: name.to_owned(),
            what: format!("{what} in training"),
        };
        let missing = || NetworkError::graph(format!("layer `{name}` has no input"));
        let &input = inputs.first().ok_or_else(missing)?;
        let from = self.nodes[input].shape;
        let work = match layer.op {
            Op::Conv2d(conv) => self.conv(layer, conv.groups, &conv.window, from)?,
            Op::DepthwiseConv2d(conv) => self.conv(layer, from.channels(), &conv.window, from)?,
            Op::Dense(dense) => {
                let kernel = self.parameter(layer, "kernel")?;
                let bias = self.find(layer, "bias");
                let product = match from {
                    Shape::Flat(inputs) => Product::new(self.isa, inputs, dense.units),
                    Shape::Map { .. } => None,
                };
                Work::Dense(Dense { kernel, bias, outputs: dense.units, product })
            }
            Op::BatchNorm(norm) => self.norm(layer, norm)?,
            Op::Activation(activation) => {
                return Ok(self.activate(layer, activation.function, input));
            }
            Op::Pool2d(pool) => {
                let is_max = pool.kind == PoolKind::Max;
                let window = window(&pool.window, from);
                if is_max {
                    Work::MaxPool(window)
                } else {
                    Work::AvgPool { window, counts_padding: pool.counts_padding }
                }
            }
            Op::GlobalPool(pool) => match pool.kind {
                PoolKind::Max => Work::GlobalMax,
                PoolKind::Average => Work::GlobalAvg,
            },
            Op::ZeroPadding2d(pad) => {
                let [rows, columns] = pad.padding;
                Work::Pad { before: [rows[0], columns[0]] }
            }
            Op::Flatten(_) => Work::Flatten,
            Op::Rescaling(rescaling) => {
                let each = rescaling.by_channel(from.channels()).into_iter();
                Work::Scale(each.map(|(scale, shift)| [scale as f32, shift as f32]).collect())
            }
            Op::Dropout(dropout) => Work::Dropout(dropout.rate),
            Op::Identity(_) => return Ok(input),
            Op::SeparableConv2d(conv) => {
                let between = layer.shape.with_channels(from.channels() * conv.depth_multiplier);
                let groups = from.channels();
                let kernel = self.parameter(layer, "depthwise_kernel")?;
                let work = conv_work(kernel, None, groups, &conv.window, from, between);
                let x = self.push(work, vec![input], between);
                let kernel = self.parameter(layer, "pointwise_kernel")?;
                let bias = self.find(layer, "bias");
                let point = rekindle_nn::Window::new([1, 1], Padding::Valid);
                let work = conv_work(kernel, bias, 1, &point, between, layer.shape);
                let sum = self.push(work, vec![x], layer.shape);
                return Ok(self.activate(layer, conv.activation, sum));
            }
            Op::LayerNorm(norm) => {
                let over = along(&norm.axes, from);
                let axes = Axes { over, groups: 1 };
                return Ok(self.normalize(layer, axes, norm.epsilon, sizes(over, from), input));
            }
            Op::GroupNorm(norm) => {
                let (axes, sizes) = (group_axes(norm, from), [1, 1, from.channels()]);
                return Ok(self.normalize(layer, axes, norm.epsilon, sizes, input));
            }
            Op::UnitNorm(norm) => {
                let axes = Axes { over: along(&norm.axes, from), groups: 1 };
                let norm = plain::Norm { axes, epsilon: None, gamma: None, beta: None };
                Work::Plain(Plain::Norm(norm))
            }
            Op::Lrn(lrn) => Work::Plain(Plain::Lrn(lrn.clone())),
            Op::Normalization(norm) => {
                let [scale, shift] = normalization(layer, norm, from)?;
                Work::Plain(Plain::Scale(scale, shift))
            }
            Op::LayerScale(_) => {
                let scale = Some(self.parameter(layer, "gamma")?);
                Work::Stretch(Stretch { scale, shift: None, sizes: [1, 1, from.channels()] })
            }
            Op::SoftmaxOver(softmax) => {
                let over = along(&softmax.axes, from);
                Work::Plain(Plain::Softmax(Axes { over, groups: 1 }))
            }
            Op::Prelu(_) => Work::Prelu(self.parameter(layer, "alpha")?, prelu_sizes(layer, from)),
            Op::Cropping2d(crop) => {
                let [rows, columns] = crop.cropping;
                Work::Plain(Plain::Crop([rows[0], columns[0]]))
            }
            Op::CenterCrop(crop) => Work::Plain(center_crop(crop, from)),
            Op::RandomCrop(crop) if crop.resizes => Work::Plain(Plain::Resize(
                ops::Resizing::new(crop.height, crop.width).fit(Fit::Crop),
            )),
            Op::Resizing(resizing) => Work::Plain(Plain::Resize(*resizing)),
            Op::Reshape(_) => Work::Flatten,
            Op::Permute(permute) => match permute.dims[..] {
                [a, b, c] => Work::Plain(Plain::Permute([a - 1, b - 1, c - 1])),
                _ => return Ok(input),
            },
            Op::SharedDropout(dropout) => {
                let [height, width, channels] = map(from);
                let own = match from {
                    Shape::Map { .. } => vec![height, width, channels],
                    Shape::Flat(_) => vec![channels],
                };
                let drawn =
                    own.iter().zip(&dropout.noise_shape).map(|(own, size)| size.unwrap_or(*own));
                let sizes = match drawn.collect::<Vec<_>>()[..] {
                    [height, width, channels] => [height, width, channels],
                    [channels] => [1, 1, channels],
                    _ => return Err(unsupported("a noise of this shape")),
                };
                Work::SharedDropout { rate: dropout.rate, sizes }
            }
            Op::Noise(noise) => Work::Noise(noise.clone()),
            // What Keras's training does here is not done; whoever trains says so.
            Op::RandomCrop(_) | Op::TrainingOnly(_) => return Ok(input),
            Op::Merge(merge) => Work::Merge(merge.kind),
            Op::ScaledAdd(sum) => {
                let &branch = inputs.last().ok_or_else(missing)?;
                let shape = self.nodes[branch].shape;
                let scale = Work::Scale(vec![[sum.scale as f32, 0.0]; shape.channels()]);
                let scaled = self.push(scale, vec![branch], shape);
                let sum = Work::Merge(MergeKind::Add);
                return Ok(self.push(sum, vec![input, scaled], layer.shape));
            }
            Op::Concatenate(_) => Work::Concat,
        };
        let activation = match layer.op {
            Op::Activation(_) => Activation::Linear,
            op => op.activation(),
        };
        let node = self.push(work, inputs, layer.shape);
        Ok(self.activate(layer, activation, node))
    }
}

fn conv_work(
    kernel: usize,
    bias: Option<usize>,
    groups: usize,
    window: &rekindle_nn::Window,
    from: Shape,
    to: Shape,
) -> Work {
    let is_depthwise = groups == from.channels() && groups == to.channels();
    let depthwise = groups > 1 && is_depthwise && window.dilation == [1, 1];
    Work::Conv(Conv { depthwise, groups, window: self::window(window, from), kernel, bias })
}

/// A pool's or convolution's window on a map of this shape.
fn window(window: &rekindle_nn::Window, input: Shape) -> Window {
    let [height, width, _] = map(input);
    let [rows, columns] = window.edges(height, width);
    Window {
        kernel: window.kernel,
        stride: window.stride,
        dilation: window.dilation,
        before: [rows[0], columns[0]],
    }
}
