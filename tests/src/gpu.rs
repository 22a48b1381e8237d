//! Whether there is a Vulkan device to test wgpu on.

use burn::backend::wgpu::WgpuDevice;

/// The device for tests of wgpu, or nothing, with the reason printed. With `REKINDLE_REQUIRE_WGPU` set
/// there has to be one.
#[must_use]
pub fn wgpu_device() -> Option<WgpuDevice> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let kinds: Vec<wgpu::DeviceType> =
        adapters.iter().map(|adapter| adapter.get_info().device_type).collect();
    let device = if kinds.contains(&wgpu::DeviceType::DiscreteGpu) {
        Some(WgpuDevice::DiscreteGpu(0))
    } else if kinds.contains(&wgpu::DeviceType::Cpu) {
        Some(WgpuDevice::Cpu)
    } else {
        None
    };
    if device.is_none() {
        let reason = format!(
            "no Vulkan device for wgpu (found {kinds:?}); Mesa's software one is in the package mesa-vulkan-drivers"
        );
        assert!(std::env::var_os("REKINDLE_REQUIRE_WGPU").is_none(), "{reason}");
        println!("skipped: {reason}");
    }
    device
}

/// Native adapters are enumerated without waiting: the future is ready at once.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::yield_now();
    }
}
