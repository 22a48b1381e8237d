//! A frozen network on any backend of Burn's: normalizations are part of the weights, as in a [`Plan`](crate::Plan), clamps and
//! shortcuts follow at once, and tensors are on the device when the first batch comes. Layers that need other kernels than
//! these run as Burn runs them.
//!
//! Values are rows, `[batch * height * width, channels]` or `[batch, features]`: on GPUs, convolutions read and leave them so, a
//! convolution of one pixel is a product, to which Burn's fusion adds bias, shortcut and clamp, and nothing is transposed.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{DType, FloatDType, Tensor, TensorData, backend::Backend};
use rekindle_nn::ops::{MergeKind, PoolKind};
use rekindle_nn::run::pad;
use rekindle_nn::{Activation, Eager, Features, Interpreter, Network, Shape};

use crate::gpu::{self, WindowConfig};
use crate::ir::{Conv, Node, NodeOp, Pool, has_value};
use crate::lower::nodes;
use crate::rows::{map, rows};
use crate::{Limits, PlanError, passes};

/// A frozen network, or a part of one up to a layer, on a device.
#[derive(Debug)]
pub struct Folded<B: Backend> {
    steps: Vec<Step<B>>,
    output: usize,
    dtype: FloatDType,
}

#[derive(Debug)]
struct Step<B: Backend> {
    inputs: Vec<usize>,
    work: Work<B>,
    shape: Shape,
    /// The values that nothing reads after this.
    done: Vec<usize>,
}

#[derive(Debug)]
enum Work<B: Backend> {
    /// The image, or what has no value of its own.
    None,
    /// A factor of each channel.
    Scale(Tensor<B, 2>, Epilogue<B>),
    /// A convolution of one pixel, or a dense layer: `[inputs, outputs]`.
    Product(Tensor<B, 2>, Epilogue<B>),
    Conv(Convolution<B>, Epilogue<B>),
    Pool(Pool),
    Global(PoolKind),
    Flatten,
    Activation(Activation),
    Merge(MergeKind),
    /// Zeros around maps.
    Pad([[usize; 2]; 2]),
    /// What each part is clamped to.
    Concat(Vec<Limits>),
    /// A layer of the network, by its position.
    Layer(Arc<Network<B>>, usize),
}

/// What follows a product: the bias `[1, channels]`, a shortcut where there is one, and the clamp.
#[derive(Debug)]
struct Epilogue<B: Backend> {
    bias: Tensor<B, 2>,
    limits: Limits,
}

#[derive(Debug)]
struct Convolution<B: Backend> {
    weight: Filters<B>,
    window: WindowConfig,
}

/// Weights in the order of the kernels that read them.
#[derive(Debug, Clone)]
enum Filters<B: Backend> {
    /// `[kernel height * kernel width, channels]`.
    Depthwise(Tensor<B, 2>),
    /// Of few inputs: `[kernel height * kernel width * inputs, outputs]`.
    Stem(Tensor<B, 2>),
    /// `[outputs, kernel height, kernel width, inputs]`.
    Full(Tensor<B, 4>),
}

/// A value while the network runs.
#[derive(Clone)]
struct Value<B: Backend> {
    rows: Tensor<B, 2>,
    shape: Shape,
}

impl<B: Backend> Folded<B> {
    /// `network`, up to and with layer `until` or to its end, computed with `dtype`.
    ///
    /// # Errors
    /// When the network has no such layer.
    pub fn new(
        network: &Network<B>,
        until: Option<&str>,
        dtype: FloatDType,
        device: &B::Device,
    ) -> Result<Self, PlanError> {
        let (mut nodes, output) = nodes(network, until, is_foreign)?;
        let network = Arc::new(network.clone());
        let output = passes::fuse(&mut nodes, output);
        passes::pools_last(&mut nodes, output);
        let mut clamps = late_clamps(&mut nodes, output);
        let mut last = vec![0; nodes.len()];
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| has_value(&node.op)) {
            node.inputs.iter().for_each(|&input| last[input] = index);
        }
        last[output] = usize::MAX;
        let shapes: Vec<Shape> = nodes.iter().map(|node| node.shape).collect();
        let step = |(index, node): (usize, Node)| {
            let inputs = if has_value(&node.op) { node.inputs.clone() } else { Vec::new() };
            let done = inputs.iter().copied().filter(|&input| last[input] == index).collect();
            let shape = node.shape;
            let clamps = clamps.remove(&index).unwrap_or_default();
            let from = node.inputs.first().map_or([1, 1], |&input| size(shapes[input]));
            let work = match node.op {
                NodeOp::Layer(position) => Work::Layer(Arc::clone(&network), position),
                _ => work(node, from, clamps, dtype, device)?,
            };
            Ok(Step { inputs, work, shape, done })
        };
        let steps = nodes.into_iter().enumerate().map(step).collect::<Result<_, PlanError>>()?;
        Ok(Self { steps, output, dtype })
    }

    /// Runs a batch: `[batch, channels, height, width]`, preprocessed.
    #[must_use]
    pub fn run(&self, images: Tensor<B, 4>) -> Features<B> {
        let back = FloatDType::from(images.dtype());
        let mut values: Vec<Option<Value<B>>> = vec![None; self.steps.len()];
        let images = rows(images).cast(self.dtype);
        values[0] = Some(Value { rows: images, shape: self.steps[0].shape });
        for (index, step) in self.steps.iter().enumerate().skip(1) {
            let inputs = step.inputs.iter().filter_map(|&input| values[input].clone()).collect();
            if let Some(rows) = step.work.run(inputs, step.shape, self.dtype) {
                values[index] = Some(Value { rows, shape: step.shape });
            }
            step.done.iter().for_each(|&input| values[input] = None);
        }
        let Some(Value { rows, shape }) = values[self.output].take() else {
            unreachable!("the output's step is the last of those that it needs")
        };
        let rows = rows.cast(back);
        match shape {
            Shape::Map { height, width, .. } => Features::Map(map(rows, [height, width])),
            Shape::Flat(_) => Features::Flat(rows),
        }
    }
}

