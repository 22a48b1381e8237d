//! The same on GPUs: wgpu and CUDA, where there are some; in CI Mesa's software Vulkan.

use std::process::Command;

use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, FloatDType, Tensor};
use rekindle::kernels::gpu::{device_failure, watch_devices};
use rekindle::kernels::{Folded, Isa, Precision, lower};
use rekindle::nn::Features;
use rekindle::prelude::*;
use rekindle_tests::on_gpus;
use rekindle_tests::{
    cases, copy_photos, formula_network, largest_difference, pictures, repository,
};

on_gpus! {
    networks_are_keras_s,
    folded_networks_are_the_cpu_s,
    fine_tuning_is_fine_tuning_on_the_cpu,
    settings_of_memory_and_devices_change_no_losses,
    memory_that_is_not_there_is_noticed,
    a_fit_is_the_fit_on_the_cpu,
}

fn networks_are_keras_s<B: Backend>(device: &B::Device) {
    let wanted =
        ["mobilenet-v2 0.35, 32 x 32, 1000 classes", "inception-v3, 75 x 75, 1000 classes"];
    let mut found = 0;
    for case in cases() {
        if wanted.contains(&case.architecture.to_string().as_str()) {
            case.compare(&case.network::<B>(device), device, 1e-3, |_| true);
            found += 1;
        }
    }
    assert_eq!(found, wanted.len());
}

/// Types of half the size, and how far off a network of them may be: bf16 has three bits less than f16.
const HALVES: [(FloatDType, DType, f32); 2] =
    [(FloatDType::F16, DType::F16, 2e-2), (FloatDType::BF16, DType::BF16, 8.0 * 2e-2)];

/// Normalizations folded, depthwise convolutions by our kernels: what features and predictions are computed with.
fn folded_networks_are_the_cpu_s<B: Backend>(device: &B::Device) {
    let mobile = MobileNetV2Config::new().with_alpha(0.35).with_size(97).with_classes(7);
    let inception = InceptionV3Config::new().with_size(75);
    for (architecture, layers) in [
        (Architecture::from(mobile), ["block_3_pad", "block_12_add", "predictions"]),
        (Architecture::from(inception), ["mixed2", "mixed7", "mixed10"]),
    ] {
        let cpu = formula_network::<Flex>(architecture, &Default::default());
        let gpu = formula_network::<B>(architecture, device);
        let images = pictures(rekindle_tests::size(&architecture));
        for layer in layers {
            let input = architecture.input();
            let folded = Folded::new(&gpu, Some(layer), FloatDType::F32, device);
            let Ok(folded) = folded else {
                // A padding alone is none of its layers.
                assert!(layer.ends_with("_pad"), "{layer}: {}", folded.expect_err("no layer"));
                continue;
            };
            let plan = lower(&cpu, Some(layer), Isa::detect().expect("one")).expect("lowers");
            let expected = plan.run(&images).expect("runs");
            let Features::Map(tensor) = Features::from_values(images.clone(), input, device) else {
                panic!("images are maps");
            };
            let found = folded.run(tensor).into_data().into_vec::<f32>().expect("f32");
            let off = largest_difference(&found, &expected);
            assert!(off < 1e-3, "{architecture} {layer}: relative difference {off:e}");
            for (dtype, found, most) in HALVES {
                if !B::supports_dtype(device, found) {
                    println!("skipped: {found:?}, which this device has not");
                    continue;
                }
                let rounded = Folded::new(&gpu, Some(layer), dtype, device);
                let values = Features::from_values(images.clone(), input, device);
                let Features::Map(tensor) = values else { panic!("images are maps") };
                let outputs = rounded.expect("as in f32").run(tensor).into_data();
                let rounded = outputs.into_vec::<f32>().expect("f32 again");
                let off = largest_difference(&rounded, &expected);
                assert!(
                    off > 0.0 && off < most,
                    "{architecture} {layer}: {found:?} is {off:e} off"
                );
            }
        }
    }
}

/// What comes behind a layer trains, with the gradients of our kernels on one side and the CPU's trainer on the other.
fn fine_tuning_is_fine_tuning_on_the_cpu<B: Backend>(device: &B::Device) {
    let (gpu, cpu) = (
        tune::<Autodiff<B>>(device, |learner| learner),
        tune::<Autodiff<Flex>>(&Default::default(), |learner| learner),
    );
    assert_eq!(gpu.len(), 3);
    near(&gpu, &cpu, 0.01);
}

