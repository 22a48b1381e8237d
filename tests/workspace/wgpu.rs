//! The same on wgpu: Mesa's software Vulkan in CI, a GPU where there is one.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::tensor::backend::Backend;
use rekindle::prelude::*;
use rekindle_tests::gpu::wgpu_device;
use rekindle_tests::{Golden, compare, formula_network, repository};

#[test]
fn networks_are_keras_s_on_wgpu() {
    let Some(device) = wgpu_device() else { return };
    let layers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    let config = MobileNetV2Config::new().with_alpha(0.35).with_size(97).with_classes(7);
    let network = formula_network::<Wgpu>(Architecture::MobileNetV2(config), &device);
    let golden = Golden::open("mobilenet_v2.safetensors");
    compare(
        &network,
        &golden,
        "0.35-97-True",
        &layers(&["Conv1_relu", "block_12_add", "out_relu", "predictions"]),
        &device,
        1e-3,
    );

    let config = InceptionV3Config::new().with_size(75).with_classes(1000);
    let network = formula_network::<Wgpu>(Architecture::InceptionV3(config), &device);
    let golden = Golden::open("inception_v3.safetensors");
    compare(
        &network,
        &golden,
        "75-True",
        &layers(&["mixed2", "mixed7", "mixed10", "predictions"]),
        &device,
        1e-3,
    );
}

fn fit<B: Backend>(device: &B::Device) -> TrainedModel<B> {
    let architecture = Architecture::MobileNetV2(MobileNetV2Config::new());
    let base =
        Weights::Demo.backbone::<Autodiff<B>>(architecture, Some(32), device).expect("bundled");
    let photos = ImageFolder::open(repository("demo/photos")).expect("the demo photos");
    TransferLearner::new(base).data(photos).epochs(3).observer(()).fit().expect("fits")
}

#[test]
fn a_fit_on_wgpu_is_the_fit_on_the_cpu() {
    let Some(device) = wgpu_device() else { return };
    let (gpu, cpu) = (fit::<Wgpu>(&device), fit::<Flex>(&Default::default()));
    for (gpu, cpu) in gpu.history().epochs.iter().zip(&cpu.history().epochs) {
        assert!((gpu.loss - cpu.loss).abs() <= 0.01 * cpu.loss, "{gpu} against {cpu}");
    }
    let photo = repository("demo/photos/houses/windmill.jpg");
    let (gpu, cpu) =
        (gpu.predict(&photo).expect("predicts"), cpu.predict(&photo).expect("predicts"));
    for (gpu, cpu) in gpu.probabilities().iter().zip(cpu.probabilities()) {
        assert!((gpu - cpu).abs() < 0.01);
    }
}