/// Has concatenations read what goes into concatenations that only they read, and clamp what comes from full convolutions, which
/// then is passed over once instead of twice. For each of them, what its parts are clamped to.
fn late_clamps(nodes: &mut [Node], output: usize) -> HashMap<usize, Vec<Limits>> {
    let mut readers = vec![0; nodes.len()];
    readers[output] += 1;
    for node in nodes.iter().filter(|node| has_value(&node.op)) {
        node.inputs.iter().for_each(|&input| readers[input] += 1);
    }
    let mut all: HashMap<usize, Vec<Limits>> = HashMap::new();
    for index in 0..nodes.len() {
        if !matches!(nodes[index].op, NodeOp::Concat) {
            continue;
        }
        let (mut parts, mut clamps) = (Vec::new(), Vec::new());
        for input in std::mem::take(&mut nodes[index].inputs) {
            let is_own = readers[input] == 1;
            // Taken only from one that nothing else reads: others stay as they are.
            let inner = if is_own { all.remove(&input) } else { None };
            if let Some(inner) = inner {
                parts.append(&mut nodes[input].inputs);
                clamps.extend(inner);
                nodes[input].op = NodeOp::Fused;
                continue;
            }
            parts.push(input);
            let has_shortcut = nodes[input].inputs.len() > 1;
            clamps.push(match &mut nodes[input].op {
                NodeOp::Conv(conv)
                    if is_own && !has_shortcut && !conv.is_pixel() && !conv.depthwise =>
                {
                    std::mem::replace(&mut conv.limits, Limits::NONE)
                }
                _ => Limits::NONE,
            });
        }
        nodes[index].inputs = parts;
        all.insert(index, clamps);
    }
    all
}

/// What has no kernel here, and runs as Burn has it.
fn is_foreign(op: &NodeOp) -> bool {
    match op {
        NodeOp::Conv(conv) => conv.groups > 1 || conv.dilation != [1, 1],
        NodeOp::Plain(_) => true,
        _ => false,
    }
}