/// However it is computed: in parts, with less memory, by several devices (here one that is two), or in halves.
fn settings_of_memory_and_devices_change_no_losses<B: Backend>(device: &B::Device) {
    let cpu = tune::<Autodiff<Flex>>(&Default::default(), |learner| learner);
    near(&tune::<Autodiff<B>>(device, |learner| learner.micro_batch(3)), &cpu, 0.01);
    let two = vec![device.clone(), device.clone()];
    near(&tune::<Autodiff<B>>(device, |learner| learner.devices(two)), &cpu, 0.01);
    near(&tune::<Autodiff<B, BalancedCheckpointing>>(device, |learner| learner), &cpu, 0.01);
    // Small steps, and not Adam's: its first ones are the signs of gradients, which rounding changes near zero.
    fn small<A: AutodiffBackend>(learner: TransferLearner<A>) -> TransferLearner<A> {
        let fine_tune = FineTune::from("block_14_add").epochs(4).lr(1e-4);
        learner.optimizer(Rule::sgd(0.9, false)).clip_norm(1e3).fine_tune(fine_tune)
    }
    let cpu = tune::<Autodiff<Flex>>(&Default::default(), small);
    // What rounding does to one step is tested in the engine; over steps that take the loss to a third it adds up.
    for (precision, dtype, first, all) in
        [(Precision::F16, DType::F16, 0.02, 0.15), (Precision::Bf16, DType::BF16, 8.0 * 0.02, 0.5)]
    {
        if !B::supports_dtype(device, dtype) {
            println!("skipped: {precision}, which this device has not");
            continue;
        }
        let halves = tune::<Autodiff<B>>(device, |learner| small(learner).precision(precision));
        near(&halves[..2], &cpu[..2], first);
        near(&halves, &cpu, all);
        assert!(halves[4] < 0.5 * halves[1], "{halves:?}");
        assert_ne!(halves, cpu, "halves are rounded");
    }
}

/// The losses of a head, and then of what comes behind a layer.
fn tune<A: AutodiffBackend>(
    device: &A::Device,
    set: impl FnOnce(TransferLearner<A>) -> TransferLearner<A>,
) -> Vec<f32> {
    let architecture = Architecture::from(MobileNetV2Config::new());
    let base = Weights::Demo.backbone::<A>(architecture, Some(32), device).expect("bundled");
    let dir = tempfile::tempdir().expect("a temporary folder");
    // Of fewer photos, the mean is as far off as one photo's rounding.
    copy_photos(dir.path(), 16);
    let photos = ImageFolder::open(dir.path()).expect("photos");
    let learner = TransferLearner::new(base).data(photos).epochs(1).observer(());
    let learner = learner.fine_tune(FineTune::from("block_14_add").epochs(2).lr(1e-3));
    let tuned = set(learner).fit().expect("fits");
    tuned.history().epochs.iter().map(|epoch| epoch.loss).collect()
}

/// Burn tells nobody where a device has no memory, and goes on with zeros; we do. In a process of its own, since the failure is
/// of all who use the device.
fn memory_that_is_not_there_is_noticed<B: Backend>(device: &B::Device) {
    const CHILD: &str = "REKINDLE_TEST_MEMORY";
    if std::env::var_os(CHILD).is_none() {
        // A test's thread has its name.
        let thread = std::thread::current();
        let name = thread.name().expect("tests have names");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
        let output = child.output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    watch_devices();
    // 16 TiB.
    let large = Tensor::<B, 2>::ones([1 << 21, 1 << 21], device);
    let sum = large.sum().try_into_data();
    let failure = device_failure::<B>(device);
    let said = failure.clone().or(sum.err().map(|error| error.to_string()));
    assert!(said.is_some_and(|said| said.contains("allocate")), "{failure:?}");
    // And the device goes on.
    let small = Tensor::<B, 1>::ones([4], device).sum().into_data();
    assert_eq!(small.into_vec::<f32>().expect("f32"), [4.0]);
    assert_eq!(device_failure::<B>(device), None);
}

fn near(found: &[f32], expected: &[f32], share: f32) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= share * b, "{found:?} against {expected:?}");
    }
}

fn fit<B: Backend>(device: &B::Device) -> TrainedModel<B> {
    let architecture = Architecture::from(MobileNetV2Config::new());
    let base =
        Weights::Demo.backbone::<Autodiff<B>>(architecture, Some(32), device).expect("bundled");
    let photos = ImageFolder::open(repository("demo/photos")).expect("the demo photos");
    TransferLearner::new(base).data(photos).epochs(3).observer(()).fit().expect("fits")
}

fn a_fit_is_the_fit_on_the_cpu<B: Backend>(device: &B::Device) {
    let (gpu, cpu) = (fit::<B>(device), fit::<Flex>(&Default::default()));
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
