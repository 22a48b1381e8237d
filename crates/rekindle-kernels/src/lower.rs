//! From a network's layers to nodes.

use std::collections::HashMap;

use burn::tensor::backend::Backend;
use rekindle_nn::ops::{self, MergeKind, PoolKind};
use rekindle_nn::{Activation, LayerView, Network, NetworkError, Op, Shape, Source, Window};

use crate::depthwise::MOST_KERNEL_ROWS;
use crate::ir::{Conv, Element, Node, NodeOp, Pool};
use crate::plain::{Axes, Norm, Plain, Stretched, WidePool};
use crate::plan::{Int8, compile};
use crate::{Isa, Limits, Plan, PlanConfig, PlanError, Precision, Quantization};

/// Compiles `network`, up to and with layer `until` or to its end.
///
/// # Errors
/// When the network has no such layer, or has a layer that the engine cannot run.
pub fn lower<B: Backend>(
    network: &Network<B>,
    until: Option<&str>,
    config: impl Into<PlanConfig>,
) -> Result<Plan, PlanError> {
    let config = config.into();
    if config.precision == Precision::Int8 {
        return Err(PlanError::NotQuantized);
    }
    let (nodes, output) = nodes(network, until, |_| false)?;
    compile(nodes, output, config, Int8::None)
}

/// Compiles a quantized network, up to and with layer `until` or to its end, with products of bytes. [`Plan::kept`] has the
/// layers that are not computed so.
///
/// # Errors
/// As [`lower`]'s, and when the quantization is not of this network.
pub fn lower_quantized<B: Backend>(
    network: &Network<B>,
    until: Option<&str>,
    isa: Isa,
    quantization: &Quantization,
) -> Result<Plan, PlanError> {
    let (nodes, output) = nodes(network, until, |_| false)?;
    let config = PlanConfig { isa, precision: Precision::Int8 };
    compile(nodes, output, config, Int8::Of(quantization))
}

/// Compiles a network such that each of its values can be looked at.
pub(crate) fn lower_observed<B: Backend>(
    network: &Network<B>,
    isa: Isa,
) -> Result<Plan, PlanError> {
    let (nodes, output) = nodes(network, None, |_| false)?;
    compile(nodes, output, isa.into(), Int8::Observed)
}

/// Whether the engine can take the place of this backend: whether its tensors are in the CPU's memory.
#[must_use]
pub fn serves<B: Backend>(device: &B::Device) -> bool {
    // What Burn's CPU backends call themselves.
    ["flex", "ndarray", "cpu"].iter().any(|name| B::name(device).starts_with(name))
}

/// The nodes of a network up to and with a layer, the first one its input, and the one that is its output. A layer that
/// would become a node that is `foreign` becomes a [`NodeOp::Layer`] instead.
pub(crate) fn nodes<B: Backend>(
    network: &Network<B>,
    until: Option<&str>,
    foreign: impl Fn(&NodeOp) -> bool,
) -> Result<(Vec<Node>, usize), PlanError> {
    let graph = network.graph();
    let part = graph.part(None, until)?;
    let mut lower = Lower { nodes: Vec::new() };
    let start = lower.push("input", NodeOp::Input, Vec::new(), graph.input());
    let mut values = HashMap::from([(part.start, start)]);
    let value = |values: &HashMap<Source, usize>, source: &Source| {
        let found = values.get(source).copied();
        found.ok_or_else(|| NetworkError::graph("a layer takes a value that is not there".into()))
    };
    for &position in &part.layers {
        let inputs = graph.layers()[position].inputs.iter();
        let inputs: Vec<usize> =
            inputs.map(|source| value(&values, source)).collect::<Result<_, _>>()?;
        let (layer, count) = (network.view(position), lower.nodes.len());
        let mut node = lower.layer(&layer, inputs.clone())?;
        if lower.nodes[count..].iter().any(|node| foreign(&node.op)) {
            lower.nodes.truncate(count);
            node = lower.push(layer.name, NodeOp::Layer(position), inputs, layer.shape);
        }
        values.insert(Source::Layer(position), node);
    }
    let output = value(&values, &part.end)?;
    Ok((lower.nodes, output))
}

