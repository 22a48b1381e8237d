//! The CPU engine against Keras's golden outputs and against Eager, on every instruction set.

use burn::backend::Flex;
use burn::tensor::FloatDType;
use rekindle::kernels::{Folded, Isa, Plan, PlanConfig, Precision, lower};
use rekindle::nn::{Architecture, Eager, Features, HeadConfig, Network};
use rekindle::prelude::*;
use rekindle_tests::{cases, formula_network, pictures, relative_difference, sample, size};

fn plan(network: &Network<Flex>, until: Option<&str>, isa: Isa) -> Plan {
    lower(network, until, isa).expect("every layer has a kernel")
}

/// `[batch, channels, height, width]` as Keras has it: `[batch, height, width, channels]`.
fn to_keras(values: &[f32], channels: usize, batch: usize) -> Vec<f32> {
    let pixels = values.len() / channels / batch;
    let mut keras = Vec::with_capacity(values.len());
    for image in values.chunks_exact(channels * pixels) {
        for pixel in 0..pixels {
            keras.extend((0..channels).map(|channel| image[channel * pixels + pixel]));
        }
    }
    keras
}

#[test]
fn plans_of_every_network_are_keras_s() {
    for case in cases() {
        let network = case.network::<Flex>(&Default::default());
        let (images, theirs) = (case.pictures(), case.last());
        for isa in Isa::available() {
            let plan = plan(&network, None, isa);
            for batch in [1, 2, 7, 32] {
                for pair in in_batches_of(batch, &plan, &images) {
                    let ours = sample(&to_keras(&pair, channels_of(&plan), 2), theirs);
                    let difference = relative_difference(&ours, theirs);
                    let architecture = &case.architecture;
                    assert!(
                        difference <= 1e-4,
                        "{architecture} {isa} {batch}: difference {difference:e}"
                    );
                }
            }
        }
    }
}

/// What a plan makes of two images, in each batch of so many that takes turns with them: pairs of outputs, so that each
/// image's is in one.
fn in_batches_of(batch: usize, plan: &Plan, images: &[f32]) -> Vec<Vec<f32>> {
    let each: Vec<&[f32]> = images.chunks_exact(images.len() / 2).collect();
    let batch_of = |first: usize| -> Vec<Vec<f32>> {
        let images: Vec<f32> = (first..first + batch).flat_map(|i| each[i % 2].to_vec()).collect();
        let outputs = plan.run(&images).expect("runs");
        outputs.chunks_exact(outputs.len() / batch).map(<[f32]>::to_vec).collect()
    };
    let mut outputs = batch_of(0);
    if batch == 1 {
        outputs.extend(batch_of(1));
    }
    // The last one of an odd batch is beside the one before it.
    let (count, odd) = (outputs.len(), outputs.len() % 2);
    let pairs = (0..count - odd).step_by(2).map(|i| [i, i + 1]);
    let rest = (odd == 1).then(|| [count - 1, count - 2]);
    pairs.chain(rest).map(|[a, b]| [&outputs[a][..], &outputs[b]].concat()).collect()
}

/// The folded networks of other backends, here on the CPU's.
#[test]
fn folded_networks_are_keras_s() {
    let device = Default::default();
    for case in cases().iter().filter(|case| size(&case.architecture) <= 128) {
        let network = case.network::<Flex>(&device);
        let folded = Folded::new(&network, None, FloatDType::F32, &device);
        let images = Features::from_values(case.pictures(), network.graph().input(), &device);
        let Features::Map(images) = images else { panic!("images are maps") };
        let outputs = folded.expect("every layer can be folded").run(images);
        let channels = outputs.shape().channels();
        let outputs = outputs.into_data().into_vec::<f32>().expect("f32");
        let ours = sample(&to_keras(&outputs, channels, 2), case.last());
        let difference = relative_difference(&ours, case.last());
        assert!(difference <= 1e-4, "{}: difference {difference:e}", case.architecture);
    }
}

/// Rounded factors are within 2 % of Keras, at every layer that is recorded; on sets that have no such products they are an
/// error that says so.
#[test]
fn bf16_plans_are_keras_s_within_2_percent() {
    for case in cases() {
        let (architecture, size) = (&case.architecture, size(&case.architecture));
        let network = case.network::<Flex>(&Default::default());
        let images = case.pictures();
        for isa in Isa::available() {
            let config = PlanConfig { isa, precision: Precision::Bf16 };
            let has_bf16 = isa == Isa::Portable || PlanConfig::detect(Precision::Bf16).is_ok();
            if matches!(isa, Isa::Avx2 | Isa::Neon) || !has_bf16 {
                let error = lower(&network, None, config).expect_err("none");
                assert!(error.to_string().contains("has no such products"), "{error}");
                continue;
            }
            // Plain loops over larger maps take minutes.
            if isa == Isa::Portable && size > 90 {
                continue;
            }
            for layer in &case.layers {
                let plan = lower(&network, Some(layer), config).expect("every layer has a kernel");
                assert_eq!(plan.precision(), Precision::Bf16);
                let theirs = case.output(layer);
                let is_last = Some(layer) == case.layers.last();
                let batches: &[usize] = if is_last { &[1, 2, 7, 32] } else { &[2] };
                for &batch in batches {
                    for pair in in_batches_of(batch, &plan, &images) {
                        let ours = sample(&to_keras(&pair, channels_of(&plan), 2), theirs);
                        let difference = relative_difference(&ours, theirs);
                        assert!(
                            difference <= 2e-2,
                            "{architecture} {isa} {layer} {batch}: difference {difference:e}"
                        );
                    }
                }
            }
        }
    }
}

