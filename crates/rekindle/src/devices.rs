//! Devices by name, for programs that let their user choose one when they run.
//!
//! A [`Device`] is `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:integrated` and so on. [`Device::run`] runs a [`Job`], which is
//! generic over the backend, on it; [`devices`] lists what there is.
//!
//! ```no_run
//! use rekindle::burn::tensor::backend::Backend;
//! use rekindle::devices::{Device, Job};
//! use rekindle::prelude::*;
//!
//! struct Classify;
//!
//! impl Job for Classify {
//!     type Output = Result<(), Box<dyn std::error::Error>>;
//!
//!     fn run<B: Backend>(self, device: &B::Device) -> Self::Output {
//!         let model = TrainedModel::<B>::load("cats.rekindle", device)?;
//!         println!("{}", model.predict("cat.jpg")?.top(5));
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device: Device = "cpu".parse()?;
//! device.run(Classify)??;
//! # Ok(())
//! # }
//! ```
//!
//! Before a network computes on a GPU, it sets the program's panic hook: a device's thread that has no memory panics, and what it
//! was to compute is zeros without an error. Panics of other threads go to the hook that was there before. On the CPU no
//! hook is set, and [`leave_devices_unwatched`](rekindle_kernels::gpu::leave_devices_unwatched) forbids it.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use burn::tensor::backend::Backend;
pub use rekindle_kernels::gpu::GpuKind;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor, with the CPU engine.
    #[default]
    Cpu,
    /// NVIDIA's GPU of this number.
    Cuda(usize),
    /// A GPU through Vulkan or Metal; without a kind, the best there is.
    Wgpu(Option<(GpuKind, usize)>),
}

/// Work that runs on any backend.
pub trait Job {
    /// What comes of it.
    type Output;

    /// Runs the job on this backend's device.
    fn run<B: Backend>(self, device: &B::Device) -> Self::Output;
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The name is of no device.
    #[error(
        "unknown device `{found}`, expected cpu, cuda[:N], or wgpu[:discrete|:integrated|:virtual|:cpu][:N]"
    )]
    Name {
        /// The name.
        found: String,
    },
    /// The program was built without it.
    #[error(
        "device `{device}`: this program was built without it; build it with the feature `{feature}`"
    )]
    Feature {
        /// The device.
        device: Device,
        /// The feature of this crate, and of the command.
        feature: &'static str,
    },
    /// It is not there, or cannot be used.
    #[error("device `{device}`: {reason}")]
    Missing {
        /// The device.
        device: Device,
        /// What is missing, and what there is.
        reason: String,
    },
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu(None) => f.write_str("wgpu"),
            Self::Wgpu(Some((kind, 0))) => write!(f, "wgpu:{}", kind.name()),
            Self::Wgpu(Some((kind, index))) => write!(f, "wgpu:{}:{index}", kind.name()),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let parts: Vec<&str> = text.split(':').collect();
        let kind = |name: &str| GpuKind::ALL.into_iter().find(|kind| kind.name() == name);
        let device = match parts.as_slice() {
            ["cpu"] => Some(Self::Cpu),
            ["cuda"] => Some(Self::Cuda(0)),
            ["cuda", index] => index.parse().ok().map(Self::Cuda),
            ["wgpu"] => Some(Self::Wgpu(None)),
            ["wgpu", name] => kind(name).map(|kind| Self::Wgpu(Some((kind, 0)))),
            ["wgpu", name, index] => {
                kind(name).zip(index.parse().ok()).map(|found| Self::Wgpu(Some(found)))
            }
            _ => None,
        };
        device.ok_or(DeviceError::Name { found: text.to_owned() })
    }
}

impl Device {
    /// Runs a job here.
    ///
    /// # Errors
    /// When the program was built without this device, or it is not there.
    pub fn run<J: Job>(self, job: J) -> Result<J::Output, DeviceError> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => Ok(job.run::<burn::backend::Flex>(&Default::default())),
            #[cfg(feature = "cuda-untuned")]
            Self::Cuda(index) => Ok(job.run::<burn::backend::Cuda>(&gpu::cuda(self, index)?)),
            #[cfg(feature = "wgpu-untuned")]
            Self::Wgpu(_) => Ok(job.run::<burn::backend::Wgpu>(&gpu::wgpu(self)?)),
            #[allow(unreachable_patterns)] // With all features, there is no other.
            other => {
                drop(job);
                Err(DeviceError::Feature { device: other, feature: other.feature() })
            }
        }
    }

    fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "flex",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(_) => "wgpu",
        }
    }
}

/// A device, or why a kind of them cannot be used.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What `--device` takes, and [`Device`] parses.
    pub device: Device,
    /// The device's own name, or what is missing.
    pub found: Result<String, String>,
}

/// All devices of this machine that this program can use, and why it cannot use others.
#[must_use]
pub fn devices() -> Vec<Listed> {
    let isa = rekindle_kernels::Isa::detect().map_err(|error| error.to_string());
    let threads = rekindle_kernels::threads();
    let cpu = isa.map(|isa| format!("{threads} threads, {isa}"));
    let mut all = vec![Listed { device: Device::Cpu, found: cpu }];
    for device in [Device::Cuda(0), Device::Wgpu(None)] {
        match gpu::list(device) {
            Ok(found) => all.extend(found),
            Err(error) => {
                let reason = match error {
                    DeviceError::Missing { reason, .. } => reason,
                    other => other.to_string(),
                };
                all.push(Listed { device, found: Err(reason) });
            }
        }
    }
    all
}

