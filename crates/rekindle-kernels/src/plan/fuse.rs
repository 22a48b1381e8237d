//! From a network's layers to a plan's nodes: what can be part of a convolution becomes part of it.

use crossbeam_queue::ArrayQueue;
use rekindle_nn::layers::Activation;
use rekindle_nn::{Pool, Shape, correct_pad};

use super::commute::pools_last;
use super::place::place;
use super::steps::{steps, winograd};
use super::{Plan, PlanError, bf16};
use crate::simd::{CHANNEL_BLOCK, zeros};
use crate::{Limits, PlanConfig, Precision};

/// Values of a widened map from which on a block is computed strip by strip: below, the rows that each thread computes beside its
/// own cost more than two meetings of all threads fewer.
const STRIPS_FROM: usize = if cfg!(test) { 512 } else { 32 * 1024 };

/// Workspaces that a plan keeps: for as many images at once.
const MOST_WORKSPACES: usize = 256;

/// Pixels of the largest map that a thread's images take together: reading the weights takes as long as products of
/// fewer pixels, and more do not stay in the cache.
const MOST_PIXELS: usize = 128;

/// One layer of the network.
pub(crate) struct Node {
    pub name: String,
    pub op: NodeOp,
    pub inputs: Vec<usize>,
    pub shape: Shape,
}

pub(crate) enum NodeOp {
    Input,
    Conv(Conv),
    /// A convolution, a depthwise one of its output, of this shape, and one of that.
    Strip(Box<[Conv; 3]>, Shape),
    /// Scale and shift of each channel.
    Affine(Vec<(f64, f64)>),
    Clamp(f32, f32),
    CorrectPad(usize),
    Dense {
        weights: Vec<f32>,
        bias: Vec<f32>,
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
    Add,
    Concat,
    /// Rounds to cells of bf16.
    Narrow,
    /// Now part of another node.
    Fused,
}

/// A convolution; weights are `[tap][in][out]`, depthwise `[tap][channel]`.
pub(crate) struct Conv {
    pub depthwise: bool,
    pub channels: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub before: [usize; 2],
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub limits: Limits,
    pub residual: Option<usize>,
    /// Neighbouring pixels that each tap takes at once.
    pub run: usize,
    /// Whether its products are of bf16.
    pub cells: bool,
    /// Whether it rounds its outputs to cells of bf16.
    pub to_cells: bool,
}

impl Conv {
    /// Scale and shift of each channel, where no convolution can take them.
    fn pointwise(affine: &[(f64, f64)]) -> Self {
        Self {
            depthwise: true,
            channels: [affine.len(); 2],
            kernel: [1, 1],
            stride: [1, 1],
            before: [0, 0],
            weights: affine.iter().map(|&(scale, _)| scale as f32).collect(),
            bias: affine.iter().map(|&(_, shift)| shift as f32).collect(),
            limits: Limits::NONE,
            residual: None,
            run: 1,
            cells: false,
            to_cells: false,
        }
    }

