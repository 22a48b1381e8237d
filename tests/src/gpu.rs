//! Whether there is a Vulkan device to test wgpu on.

use burn::backend::wgpu::WgpuDevice;
use rekindle::kernels::gpu::{GpuKind, wgpu_gpus};

/// The device for tests of wgpu, or nothing, with the reason printed. With `REKINDLE_REQUIRE_WGPU` set
/// there has to be one.
#[must_use]
pub fn wgpu_device() -> Option<WgpuDevice> {
    let gpus = wgpu_gpus();
    let has = |kind| gpus.iter().flatten().any(|gpu| gpu.kind == kind);
    let device = if has(GpuKind::Discrete) {
        Some(WgpuDevice::DiscreteGpu(0))
    } else if has(GpuKind::Cpu) {
        Some(WgpuDevice::Cpu)
    } else {
        None
    };
    if device.is_none() {
        assert!(std::env::var_os("REKINDLE_REQUIRE_WGPU").is_none(), "{gpus:?}");
        println!("skipped: no device for wgpu: {gpus:?}");
    }
    device
}