/// What is known of GPUs, by the features.
mod gpu {
    #[cfg(any(feature = "cuda-untuned", feature = "wgpu-untuned"))]
    use rekindle_kernels::gpu::Gpu;
    #[cfg(feature = "wgpu-untuned")]
    use rekindle_kernels::gpu::GpuKind;

    use super::{Device, DeviceError, Listed};

    /// The devices of `of`'s kind.
    pub fn list(of: Device) -> Result<Vec<Listed>, DeviceError> {
        let missing = |reason| DeviceError::Missing { device: of, reason };
        match of {
            #[cfg(feature = "cuda-untuned")]
            Device::Cuda(_) => {
                let gpus = rekindle_kernels::gpu::cuda_gpus().map_err(missing)?;
                Ok(listed(&gpus, |gpu| Device::Cuda(gpu.index)))
            }
            #[cfg(feature = "wgpu-untuned")]
            Device::Wgpu(_) => {
                let mut gpus = rekindle_kernels::gpu::wgpu_gpus().map_err(missing)?;
                gpus.sort_by_key(|gpu| (gpu.kind, gpu.index));
                Ok(listed(&gpus, |gpu| Device::Wgpu(Some((gpu.kind, gpu.index)))))
            }
            other => {
                let _ = missing;
                Err(DeviceError::Feature { device: other, feature: other.feature() })
            }
        }
    }

    #[cfg(any(feature = "cuda-untuned", feature = "wgpu-untuned"))]
    fn listed(gpus: &[Gpu], device: impl Fn(&Gpu) -> Device) -> Vec<Listed> {
        let found = |gpu: &Gpu| Ok(format!("{} ({})", gpu.name, gpu.driver));
        gpus.iter().map(|gpu| Listed { device: device(gpu), found: found(gpu) }).collect()
    }

    /// The device that was asked for, if it is among those of its kind. What is tuned and compiled for it is kept beside the
    /// downloaded weights.
    #[cfg(any(feature = "cuda-untuned", feature = "wgpu-untuned"))]
    fn check(wanted: Device) -> Result<Device, DeviceError> {
        let all = list(wanted)?;
        if let Some(cache) = rekindle_weights::cache_folder() {
            rekindle_kernels::gpu::keep_kernels(&cache.join("kernels"));
        }
        let found = match wanted {
            Device::Wgpu(None) => all.first(),
            _ => all.iter().find(|listed| listed.device == wanted),
        };
        found.map(|listed| listed.device).ok_or_else(|| {
            let names: Vec<String> = all.iter().map(|listed| listed.device.to_string()).collect();
            let reason = format!("there is no such device; there is {}", names.join(", "));
            DeviceError::Missing { device: wanted, reason }
        })
    }

    #[cfg(feature = "cuda-untuned")]
    pub fn cuda(
        wanted: Device,
        index: usize,
    ) -> Result<burn::backend::cuda::CudaDevice, DeviceError> {
        check(wanted)?;
        Ok(burn::backend::cuda::CudaDevice::new(index))
    }

    /// A device is named explicitly, so that what is listed first is what is taken.
    #[cfg(feature = "wgpu-untuned")]
    pub fn wgpu(wanted: Device) -> Result<burn::backend::wgpu::WgpuDevice, DeviceError> {
        use burn::backend::wgpu::WgpuDevice;
        Ok(match check(wanted)? {
            Device::Wgpu(Some((GpuKind::Discrete, index))) => WgpuDevice::DiscreteGpu(index),
            Device::Wgpu(Some((GpuKind::Integrated, index))) => WgpuDevice::IntegratedGpu(index),
            Device::Wgpu(Some((GpuKind::Virtual, index))) => WgpuDevice::VirtualGpu(index),
            // Burn takes the first of these.
            Device::Wgpu(Some((GpuKind::Cpu, 0))) => WgpuDevice::Cpu,
            other => {
                let reason = "Burn takes only the first of these: wgpu:cpu".to_owned();
                return Err(DeviceError::Missing { device: other, reason });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, DeviceError, GpuKind, devices};

    #[test]
    fn names_are_read_as_they_are_written() {
        let all = [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("wgpu", Device::Wgpu(None)),
            ("wgpu:discrete", Device::Wgpu(Some((GpuKind::Discrete, 0)))),
            ("wgpu:integrated:2", Device::Wgpu(Some((GpuKind::Integrated, 2)))),
            ("wgpu:cpu", Device::Wgpu(Some((GpuKind::Cpu, 0)))),
        ];
        for (name, device) in all {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        for name in
            ["", "gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:1:2", "wgpu:0", "wgpu:discrete:x"]
        {
            assert_eq!(name.parse::<Device>(), Err(DeviceError::Name { found: name.to_owned() }));
        }
    }

    #[test]
    fn the_cpu_is_listed_and_every_other_kind_or_why_not() {
        let all = devices();
        assert!(all[0].device == Device::Cpu && all[0].found.is_ok());
        assert!(all.iter().any(|listed| matches!(listed.device, Device::Cuda(_))));
        assert!(all.iter().any(|listed| matches!(listed.device, Device::Wgpu(_))));
    }
}
