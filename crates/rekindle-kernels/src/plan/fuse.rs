//! From a network's layers to a plan's steps: what can be part of a convolution becomes part of it, and
//! what is concatenated is written where it belongs.

use std::collections::HashMap;

use crossbeam_queue::ArrayQueue;
use rekindle_nn::layers::Activation;
use rekindle_nn::{Pool, Shape, correct_pad};

use super::arena::{Life, allocate};
use super::commute::pools_last;
use super::{Gemm, Place, Plan, PlanError, Step, Strip, Window, Winograd, Work, bf16};
use crate::gemm::pack;
use crate::simd::CHANNEL_BLOCK;
use crate::winograd::Transforms;
use crate::{PlanConfig, Precision};

/// Values of a widened map from which on a block is computed strip by strip: below, the rows that each thread computes beside its
/// own cost more than two meetings of all threads fewer.
const STRIPS_FROM: usize = 32 * 1024;

/// Workspaces that a plan keeps: for as many images at once.
const MOST_WORKSPACES: usize = 256;

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
}

/// What a sum is clamped to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub low: f32,
    pub high: f32,
}

impl Limits {
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
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
        zeros: vec![
            0.0;
            widest.unwrap_or(0).next_multiple_of(CHANNEL_BLOCK).max(isa.kernels().columns)
        ],
        free: ArrayQueue::new(MOST_WORKSPACES),
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

struct Places {
    /// For each node; meaningless for those without a value of their own.
    places: Vec<Place>,
    arena: usize,
    output_shape: Shape,
}

/// Finds a place for every value. What is concatenated, and used nowhere else, is written where the
/// concatenation wants it.
fn place(nodes: &[Node], output: usize) -> Places {
    let uses = uses(nodes, output);
    let mut places: Vec<Place> = nodes.iter().map(own_place).collect();
    if is_read_by_products(nodes) {
        places[0].stride = places[0].channels;
    }
    // The concatenation that a value is a slice of, and its first channel there.
    let mut slice: HashMap<usize, (usize, usize)> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let mut channel = 0;
        for &input in node.inputs.iter().filter(|_| matches!(node.op, NodeOp::Concat)) {
            let channels = places[input].channels;
            let is_movable = matches!(
                nodes[input].op,
                NodeOp::Conv(_) | NodeOp::Strip(..) | NodeOp::Pool { .. } | NodeOp::Concat
            );
            let is_aligned = channels.is_multiple_of(CHANNEL_BLOCK) && channel % CHANNEL_BLOCK == 0;
            if is_movable && is_aligned && uses[input] == 1 {
                slice.insert(input, (index, channel));
            }
            channel += channels;
        }
    }
    let root = |mut index: usize| {
        let mut channel = 0;
        while let Some(&(concat, first)) = slice.get(&index) {
            channel += first;
            index = concat;
        }
        (index, channel)
    };

    let mut lives: HashMap<usize, Life> = HashMap::new();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| has_value(&node.op)) {
        let (own, _) = root(index);
        let length = places[own].pixels() * places[own].stride;
        let touched = [own].into_iter().chain(node.inputs.iter().map(|&input| root(input).0));
        for buffer in touched {
            let life = lives.entry(buffer).or_insert(Life { length, first: index, last: index });
            life.last = index;
        }
    }
    if let Some(life) = lives.get_mut(&root(output).0) {
        life.last = nodes.len();
    }
    let buffers: Vec<usize> = lives.keys().copied().collect();
    let (offsets, arena) =
        allocate(&buffers.iter().map(|buffer| lives[buffer]).collect::<Vec<_>>());
    let offsets: HashMap<usize, usize> = buffers.into_iter().zip(offsets).collect();
    for index in 0..nodes.len() {
        let (buffer, channel) = root(index);
        if let Some(offset) = offsets.get(&buffer) {
            places[index].offset = offset + channel;
            places[index].stride = places[buffer].stride;
        }
    }
    Places { output_shape: nodes[output].shape, places, arena }
}

/// Whether a node computes something of its own.
pub(crate) fn has_value(op: &NodeOp) -> bool {
    !matches!(op, NodeOp::Fused | NodeOp::CorrectPad(_))
}

/// Whether the image is read by products only, which read each pixel's values one by one: the other kernels, and
/// shortcuts, read whole blocks of channels.
fn is_read_by_products(nodes: &[Node]) -> bool {
    nodes.iter().filter(|node| has_value(&node.op) && node.inputs.contains(&0)).all(|node| {
        let is_product = match &node.op {
            NodeOp::Conv(conv) => !conv.depthwise,
            NodeOp::Strip(..) => true,
            _ => false,
        };
        is_product && !node.inputs[1..].contains(&0)
    })
}

fn own_place(node: &Node) -> Place {
    let (height, width, channels) = match node.shape {
        Shape::Map { height, width, channels } => (height, width, channels),
        Shape::Flat(channels) => (1, 1, channels),
    };
    let stride = match node.op {
        NodeOp::Narrow => channels,
        _ => channels.next_multiple_of(CHANNEL_BLOCK),
    };
    Place { offset: 0, height, width, channels, stride }
}

