//! The GPU's kernels against Burn's convolutions on the CPU, forward and backward, over odd shapes.

use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{Int, Tensor, TensorData};
use rekindle::kernels::Limits;
use rekindle::kernels::gpu::{
    ChannelScale, WindowConfig, conv, depthwise, join, map_rows, photos, stem,
};
use rekindle_tests::{largest_difference, on_gpus, wave};

on_gpus! {
    depthwise_kernels_are_burn_s_convolutions,
    every_row_is_in_the_weights_gradient,
    a_bias_is_added_and_limits_hold,
    stems_are_burn_s_convolutions,
    convolutions_of_rows_are_those_of_maps,
    joined_rows_are_a_concatenation,
    maps_are_rows,
    photos_are_scaled_bytes,
}

/// An input, weights and padding.
struct Case {
    batch: usize,
    channels: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    before: [usize; 2],
    after: [usize; 2],
}

impl Case {
    fn config(&self) -> WindowConfig {
        let out = |axis: usize| {
            let padded = self.size[axis] + self.before[axis] + self.after[axis];
            (padded - self.kernel[axis]) / self.stride[axis] + 1
        };
        let output = [out(0), out(1)];
        let limits = Limits::NONE;
        let (kernel, stride, before) = (self.kernel, self.stride, self.before);
        WindowConfig { input: self.size, kernel, stride, before, output, limits }
    }
}

/// The output, and the gradients of its product with fixed numbers by input and weights.
fn compute<B: AutodiffBackend>(
    case: &Case,
    device: &B::Device,
    run: impl Fn(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 4>,
) -> [Vec<f32>; 3] {
    let Case { batch, channels, size: [height, width], kernel: [rows, columns], .. } = *case;
    let tensor = |shape: [usize; 4], seed| {
        let data = TensorData::new(wave(shape.iter().product(), seed), shape);
        Tensor::<B, 4>::from_data(data, device)
    };
    let x = tensor([batch, channels, height, width], 1).require_grad();
    let weight = tensor([channels, 1, rows, columns], 2).require_grad();
    let y = run(x.clone(), weight.clone());
    let gradients = (y.clone() * tensor(y.dims(), 3)).sum().backward();
    let host = |data: TensorData| data.into_vec::<f32>().expect("f32");
    [
        host(y.into_data()),
        host(x.grad(&gradients).expect("needed").into_data()),
        host(weight.grad(&gradients).expect("needed").into_data()),
    ]
}

/// Odd ones, and such as threads share: several channels at a time, several outputs of a row.
fn cases() -> Vec<Case> {
    let case = |batch, channels, size, kernel, stride, before, after| Case {
        batch,
        channels,
        size,
        kernel,
        stride,
        before,
        after,
    };
    vec![
        case(1, 1, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
        case(2, 5, [7, 9], [3, 3], [1, 1], [1, 1], [1, 1]),
        case(3, 16, [8, 6], [3, 3], [2, 2], [0, 0], [1, 1]),
        case(2, 3, [9, 5], [3, 3], [2, 2], [1, 1], [1, 1]),
        case(2, 7, [6, 11], [5, 5], [1, 1], [2, 2], [2, 2]),
        case(1, 4, [5, 13], [1, 3], [1, 2], [0, 1], [0, 1]),
        case(19, 2, [4, 4], [3, 3], [1, 1], [0, 0], [0, 0]),
        case(2, 6, [10, 10], [5, 5], [3, 3], [1, 2], [2, 1]),
        case(2, 24, [6, 14], [3, 3], [1, 1], [1, 1], [1, 1]),
    ]
}

fn depthwise_kernels_are_burn_s_convolutions<B: Backend>(device: &B::Device) {
    for case in &cases() {
        let config = case.config();
        let ours = compute::<Autodiff<B>>(case, device, |x, weight| {
            depthwise(&x, &weight, None, config).expect("it has the kernels")
        });
        let theirs = compute::<Autodiff<Flex>>(case, &Default::default(), |x, weight| {
            assert!(depthwise(&x, &weight, None, config).is_none(), "the CPU has none");
            let Case { stride, before, after, channels, .. } = *case;
            let options = PaddedConvOptions::asymmetric(stride, before, after, [1, 1], channels);
            conv2d(x, weight, None, options)
        });
        for (what, (ours, theirs)) in
            ["output", "input's gradient", "weights' gradient"].iter().zip(ours.iter().zip(&theirs))
        {
            let off = largest_difference(ours, theirs);
            assert!(off < 1e-5, "{what}, {config:?}: relative difference {off:e}");
        }
    }
}

/// More rows than shares of the weights' gradient: all of them count. In whole numbers, so that no order of additions rounds.
fn every_row_is_in_the_weights_gradient<B: Backend>(device: &B::Device) {
    let (height, channels) = (70_000, 2);
    let whole = |seed: usize| -> Vec<f32> {
        (0..channels * height).map(|i| ((i * 7919 + seed) % 5) as f32 - 2.0).collect()
    };
    let (x, gradient) = (whole(1), whole(3));
    let tensor = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [1, channels, height, 1]);
        Tensor::<Autodiff<B>, 4>::from_data(data, device)
    };
    let weight = Tensor::<Autodiff<B>, 4>::zeros([channels, 1, 3, 1], device).require_grad();
    let config = WindowConfig {
        input: [height, 1],
        kernel: [3, 1],
        stride: [1, 1],
        before: [1, 0],
        output: [height, 1],
        limits: Limits::NONE,
    };
    let y = depthwise(&tensor(&x), &weight, None, config).expect("it has the kernels");
    let gradients = (y * tensor(&gradient)).sum().backward();
    let found = weight.grad(&gradients).expect("needed").into_data().into_vec::<f32>();
    let mut expected = Vec::new();
    for (x, gradient) in x.chunks(height).zip(gradient.chunks(height)) {
        for tap in 0..3 {
            let reached = (0..height).filter(|to| (1..=height).contains(&(to + tap)));
            expected.push(reached.map(|to| gradient[to] * x[to + tap - 1]).sum::<f32>());
        }
    }
    assert_eq!(found.expect("f32"), expected);
}

