//! The CPU engine: a frozen network, or the part of it up to a layer, as a plan that runs on SIMD kernels.
//!
//! [`lower`] walks a network and makes a [`Plan`]: BatchNorm folded into the weights, activations,
//! shortcuts and concatenations fused into the convolutions before them, weights packed for the
//! machine's instruction set, all activations in one arena. `REKINDLE_ISA` forces an instruction set:
//! `avx512`, `avx2`, `neon` or `portable`.

mod accelerated;
mod activation;
mod depthwise;
mod factor;
mod folded;
mod gemm;
pub mod gpu;
mod int8;
mod ir;
mod isa;
mod limits;
mod lower;
mod passes;
mod plain;
mod plan;
mod pool;
mod quantized;
mod rates;
mod rows;
mod scratch;
mod simd;
pub mod train;
mod vectorized;
mod view;
mod winograd;

pub use accelerated::Accelerated;
pub use folded::Folded;
pub use isa::{Isa, PlanConfig, Precision};
pub use limits::Limits;
pub use lower::{lower, lower_quantized, serves};
pub use plan::{ByteScale, Calibration, Plan, PlanError, StepTime};
pub use quantized::quantized;
pub use rekindle_nn::Quantization;
pub use scratch::Scratch;

/// How many threads plans run on: as many as there are processors, or as `RAYON_NUM_THREADS` says.
#[must_use]
pub fn threads() -> usize {
    rayon::current_num_threads()
}
