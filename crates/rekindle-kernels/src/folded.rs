//! A frozen network on any backend of Burn's: normalizations are part of the weights, as in a [`Plan`](crate::Plan), clamps and
//! shortcuts follow at once, and tensors are on the device when the first batch comes.
//!
//! Values are rows, `[batch * height * width, channels]` or `[batch, features]`: on GPUs, convolutions read and leave them so, a
//! convolution of one pixel is a product, to which Burn's fusion adds bias, shortcut and clamp, and nothing is transposed.

use std::collections::HashMap;

use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{FloatDType, Tensor, TensorData, backend::Backend};
use rekindle_nn::interpret::pad;
use rekindle_nn::layers::Activation;
use rekindle_nn::{Eager, Features, Interpreter, Network, Op, Pool, Section, Shape};

use crate::gpu::{self, WindowConfig};
use crate::lower::Lower;
use crate::plan::{Conv, Node, NodeOp, fuse, has_value};
use crate::rows::{map, rows};
use crate::{Limits, PlanError};

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
    Dense {
        weight: Tensor<B, 2>,
        bias: Tensor<B, 2>,
        activation: Activation,
    },
    Conv(Convolution<B>, Epilogue<B>),
    Pool {
        pool: Pool,
        is_max: bool,
        limits: Limits,
    },
    Global {
        is_max: bool,
    },
    Flatten,
    /// What each part is clamped to.
    Concat(Vec<Limits>),
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
    /// `network`, up to and with layer `until` or to its end, for images of shape `input`, computed with `dtype`.
    ///
    /// # Errors
    /// When the network cannot take such images, has no such layer, or has a layer that cannot be folded.
    pub fn new<N: Network<B>>(
        network: &N,
        until: Option<&str>,
        input: Shape,
        dtype: FloatDType,
        device: &B::Device,
    ) -> Result<Self, PlanError> {
        let mut lower = Lower::default();
        let start = lower.input(input);
        let output = match until {
            Some(layer) => Section::until(network, &mut lower, layer, start)?,
            None => network.walk(&mut lower, start)?,
        };
        let mut nodes = lower.nodes;
        let output = fuse(&mut nodes, output)?;
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
            Step { inputs, work: work(node, from, clamps, dtype, device), shape, done }
        };
        Ok(Self { steps: nodes.into_iter().enumerate().map(step).collect(), output, dtype })
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
            if let Some(rows) = step.work.run(inputs) {
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
            if let (true, Some(inner)) = (is_own, all.remove(&input)) {
                parts.append(&mut nodes[input].inputs);
                clamps.extend(inner);
                nodes[input].op = NodeOp::Fused;
                continue;
            }
            parts.push(input);
            let has_shortcut = nodes[input].inputs.len() > 1;
            clamps.push(match &mut nodes[input].op {
                NodeOp::Conv(conv)
                    if is_own && !has_shortcut && !is_pixel(conv) && !conv.depthwise =>
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

/// Whether a convolution is a product of each pixel.
fn is_pixel(conv: &Conv) -> bool {
    conv.kernel == [1, 1] && conv.stride == [1, 1] && conv.before == [0, 0]
}

/// `from` is the height and width of the first input.
fn work<B: Backend>(
    node: Node,
    from: [usize; 2],
    clamps: Vec<Limits>,
    dtype: FloatDType,
    device: &B::Device,
) -> Work<B> {
    let matrix = |values: Vec<f32>, columns: usize| {
        let shape = [values.len() / columns, columns];
        Tensor::<B, 2>::from_data(TensorData::new(values, shape), device).cast(dtype)
    };
    match node.op {
        NodeOp::Conv(conv) => {
            let is_pixel = is_pixel(&conv);
            let Conv { channels: [inputs, outputs], kernel, stride, before, depthwise, .. } = conv;
            let bias = matrix(conv.bias, outputs);
            let epilogue = Epilogue { bias, limits: conv.limits };
            // `[rows, columns, channels]` of a depthwise one, else `[rows, columns, inputs, outputs]`.
            if is_pixel && depthwise {
                return Work::Scale(matrix(conv.weights, outputs), epilogue);
            }
            if is_pixel {
                return Work::Product(matrix(conv.weights, outputs), epilogue);
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
        NodeOp::Dense { weights, bias, activation } => {
            let outputs = bias.len();
            Work::Dense {
                weight: matrix(weights, outputs),
                bias: matrix(bias, outputs),
                activation,
            }
        }
        NodeOp::Pool { pool, is_max, limits } => Work::Pool { pool, is_max, limits },
        NodeOp::Global { is_max } => Work::Global { is_max },
        NodeOp::Flatten => Work::Flatten,
        NodeOp::Concat => Work::Concat(clamps),
        NodeOp::Input | NodeOp::Fused | NodeOp::CorrectPad(_) => Work::None,
        NodeOp::Strip(..)
        | NodeOp::Narrow
        | NodeOp::Affine(_)
        | NodeOp::Clamp(..)
        | NodeOp::Add => {
            unreachable!("`fuse` leaves none")
        }
    }
}

impl<B: Backend> Work<B> {
    /// The rows of the value, where there is one of its own.
    fn run(&self, inputs: Vec<Value<B>>) -> Option<Tensor<B, 2>> {
        let mut inputs = inputs.into_iter();
        let Value { rows: x, shape } = inputs.next()?;
        let mut shortcut = || inputs.next().map(|value| value.rows);
        Some(match self {
            Self::None => return None,
            Self::Scale(factors, epilogue) => epilogue.add(x * factors.clone(), shortcut()),
            Self::Product(weight, epilogue) => epilogue.add(x.matmul(weight.clone()), shortcut()),
            Self::Dense { weight, bias, activation } => {
                activation.forward(x.matmul(weight.clone()) + bias.clone())
            }
            Self::Conv(conv, epilogue) => conv.run(x, epilogue, shortcut()),
            Self::Pool { pool, is_max, limits } => {
                let op = if *is_max { Op::MaxPool(*pool) } else { Op::AvgPool(*pool) };
                let x = Features::Map(map(x, size(shape)));
                // The shapes fitted when the network was walked.
                match Eager::inference().layer("frozen", op, vec![x.clone()]).unwrap_or(x) {
                    Features::Map(y) => limits.clamp(rows(y)),
                    Features::Flat(y) => limits.clamp(y),
                }
            }
            Self::Global { is_max } => {
                let [pixels, channels] = x.dims();
                let [height, width] = size(shape);
                let batch = pixels / (height * width);
                let x = x.reshape([batch, height * width, channels]);
                let y = if *is_max { x.max_dim(1) } else { x.mean_dim(1) };
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