/// Without autodiff, and with a bias, which the kernel adds, and limits, which it clamps to; with autodiff, both are Burn's.
fn a_bias_is_added_and_limits_hold<B: Backend>(device: &B::Device) {
    let x = Tensor::<B, 4>::from_data(TensorData::new(wave(2 * 3 * 20, 1), [2, 3, 4, 5]), device);
    let weight = Tensor::<B, 4>::from_data(TensorData::new(wave(27, 2), [3, 1, 3, 3]), device);
    let bias = Tensor::<B, 1>::from_data([10.0, 20.0, 30.0], device);
    let (kernel, stride, before, output) = ([3, 3], [1, 1], [1, 1], [4, 5]);
    let limits = Limits::NONE;
    let config = WindowConfig { input: [4, 5], kernel, stride, before, output, limits };
    let without = depthwise(&x, &weight, None, config).expect("has the kernels").into_data();
    let with = depthwise(&x, &weight, Some(&bias), config).expect("has the kernels").into_data();
    let (without, with) =
        (without.into_vec::<f32>().expect("f32"), with.into_vec::<f32>().expect("f32"));
    for (index, (without, with)) in without.iter().zip(&with).enumerate() {
        let bias = 10.0 * (index / 20 % 3 + 1) as f32;
        assert!((with - without - bias).abs() < 1e-4, "{index}: {without} {with}");
    }
    for (low, high) in [(9.5, 20.5), (f32::NEG_INFINITY, 10.0), (29.0, f32::INFINITY)] {
        let limits = Limits { low, high };
        let config = WindowConfig { limits, ..config };
        let clamped = depthwise(&x, &weight, Some(&bias), config).expect("has the kernels");
        let clamped = clamped.into_data().into_vec::<f32>().expect("f32");
        let expected: Vec<f32> = with.iter().map(|y| y.clamp(low, high)).collect();
        assert_eq!(clamped, expected);
        let inner = |x: &Tensor<B, 4>| Tensor::<Autodiff<B>, 4>::from_inner(x.clone());
        let bias = Tensor::<Autodiff<B>, 1>::from_inner(bias.clone());
        let tracked = depthwise(&inner(&x), &inner(&weight), Some(&bias), config);
        let tracked = tracked.expect("has the kernels").into_data().into_vec::<f32>().expect("f32");
        assert!(largest_difference(&tracked, &expected) < 1e-6);
    }
    let nan = depthwise(
        &(x * f32::NAN),
        &weight,
        Some(&bias),
        WindowConfig { limits: Limits { low: 0.0, high: 6.0 }, ..config },
    );
    let nan = nan.expect("has the kernels").into_data().into_vec::<f32>().expect("f32");
    assert!(nan.iter().all(|value| value.is_nan()), "{nan:?}");
}

