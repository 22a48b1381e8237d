use std::pin::pin;
use std::task::{Context, Poll, Waker};

use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use wgpu::{Backend, DeviceType, Instance, InstanceDescriptor};

use super::{Gpu, GpuKind};

/// The GPUs that wgpu finds through the interface that Burn uses it with: Metal on Apple's systems, elsewhere Vulkan.
///
/// # Errors
/// The reason why there is none.
pub fn wgpu_gpus() -> Result<Vec<Gpu>, String> {
    let backend = AutoGraphicsApi::backend();
    let instance = Instance::new(InstanceDescriptor {
        backends: backend.into(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let mut gpus: Vec<Gpu> = Vec::new();
    for adapter in block_on(instance.enumerate_adapters(backend.into())) {
        let info = adapter.get_info();
        let kind = match info.device_type {
            DeviceType::DiscreteGpu => GpuKind::Discrete,
            DeviceType::IntegratedGpu => GpuKind::Integrated,
            DeviceType::VirtualGpu => GpuKind::Virtual,
            DeviceType::Cpu => GpuKind::Cpu,
            // Burn cannot be told to take these.
            DeviceType::Other => continue,
        };
        let index = gpus.iter().filter(|gpu| gpu.kind == kind).count();
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        gpus.push(Gpu { kind, index, name: info.name, driver });
    }
    match gpus.is_empty() {
        false => Ok(gpus),
        true => Err(missing(backend)),
    }
}

fn missing(backend: Backend) -> String {
    match backend {
        Backend::Vulkan => "no Vulkan device: neither a loader (libvulkan) with a GPU's driver, nor Mesa's software one (package mesa-vulkan-drivers)".to_owned(),
        other => format!("no device for {other}"),
    }
}

/// Native adapters are enumerated without waiting: the future is ready at once.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::yield_now();
    }
}