fn channels_of(plan: &Plan) -> usize {
    plan.output_shape().channels()
}

#[test]
fn every_cut_and_batch_is_eager_s() {
    let device = Default::default();
    let mobile = Architecture::from(MobileNetV2Config::new().with_alpha(0.5).with_size(75));
    let inception = Architecture::from(InceptionV3Config::new().with_size(80));
    let cuts: [(Architecture, &[&str]); 2] = [
        (
            mobile,
            &[
                "Conv1",
                "bn_Conv1",
                "Conv1_relu",
                "block_2_add",
                "block_3_expand",
                "block_4_depthwise_BN",
                "out_relu",
            ],
        ),
        (
            inception,
            &[
                "activation_3",
                "max_pooling2d",
                "average_pooling2d_1",
                "mixed0",
                "mixed3",
                "mixed9_0",
                "mixed10",
            ],
        ),
    ];
    for (architecture, cuts) in cuts {
        let network = formula_network::<Flex>(architecture, &device);
        for (index, cut) in cuts.iter().enumerate() {
            let batch = [1, 2, 7, 3][index % 4];
            let pictures = pictures(size(&architecture));
            let images: Vec<f32> =
                pictures.iter().copied().cycle().take(pictures.len() / 2 * batch).collect();
            let input =
                Features::<Flex>::from_values(images.clone(), architecture.input(), &device);
            let theirs = network.walk_until(cut, &mut Eager::inference(), input).expect("fits");
            let shape = theirs.shape();
            let theirs: Vec<f32> = theirs.into_data().into_vec().expect("f32");
            for isa in Isa::available() {
                let plan = plan(&network, Some(cut), isa);
                assert_eq!(plan.output_shape(), shape);
                let ours = plan.run(&images).expect("runs");
                let highest = theirs.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                let with = |values: &[f32]| [values, &[highest]].concat();
                let difference = relative_difference(&with(&ours), &with(&theirs));
                assert!(difference <= 1e-4, "{isa} {cut} batch {batch}: {difference:e}");
                // The same plan again, from memory that has been used: the same to the bit.
                assert_eq!(ours, plan.run(&images).expect("runs"), "{isa} {cut}");
            }
        }
    }
}

#[test]
fn heads_are_lowered_too() {
    let device = Default::default();
    let architecture = Architecture::from(MobileNetV2Config::new().with_alpha(0.35).with_size(64));
    let images = pictures(64);
    for config in [
        HeadConfig::default(),
        HeadConfig::flatten().dense(40, Activation::Relu).dropout(0.5),
        HeadConfig::global_max_pooling().dense(24, Activation::Relu6),
    ] {
        let base = formula_network::<Flex>(architecture, &device);
        let model = config.on(base, 5, 1, &device).expect("fits");
        let input = Features::<Flex>::from_values(images.clone(), architecture.input(), &device);
        let Features::Map(input) = input else { panic!("images are maps") };
        let theirs: Vec<f32> =
            model.forward(input).expect("fits").into_data().into_vec().expect("f32");
        for isa in Isa::available() {
            let plan = lower(&model, None, isa).expect("lowers");
            for (ours, theirs) in plan.run(&images).expect("runs").iter().zip(&theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{isa} {config:?}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn a_plan_serves_many_threads_and_refuses_halves() {
    let network = formula_network::<Flex>(
        Architecture::from(MobileNetV2Config::new().with_alpha(0.35).with_size(32)),
        &Default::default(),
    );
    let plan = plan(&network, None, Isa::detect().expect("a set that is there"));
    let images = pictures(32);
    let expected = plan.run(&images).expect("runs");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(plan.run(&images).expect("runs"), expected);
                }
            });
        }
    });
    let error = plan.run(&images[1..]).expect_err("half an image").to_string();
    assert!(error.contains("expected a multiple of 3072"), "{error}");
    // What is no number stays none, and does not stop anything.
    let nan = plan.run(&vec![f32::NAN; 3072]).expect("runs");
    assert!(nan.iter().all(|value| value.is_nan()));
}