/// Rows `[batch * height * width, channels]` of a map `[batch, channels, height, width]`.
fn rows<B: Backend>(map: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, channels, height, width] = map.dims();
    map.permute([0, 2, 3, 1]).reshape([batch * height * width, channels])
}

/// A convolution's input, weights `[outputs, inputs, kernel height, kernel width]` and bias `[1, outputs]`, and what Burn makes of
/// them on the CPU, as rows.
fn full(case: &Case, inputs: usize, outputs: usize) -> ([TensorData; 3], Tensor<Flex, 2>) {
    let Case { batch, size: [height, width], kernel: [down, right], stride, .. } = *case;
    let data = |shape: &[usize], seed| TensorData::new(wave(shape.iter().product(), seed), shape);
    let x = data(&[batch, inputs, height, width], 1);
    let weight = data(&[outputs, inputs, down, right], 2);
    let bias = data(&[1, outputs], 3);
    let cpu = Default::default();
    let options = PaddedConvOptions::asymmetric(stride, case.before, case.after, [1, 1], 1);
    let y = conv2d(
        Tensor::<Flex, 4>::from_data(x.clone(), &cpu),
        Tensor::from_data(weight.clone(), &cpu),
        Some(Tensor::<Flex, 2>::from_data(bias.clone(), &cpu).squeeze_dim(0)),
        options,
    );
    ([x, weight, bias], rows(y))
}

/// Such as clamp, and one that does not.
const LIMITS: [Limits; 3] =
    [Limits::NONE, Limits { low: 0.0, high: 0.5 }, Limits { low: 0.1, high: f32::INFINITY }];

fn near<B: Backend>(found: Tensor<B, 2>, expected: Tensor<Flex, 2>, what: &str) {
    nearer_than(1e-5, found, expected, what);
}

fn nearer_than<B: Backend>(most: f32, found: Tensor<B, 2>, expected: Tensor<Flex, 2>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (found.into_data(), expected.into_data());
    let [found, expected] = [found, expected].map(|data| data.into_vec::<f32>().expect("f32"));
    let off = largest_difference(&found, &expected);
    assert!(off < most, "{what}: relative difference {off:e}");
}

/// The convolution that reads images: 1 to 4 channels, with padding, bias and limits.
fn stems_are_burn_s_convolutions<B: Backend>(device: &B::Device) {
    for (case, outputs) in cases().iter().zip([1, 3, 8, 32, 5, 12, 6, 4, 16]) {
        let inputs = case.channels % 4 + 1;
        let ([x, weight, bias], y) = full(case, inputs, outputs);
        let x = rows(Tensor::<B, 4>::from_data(x, device));
        let [down, right] = case.kernel;
        let weight = Tensor::<B, 4>::from_data(weight, device).permute([2, 3, 1, 0]);
        let weight = weight.reshape([down * right * inputs, outputs]);
        let bias = Tensor::from_data(bias, device);
        for limits in LIMITS {
            let config = WindowConfig { limits, ..case.config() };
            let found = stem(&x, &weight, &bias, config).expect("it has the kernel");
            near(found, y.clone().clamp(limits.low, limits.high), &format!("{config:?}"));
        }
    }
}

/// Burn's own, on rows, with a clamp.
fn convolutions_of_rows_are_those_of_maps<B: Backend>(device: &B::Device) {
    // Burn's products of f32 are TF32's on NVIDIA's tensor cores.
    let most = if B::name(device).contains("cuda") { 2e-3 } else { 1e-5 };
    let symmetric: Vec<Case> =
        cases().into_iter().filter(|c| c.before == c.after && c.channels < 100).collect();
    assert!(symmetric.len() > 4);
    for (case, outputs) in symmetric.iter().zip([1, 3, 8, 32, 5, 12, 6]) {
        let ([x, weight, bias], y) = full(case, case.channels, outputs);
        let x = rows(Tensor::<B, 4>::from_data(x, device));
        let weight = Tensor::<B, 4>::from_data(weight, device).permute([0, 2, 3, 1]);
        let bias = Tensor::from_data(bias, device);
        for limits in LIMITS {
            let config = WindowConfig { limits, ..case.config() };
            let found = conv(&x, &weight, &bias, config).expect("it has the kernel");
            nearer_than(
                most,
                found,
                y.clone().clamp(limits.low, limits.high),
                &format!("{config:?}"),
            );
        }
    }
}