/// The values of a variable that the layer's operation lists.
pub(crate) fn variable<B: Backend>(
    layer: &LayerView<'_, B>,
    name: &str,
) -> Result<Vec<f32>, NetworkError> {
    layer.host(name).ok_or_else(|| {
        NetworkError::graph(format!("layer `{}` has no variable `{name}`", layer.name))
    })
}

/// Scale and shift of each channel that a normalization by fixed statistics comes to.
pub(crate) fn batch_norm<B: Backend>(
    layer: &LayerView<'_, B>,
    norm: &ops::BatchNorm,
) -> Result<Vec<(f64, f64)>, NetworkError> {
    let mean = variable(layer, "moving_mean")?;
    let variance = variable(layer, "moving_variance")?;
    let or = |name, value| layer.host(name).unwrap_or_else(|| vec![value; mean.len()]);
    let (gamma, beta) = (or("gamma", 1.0), or("beta", 0.0));
    let affine = (0..mean.len()).map(|channel| {
        let spread = (f64::from(variance[channel]) + norm.epsilon).sqrt();
        let scale = f64::from(gamma[channel]) / spread;
        (scale, f64::from(beta[channel]) - f64::from(mean[channel]) * scale)
    });
    Ok(affine.collect())
}

/// Which of height, width and channels Keras's axes are.
pub(crate) fn along(axes: &[i64], shape: Shape) -> [bool; 3] {
    let rank = if shape.as_map().is_some() { 3 } else { 1 };
    let is_one = |place: i64| {
        // Keras counts the batch, and from the end; a vector's one axis is that of channels.
        axes.iter().any(|&axis| if axis < 0 { axis + rank == place } else { axis - 1 == place })
    };
    match rank {
        1 => [false, false, is_one(0)],
        _ => [is_one(0), is_one(1), is_one(2)],
    }
}

/// The sizes of numbers that lie along axes.
pub(crate) fn sizes(along: [bool; 3], shape: Shape) -> [usize; 3] {
    let [height, width, channels] = shape.as_map().unwrap_or([1, 1, shape.channels()]);
    let size = |axis: usize, size: usize| if along[axis] { size } else { 1 };
    [size(0, height), size(1, width), size(2, channels)]
}

/// What a group normalization takes its statistics of.
pub(crate) fn group_axes(norm: &ops::GroupNorm, shape: Shape) -> Axes {
    Axes { over: [true; 3], groups: norm.groups.unwrap_or(shape.channels()) }
}

/// The sizes of a PReLU's numbers.
pub(crate) fn prelu_sizes<B: Backend>(layer: &LayerView<'_, B>, shape: Shape) -> [usize; 3] {
    match layer.op {
        Op::Prelu(prelu) => sizes(along(&prelu.shared_axes, shape).map(|shared| !shared), shape),
        _ => [1, 1, 1],
    }
}

/// The middle of an image, or what it is resized to where it is too small.
pub(crate) fn center_crop(crop: &ops::CenterCrop, from: Shape) -> Plain {
    let [height, width, _] = from.as_map().unwrap_or_default();
    match (height.checked_sub(crop.height), width.checked_sub(crop.width)) {
        (Some(rows), Some(columns)) => Plain::Crop([rows / 2, columns / 2]),
        _ => Plain::Resize(ops::Resizing::new(crop.height, crop.width).fit(ops::Fit::Crop)),
    }
}

/// Scale and shift of each place that a normalization by a data set's statistics comes to.
pub(crate) fn normalization<B: Backend>(
    layer: &LayerView<'_, B>,
    norm: &ops::Normalization,
    shape: Shape,
) -> Result<[Stretched; 2], NetworkError> {
    /// The least deviation that Keras divides by.
    const LEAST: f64 = 1e-7;
    let (mean, variance) = match &norm.given {
        Some(given) => (given.mean.clone(), given.variance.clone()),
        None => {
            let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
            (wide(variable(layer, "mean")?), wide(variable(layer, "variance")?))
        }
    };
    let count = mean.len().max(variance.len());
    let sizes = if count == 1 { [1; 3] } else { sizes(along(&norm.axes, shape), shape) };
    let (mut scale, mut shift) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for place in 0..count {
        let at = |values: &[f64]| values.get(place).or(values.first()).copied().unwrap_or(0.0);
        let (mean, deviation) = (at(&mean), at(&variance).sqrt().max(LEAST));
        let (factor, offset) =
            if norm.invert { (deviation, mean) } else { (1.0 / deviation, -mean / deviation) };
        scale.push(factor as f32);
        shift.push(offset as f32);
    }
    Ok([Stretched { sizes, values: scale }, Stretched { sizes, values: shift }])
}