/// `from` is the height and width of the first input.
fn work<B: Backend>(
    node: Node,
    from: [usize; 2],
    clamps: Vec<Limits>,
    dtype: FloatDType,
    device: &B::Device,
) -> Result<Work<B>, PlanError> {
    let matrix = |values: Vec<f32>, columns: usize| {
        let shape = [values.len() / columns, columns];
        Tensor::<B, 2>::from_data(TensorData::new(values, shape), device).cast(dtype)
    };
    Ok(match node.op {
        NodeOp::Conv(conv) => {
            let is_pixel = conv.is_pixel();
            let Conv { channels: [inputs, outputs], kernel, stride, before, depthwise, .. } = conv;
            let bias = matrix(conv.bias, outputs);
            let epilogue = Epilogue { bias, limits: conv.limits };
            // `[rows, columns, channels]` of a depthwise one, else `[rows, columns, inputs, outputs]`.
            if is_pixel && depthwise {
                return Ok(Work::Scale(matrix(conv.weights, outputs), epilogue));
            }
            if is_pixel {
                return Ok(Work::Product(matrix(conv.weights, outputs), epilogue));
            }
            let weight = if depthwise {
                Filters::Depthwise(matrix(conv.weights, outputs))
            } else if inputs <= gpu::MOST_STEM_CHANNELS {
                Filters::Stem(matrix(conv.weights, outputs))
            } else {
                let of = |output| conv.weights.iter().skip(output).step_by(outputs).copied();
                let values: Vec<f32> = (0..outputs).flat_map(of).collect();
                let shape = [outputs, kernel[0], kernel[1], inputs];
                let weight = Tensor::<B, 4>::from_data(TensorData::new(values, shape), device);
                Filters::Full(weight.cast(dtype))
            };
            let (output, limits) = (size(node.shape), epilogue.limits);
            let window = WindowConfig { input: from, kernel, stride, before, output, limits };
            Work::Conv(Convolution { weight, window }, epilogue)
        }
        NodeOp::Dense { weights, bias, limits } => {
            let outputs = bias.len();
            let epilogue = Epilogue { bias: matrix(bias, outputs), limits };
            Work::Product(matrix(weights, outputs), epilogue)
        }
        NodeOp::Pool(pool) => Work::Pool(pool),
        NodeOp::Global(kind) => Work::Global(kind),
        NodeOp::Flatten => Work::Flatten,
        NodeOp::Concat => Work::Concat(clamps),
        NodeOp::Activation(activation) => Work::Activation(activation),
        NodeOp::Merge(kind) => Work::Merge(kind),
        NodeOp::Pad(edges) => Work::Pad(edges),
        NodeOp::Input | NodeOp::Fused => Work::None,
        NodeOp::Strip(..)
        | NodeOp::Points(..)
        | NodeOp::Narrow
        | NodeOp::Quantize(_)
        | NodeOp::Dequantize
        | NodeOp::Affine(_) => {
            unreachable!("no pass that was run leaves any")
        }
        NodeOp::Layer(_) | NodeOp::Plain(_) => unreachable!("they are layers of the network"),
    })
}

impl<B: Backend> Work<B> {
    /// The rows of the value, where there is one of its own.
    fn run(&self, inputs: Vec<Value<B>>, output: Shape, dtype: FloatDType) -> Option<Tensor<B, 2>> {
        match self {
            Self::Merge(kind) => return merge(*kind, inputs),
            Self::Layer(network, position) => {
                return Some(layer(network, *position, inputs).cast(dtype));
            }
            _ => {}
        }
        let mut inputs = inputs.into_iter();
        let Value { rows: x, shape } = inputs.next()?;
        let mut shortcut = || inputs.next().map(|value| value.rows);
        Some(match self {
            Self::None | Self::Merge(_) | Self::Layer(..) => return None,
            Self::Scale(factors, epilogue) => epilogue.add(x * factors.clone(), shortcut()),
            Self::Product(weight, epilogue) => epilogue.add(x.matmul(weight.clone()), shortcut()),
            Self::Conv(conv, epilogue) => conv.run(x, epilogue, shortcut()),
            Self::Activation(activation) => activation.forward(x),
            Self::Pad(edges) => rows(pad(map(x, size(shape)), *edges, 0.0)),
            Self::Pool(pool) => {
                let y = pool_map(pool, map(x, size(shape)), size(output));
                pool.limits.clamp(rows(y))
            }
            Self::Global(kind) => {
                let [pixels, channels] = x.dims();
                let [height, width] = size(shape);
                let batch = pixels / (height * width);
                let x = x.reshape([batch, height * width, channels]);
                let y = match kind {
                    PoolKind::Max => x.max_dim(1),
                    PoolKind::Average => x.mean_dim(1),
                };
                y.reshape([batch, channels])
            }
            // Keras's order is that of the rows.
            Self::Flatten => {
                let batch = x.dims()[0] / size(shape).iter().product::<usize>();
                x.reshape([batch, shape.count()])
            }
            Self::Concat(limits) => {
                let parts: Vec<_> = [x].into_iter().chain(inputs.map(|v| v.rows)).collect();
                gpu::join(&parts, limits).unwrap_or_else(|| {
                    let parts = parts.into_iter().zip(limits);
                    Tensor::cat(parts.map(|(part, limits)| limits.clamp(part)).collect(), 1)
                })
            }
        })
    }
}

/// The rows that a layer of the network makes, computed in f32 as its parameters are.
fn layer<B: Backend>(network: &Network<B>, position: usize, inputs: Vec<Value<B>>) -> Tensor<B, 2> {
    let inputs = inputs.into_iter().map(|Value { rows, shape }| {
        let rows = rows.cast(FloatDType::F32);
        match shape {
            Shape::Map { height, width, .. } => Features::Map(map(rows, [height, width])),
            Shape::Flat(_) => Features::Flat(rows),
        }
    });
    let layer = network.view(position);
    match Eager::inference().layer(layer, inputs.collect()) {
        Ok(Features::Map(x)) => rows(x),
        Ok(Features::Flat(x)) => x,
        Err(error) => unreachable!("the graph was checked when it was made: {error}"),
    }
}

/// Height and width.
fn size(shape: Shape) -> [usize; 2] {
    match shape {
        Shape::Map { height, width, .. } => [height, width],
        Shape::Flat(_) => [1, 1],
    }
}

