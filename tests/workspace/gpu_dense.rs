//! The GPU's steps of dense layers: kernels against sums in f64 and the CPU's optimizers, and whole fits against the CPU's.

use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rekindle::kernels::Limits;
use rekindle::kernels::gpu::{DenseStep, dense, dense_input_gradient, dense_step, has_kernels};
use rekindle::prelude::*;
use rekindle::train::TrainError;
use rekindle_tests::{StopAfter, copy_photos, largest_difference, on_gpus, wave};

on_gpus! {
    dense_layers_are_products,
    gradients_go_back_through_dense_layers,
    steps_of_dense_layers_are_the_optimizers,
    heads_learn_what_they_learn_on_the_cpu,
    a_head_s_run_goes_on,
}

fn tensor<B: Backend>(values: &[f32], rows: usize, device: &B::Device) -> Tensor<B, 2> {
    let shape = [rows, values.len() / rows];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Of a wider tensor, so that rows are apart.
fn apart<B: Backend>(values: &[f32], rows: usize, device: &B::Device) -> Tensor<B, 2> {
    let columns = values.len() / rows;
    let wide = Tensor::cat(vec![tensor(values, rows, device), Tensor::ones([rows, 4], device)], 1);
    wide.narrow(1, 0, columns)
}

fn host<B: Backend>(tensor: Tensor<B, 2>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("f32")
}

/// Each value dropped or doubled.
fn mask(count: usize) -> Vec<f32> {
    wave(count, 5).into_iter().map(|value| if value < 0.0 { 0.0 } else { 2.0 }).collect()
}

/// Rows, inputs and outputs.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [3, 5, 7],
    [32, 1280, 5],
    [33, 64, 32],
    [17, 130, 12],
    [5, 4099, 3],
    [2, 32, 2],
    [70, 96, 260],
    [16, 20_480, 64],
];

const LIMITS: [Limits; 3] = [
    Limits::NONE,
    Limits { low: 0.0, high: f32::INFINITY },
    // As narrow as hits both.
    Limits { low: 0.0, high: 0.25 },
];

fn dense_layers_are_products<B: Backend>(device: &B::Device) {
    assert!(has_kernels::<B>() && !has_kernels::<Flex>() && !has_kernels::<Autodiff<B>>());
    for [rows, inputs, outputs] in SHAPES {
        let (x, weights) = (wave(rows * inputs, 1), wave((inputs + 1) * outputs, 2));
        let mask = mask(rows * outputs);
        let products: Vec<f64> = (0..rows * outputs)
            .map(|place| {
                let (row, column) = (place / outputs, place % outputs);
                let of = |input: usize| f64::from(weights[input * outputs + column]);
                let row = &x[row * inputs..][..inputs];
                row.iter().enumerate().map(|(i, &x)| f64::from(x) * of(i)).sum::<f64>() + of(inputs)
            })
            .collect();
        let (own, own_mask) = (tensor(&weights, inputs + 1, device), tensor(&mask, rows, device));
        for limits in LIMITS {
            for x in [tensor::<B>(&x, rows, device), apart(&x, rows, device)] {
                for is_masked in [false, true] {
                    let found = dense(&x, &own, is_masked.then_some(&own_mask), limits);
                    let found = host(found.expect("it has the kernel"));
                    let clamped =
                        products.iter().map(|y| limits.low.max(*y as f32).min(limits.high));
                    let masked =
                        clamped.zip(&mask).map(|(y, mask)| if is_masked { y * mask } else { y });
                    let off = largest_difference(&found, &masked.collect::<Vec<_>>());
                    assert!(off < 1e-5, "{rows} {inputs} {outputs} {limits:?}: {off:e}");
                }
            }
        }
    }
}

