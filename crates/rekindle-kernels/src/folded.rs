//! A frozen network on any backend of Burn's: normalizations are part of the weights, as in a [`Plan`](crate::Plan), clamps and
//! shortcuts follow at once, and tensors are on the device when the first batch comes.

use burn::module::ParamId;
use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{FloatDType, Tensor, TensorData, backend::Backend};
use rekindle_nn::interpret::pad;
use rekindle_nn::layers::Activation;
use rekindle_nn::{
    Eager, Features, Interpreter, Layout, Network, Op, Pool, Section, Shape, VariableSpec,
};

use crate::lower::Lower;
use crate::plan::{Conv, Node, NodeOp, fuse, has_value};
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
    /// The values that nothing reads after this.
    done: Vec<usize>,
}

#[derive(Debug)]
enum Work<B: Backend> {
    /// The image, or what has no value of its own.
    None,
    Conv(Convolution<B>),
    Dense {
        weight: Tensor<B, 2>,
        bias: Tensor<B, 1>,
        activation: Activation,
    },
    Pool {
        pool: Pool,
        is_max: bool,
        limits: Limits,
    },
    Global {
        is_max: bool,
    },
    Flatten,
    Concat,
}

/// A second input is a shortcut to add before the clamp.
#[derive(Debug)]
struct Convolution<B: Backend> {
    weight: Tensor<B, 4>,
    bias: Tensor<B, 1>,
    depthwise: bool,
    kernel: [usize; 2],
    stride: [usize; 2],
    before: [usize; 2],
    output: [usize; 2],
    limits: Limits,
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
        let mut last = vec![0; nodes.len()];
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| has_value(&node.op)) {
            node.inputs.iter().for_each(|&input| last[input] = index);
        }
        last[output] = usize::MAX;
        let step = |(index, node): (usize, Node)| {
            let inputs = if has_value(&node.op) { node.inputs.clone() } else { Vec::new() };
            let done = inputs.iter().copied().filter(|&input| last[input] == index).collect();
            Step { inputs, work: work(node, dtype, device), done }
        };
        Ok(Self { steps: nodes.into_iter().enumerate().map(step).collect(), output, dtype })
    }

    /// Runs a batch: `[batch, channels, height, width]`, preprocessed.
    #[must_use]
    pub fn run(&self, images: Tensor<B, 4>) -> Features<B> {
        let dtype = images.dtype();
        let mut values: Vec<Option<Features<B>>> = vec![None; self.steps.len()];
        values[0] = Some(Features::Map(images.cast(self.dtype)));
        for (index, step) in self.steps.iter().enumerate().skip(1) {
            let inputs = step.inputs.iter().filter_map(|&input| values[input].clone()).collect();
            let value = step.work.run(inputs);
            if value.is_some() {
                values[index] = value;
            }
            step.done.iter().for_each(|&input| values[input] = None);
        }
        let back = FloatDType::from(dtype);
        match values[self.output].take() {
            Some(Features::Map(x)) => Features::Map(x.cast(back)),
            Some(Features::Flat(x)) => Features::Flat(x.cast(back)),
            None => unreachable!("the output's step is the last of those that it needs"),
        }
    }
}

