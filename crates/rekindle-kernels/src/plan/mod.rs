//! Plans: what to compute, where in the arena, with which weights.

mod arena;
mod bf16;
mod conv;
mod ends;
mod place;
mod profile;
#[cfg(test)]
pub(crate) mod properties;
mod run;
mod steps;
mod strip;
mod team;
mod winograd;

use std::ops::Range;

use crossbeam_queue::ArrayQueue;
use rekindle_nn::{NetworkError, Shape};

use crate::gemm::Tile;
use crate::ir::{Conv, Node, Pool};
use crate::isa::{Isa, Kernels, Precision};
use crate::plain::Plain;
use crate::simd::{CHANNEL_BLOCK, Values, zeros};
use crate::{Limits, PlanConfig, passes};
use team::Team;

pub use ends::ByteScale;
pub use profile::StepTime;

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

/// Compiles the nodes that lead to `output`.
pub(crate) fn compile(
    mut nodes: Vec<Node>,
    output: usize,
    config: PlanConfig,
) -> Result<Plan, PlanError> {
    let config = config.checked()?;
    let PlanConfig { isa, precision } = config;
    let mut output = passes::fuse(&mut nodes, output);
    passes::pools_last(&mut nodes, output);
    output = passes::split_groups(&mut nodes, output);
    let input_shape = nodes[0].shape;
    let input_scale = passes::scale_input(&mut nodes, &mut output);
    let input_at = passes::pad_input(&mut nodes, output);
    passes::join_strips(&mut nodes, output);
    if precision == Precision::Bf16 {
        let is_direct = |conv: &Conv, shape| steps::winograd(conv, shape, config).is_none();
        output = bf16::narrow(&mut nodes, output, is_direct);
    }
    let places = place::place(&nodes, output);
    let steps = steps::steps(nodes, &places.places, config);
    let widest = steps.iter().flat_map(|step| &step.inputs).map(|place| place.channels).max();
    let last_large = steps.iter().rposition(|step| step.out.pixels() > MOST_PIXELS);
    Ok(Plan {
        input: places.places[0],
        input_at,
        input_shape,
        input_scale,
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
    Pool(Pool),
    Global { is_max: bool },
    Flatten,
    Copy,
    Narrow,
    Plain(Plain),
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
    pub dilation: [usize; 2],
    /// Zeros above and left of the image.
    pub before: [usize; 2],
    pub weights: Values,
    /// Padded to the columns that are computed.
    pub bias: Values,
    pub limits: Limits,
}