/// Where a value was clamped or dropped, nothing comes back.
fn gradients_go_back_through_dense_layers<B: Backend>(device: &B::Device) {
    for [rows, inputs, outputs] in SHAPES {
        let (gradient, weights) = (wave(rows * outputs, 3), wave((inputs + 1) * outputs, 2));
        let mask = mask(rows * inputs);
        let own = tensor::<B>(&weights, inputs + 1, device);
        for limits in LIMITS {
            let before = wave(rows * inputs, 4);
            for is_masked in [false, true] {
                let mask_of = |place: usize| if is_masked { mask[place] } else { 1.0 };
                let clamped = before.iter().map(|y| y.clamp(limits.low, limits.high));
                let y: Vec<f32> =
                    clamped.enumerate().map(|(place, y)| y * mask_of(place)).collect();
                let expected: Vec<f32> = (0..rows * inputs)
                    .map(|place| {
                        let inside = before[place] > limits.low && before[place] < limits.high;
                        let gradient = &gradient[place / inputs * outputs..][..outputs];
                        let row = &weights[place % inputs * outputs..][..outputs];
                        let pairs = gradient.iter().zip(row);
                        let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        if inside { sum as f32 * mask_of(place) } else { 0.0 }
                    })
                    .collect();
                let (y, own_mask) = (tensor(&y, rows, device), tensor(&mask, rows, device));
                let own_mask = is_masked.then_some(&own_mask);
                for gradient in [tensor(&gradient, rows, device), apart(&gradient, rows, device)] {
                    let found = dense_input_gradient(&gradient, &own, &y, own_mask, limits);
                    let off = largest_difference(&host(found.expect("has it")), &expected);
                    assert!(off < 1e-5, "{rows} {inputs} {outputs} {limits:?}: {off:e}");
                }
            }
        }
    }
}

fn rules() -> Vec<Rule> {
    vec![
        Rule::adam(),
        Rule::adam_w(),
        Rule::sgd(0.0, false),
        Rule::sgd(0.9, false),
        Rule::sgd(0.9, true),
        Rule::rms_prop(),
        Rule::RmsProp { rho: 0.9, momentum: 0.5, epsilon: 1e-7 },
    ]
}

/// The CPU's optimizers, which are Keras's; a kernel decays and is penalized, a bias not. What somebody else has does not change.
/// Gradients are whole numbers, so that no order of additions rounds: rules that divide by their size make much of a rounded zero,
/// and are without a penalty for that.
fn steps_of_dense_layers_are_the_optimizers<B: Backend>(device: &B::Device) {
    for shape in &SHAPES[..8] {
        for rule in rules() {
            steps::<B>(*shape, rule, device);
        }
    }
}

fn steps<B: Backend>([rows, inputs, outputs]: [usize; 3], rule: Rule, device: &B::Device) {
    let whole = |count: usize, seed: u64| -> Vec<f32> {
        wave(count, seed as usize).into_iter().map(|value| (value * 4.0).round()).collect()
    };
    let penalty = if matches!(rule, Rule::Sgd { .. }) { 0.1 } else { 0.0 };
    // Kernel and bias, each with what is remembered of it.
    let (mut kernel, mut bias) = (wave(inputs * outputs, 2), wave(outputs, 3));
    let mut of_kernel = vec![vec![0.0; kernel.len()]; rule.slots()];
    let mut of_bias = vec![vec![0.0; outputs]; rule.slots()];
    let together = |kernel: &Vec<f32>, bias: &Vec<f32>| [kernel.as_slice(), bias].concat();
    let all = |kernel: &Vec<f32>, bias: &Vec<f32>, of: &[Vec<f32>], of_bias: &[Vec<f32>]| {
        let slots = of.iter().zip(of_bias).map(|(kernel, bias)| together(kernel, bias));
        [together(kernel, bias)].into_iter().chain(slots).collect::<Vec<Vec<f32>>>()
    };
    let start = all(&kernel, &bias, &of_kernel, &of_bias);
    let mut state: Vec<Tensor<B, 2>> =
        start.iter().map(|list| tensor(list, inputs + 1, device)).collect();
    for time in 1..=3 {
        let (x, dy) = (whole(rows * inputs, time), whole(rows * outputs, 10 + time));
        let products = |input: usize, output: usize| -> f32 {
            (0..rows).map(|row| x[row * inputs + input] * dy[row * outputs + output]).sum()
        };
        let gradient: Vec<f32> = (0..inputs * outputs)
            .map(|place| products(place / outputs, place % outputs) + penalty * kernel[place])
            .collect();
        let of_output = |output| dy.iter().skip(output).step_by(outputs).sum();
        let bias_gradient: Vec<f32> = (0..outputs).map(of_output).collect();
        rule.update(time, 0.01, 0.5, &mut kernel, &gradient, &mut of_kernel);
        rule.update(time, 0.01, 0.5, &mut bias, &bias_gradient, &mut of_bias);
        // In the first step somebody else has them too.
        let kept = if time == 1 { state.clone() } else { Vec::new() };
        let [x, dy] = if time == 2 {
            [apart(&x, rows, device), apart(&dy, rows, device)]
        } else {
            [tensor(&x, rows, device), tensor(&dy, rows, device)]
        };
        let step = DenseStep { rule, time, rate: 0.01, scale: 0.5, penalty };
        state = dense_step(&x, &dy, state, step).expect("it has the kernel");
        if time == 1 {
            assert_eq!(kept.into_iter().map(host).collect::<Vec<_>>(), start);
        }
    }
    let expected = all(&kernel, &bias, &of_kernel, &of_bias);
    assert_eq!(state.len(), expected.len());
    for (found, expected) in state.into_iter().map(host).zip(expected) {
        let off = largest_difference(&found, &expected);
        assert!(off < 1e-6, "{rows} {inputs} {outputs} {rule:?}: {off:e}");
    }
}

