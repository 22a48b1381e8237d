//! Plans: what to compute, where in the arena, with which weights.

mod arena;
mod compile;
mod conv;
mod ends;
mod int8;
mod observe;
mod profile;
#[cfg(test)]
pub(crate) mod properties;
mod run;
mod strip;
mod team;
mod winograd;

use std::ops::Range;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use half::bf16;
use rekindle_nn::{NetworkError, Shape};

use crate::Limits;
use crate::factor::Factor;
use crate::gemm::Tile;
use crate::ir::{Conv, Pool, Stage};
use crate::isa::{Isa, Kernels, Precision};
use crate::passes::Place;
use crate::plain::Plain;
use crate::simd::{Buffer, aligned};
use int8::Bytes;
use team::Team;

pub use ends::ByteScale;
pub use observe::Calibration;
pub use profile::StepTime;

pub(crate) use compile::{Int8, compile};
pub(crate) use strip::Strip;
pub(crate) use winograd::Winograd;

/// Workspaces that a plan keeps: for as many images at once.
const MOST_WORKSPACES: usize = 256;

/// Pixels of the largest map that a thread's images take together: reading the weights takes as long as products of
/// fewer pixels, and more do not stay in the cache.
const MOST_PIXELS: usize = 128;

/// Why a network could not become a plan, or a plan could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The network's own error.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The engine has no kernel for what a layer does.
    #[error("layer `{layer}`: the CPU engine cannot run {what}")]
    Unsupported {
        /// The layer's Keras name.
        layer: String,
        /// What it does.
        what: String,
    },
    /// `REKINDLE_ISA` names an instruction set that cannot be used.
    #[error("REKINDLE_ISA is `{wanted}`, expected one that this machine can run: {available}")]
    Isa {
        /// The variable's value.
        wanted: String,
        /// The names that it may have.
        available: String,
    },
    /// The instruction set has no such products.
    #[error("precision {precision}: the instruction set {isa} has no such products; take f32")]
    Precision {
        /// What was asked for.
        precision: Precision,
        /// Where.
        isa: Isa,
    },
    /// What is known of a quantized network's values is not all of it.
    #[error("layer `{layer}` of the quantized network {what}; quantize the model again")]
    Quantization {
        /// The layer's Keras name.
        layer: String,
        /// What is wrong.
        what: String,
    },
    /// Values that no bytes stand for.
    #[error(
        "layer `{layer}`: found a value of {value} while the network was calibrated; it cannot be quantized"
    )]
    NotFinite {
        /// The layer's Keras name.
        layer: String,
        /// One of them.
        value: f32,
    },
    /// Products of bytes need a quantized network.
    #[error("precision int8: the network is not quantized; run `rekindle quantize` first")]
    NotQuantized,
    /// The output is not the batch's.
    #[error("found room for {found} values of output, expected {expected}")]
    Output {
        /// Values of the batch's outputs.
        expected: usize,
        /// Values that there is room for.
        found: usize,
    },
    /// The input is not a batch of what the plan was made for.
    #[error(
        "found {found} values, expected a multiple of {expected}: [batch, channels, height, width]"
    )]
    Input {
        /// Values of one image.
        expected: usize,
        /// Values given.
        found: usize,
    },
}

/// A compiled network for images of one size, any batch, any number of threads at once.
pub struct Plan {
    steps: Vec<Step>,
    /// How many of them take each image by itself, also where a thread has several.
    alone: usize,
    /// With the padding of the first layer.
    input: Place,
    /// Rows above and columns left of the image there.
    input_at: [usize; 2],
    input_shape: Shape,
    /// Scale and shift of the image's channels, where the network begins with that.
    input_scale: Option<Vec<[f32; 2]>>,
    output: Place,
    output_shape: Shape,
    isa: Isa,
    precision: Precision,
    /// Layers of a quantized network that are not of bytes, each with the reason.
    kept: Vec<(String, String)>,
    /// Names of the nodes' values, where they are observed.
    keys: Vec<String>,
    kernels: Kernels,
    /// Bytes of one arena.
    arena: usize,
    /// What padding pixels point to, as zeros of any element.
    zeros: Buffer<f32>,
    /// Workspaces that no call uses now.
    free: ArrayQueue<Workspace>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("isa", &self.isa)
            .field("steps", &self.steps.len())
            .field("arena_bytes", &self.arena)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// The shape of one image's output.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.output_shape
    }

    /// The instruction set of its kernels.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What its products are computed with.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Which instructions multiply its bytes; nothing where it has none.
    #[must_use]
    pub fn int8_kernels(&self) -> Option<&'static str> {
        let int8 = self.kernels.int8.filter(|_| self.precision == Precision::Int8);
        int8.map(|kernels| kernels.name)
    }

    /// The layers of a quantized network whose products are computed in `f32`, each with the reason.
    #[must_use]
    pub fn kept(&self) -> &[(String, String)] {
        &self.kept
    }
}

