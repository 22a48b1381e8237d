//! The GPU's depthwise kernels against Burn's convolutions on the CPU, forward and backward, over odd shapes.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use burn::tensor::{Tensor, TensorData, backend::AutodiffBackend};
use rekindle::kernels::Limits;
use rekindle::kernels::gpu::{DepthwiseConfig, depthwise};
use rekindle_tests::gpu::wgpu_device;
use rekindle_tests::largest_difference;

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
    fn config(&self) -> DepthwiseConfig {
        let out = |axis: usize| {
            let padded = self.size[axis] + self.before[axis] + self.after[axis];
            (padded - self.kernel[axis]) / self.stride[axis] + 1
        };
        let output = [out(0), out(1)];
        let limits = Limits::NONE;
        let (kernel, stride, before) = (self.kernel, self.stride, self.before);
        DepthwiseConfig { kernel, stride, before, output, limits }
    }
}

fn wave(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// The output, and the gradients of its product with a slope by input and weights.
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

#[test]
fn depthwise_kernels_are_burn_s_convolutions() {
    let Some(device) = wgpu_device() else { return };
    let case = |batch, channels, size, kernel, stride, before, after| Case {
        batch,
        channels,
        size,
        kernel,
        stride,
        before,
        after,
    };
    let cases = [
        case(1, 1, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
        case(2, 5, [7, 9], [3, 3], [1, 1], [1, 1], [1, 1]),
        case(3, 16, [8, 6], [3, 3], [2, 2], [0, 0], [1, 1]),
        case(2, 3, [9, 5], [3, 3], [2, 2], [1, 1], [1, 1]),
        case(2, 7, [6, 11], [5, 5], [1, 1], [2, 2], [2, 2]),
        case(1, 4, [5, 13], [1, 3], [1, 2], [0, 1], [0, 1]),
        case(19, 2, [4, 4], [3, 3], [1, 1], [0, 0], [0, 0]),
        case(2, 6, [10, 10], [5, 5], [3, 3], [1, 2], [2, 1]),
    ];
    for case in &cases {
        let config = case.config();
        let ours = compute::<Autodiff<Wgpu>>(case, &device, |x, weight| {
            depthwise(&x, &weight, None, config).expect("wgpu has the kernels")
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

/// Without autodiff, and with a bias, which the kernel adds, and limits, which it clamps to; with autodiff, both are Burn's.
#[test]
fn a_bias_is_added_and_limits_hold() {
    let Some(device) = wgpu_device() else { return };
    let x =
        Tensor::<Wgpu, 4>::from_data(TensorData::new(wave(2 * 3 * 20, 1), [2, 3, 4, 5]), &device);
    let weight = Tensor::<Wgpu, 4>::from_data(TensorData::new(wave(27, 2), [3, 1, 3, 3]), &device);
    let bias = Tensor::<Wgpu, 1>::from_data([10.0, 20.0, 30.0], &device);
    let (kernel, stride, before, output) = ([3, 3], [1, 1], [1, 1], [4, 5]);
    let limits = Limits::NONE;
    let config = DepthwiseConfig { kernel, stride, before, output, limits };
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
        let config = DepthwiseConfig { limits, ..config };
        let clamped = depthwise(&x, &weight, Some(&bias), config).expect("has the kernels");
        let clamped = clamped.into_data().into_vec::<f32>().expect("f32");
        let expected: Vec<f32> = with.iter().map(|y| y.clamp(low, high)).collect();
        assert_eq!(clamped, expected);
        let inner = |x: &Tensor<Wgpu, 4>| Tensor::<Autodiff<Wgpu>, 4>::from_inner(x.clone());
        let bias = Tensor::<Autodiff<Wgpu>, 1>::from_inner(bias.clone());
        let tracked = depthwise(&inner(&x), &inner(&weight), Some(&bias), config);
        let tracked = tracked.expect("has the kernels").into_data().into_vec::<f32>().expect("f32");
        assert!(largest_difference(&tracked, &expected) < 1e-6);
    }
    let nan = depthwise(
        &(x * f32::NAN),
        &weight,
        Some(&bias),
        DepthwiseConfig { limits: Limits { low: 0.0, high: 6.0 }, ..config },
    );
    let nan = nan.expect("has the kernels").into_data().into_vec::<f32>().expect("f32");
    assert!(nan.iter().all(|value| value.is_nan()), "{nan:?}");
}