fn steps(nodes: Vec<Node>, places: &[Place], config: PlanConfig) -> Vec<Step> {
    let panel = config.isa.kernels().columns;
    let mut steps = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let out = places[index];
        let inputs: Vec<Place> = node.inputs.iter().map(|&input| places[input]).collect();
        let mut push = |inputs: Vec<Place>, out: Place, work: Work| {
            steps.push(Step { name: node.name.clone(), inputs, out, work });
        };
        match node.op {
            NodeOp::Conv(mut conv) => {
                let work = if conv.depthwise {
                    Work::Depthwise(window(conv, panel))
                } else if let Some(transforms) = winograd(&conv, node.shape, config) {
                    let (direct, outputs) = (std::mem::take(&mut conv.weights), conv.channels[1]);
                    let window = window(conv, panel);
                    Work::Winograd(Winograd::new(window, &direct, outputs, panel, transforms))
                } else {
                    Work::Gemm(gemm(conv, panel))
                };
                push(inputs, out, work);
            }
            NodeOp::Strip(convs, shape) => {
                let [expand, depthwise, project] = *convs;
                let Shape::Map { height, width, channels } = shape else {
                    unreachable!("a depthwise convolution reads it");
                };
                let expanded = [height, width, channels.next_multiple_of(CHANNEL_BLOCK)];
                let strip = Strip {
                    expand: gemm(expand, panel),
                    expanded,
                    depthwise: window(depthwise, panel),
                    project: gemm(project, panel),
                };
                push(inputs, out, Work::Strip(Box::new(strip)));
            }
            NodeOp::Dense { weights, bias, activation } => {
                let outputs = bias.len();
                let padded = outputs.next_multiple_of(CHANNEL_BLOCK);
                let depth = weights.len() / outputs;
                let limits = match activation {
                    Activation::Relu => Limits { low: 0.0, ..Limits::NONE },
                    Activation::Relu6 => Limits { low: 0.0, high: 6.0 },
                    _ => Limits::NONE,
                };
                let (weights, bias) =
                    (pack(&weights, depth, outputs, padded, panel), pad(bias, padded));
                let (kernel, stride, before) = ([1, 1], [1, 1], [0, 0]);
                let window = Window { kernel, stride, before, weights, bias, limits };
                push(inputs, out, Work::Gemm(Gemm { window, panel, depth, cells: false }));
                if activation.is_probability() {
                    push(vec![out], out, Work::Probabilities(activation));
                }
            }
            NodeOp::Pool { pool, is_max, limits } => {
                push(inputs, out, Work::Pool { pool, is_max, limits });
            }
            NodeOp::Global { is_max } => push(inputs, out, Work::Global { is_max }),
            NodeOp::Flatten => push(inputs, out, Work::Flatten),
            NodeOp::Narrow => push(inputs, out, Work::Narrow),
            NodeOp::Concat => {
                let mut channel = 0;
                for input in inputs {
                    let there =
                        Place { offset: out.offset + channel, channels: input.channels, ..out };
                    channel += input.channels;
                    // Most are there already.
                    if input.offset != there.offset {
                        push(vec![input], there, Work::Copy);
                    }
                }
            }
            NodeOp::Input | NodeOp::Fused | NodeOp::CorrectPad(_) => {}
            NodeOp::Affine(_) | NodeOp::Clamp(..) | NodeOp::Add => {
                unreachable!("`fuse` leaves none")
            }
        }
    }
    steps
}

fn winograd(conv: &Conv, out: Shape, config: PlanConfig) -> Option<Transforms> {
    match out {
        Shape::Map { height, width, .. } if !conv.cells => {
            Winograd::choose(conv, [height, width], &config.isa.kernels(), config.precision)
        }
        _ => None,
    }
}

/// A convolution's settings, its weights packed.
fn window(conv: Conv, panel: usize) -> Window {
    let [_, outputs] = conv.channels;
    let padded = outputs.next_multiple_of(CHANNEL_BLOCK);
    let depth = conv.weights.len() / outputs;
    let width = if conv.depthwise { padded } else { panel };
    Window {
        kernel: conv.kernel,
        stride: conv.stride,
        before: conv.before,
        weights: pack(&conv.weights, depth, outputs, padded, width),
        bias: pad(conv.bias, padded),
        limits: conv.limits,
    }
}

fn gemm(conv: Conv, panel: usize) -> Gemm {
    let (values, cells) = (conv.channels[0] * conv.run, conv.cells);
    let depth = if cells { values.div_ceil(2) } else { values };
    Gemm { window: window(conv, panel), panel, depth, cells }
}

fn pad(mut values: Vec<f32>, length: usize) -> Vec<f32> {
    values.resize(length, 0.0);
    values
}
