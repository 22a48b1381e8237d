//! Plans: what to compute, where in the arena, with which weights.

mod arena;
mod bf16;
mod commute;
mod conv;
mod ends;
mod fuse;
mod place;
mod profile;
#[cfg(test)]
mod properties;
mod run;
mod steps;
mod strip;
mod team;
mod winograd;

use std::ops::Range;

use crossbeam_queue::ArrayQueue;
use rekindle_nn::layers::Activation;
use rekindle_nn::{NetworkError, Pool, Shape};

use crate::Limits;
use crate::gemm::Tile;
use crate::isa::{Isa, Kernels, Precision};
use crate::simd::Values;
use team::Team;

pub use ends::ByteScale;
pub use profile::StepTime;

pub(crate) use fuse::{Conv, Node, NodeOp, compile, fuse, has_value};
pub(crate) use strip::Strip;
pub(crate) use winograd::Winograd;

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
    /// The output is not the batch's.
    #[error("found room for {found} values of output, expected {expected}")]
    Output {
        /// Values of the batch's outputs.
        expected: usize,
        /// Values that there is room for.
        found: usize,
    },
    /// The input is not a batch of what the plan was made for.
    #[error("found {found} values, expected a multiple of {expected}: [batch, 3, height, width]")]
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
    output: Place,
    output_shape: Shape,
    isa: Isa,
    precision: Precision,
    kernels: Kernels,
    /// Values of one arena.
    arena: usize,
    /// What padding pixels point to.
    zeros: Values,
    /// Workspaces that no call uses now.
    free: ArrayQueue<Workspace>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("isa", &self.isa)
            .field("steps", &self.steps.len())
            .field("arena_bytes", &(self.arena * 4))
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

    /// The kernel of its products.
    fn tile(&self, cells: bool, to_cells: bool) -> Tile {
        match self.kernels.bf16 {
            Some(bf16) if to_cells => bf16.tile_to_cells,
            Some(bf16) if cells => bf16.tile,
            _ => self.kernels.tile,
        }
    }
}

/// What one image needs while it runs.
struct Workspace {
    values: Values,
    team: Team,
}

/// Where a value lies in the arena: `[height][width][stride]`, of which `channels` from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub offset: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
}

impl Place {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// From the first value to the end of the last pixel's channels.
    pub fn extent(&self) -> usize {
        (self.pixels() - 1) * self.stride + self.channels
    }
}

/// One thing to do for each image.
pub(crate) struct Step {
    /// The layer that it began as; normalizations, activations and shortcuts behind it are part of it.
    pub name: String,
    pub inputs: Vec<Place>,
    pub out: Place,
    pub work: Work,
}

pub(crate) enum Work {
    Gemm(Gemm),
    Winograd(Winograd),
    Depthwise(Window),
    Strip(Box<Strip>),
    Pool { pool: Pool, is_max: bool, limits: Limits },
    Global { is_max: bool },
    Flatten,
    Copy,
    Narrow,
    Probabilities(Activation),
}

/// A convolution as a matrix product. A second input is a residual to add.
pub(crate) struct Gemm {
    pub window: Window,
    /// Panels of this many columns, as `gemm::pack` makes them.
    pub panel: usize,
    /// Values that each tap takes, or cells.
    pub depth: usize,
    /// Whether pixels and weights are cells of bf16.
    pub cells: bool,
    /// Whether outputs are, too.
    pub to_cells: bool,
}

impl Gemm {
    /// Products of pixels and weights that an output is the sum of, each over channels.
    pub fn taps(&self) -> usize {
        self.window.kernel.iter().product()
    }

    /// The panels of all outputs.
    pub fn panels(&self) -> Range<usize> {
        0..self.window.bias.len().div_ceil(self.panel)
    }
}

/// The settings and weights of a convolution.
pub(crate) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Zeros above and left of the image.
    pub before: [usize; 2],
    pub weights: Values,
    /// Padded to the columns that are computed.
    pub bias: Values,
    pub limits: Limits,
}