impl<B: Backend> Epilogue<B> {
    fn add(&self, y: Tensor<B, 2>, shortcut: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        let y = y + self.bias.clone();
        let y = match shortcut {
            Some(x) => y + x,
            None => y,
        };
        self.limits.clamp(y)
    }
}

impl<B: Backend> Convolution<B> {
    fn run(
        &self,
        x: Tensor<B, 2>,
        epilogue: &Epilogue<B>,
        shortcut: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let WindowConfig { input, kernel, stride, before, output, .. } = self.window;
        // What the last window needs behind the image.
        let after = [0, 1].map(|axis| {
            let reach = (output[axis] - 1) * stride[axis] + kernel[axis];
            reach.saturating_sub(before[axis] + input[axis])
        });
        if shortcut.is_none() {
            let (bias, window) = (&epilogue.bias, self.window);
            let done = match &self.weight {
                Filters::Depthwise(taps) => gpu::depthwise_rows(&x, taps, bias, window),
                Filters::Stem(taps) => gpu::stem(&x, taps, bias, window),
                Filters::Full(weight) if before == after => gpu::conv(&x, weight, bias, window),
                Filters::Full(_) => None,
            };
            if let Some(y) = done {
                return y;
            }
        }
        let [channels, outputs] = [x.dims()[1], epilogue.bias.dims()[1]];
        let [down, right] = kernel;
        let (weight, groups) = match self.weight.clone() {
            Filters::Depthwise(taps) => {
                (taps.reshape([down, right, 1, outputs]).permute([3, 2, 0, 1]), channels)
            }
            Filters::Stem(taps) => {
                (taps.reshape([down, right, channels, outputs]).permute([3, 2, 0, 1]), 1)
            }
            Filters::Full(weight) => (weight.permute([0, 3, 1, 2]), 1),
        };
        let x = map(x, input);
        // Burn pads unevenly with f32 only.
        let (x, before, after) = match before == after {
            true => (x, before, after),
            false => {
                let [top, left] = before;
                (pad(x, [[top, after[0]], [left, after[1]]], 0.0), [0, 0], [0, 0])
            }
        };
        let options = PaddedConvOptions::asymmetric(stride, before, after, [1, 1], groups);
        epilogue.add(rows(conv2d(x, weight, None, options)), shortcut)
    }
}

/// What lies under each window of maps.
fn pool_map<B: Backend>(pool: &Pool, x: Tensor<B, 4>, output: [usize; 2]) -> Tensor<B, 4> {
    let &Pool { is_max, kernel, stride, before, .. } = pool;
    let [_, _, height, width] = x.dims();
    // What the last window needs behind the image.
    let edges = [0, 1].map(|axis| {
        let reach = (output[axis] - 1) * stride[axis] + kernel[axis];
        [before[axis], reach.saturating_sub(before[axis] + [height, width][axis])]
    });
    if is_max {
        // Lowest, not -infinity: some backends compute with it.
        let lowest = if x.dtype() == DType::F16 { -65504.0 } else { f32::MIN };
        return max_pool2d(pad(x, edges, lowest), kernel, stride, [0, 0], [1, 1], false);
    }
    if edges.iter().all(|[before, after]| before == after) {
        return avg_pool2d(x, kernel, stride, before, false, false);
    }
    // Burn pads evenly only: the mean over zeros, then their share is undone.
    let ones = Tensor::<B, 4>::ones([1, 1, height, width], &x.device()).cast(x.dtype());
    let mean = |x| avg_pool2d(pad(x, edges, 0.0), kernel, stride, [0, 0], true, false);
    mean(x) / mean(ones)
}

/// Values element by element, sizes of 1 stretched.
fn merge<B: Backend>(kind: MergeKind, inputs: Vec<Value<B>>) -> Option<Tensor<B, 2>> {
    let count = inputs.len();
    let is_same = inputs.iter().all(|input| input.shape == inputs[0].shape);
    let all = if is_same {
        inputs.into_iter().map(|input| input.rows).reduce(|a, b| kind.two(a, b))?
    } else {
        let maps: Vec<Tensor<B, 4>> = inputs
            .into_iter()
            .map(|Value { rows, shape }| {
                let ([height, width], channels) = (size(shape), shape.channels());
                let batch = rows.dims()[0] / (height * width);
                rows.reshape([batch, height, width, channels])
            })
            .collect();
        let [batch, height, width, channels] = maps
            .iter()
            .map(Tensor::dims)
            .reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2]), a[3].max(b[3])])?;
        let all = maps.into_iter().reduce(|a, b| kind.two(a, b))?;
        all.reshape([batch * height * width, channels])
    };
    Some(if kind == MergeKind::Average { all.mul_scalar(1.0 / count as f64) } else { all })
}
