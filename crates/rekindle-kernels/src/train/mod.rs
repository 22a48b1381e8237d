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
mod layers;
mod matmul;
mod norm;
mod parameters;
mod pool;
mod rule;
mod run;

use rekindle_nn::layers::Activation;
use rekindle_nn::{Part, Shape, VariableSpec};

pub use build::TrainerConfig;
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
    /// In Keras's layout.
    pub values: Vec<f32>,
    /// The sum of the gradients since [`Trainer::clear`]; empty where the parameter does not train.
    pub gradient: Vec<f32>,
    /// Whether the gradient's values are of an earlier step, and the next takes their place.
    pub(crate) stale: bool,
    /// Whether it changed since it came: by training, or moving statistics by a forward pass.
    pub(crate) changed: bool,
}

impl Parameter {
    /// Whether gradients reach it.
    #[must_use]
    pub fn trains(&self) -> bool {
        !self.gradient.is_empty()
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
        part: Option<Part>,
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
    Clamp {
        low: f32,
        high: f32,
    },
    Dense(Dense),
    MaxPool(Window),
    AvgPool(Window),
    GlobalAvg,
    GlobalMax,
    Flatten,
    Scale {
        scale: f32,
        offset: f32,
    },
    Dropout(f64),
    Pad {
        before: [usize; 2],
    },
    Add,
    Concat,
    /// Now part of the node behind it.
    Fused,
}

/// Kernel, steps and zeros above and left of the image.
#[derive(Debug, Clone, Copy)]
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    before: [usize; 2],
}

#[derive(Debug)]
struct Conv {
    depthwise: bool,
    window: Window,
    kernel: usize,
    bias: Option<usize>,
}

/// Batch normalization, with the clamp behind it.
#[derive(Debug)]
struct Norm {
    gamma: Option<usize>,
    beta: usize,
    mean: usize,
    variance: usize,
    epsilon: f64,
    /// Share of the moving statistics that a step keeps; nothing where they are frozen.
    momentum: Option<f64>,
    low: f32,
    high: f32,
}

#[derive(Debug)]
struct Dense {
    kernel: usize,
    bias: usize,
    /// The classifier's is left off.
    activation: Activation,
}

/// Height, width and channels of a node's map.
fn map(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Map { height, width, channels } => [height, width, channels],
        Shape::Flat(channels) => [1, 1, channels],
    }
}

/// Compiles plain loops for each instruction set and chooses one when they run. Loops call `fma::<FUSED>`, which is
/// the fused operation where the set has one.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
            #[allow(clippy::needless_range_loop, reason = "lanes of several arrays at once")]
            fn run_loops<const FUSED: bool>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
                fn avx512($($arg: $type),*) { run_loops::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
                fn avx2($($arg: $type),*) { run_loops::<true>($($arg),*) }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the instruction set has just been found.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the instruction set has just been found.
                    return unsafe { avx2($($arg),*) };
                }
            }
            run_loops::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
use vectorized;

/// `a * b + c`; the fused operation is a slow function where the instruction set has none.
#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}
