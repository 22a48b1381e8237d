//! GPUs: which there are, and kernels for them.

use burn::tensor::backend::Backend;

use crate::Limits;
use crate::train::Rule;

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod backend;
#[cfg(feature = "gpu")]
mod conv;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "gpu")]
mod dense;
#[cfg(feature = "gpu")]
mod depthwise;
#[cfg(feature = "gpu")]
mod dispatch;
#[cfg(all(feature = "gpu", feature = "fusion"))]
mod fusion;
#[cfg(feature = "gpu")]
mod keep;
#[cfg(feature = "gpu")]
mod photos;
#[cfg(feature = "gpu")]
mod rows;
#[cfg(feature = "gpu")]
mod stem;
mod watch;
#[cfg(feature = "wgpu")]
mod wgpu;

#[cfg(not(feature = "gpu"))]
pub use absent::{
    all_reduce, conv, dense, dense_input_gradient, dense_step, depthwise, depthwise_rows,
    has_kernels, join, map_rows, photos, stem,
};
#[cfg(feature = "gpu")]
pub use backend::KernelOps;
#[cfg(feature = "cuda")]
pub use cuda::cuda_gpus;
#[cfg(feature = "gpu")]
pub use dispatch::{
    all_reduce, conv, dense, dense_input_gradient, dense_step, depthwise, depthwise_rows,
    has_kernels, join, map_rows, photos, stem,
};
#[cfg(feature = "gpu")]
pub use keep::keep_kernels;
pub use watch::{device_failure, leave_devices_unwatched, watch_devices};
#[cfg(feature = "wgpu")]
pub use wgpu::wgpu_gpus;

/// Whether devices can pass tensors to each other. NVIDIA's GPUs do it through NCCL, without which Burn panics at the
/// first one; all others through the memory of the computer.
#[must_use]
pub fn can_exchange<B: Backend>(devices: &[B::Device]) -> bool {
    match devices {
        #[cfg(feature = "cuda")]
        [first, _, ..] if is_nvidia::<B>(first) => cuda::has_nccl(),
        _ => true,
    }
}

/// Whether a device is one of NVIDIA's, by CUDA.
#[cfg(feature = "gpu")]
fn is_nvidia<B: Backend>(device: &B::Device) -> bool {
    B::name(device).contains("cuda")
}

/// What the windows of a convolution are, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowConfig {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Down and right.
    pub stride: [usize; 2],
    /// Zeros above and left of the image.
    pub before: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// What outputs are clamped to.
    pub limits: Limits,
}

/// A step of an optimizer, of one dense layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DenseStep {
    /// The optimizer's.
    pub rule: Rule,
    /// Counted from 1.
    pub time: u64,
    /// The rate, without the rule's own correction.
    pub rate: f64,
    /// What the gradient is multiplied by.
    pub scale: f32,
    /// Times a weight of the kernel, it is added to its gradient, before that is scaled.
    pub penalty: f32,
}

/// The most channels of an input that [`stem`] is for.
pub(crate) const MOST_STEM_CHANNELS: usize = 4;

/// What becomes of a photo's bytes, for each channel of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelScale {
    /// The photo's channel, 0 to 2.
    pub source: [usize; 3],
    /// What the byte is multiplied by.
    pub scale: [f32; 3],
    /// What is added then.
    pub offset: [f32; 3],
}

/// A GPU, or what stands in for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its kind, as wgpu tells them apart.
    pub kind: GpuKind,
    /// Its number among those of its kind, from 0.
    pub index: usize,
    /// What it calls itself.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
}

/// What a GPU is built as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpuKind {
    /// A card of its own.
    Discrete,
    /// A part of the processor.
    Integrated,
    /// One that a virtual machine lends.
    Virtual,
    /// Software on the processor, such as Mesa's llvmpipe.
    Cpu,
}

impl GpuKind {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Discrete, Self::Integrated, Self::Virtual, Self::Cpu];

    /// Its name in the names of devices.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Cpu => "cpu",
        }
    }
}