fn work<B: Backend>(node: Node, dtype: FloatDType, device: &B::Device) -> Work<B> {
    match node.op {
        NodeOp::Conv(conv) => {
            let output = match node.shape {
                Shape::Map { height, width, .. } => [height, width],
                Shape::Flat(_) => [1, 1],
            };
            Work::Conv(convolution(conv, output, dtype, device))
        }
        NodeOp::Dense { weights, bias, activation } => {
            let outputs = bias.len();
            let shape = [weights.len() / outputs, outputs];
            let weight = Tensor::<B, 2>::from_data(TensorData::new(weights, shape), device);
            let bias = Tensor::<B, 1>::from_data(TensorData::new(bias, [outputs]), device);
            Work::Dense { weight: weight.cast(dtype), bias: bias.cast(dtype), activation }
        }
        NodeOp::Pool { pool, is_max, limits } => Work::Pool { pool, is_max, limits },
        NodeOp::Global { is_max } => Work::Global { is_max },
        NodeOp::Flatten => Work::Flatten,
        NodeOp::Concat => Work::Concat,
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

fn convolution<B: Backend>(
    conv: Conv,
    output: [usize; 2],
    dtype: FloatDType,
    device: &B::Device,
) -> Convolution<B> {
    let ([inputs, outputs], [rows, columns]) = (conv.channels, conv.kernel);
    let (shape, layout) = match conv.depthwise {
        true => (vec![rows, columns, inputs, 1], Layout::Depthwise),
        false => (vec![rows, columns, inputs, outputs], Layout::Conv),
    };
    let spec = VariableSpec { name: "kernel", shape, layout, id: ParamId::new(), trainable: false };
    let weight = Tensor::<B, 4>::from_data(spec.to_burn(conv.weights), device);
    let bias = Tensor::<B, 1>::from_data(TensorData::new(conv.bias, [outputs]), device);
    Convolution {
        weight: weight.cast(dtype),
        bias: bias.cast(dtype),
        depthwise: conv.depthwise,
        kernel: conv.kernel,
        stride: conv.stride,
        before: conv.before,
        output,
        limits: conv.limits,
    }
}

impl<B: Backend> Work<B> {
    /// The value, where there is one of its own.
    fn run(&self, inputs: Vec<Features<B>>) -> Option<Features<B>> {
        let mut inputs = inputs.into_iter();
        Some(match (self, inputs.next()?) {
            (Self::Conv(conv), Features::Map(x)) => {
                let shortcut = match inputs.next() {
                    Some(Features::Map(x)) => Some(x),
                    _ => None,
                };
                Features::Map(conv.run(x, shortcut))
            }
            // Scale and shift of each feature.
            (Self::Conv(conv), Features::Flat(x)) => {
                let (scale, count) = (conv.weight.clone(), conv.bias.dims()[0]);
                let y = x * scale.reshape([1, count]) + conv.bias.clone().unsqueeze();
                Features::Flat(conv.limits.clamp(y))
            }
            (Self::Dense { weight, bias, activation }, Features::Flat(x)) => {
                let y = x.matmul(weight.clone()) + bias.clone().unsqueeze();
                Features::Flat(activation.forward(y))
            }
            (Self::Pool { pool, is_max, limits }, x) => {
                let op = if *is_max { Op::MaxPool(*pool) } else { Op::AvgPool(*pool) };
                match eager(op, vec![x]) {
                    Features::Map(y) => Features::Map(limits.clamp(y)),
                    Features::Flat(y) => Features::Flat(limits.clamp(y)),
                }
            }
            (Self::Global { is_max: true }, x) => eager(Op::GlobalMaxPool, vec![x]),
            (Self::Global { is_max: false }, x) => eager(Op::GlobalAvgPool, vec![x]),
            (Self::Flatten, x) => eager(Op::Flatten, vec![x]),
            (Self::Concat, x) => eager(Op::Concat, [x].into_iter().chain(inputs).collect()),
            (Self::None | Self::Dense { .. }, x) => x,
        })
    }
}

/// As the other interpreter has it; the shapes fitted when the network was walked.
fn eager<B: Backend>(op: Op<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
    let first = inputs[0].clone();
    Eager::inference().layer("frozen", op, inputs).unwrap_or(first)
}

impl<B: Backend> Convolution<B> {
    /// With the clamp at its end.
    fn run(&self, x: Tensor<B, 4>, shortcut: Option<Tensor<B, 4>>) -> Tensor<B, 4> {
        let [_, channels, height, width] = x.dims();
        #[cfg(feature = "gpu")]
        if self.depthwise && shortcut.is_none() {
            let config = crate::gpu::DepthwiseConfig {
                kernel: self.kernel,
                stride: self.stride,
                before: self.before,
                output: self.output,
                limits: self.limits,
            };
            if let Some(y) = crate::gpu::depthwise(&x, &self.weight, Some(&self.bias), config) {
                return y;
            }
        }
        // What the last window needs behind the image.
        let after = |axis: usize, size: usize| {
            let reach = (self.output[axis] - 1) * self.stride[axis] + self.kernel[axis];
            reach.saturating_sub(self.before[axis] + size)
        };
        let groups = if self.depthwise { channels } else { 1 };
        let after = [after(0, height), after(1, width)];
        // Burn pads unevenly with f32 only.
        let (x, before, after) = match self.before == after {
            true => (x, self.before, after),
            false => {
                let [top, left] = self.before;
                (pad(x, [[top, after[0]], [left, after[1]]], 0.0), [0, 0], [0, 0])
            }
        };
        let options = PaddedConvOptions::asymmetric(self.stride, before, after, [1, 1], groups);
        let y = conv2d(x, self.weight.clone(), Some(self.bias.clone()), options);
        let y = match shortcut {
            Some(x) => y + x,
            None => y,
        };
        self.limits.clamp(y)
    }
}