/// The same, where it differs by channel only.
fn by_channel(scale: &Stretched, shift: &Stretched, channels: usize) -> Vec<(f64, f64)> {
    let at = |values: &Stretched, channel: usize| {
        let pixel = values.pixel(0, 0);
        f64::from(*pixel.get(channel).unwrap_or(&pixel[0]))
    };
    (0..channels).map(|channel| (at(scale, channel), at(shift, channel))).collect()
}

/// What a convolution multiplies with.
struct Kernel {
    groups: usize,
    /// Keras's: `[tap][in / groups][out]`.
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

/// Collects the nodes.
struct Lower {
    nodes: Vec<Node>,
}

impl Lower {
    fn push(&mut self, name: &str, op: NodeOp, inputs: Vec<usize>, shape: Shape) -> usize {
        let element = Element::F32;
        self.nodes.push(Node { name: name.to_owned(), op, inputs, shape, element });
        self.nodes.len() - 1
    }

    /// With a function of its values behind it.
    fn activate(&mut self, name: &str, activation: Activation, input: usize) -> usize {
        if activation.limits() == Activation::Linear.limits() {
            return input;
        }
        let shape = self.nodes[input].shape;
        self.push(name, NodeOp::Activation(activation), vec![input], shape)
    }

    /// A convolution of maps in groups.
    fn conv(
        &mut self,
        name: &str,
        mut input: usize,
        window: &Window,
        kernel: Kernel,
        shape: Shape,
    ) -> Result<usize, PlanError> {
        let Kernel { groups, weights, bias } = kernel;
        let [height, width, inputs] = map(name, self.nodes[input].shape)?;
        let outputs = shape.channels();
        let bias = bias.unwrap_or_else(|| vec![0.0; outputs]);
        let mut edges = window.edges(height, width);
        if is_wide(edges, window) {
            let padded = padded([height, width, inputs], edges);
            input = self.push(name, NodeOp::Pad(edges), vec![input], padded);
            edges = [[0, 0]; 2];
        }
        let depthwise = groups > 1
            && groups == inputs
            && inputs == outputs
            && window.kernel[0] <= MOST_KERNEL_ROWS;
        let conv = Conv {
            depthwise,
            groups: if depthwise { 1 } else { groups },
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            before: [edges[0][0], edges[1][0]],
            ..Conv::new([inputs, outputs], weights, bias)
        };
        Ok(self.push(name, NodeOp::Conv(conv), vec![input], shape))
    }

    fn pool(
        &mut self,
        name: &str,
        pool: &ops::Pool2d,
        input: usize,
        shape: Shape,
    ) -> Result<usize, PlanError> {
        let [height, width, _] = map(name, self.nodes[input].shape)?;
        let edges = pool.window.edges(height, width);
        let is_max = pool.kind == PoolKind::Max;
        let counts_padding = pool.counts_padding && !is_max && edges != [[0, 0]; 2];
        let before = [edges[0][0], edges[1][0]];
        let Window { kernel, stride, dilation, .. } = pool.window;
        let op = if counts_padding || dilation != [1, 1] {
            NodeOp::Plain(Plain::Pool(WidePool {
                is_max,
                kernel,
                stride,
                dilation,
                before,
                counts_padding,
            }))
        } else {
            NodeOp::Pool(Pool { is_max, kernel, stride, before, limits: Limits::NONE })
        };
        Ok(self.push(name, op, vec![input], shape))
    }