/// The losses of a fit and what it says to a photo; the networks see photos of 32 pixels.
fn fit<A: AutodiffBackend>(
    device: &A::Device,
    set: impl FnOnce(TransferLearner<A>) -> TransferLearner<A>,
) -> Result<(Vec<f32>, Vec<f32>), TrainError> {
    let architecture = Architecture::from(MobileNetV2Config::new());
    let base = Weights::Demo.backbone::<A>(architecture, Some(32), device)?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_photos(dir.path(), 9);
    let photos = ImageFolder::open(dir.path())?;
    let learner = TransferLearner::new(base).data(photos).epochs(3).batch_size(6).seed(3);
    let trained = set(learner.learning_rate(1e-3).observer(())).fit()?;
    let losses =
        trained.history().epochs.iter().flat_map(|epoch| [Some(epoch.loss), epoch.val_loss]);
    let photo = dir.path().join("birds").join("blackbird.jpg");
    Ok((losses.flatten().collect(), trained.predict(photo)?.probabilities().to_vec()))
}

/// Hidden layers, clamped and dropped before and behind; all settings that a step is changed by.
fn learner<A: AutodiffBackend>(number: usize, learner: TransferLearner<A>) -> TransferLearner<A> {
    let pooled = HeadConfig::global_average_pooling();
    let deep = HeadConfig::flatten().dropout(0.25).dense(24, Activation::Relu).dropout(0.5);
    let deep = deep.dropout(0.1).dense(7, Activation::Relu6).dense(5, Activation::Linear);
    match number {
        0 => learner.head(deep),
        1 => learner
            .head(pooled.dense(16, Activation::Relu).l2(0.1).dropout(0.5))
            .optimizer(Rule::adam_w()),
        2 => learner
            .head(deep.l2(0.05))
            .clip_norm(0.5)
            .optimizer(Rule::sgd(0.9, true))
            .learning_rate(0.05),
        3 => learner.head(pooled.dropout(0.5)).accumulate(2).optimizer(Rule::rms_prop()),
        4 => learner.head(deep).micro_batch(4).accumulate(2).clip_norm(1.0),
        _ => learner.head(pooled.dense(9, Activation::Relu)).label_smoothing(0.1),
    }
}

fn heads_learn_what_they_learn_on_the_cpu<B: Backend>(device: &B::Device) {
    for number in 0..6 {
        let gpu = fit::<Autodiff<B>>(device, |it| learner(number, it)).expect("fits");
        let cpu =
            fit::<Autodiff<Flex>>(&Default::default(), |it| learner(number, it)).expect("fits");
        assert_eq!(gpu.0.len(), 6);
        for (gpu, cpu) in gpu.0.iter().chain(&gpu.1).zip(cpu.0.iter().chain(&cpu.1)) {
            assert!((gpu - cpu).abs() < 2e-3 * (1.0 + cpu), "{number}: {gpu} against {cpu}");
        }
    }
}

/// Where it stopped, be that on the GPU or on the CPU.
fn a_head_s_run_goes_on<B: Backend>(device: &B::Device) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let whole = fit::<Autodiff<B>>(device, |it| learner(0, it)).expect("fits");
    for is_cpu in [false, true] {
        let path = dir.path().join(format!("{is_cpu}.checkpoint"));
        let stop = StopAfter(4);
        let stopped = if is_cpu {
            fit::<Autodiff<Flex>>(&Default::default(), |it| {
                learner(0, it).checkpoint(&path).observer(stop)
            })
        } else {
            fit::<Autodiff<B>>(device, |it| learner(0, it).checkpoint(&path).observer(stop))
        };
        assert!(matches!(stopped, Err(TrainError::Interrupted { .. })), "{stopped:?}");
        let resumed =
            fit::<Autodiff<B>>(device, |it| learner(0, it).checkpoint(&path).resume(true));
        let resumed = resumed.expect("goes on");
        if !is_cpu {
            assert_eq!(resumed, whole);
        }
        for (found, expected) in resumed.0.iter().zip(&whole.0) {
            assert!((found - expected).abs() < 2e-3 * (1.0 + expected), "{found} {expected}");
        }
    }
}
