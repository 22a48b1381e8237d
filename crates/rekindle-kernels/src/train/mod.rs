//! Training on the CPU: what comes behind a cut of a network, forward and backward, without a graph of tensors.
//!
//! [`Trainer`] walks a network once. Its parameters then live here, in Keras's layout, until they are given back;
//! maps are `[batch][height][width][channels]`, so that products read them as they lie. A batch is worked on in
//! pieces of a few images, the same ones whatever the number of threads, and sums over the batch are made in the
//! order of the pieces: the same numbers on every machine of one instruction set.

mod backward;
mod build;
mod conv;
mod depthwise;
mod groups;
mod layers;
mod matmul;
mod merge;
mod norm;
mod parameters;
mod plain;
mod pool;
mod product;
mod rule;
mod run;
mod stretch;
#[cfg(test)]
mod tests;

use burn::module::ParamId;
use rekindle_nn::ops::{MergeKind, Noise};
use rekindle_nn::{Activation, Samples, Shape, VariableSpec};

use crate::plain::Plain;

pub use build::TrainerConfig;
use product::Product;
pub use rule::Rule;

/// Images that are worked on together by one thread.
const PIECE: usize = 4;

/// One variable of the network, while it trains.
#[derive(Debug)]
pub struct Parameter {
    /// The layer's Keras name.
    pub layer: String,
    /// Keras's name, shape and layout.
    pub spec: VariableSpec,
    /// The Burn parameter that holds it.
    pub id: ParamId,
    /// In Keras's layout.
    pub values: Vec<f32>,
    /// Whether gradients reach it.
    trains: bool,
    /// The sum of the gradients since [`Trainer::clear`]; empty before the first.
    gradient: Vec<f32>,
    /// Whether the gradient's values are of an earlier step, and the next takes their place.
    stale: bool,
    /// The gradient, where it has not been computed yet.
    pending: Option<Pending>,
    /// Whether it changed since it came: by training, or moving statistics by a forward pass.
    changed: bool,
}

/// The gradient of a dense layer's kernel before it is computed: mostly it goes into the optimizer as it comes.
#[derive(Debug)]
struct Pending {
    product: Product,
    /// The node whose value is multiplied.
    input: usize,
    /// The gradient of the layer's output, packed.
    dy: Vec<f32>,
}

impl Parameter {
    /// Whether gradients reach it.
    #[must_use]
    pub fn trains(&self) -> bool {
        self.trains
    }
}

/// What comes behind a cut of a network, in training.
pub struct Trainer {
    nodes: Vec<Node>,
    parameters: Vec<Parameter>,
    output: usize,
    /// The value of each node for the batch of the last forward pass.
    values: Vec<Vec<f32>>,
    /// What a node keeps for its backward pass besides values: masks, batch statistics, positions of maxima.
    kept: Vec<Kept>,
    batch: usize,
    /// Buffers that nobody uses now.
    free: Vec<Vec<f32>>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("nodes", &self.nodes.len())
            .field("parameters", &self.parameters.len())
            .finish_non_exhaustive()
    }
}

/// How a batch goes through the layers that are not the same in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Nothing is dropped, normalizations take the moving statistics.
    Inference,
    /// Dropout's masks are those of this seed and step.
    Training {
        /// The run's seed.
        seed: u64,
        /// Counted from 0 over the whole run.
        step: u64,
        /// Which of the step's samples these are; none where they are all of them.
        part: Option<Samples>,
    },
}

#[derive(Debug, Default)]
enum Kept {
    #[default]
    Nothing,
    Mask(Vec<f32>),
    Moments {
        mean: Vec<f32>,
        inverse: Vec<f32>,
        is_batch: bool,
    },
    Positions(Vec<u32>),
}

#[derive(Debug)]
struct Node {
    work: Work,
    inputs: Vec<usize>,
    shape: Shape,
    /// Whether a gradient has to reach its value.
    wanted: bool,
}

#[derive(Debug)]
enum Work {
    Input,
    Conv(Conv),
    Norm(Norm),
    Activation(Activation),
    Clamp {
        low: f32,
        high: f32,
    },
    Dense(Dense),
    MaxPool(Window),
    AvgPool {
        window: Window,
        counts_padding: bool,
    },
    GlobalAvg,
    GlobalMax,
    Flatten,
    /// Scale and shift of each channel.
    Scale(Vec<[f32; 2]>),
    Dropout(f64),
    /// The sizes of what is drawn for a sample.
    SharedDropout {
        rate: f64,
        sizes: [usize; 3],
    },
    Noise(Noise),
    Plain(Plain),
    Stretch(Stretch),
    /// The parameter, and its sizes.
    Prelu(usize, [usize; 3]),
    Pad {
        before: [usize; 2],
    },
    Merge(MergeKind),
    Concat,
    /// Now part of the node behind it.
    Fused,
}

/// Kernel, steps and zeros above and left of the image.
#[derive(Debug, Clone, Copy)]
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
}

#[derive(Debug)]
struct Conv {
    /// Filters for each channel of its own, without dilation.
    depthwise: bool,
    groups: usize,
    window: Window,
    kernel: usize,
    bias: Option<usize>,
}

/// Batch normalization, with the clamp behind it.
#[derive(Debug)]
struct Norm {
    gamma: Option<usize>,
    beta: Option<usize>,
    mean: usize,
    variance: usize,
    epsilon: f64,
    /// Share of the moving statistics that a step keeps; nothing where they are frozen.
    momentum: Option<f64>,
    low: f32,
    high: f32,
}

/// Times numbers that train, and plus others.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    scale: Option<usize>,
    shift: Option<usize>,
    /// Height, width and channels of the numbers.
    sizes: [usize; 3],
}

#[derive(Debug)]
struct Dense {
    kernel: usize,
    bias: Option<usize>,
    outputs: usize,
    /// Where the kernel is large.
    product: Option<Product>,
}

/// Height, width and channels of a node's map.
fn map(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Map { height, width, channels } => [height, width, channels],
        Shape::Flat(channels) => [1, 1, channels],
    }
}
