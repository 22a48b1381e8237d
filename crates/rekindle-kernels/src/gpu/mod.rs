//! GPUs: which there are, and kernels for them.

use burn::tensor::backend::Backend;

#[cfg(feature = "gpu")]
mod backend;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "gpu")]
mod depthwise;
#[cfg(feature = "gpu")]
mod keep;
mod watch;
#[cfg(feature = "wgpu")]
mod wgpu;

#[cfg(feature = "gpu")]
pub use backend::{DepthwiseOps, depthwise};
#[cfg(feature = "cuda")]
pub use cuda::cuda_gpus;
#[cfg(feature = "gpu")]
pub use keep::keep_kernels;
pub use watch::{device_failure, watch_devices};
#[cfg(feature = "wgpu")]
pub use wgpu::wgpu_gpus;

#[cfg(feature = "gpu")]
pub use depthwise::DepthwiseConfig;

/// Whether devices can pass tensors to each other. NVIDIA's GPUs do it through NCCL, without which Burn panics at the
/// first one; all others through the memory of the computer.
#[must_use]
pub fn can_exchange<B: Backend>(devices: &[B::Device]) -> bool {
    match devices {
        #[cfg(feature = "cuda")]
        [first, _, ..] if B::name(first).contains("cuda") => cuda::has_nccl(),
        _ => true,
    }
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
