//! Whether there are GPUs to test on: Vulkan's for wgpu, NVIDIA's for CUDA.

use burn::backend::cuda::CudaDevice;
use burn::backend::wgpu::WgpuDevice;
use rekindle::kernels::gpu::{GpuKind, cuda_gpus, wgpu_gpus};

/// Tests that are generic over the backend, `fn test<B: Backend>(device: &B::Device)`, on wgpu and on CUDA, where there is a device.
#[macro_export]
macro_rules! on_gpus {
    ($($test:ident),* $(,)?) => {
        mod on_wgpu {$(
            #[test]
            fn $test() {
                if let Some(device) = $crate::gpu::wgpu_device() {
                    super::$test::<burn::backend::Wgpu>(&device);
                }
            }
        )*}

        mod on_cuda {$(
            #[test]
            fn $test() {
                if let Some(device) = $crate::gpu::cuda_device() {
                    super::$test::<burn::backend::Cuda>(&device);
                }
            }
        )*}
    };
}

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

/// The device for tests of CUDA, or nothing, with the reason printed. With `REKINDLE_REQUIRE_CUDA` set there has to be one.
#[must_use]
pub fn cuda_device() -> Option<CudaDevice> {
    let gpus = cuda_gpus();
    if gpus.as_ref().is_ok_and(|gpus| !gpus.is_empty()) {
        return Some(CudaDevice::new(0));
    }
    assert!(std::env::var_os("REKINDLE_REQUIRE_CUDA").is_none(), "{gpus:?}");
    println!("skipped: no device for CUDA: {gpus:?}");
    None
}