    /// Whether nothing comes behind the sum yet.
    fn is_open(&self) -> bool {
        self.residual.is_none() && self.limits == Limits::NONE
    }
}

/// Compiles the nodes that lead to `output`.
pub(crate) fn compile(
    mut nodes: Vec<Node>,
    output: usize,
    config: PlanConfig,
) -> Result<Plan, PlanError> {
    let config = config.checked()?;
    let PlanConfig { isa, precision } = config;
    let mut output = fuse(&mut nodes, output)?;
    let input_shape = nodes[0].shape;
    let input_at = pad_input(&mut nodes, output);
    join_strips(&mut nodes, output);
    if precision == Precision::Bf16 {
        let is_direct = |conv: &Conv, shape| winograd(conv, shape, config).is_none();
        output = bf16::narrow(&mut nodes, output, is_direct);
    }
    let places = place(&nodes, output);
    let steps = steps(nodes, &places.places, config);
    let widest = steps.iter().flat_map(|step| &step.inputs).map(|place| place.channels).max();
    let last_large = steps.iter().rposition(|step| step.out.pixels() > MOST_PIXELS);
    Ok(Plan {
        input: places.places[0],
        input_at,
        input_shape,
        output: places.places[output],
        output_shape: places.output_shape,
        kernels: isa.kernels(),
        isa,
        precision,
        arena: places.arena,
        zeros: zeros(
            widest.unwrap_or(0).next_multiple_of(CHANNEL_BLOCK).max(isa.kernels().columns),
        ),
        free: ArrayQueue::new(MOST_WORKSPACES),
        alone: last_large.map_or(0, |last| last + 1),
        steps,
    })
}

/// Moves normalizations, activations, paddings and shortcuts into convolutions; the new output.
pub(crate) fn fuse(nodes: &mut [Node], output: usize) -> Result<usize, PlanError> {
    let mut uses = vec![0; nodes.len()];
    for node in nodes.iter() {
        for &input in &node.inputs {
            uses[input] += 1;
        }
    }
    uses[output] += 1;
    // The node that now computes another's value.
    let mut now: Vec<usize> = (0..nodes.len()).collect();
    for index in 0..nodes.len() {
        let own = nodes[index].inputs.clone();
        let inputs: Vec<usize> = own.iter().map(|&input| now[input]).collect();
        nodes[index].inputs.clone_from(&inputs);
        let only_use = own.first().is_some_and(|&input| uses[input] == 1);
        let name = nodes[index].name.clone();
        let unsupported =
            |what: &str| PlanError::Unsupported { layer: name.clone(), what: what.into() };
        let is_padded =
            inputs.iter().any(|&input| matches!(nodes[input].op, NodeOp::CorrectPad(_)));
        let op = std::mem::replace(&mut nodes[index].op, NodeOp::Fused);
        match op {
            _ if is_padded && !matches!(op, NodeOp::Conv(_)) => {
                return Err(unsupported("a ZeroPadding2D before anything but a convolution"));
            }
            NodeOp::Affine(affine) => match &mut nodes[inputs[0]].op {
                NodeOp::Conv(conv) if only_use && conv.is_open() => fold(conv, &affine),
                _ => {
                    nodes[index].op = NodeOp::Conv(Conv::pointwise(&affine));
                    continue;
                }
            },
            NodeOp::Clamp(low, high) => match &mut nodes[inputs[0]].op {
                NodeOp::Conv(conv) if only_use && conv.is_open() => {
                    conv.limits = Limits { low, high }
                }
                _ => {
                    let (Shape::Map { channels, .. } | Shape::Flat(channels)) = nodes[index].shape;
                    let same = vec![(1.0, 0.0); channels];
                    nodes[index].op = NodeOp::Conv(Conv {
                        limits: Limits { low, high },
                        ..Conv::pointwise(&same)
                    });
                    continue;
                }
            },
            NodeOp::Add => {
                let (first, second) = (inputs[0].min(inputs[1]), inputs[0].max(inputs[1]));
                let last = if inputs[0] > inputs[1] { own[0] } else { own[1] };
                let is_shape = nodes[first].shape == nodes[second].shape;
                match &mut nodes[second].op {
                    NodeOp::Conv(conv)
                        if is_shape
                            && uses[last] == 1
                            && !conv.depthwise
                            && conv.is_open()
                            && first != second =>
                    {
                        conv.residual = Some(first);
                        nodes[second].inputs.push(first);
                        now[index] = second;
                        continue;
                    }
                    _ => return Err(unsupported("an Add whose last input is no convolution")),
                }
            }
            NodeOp::Conv(mut conv) => {
                // A padding before the convolution becomes its own.
                if let NodeOp::CorrectPad(kernel) = nodes[inputs[0]].op {
                    let source = nodes[inputs[0]].inputs[0];
                    let Shape::Map { height, width, .. } = nodes[source].shape else {
                        return Err(unsupported("a padding of flat features"));
                    };
                    let before = |size| correct_pad(size, kernel)[0];
                    conv.before = [before(height), before(width)];
                    nodes[index].inputs = vec![source];
                }
                nodes[index].op = NodeOp::Conv(conv);
                continue;
            }
            other => {
                nodes[index].op = other;
                continue;
            }
        }
        now[index] = inputs[0];
    }
    if let NodeOp::CorrectPad(_) = nodes[now[output]].op {
        let layer = nodes[output].name.clone();
        return Err(PlanError::Unsupported { layer, what: "a ZeroPadding2D at its end".into() });
    }
    pools_last(nodes, now[output]);
    Ok(now[output])
}

fn fold(conv: &mut Conv, affine: &[(f64, f64)]) {
    let outputs = affine.len();
    for (index, weight) in conv.weights.iter_mut().enumerate() {
        *weight = (f64::from(*weight) * affine[index % outputs].0) as f32;
    }
    for (bias, (scale, shift)) in conv.bias.iter_mut().zip(affine) {
        *bias = (f64::from(*bias) * scale + shift) as f32;
    }
}

/// How often the value of each node is used.
pub(super) fn uses(nodes: &[Node], output: usize) -> Vec<usize> {
    let mut uses = vec![0; nodes.len()];
    for node in nodes.iter().filter(|node| has_value(&node.op)) {
        for &input in &node.inputs {
            uses[input] += 1;
        }
    }
    uses[output] += 1;
    uses
}

/// Has the image stored with the padding of the convolution that reads it, so that each row of that one's kernel
/// is one run of values; the rows above and columns left of the image.
fn pad_input(nodes: &mut [Node], output: usize) -> [usize; 2] {
    let is_single = uses(nodes, output)[0] == 1;
    let (input, rest) = nodes.split_at_mut(1);
    let readers = rest.iter_mut().filter(|node| has_value(&node.op) && node.inputs.contains(&0));
    for Node { op, shape, .. } in readers.filter(|_| is_single) {
        let (
            NodeOp::Conv(conv),
            Shape::Map { height, width, .. },
            Shape::Map { height: rows, width: columns, channels },
        ) = (op, *shape, input[0].shape)
        else {
            continue;
        };
        if conv.depthwise || conv.residual.is_some() {
            continue;
        }
        let [above, left] = std::mem::take(&mut conv.before);
        let reach = |axis: usize, outputs: usize, before: usize, size: usize| {
            ((outputs - 1) * conv.stride[axis] + conv.kernel[axis]).max(before + size)
        };
        let (height, width) = (reach(0, height, above, rows), reach(1, width, left, columns));
        input[0].shape = Shape::Map { height, width, channels };
        conv.run = conv.kernel[1];
        conv.kernel[1] = 1;
        return [above, left];
    }
    [0, 0]
}

/// Makes one step of three convolutions where what lies between them is large.
fn join_strips(nodes: &mut [Node], output: usize) {
    let uses = uses(nodes, output);
    for index in 0..nodes.len() {
        let is = |index: usize, test: fn(&Conv) -> bool| matches!(&nodes[index].op, NodeOp::Conv(conv) if test(conv));
        if !is(index, |conv| !conv.depthwise && conv.kernel == [1, 1] && conv.stride == [1, 1]) {
            continue;
        }
        let middle = nodes[index].inputs[0];
        if uses[middle] != 1 || !is(middle, |conv| conv.depthwise) {
            continue;
        }
        let first = nodes[middle].inputs[0];
        let is_large = nodes[first].shape.count() >= STRIPS_FROM;
        let is_open =
            uses[first] == 1 && is(first, |conv| !conv.depthwise && conv.residual.is_none());
        if !is_large || !is_open {
            continue;
        }
        let mut take = |index: usize| match std::mem::replace(&mut nodes[index].op, NodeOp::Fused) {
            NodeOp::Conv(conv) => conv,
            _ => unreachable!("it has just been one"),
        };
        let convs = Box::new([take(first), take(middle), take(index)]);
        let (shape, name) = (nodes[first].shape, nodes[first].name.clone());
        let source = nodes[first].inputs[0];
        nodes[index].op = NodeOp::Strip(convs, shape);
        nodes[index].name = name;
        nodes[index].inputs[0] = source;
    }
}

/// Whether a node computes something of its own.
pub(crate) fn has_value(op: &NodeOp) -> bool {
    !matches!(op, NodeOp::Fused | NodeOp::CorrectPad(_))
}
