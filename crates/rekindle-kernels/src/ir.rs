//! What plans and networks on GPUs are made of: a node for each thing to compute, before it has a place in memory.

use std::sync::Arc;

use half::bf16;
use rekindle_nn::ops::{MergeKind, PoolKind};
use rekindle_nn::{Activation, Shape};

use crate::Limits;
use crate::plain::Plain;
use crate::simd::{CHANNEL_BLOCK, LINE};

/// What the numbers of a value are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    Bf16,
    /// Bytes that stand for numbers by a scale.
    U8,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::Bf16 => size_of::<bf16>(),
            Self::U8 => size_of::<u8>(),
        }
    }

    /// As many as are written at once: a line of the cache, or of bytes a block of channels, which no line is between.
    pub fn at_once(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => LINE / self.bytes(),
            Self::U8 => CHANNEL_BLOCK,
        }
    }
}

/// A type whose values are numbers of one element.
///
/// # Safety
/// It has as many bytes as its element, and any bits are a value of it.
pub(crate) unsafe trait Number: Copy + 'static {
    const ELEMENT: Element;
}

// SAFETY: 4 bytes, and any bits are a number or none.
unsafe impl Number for f32 {
    const ELEMENT: Element = Element::F32;
}

// SAFETY: 2 bytes, and any bits are a number or none.
unsafe impl Number for bf16 {
    const ELEMENT: Element = Element::Bf16;
}

// SAFETY: 1 byte, and any bits are a number.
unsafe impl Number for u8 {
    const ELEMENT: Element = Element::U8;
}

/// Behind the name of a convolution whose shortcut is added by another node, which has its name.
pub(crate) const PRODUCT: &str = ":product";
/// Behind the name of a sum that is clamped by another node, which has its name.
pub(crate) const SUM: &str = ":sum";

/// One thing to compute.
pub(crate) struct Node {
    /// The layer that it began as.
    pub name: String,
    pub op: NodeOp,
    pub inputs: Vec<usize>,
    pub shape: Shape,
    /// That of its value. A convolution multiplies with the element of its first input.
    pub element: Element,
}

pub(crate) enum NodeOp {
    Input,
    Conv(Conv),
    /// A convolution, a depthwise one of its output, of this shape, and one of that.
    Strip(Box<[Conv; 3]>, Shape),
    /// Scale and shift of each channel.
    Affine(Vec<(f64, f64)>),
    /// A function of each value, or of each pixel's channels.
    Activation(Activation),
    /// Zeros around the image.
    Pad([[usize; 2]; 2]),
    /// Of a vector: weights `[in][out]`.
    Dense {
        weights: Vec<f32>,
        bias: Vec<f32>,
        limits: Limits,
    },
    Pool(Pool),
    Global(PoolKind),
    Flatten,
    /// Element by element, sizes of 1 stretched.
    Merge(MergeKind),
    Concat,
    /// Plain loops.
    Plain(Plain),
    /// The network's layer at this position, which Burn computes.
    Layer(usize),
    /// A step of Winograd's method, where it takes three, of a convolution with an output of this shape.
    Points(Stage, Arc<Conv>, Shape),
    /// Rounds f32 to bf16.
    Narrow,
    /// Rounds what a function makes of f32 to bytes.
    Quantize(Option<Activation>),
    /// Makes f32 of bytes.
    Dequantize,
    /// Now part of another node.
    Fused,
}

/// A step of Winograd's method. Values between the steps are maps of `[point][tile]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The image's tiles to their points.
    Image,
    /// Each point's product with the weights.
    Product,
    /// The products to tiles of the output.
    Output,
}

/// A convolution; weights are `[tap][in][out]`, depthwise `[tap][channel]`.
#[derive(Clone)]
pub(crate) struct Conv {
    pub depthwise: bool,
    /// In and out, of all groups.
    pub channels: [usize; 2],
    /// Each takes its share of the channels and makes its share of the outputs.
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// The distance of the kernel's taps.
    pub dilation: [usize; 2],
    pub before: [usize; 2],
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub limits: Limits,
    pub residual: Option<usize>,
    /// The first channel that it reads, where it does not read all of its input's.
    pub slice: Option<usize>,
    /// Neighbouring pixels that each tap takes at once.
    pub run: usize,
}

impl Conv {
    /// With these weights, of one pixel.
    pub fn new(channels: [usize; 2], weights: Vec<f32>, bias: Vec<f32>) -> Self {
        Self {
            depthwise: false,
            channels,
            groups: 1,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            before: [0, 0],
            weights,
            bias,
            limits: Limits::NONE,
            residual: None,
            slice: None,
            run: 1,
        }
    }

    /// Scale and shift of each channel, where no convolution can take them.
    pub fn pointwise(affine: &[(f64, f64)]) -> Self {
        let weights = affine.iter().map(|&(scale, _)| scale as f32).collect();
        let bias = affine.iter().map(|&(_, shift)| shift as f32).collect();
        Self { depthwise: true, ..Self::new([affine.len(); 2], weights, bias) }
    }

    /// Whether nothing comes behind the sum yet.
    pub fn is_open(&self) -> bool {
        self.residual.is_none() && self.limits == Limits::NONE
    }

    /// Rows (0) or columns (1) that the kernel covers.
    pub fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// Whether it is a product with all of each pixel's channels, and nothing else.
    pub fn is_pixel(&self) -> bool {
        (self.kernel, self.stride, self.before) == ([1, 1], [1, 1], [0, 0])
            && self.groups == 1
            && self.slice.is_none()
    }
}

/// The maximum or the mean of each window on the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    pub is_max: bool,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub before: [usize; 2],
    pub limits: Limits,
}

/// Makes new nodes of all: `each` takes a node, whose inputs are numbered as they are now, and adds those that come in its place,
/// of which the last one has its value. Gives the new output.
pub(crate) fn replace_each(
    nodes: &mut Vec<Node>,
    output: usize,
    mut each: impl FnMut(Node, &mut Vec<Node>),
) -> usize {
    let mut now: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut all = Vec::with_capacity(nodes.len());
    for mut node in std::mem::take(nodes) {
        node.inputs.iter_mut().for_each(|input| *input = now[*input]);
        if let NodeOp::Conv(conv) = &mut node.op {
            conv.residual = conv.residual.map(|residual| now[residual]);
        }
        each(node, &mut all);
        now.push(all.len() - 1);
    }
    *nodes = all;
    now[output]
}

/// How often the value of each node is used.
pub(crate) fn uses(nodes: &[Node], output: usize) -> Vec<usize> {
    let mut uses = vec![0; nodes.len()];
    for node in nodes.iter().filter(|node| has_value(&node.op)) {
        for &input in &node.inputs {
            uses[input] += 1;
        }
    }
    uses[output] += 1;
    uses
}

/// Whether a node computes something of its own.
pub(crate) fn has_value(op: &NodeOp) -> bool {
    !matches!(op, NodeOp::Fused)
}