    fn layer<B: Backend>(
        &mut self,
        layer: &LayerView<'_, B>,
        inputs: Vec<usize>,
    ) -> Result<usize, PlanError> {
        let (name, shape) = (layer.name, layer.shape);
        let missing = || NetworkError::graph(format!("layer `{name}` has no input"));
        let &input = inputs.first().ok_or_else(missing)?;
        let from = self.nodes[input].shape;
        let op = match layer.op {
            Op::Conv2d(conv) => {
                let (weights, bias) = (variable(layer, "kernel")?, layer.host("bias"));
                let kernel = Kernel { groups: conv.groups, weights, bias };
                let sum = self.conv(name, input, &conv.window, kernel, shape)?;
                return Ok(self.activate(name, conv.activation, sum));
            }
            Op::DepthwiseConv2d(conv) => {
                // `[tap][channel][multiplier]`, as a convolution in groups of one channel has it.
                let (weights, bias) = (variable(layer, "kernel")?, layer.host("bias"));
                let groups = from.channels();
                let kernel = Kernel { groups, weights, bias };
                let sum = self.conv(name, input, &conv.window, kernel, shape)?;
                return Ok(self.activate(name, conv.activation, sum));
            }
            Op::Dense(dense) => {
                let weights = variable(layer, "kernel")?;
                let bias = layer.host("bias").unwrap_or_else(|| vec![0.0; dense.units]);
                let channels = [from.channels(), dense.units];
                let op = match from {
                    Shape::Flat(_) => NodeOp::Dense { weights, bias, limits: Limits::NONE },
                    Shape::Map { .. } => NodeOp::Conv(Conv::new(channels, weights, bias)),
                };
                let sum = self.push(name, op, vec![input], shape);
                return Ok(self.activate(name, dense.activation, sum));
            }
            Op::BatchNorm(norm) => NodeOp::Affine(batch_norm(layer, norm)?),
            Op::Activation(activation) => {
                return Ok(self.activate(name, activation.function, input));
            }
            Op::Pool2d(pool) => return self.pool(name, pool, input, shape),
            Op::GlobalPool(pool) => NodeOp::Global(pool.kind),
            Op::ZeroPadding2d(pad) if pad.padding == [[0, 0]; 2] => return Ok(input),
            Op::ZeroPadding2d(pad) => NodeOp::Pad(pad.padding),
            Op::Flatten(_) => match from {
                Shape::Flat(_) => return Ok(input),
                Shape::Map { .. } => NodeOp::Flatten,
            },
            Op::Rescaling(rescaling) => NodeOp::Affine(rescaling.by_channel(from.channels())),
            // Nothing, but in training.
            Op::Dropout(_) | Op::Identity(_) => return Ok(input),
            Op::Merge(merge) => NodeOp::Merge(merge.kind),
            Op::ScaledAdd(sum) => {
                let &branch = inputs.last().ok_or_else(missing)?;
                let from = self.nodes[branch].shape;
                // The convolution that makes the branch takes both, where there is one.
                let scale = NodeOp::Affine(vec![(sum.scale, 0.0); from.channels()]);
                let scaled = self.push(name, scale, vec![branch], from);
                let sum = NodeOp::Merge(MergeKind::Add);
                return Ok(self.push(name, sum, vec![input, scaled], shape));
            }
            Op::SeparableConv2d(conv) => {
                let groups = from.channels();
                let between = shape.with_channels(groups * conv.depth_multiplier);
                let weights = variable(layer, "depthwise_kernel")?;
                let kernel = Kernel { groups, weights, bias: None };
                let x = self.conv(name, input, &conv.window, kernel, between)?;
                let bias = layer.host("bias").unwrap_or_else(|| vec![0.0; conv.filters]);
                let channels = [between.channels(), conv.filters];
                let weights = variable(layer, "pointwise_kernel")?;
                let op = NodeOp::Conv(Conv::new(channels, weights, bias));
                let sum = self.push(name, op, vec![x], shape);
                return Ok(self.activate(name, conv.activation, sum));
            }
            Op::LayerNorm(norm) => {
                let over = along(&norm.axes, from);
                let stretched = |name: &str| {
                    layer.host(name).map(|values| Stretched { sizes: sizes(over, from), values })
                };
                NodeOp::Plain(Plain::Norm(Norm {
                    axes: Axes { over, groups: 1 },
                    epsilon: Some(norm.epsilon),
                    gamma: stretched("gamma"),
                    beta: stretched("beta"),
                }))
            }
            Op::GroupNorm(norm) => {
                let sizes = [1, 1, from.channels()];
                let stretched =
                    |name: &str| layer.host(name).map(|values| Stretched { sizes, values });
                NodeOp::Plain(Plain::Norm(Norm {
                    axes: group_axes(norm, from),
                    epsilon: Some(norm.epsilon),
                    gamma: stretched("gamma"),
                    beta: stretched("beta"),
                }))
            }
            Op::UnitNorm(norm) => {
                let axes = Axes { over: along(&norm.axes, from), groups: 1 };
                NodeOp::Plain(Plain::Norm(Norm { axes, epsilon: None, gamma: None, beta: None }))
            }
            Op::Lrn(lrn) => NodeOp::Plain(Plain::Lrn(lrn.clone())),
            Op::Normalization(norm) => {
                let [scale, shift] = normalization(layer, norm, from)?;
                match scale.sizes {
                    [1, 1, _] => NodeOp::Affine(by_channel(&scale, &shift, from.channels())),
                    _ => NodeOp::Plain(Plain::Scale(scale, shift)),
                }
            }
            Op::LayerScale(_) => {
                let gamma = variable(layer, "gamma")?;
                NodeOp::Affine(gamma.into_iter().map(|gamma| (f64::from(gamma), 0.0)).collect())
            }
            Op::SoftmaxOver(softmax) => {
                let over = along(&softmax.axes, from);
                NodeOp::Plain(Plain::Softmax(Axes { over, groups: 1 }))
            }
            Op::Prelu(_) => NodeOp::Plain(Plain::Prelu(Stretched {
                sizes: prelu_sizes(layer, from),
                values: variable(layer, "alpha")?,
            })),
            Op::Cropping2d(crop) => {
                let [rows, columns] = crop.cropping;
                NodeOp::Plain(Plain::Crop([rows[0], columns[0]]))
            }
            Op::CenterCrop(crop) => NodeOp::Plain(center_crop(crop, from)),
            Op::RandomCrop(crop) if crop.resizes => {
                let resizing = ops::Resizing::new(crop.height, crop.width).fit(ops::Fit::Crop);
                NodeOp::Plain(Plain::Resize(resizing))
            }
            Op::Resizing(resizing) => NodeOp::Plain(Plain::Resize(*resizing)),
            Op::Reshape(_) if from == shape => return Ok(input),
            // Both orders are height, width, channels.
            Op::Reshape(_) if matches!(shape, Shape::Flat(_)) => NodeOp::Flatten,
            Op::Reshape(_) => NodeOp::Plain(Plain::Reshape),
            Op::Permute(permute) => match permute.dims[..] {
                [a, b, c] => NodeOp::Plain(Plain::Permute([a - 1, b - 1, c - 1])),
                _ => return Ok(input),
            },
            // Nothing, but in training.
            Op::RandomCrop(_) | Op::SharedDropout(_) | Op::Noise(_) | Op::TrainingOnly(_) => {
                return Ok(input);
            }
            Op::Concatenate(_) if inputs.len() == 1 => return Ok(input),
            Op::Concatenate(_) => NodeOp::Concat,
        };
        Ok(self.push(name, op, inputs, shape))
    }
}

/// Height, width and channels of a layer's input.
fn map(layer: &str, shape: Shape) -> Result<[usize; 3], PlanError> {
    let what = || format!("maps, where {shape} comes in");
    shape.as_map().ok_or_else(|| PlanError::Unsupported { layer: layer.to_owned(), what: what() })
}

/// Whether windows may lie wholly in the padding, which only products can do.
fn is_wide(edges: [[usize; 2]; 2], window: &Window) -> bool {
    (0..2).any(|axis| edges[axis].iter().any(|&edge| edge >= window.extent(axis)))
}

/// The shape of maps with padding.
fn padded([height, width, channels]: [usize; 3], [rows, columns]: [[usize; 2]; 2]) -> Shape {
    let (rows, columns): (usize, usize) = (rows.iter().sum(), columns.iter().sum());
    Shape::map(height + rows, width + columns, channels)
}