/// Parts of other widths, also such as are only a view, each with its own limits.
fn joined_rows_are_a_concatenation<B: Backend>(device: &B::Device) {
    let cpu = Default::default();
    for widths in [vec![8, 4, 16], vec![5], vec![1, 2, 3], vec![64, 4]] {
        let (mut parts, mut expected) = (Vec::new(), Vec::new());
        let limits: Vec<Limits> = LIMITS.into_iter().cycle().take(widths.len()).collect();
        for (&width, limits) in widths.iter().zip(&limits) {
            // A part of a wider one, whose rows are apart.
            let data = TensorData::new(wave(7 * (width + 4), width), [7, width + 4]);
            let narrow = Tensor::<B, 2>::from_data(data.clone(), device).narrow(1, 0, width);
            parts.push(narrow);
            let part = Tensor::<Flex, 2>::from_data(data, &cpu).narrow(1, 0, width);
            expected.push(part.clamp(limits.low, limits.high));
        }
        let found = join(&parts, &limits).expect("it has the kernel");
        near(found, Tensor::cat(expected, 1), &format!("{widths:?}"));
    }
}

/// Whether a map's channels are beside each other in memory or not.
fn maps_are_rows<B: Backend>(device: &B::Device) {
    let data = TensorData::new(wave(2 * 3 * 5 * 4, 1), [2, 5, 4, 3]);
    let expected = Tensor::<Flex, 4>::from_data(data.clone(), &Default::default());
    let map = Tensor::<B, 4>::from_data(data, device);
    near(map_rows(&map).expect("has it"), rows(expected.clone()), "in the order of maps");
    let (map, expected) = (map.permute([0, 3, 1, 2]), expected.permute([0, 3, 1, 2]));
    near(map_rows(&map).expect("has it"), rows(expected.clone()), "in the order of rows");
    let (narrow, part) = (map.clone().narrow(2, 1, 2), expected.clone().narrow(2, 1, 2));
    near(map_rows(&narrow).expect("has it"), rows(part), "a part of the rows");
    let data = TensorData::new(wave(5 * 4 * 3, 2), [1, 5, 4, 3]);
    let one = Tensor::<B, 4>::from_data(data.clone(), device).permute([0, 3, 1, 2]);
    let twice = Tensor::<Flex, 4>::from_data(data, &Default::default()).permute([0, 3, 1, 2]);
    let (one, twice) = (one.expand([2, 3, 5, 4]), twice.expand([2, 3, 5, 4]));
    near(map_rows(&one).expect("has it"), rows(twice), "one image as two");
    let (map, expected) = (map.swap_dims(2, 3), expected.swap_dims(2, 3));
    near(map_rows(&map).expect("has it"), rows(expected), "columns before rows");
}

/// Each byte is scaled as its channel says, also in the other order of channels, and where bytes do not fill the last number.
fn photos_are_scaled_bytes<B: Backend>(device: &B::Device) {
    let scale = [0.5, 0.25, -0.125];
    let offset = [-1.0, 7.0, 0.0];
    for (pixels, source) in [(1, [0, 1, 2]), (85, [2, 1, 0]), (1024, [0, 1, 2])] {
        let mut bytes: Vec<u8> = (0..pixels * 3).map(|i| (i * 83 % 256) as u8).collect();
        let expected: Vec<f32> = bytes
            .chunks(3)
            .flat_map(|pixel| [0, 1, 2].map(|c| f32::from(pixel[source[c]]) * scale[c] + offset[c]))
            .collect();
        bytes.resize(bytes.len().next_multiple_of(4), 255);
        let words: Vec<i32> =
            bytes.as_chunks::<4>().0.iter().map(|four| i32::from_le_bytes(*four)).collect();
        let words = Tensor::<B, 1, Int>::from_data(words.as_slice(), device);
        let found = photos(&words, pixels, ChannelScale { source, scale, offset });
        let found = found.expect("it has the kernel");
        assert_eq!(found.dims(), [pixels, 3]);
        assert_eq!(found.into_data().into_vec::<f32>().expect("f32"), expected);
    }
}