/// What one image needs while it runs.
struct Workspace {
    /// The arena.
    bytes: Buffer<u8>,
    team: Team,
}

/// One thing to do for each image.
pub(crate) struct Step {
    /// The node that it computes, or a part of it.
    pub node: usize,
    /// The layer that it began as; normalizations, activations and shortcuts behind it are part of it.
    pub name: String,
    pub inputs: Vec<Place>,
    pub out: Place,
    pub work: Work,
}

pub(crate) enum Work {
    Gemm(AnyGemm),
    Winograd(Winograd),
    /// One of its steps, where it takes three.
    Points(Stage, Arc<Winograd>),
    Depthwise(Depthwise),
    Strip(Box<Strip>),
    Pool(Pool),
    Global {
        is_max: bool,
    },
    Flatten,
    Copy,
    /// Rounds to bf16.
    Narrow,
    Bytes(Bytes),
    Plain(Plain),
}

/// A convolution as a matrix product, of pixels and weights `I` to outputs `O`. A second input is a residual to add.
pub(crate) struct Gemm<I: Factor = f32, O = f32> {
    pub shape: GemmShape,
    /// As `gemm::pack` makes them.
    pub weights: Buffer<I::Weight>,
    pub tile: Tile<I, O>,
    pub ends: I::Ends,
}

/// A product of the elements that its input and its output have.
pub(crate) enum AnyGemm {
    F32(Gemm),
    Bf16(Gemm<bf16>),
    Bf16ToBf16(Gemm<bf16, bf16>),
    U8(Gemm<u8>),
    U8ToU8(Gemm<u8, u8>),
}

impl AnyGemm {
    pub fn shape(&self) -> &GemmShape {
        match self {
            Self::F32(gemm) => &gemm.shape,
            Self::Bf16(gemm) => &gemm.shape,
            Self::Bf16ToBf16(gemm) => &gemm.shape,
            Self::U8(gemm) => &gemm.shape,
            Self::U8ToU8(gemm) => &gemm.shape,
        }
    }
}

/// A product's settings.
pub(crate) struct GemmShape {
    pub window: Window,
    /// Columns of a panel.
    pub panel: usize,
    /// Values that each tap takes; of bf16 whole pairs, of bytes whole quads.
    pub depth: usize,
}

impl GemmShape {
    /// Products of pixels and weights that an output is the sum of, each over channels.
    pub fn taps(&self) -> usize {
        self.window.kernel.iter().product()
    }

    /// The panels of all outputs.
    pub fn panels(&self) -> Range<usize> {
        0..self.window.bias.len().div_ceil(self.panel)
    }
}

/// A depthwise convolution; weights are `[tap][channel]`, padded as the bias is, or of bytes as `int8::depthwise::pack` makes
/// them.
pub(crate) struct Depthwise<I: Factor = f32> {
    pub window: Window,
    pub weights: Buffer<I::Weight>,
    pub ends: I::Ends,
}

/// The settings of a convolution.
pub(crate) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Zeros above and left of the image.
    pub before: [usize; 2],
    /// Padded to the columns that are computed.
    pub bias: Buffer<f32>,
    pub limits: Limits,
}

impl Window {
    /// For a product of `columns` columns.
    fn of(conv: &Conv, columns: usize) -> Self {
        let mut bias = aligned(&conv.bias);
        bias.resize(columns, 0.0);
        Self {
            kernel: conv.kernel,
            stride: conv.stride,
            dilation: conv.dilation,
            before: conv.before,
            bias,
            limits: conv.limits,
        }
    }
}
