//! Depthwise convolutions on GPUs, forward and backward, in CubeCL: one source for CUDA and wgpu. Burn 0.21 has a direct kernel
//! for grouped convolutions, and computes their weights' gradients group by group.

use std::slice;

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::WindowConfig;
use super::rows::{STRIP, clamp, cubes, empty, finite, pitched, vector};
use crate::Limits;

/// Sums of filters' taps, over a share of the rows each, that a device has threads for.
const MOST_SUMS: usize = 1 << 17;

/// Shares that are added up afterwards, by a thread for each tap: it is not to take longer than they did. (Software Vulkan also ends
/// every loop after 65,535 rounds.)
const MOST_SHARES: usize = 1 << 12;

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn forward<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<F, N>>,
    bias: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    threads: usize,
    channels: usize,
    pitch: usize,
    weight_pitch: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    top: usize,
    left: usize,
    low: f32,
    high: f32,
    #[comptime] kernel_height: usize,
    #[comptime] kernel_width: usize,
    #[comptime] step_down: usize,
    #[comptime] step_right: usize,
    #[comptime] strip: usize,
    #[comptime] has_bias: bool,
    #[comptime] has_limits: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let strips = out_width.div_ceil(strip);
    let channel = ABSOLUTE_POS % channels;
    let place = ABSOLUTE_POS / channels;
    let x = place % strips * strip;
    let row = place / strips;
    let y = row % out_height;
    let image = row / out_height;
    let columns = comptime!((strip - 1) * step_right + kernel_width);
    let mut sums = Array::<Vector<f32, N>>::new(strip);
    let mut start = Vector::<f32, N>::new(0.0);
    if has_bias {
        start = Vector::<f32, N>::cast_from(bias[channel]);
    }
    #[unroll]
    for o in 0..strip {
        sums[o] = start;
    }
    #[unroll]
    for ky in 0..kernel_height {
        let from_y = y * step_down + ky;
        if from_y >= top && from_y < height + top {
            let mut factors = Array::<Vector<f32, N>>::new(kernel_width);
            #[unroll]
            for kx in 0..kernel_width {
                let tap = ky * kernel_width + kx;
                factors[kx] = Vector::<f32, N>::cast_from(weight[tap * weight_pitch + channel]);
            }
            let first = (image * height + from_y - top) * width;
            #[unroll]
            for column in 0..columns {
                let from_x = x * step_right + column;
                if from_x >= left && from_x < width + left {
                    let at = (first + from_x - left) * pitch + channel;
                    let pixel = Vector::<f32, N>::cast_from(input[at]);
                    #[unroll]
                    for o in 0..strip {
                        if comptime!(
                            column >= o * step_right && column - o * step_right < kernel_width
                        ) {
                            sums[o] += pixel * factors[comptime!(column - o * step_right)];
                        }
                    }
                }
            }
        }
    }
    #[unroll]
    for o in 0..strip {
        if x + o < out_width {
            let mut sum = sums[o];
            if has_limits {
                sum = clamp(sum, low, high);
            }
            output[(row * out_width + x + o) * channels + channel] = Vector::cast_from(sum);
        }
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
#[expect(clippy::manual_is_multiple_of, reason = "CubeCL has no such method")]
fn input_gradient<F: Float, N: Size>(
    gradient: &Tensor<Vector<F, N>>,
    weight: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    threads: usize,
    channels: usize,
    pitch: usize,
    weight_pitch: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    top: usize,
    left: usize,
    #[comptime] kernel_height: usize,
    #[comptime] kernel_width: usize,
    #[comptime] step_down: usize,
    #[comptime] step_right: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let place = ABSOLUTE_POS / channels;
    let x = place % width + left;
    let row = place / width;
    let y = row % height + top;
    let image = row / height;
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for ky in 0..kernel_height {
        // The outputs that this tap takes the pixel to.
        if y >= ky && (y - ky) % step_down == 0 && (y - ky) / step_down < out_height {
            let first = (image * out_height + (y - ky) / step_down) * out_width;
            #[unroll]
            for kx in 0..kernel_width {
                if x >= kx && (x - kx) % step_right == 0 && (x - kx) / step_right < out_width {
                    let to = first + (x - kx) / step_right;
                    let tap = ky * kernel_width + kx;
                    let factor = weight[tap * weight_pitch + channel];
                    sum += Vector::<f32, N>::cast_from(gradient[to * pitch + channel])
                        * Vector::<f32, N>::cast_from(factor);
                }
            }
        }
    }
    output[place * channels + channel] = Vector::cast_from(sum);
}

/// Rows of outputs are dealt out to shares: `output` is `[shares][taps][channels]`.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn weight_gradient<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    gradient: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<f32, N>>,
    threads: usize,
    channels: usize,
    input_pitch: usize,
    gradient_pitch: usize,
    rows: usize,
    shares: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    top: usize,
    left: usize,
    #[comptime] kernel_height: usize,
    #[comptime] kernel_width: usize,
    #[comptime] step_down: usize,
    #[comptime] step_right: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let taps = comptime!(kernel_height * kernel_width);
    let channel = ABSOLUTE_POS % channels;
    let share = ABSOLUTE_POS / channels;
    let mut sums = Array::<Vector<f32, N>>::new(taps);
    #[unroll]
    for tap in 0..taps {
        sums[tap] = Vector::<f32, N>::new(0.0);
    }
    let mut row = share;
    while row < rows {
        let image = row / out_height;
        let y = row % out_height * step_down;
        for to in 0..out_width {
            let x = to * step_right;
            let value = gradient[(row * out_width + to) * gradient_pitch + channel];
            let value = Vector::<f32, N>::cast_from(value);
            #[unroll]
            for ky in 0..kernel_height {
                if y + ky >= top && y + ky < height + top {
                    let first = (image * height + y + ky - top) * width;
                    #[unroll]
                    for kx in 0..kernel_width {
                        if x + kx >= left && x + kx < width + left {
                            let at = (first + x + kx - left) * input_pitch + channel;
                            sums[ky * kernel_width + kx] +=
                                value * Vector::<f32, N>::cast_from(input[at]);
                        }
                    }
                }
            }
        }
        row += shares;
    }
    #[unroll]
    for tap in 0..taps {
        output[(share * taps + tap) * channels + channel] = sums[tap];
    }
}

/// `x` `[batch * height * width, channels]` with `weight` `[kernel height * kernel width, channels]`, and a bias `[1,
/// channels]`.
pub(super) fn depthwise<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    config: WindowConfig,
) -> CubeTensor<R> {
    let WindowConfig { input: [height, width], output: [out_height, out_width], .. } = config;
    let [pixels, channels] = x.meta.shape().dims();
    let batch = pixels / (height * width);
    let vector = vector(slice::from_ref(&x));
    let ((x, pitch), (weight, weight_pitch)) = (pitched(x, vector), pitched(weight, vector));
    let output = empty(&x, Shape::new([batch * out_height * out_width, channels]), x.dtype);
    let channels = channels / vector;
    let strip = STRIP.min(out_width);
    let threads = batch * out_height * out_width.div_ceil(strip) * channels;
    let (count, dim) = cubes(&output, threads);
    let (has_bias, [low, high]) = (bias.is_some(), finite(config.limits));
    // Nothing is read of it where there is none.
    let (bias, _) = bias.map_or_else(|| (weight.clone(), 0), |bias| pitched(bias, vector));
    let (client, dtype) = (output.client.clone(), output.dtype);
    forward::launch(
        &client,
        count,
        dim,
        vector,
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        threads,
        channels,
        pitch,
        weight_pitch,
        height,
        width,
        out_height,
        out_width,
        config.before[0],
        config.before[1],
        low,
        high,
        config.kernel[0],
        config.kernel[1],
        config.stride[0],
        config.stride[1],
        strip,
        has_bias,
        config.limits != Limits::NONE,
        dtype.into(),
    );
    output
}

/// The gradient by the input, from that by the output.
pub(super) fn depthwise_input_gradient<R: CubeRuntime>(
    weight: CubeTensor<R>,
    gradient: CubeTensor<R>,
    config: WindowConfig,
) -> CubeTensor<R> {
    let WindowConfig { input: [height, width], output: [out_height, out_width], .. } = config;
    let [pixels, channels] = gradient.meta.shape().dims();
    let batch = pixels / (out_height * out_width);
    let vector = vector(slice::from_ref(&gradient));
    let ((gradient, pitch), (weight, weight_pitch)) =
        (pitched(gradient, vector), pitched(weight, vector));
    let output = empty(&gradient, Shape::new([batch * height * width, channels]), gradient.dtype);
    let channels = channels / vector;
    let threads = batch * height * width * channels;
    let (count, dim) = cubes(&output, threads);
    let (client, dtype) = (output.client.clone(), output.dtype);
    input_gradient::launch(
        &client,
        count,
        dim,
        vector,
        gradient.into_tensor_arg(),
        weight.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        threads,
        channels,
        pitch,
        weight_pitch,
        height,
        width,
        out_height,
        out_width,
        config.before[0],
        config.before[1],
        config.kernel[0],
        config.kernel[1],
        config.stride[0],
        config.stride[1],
        dtype.into(),
    );
    output
}

/// The gradient by the weights, as `[shares, kernel height * kernel width * channels]`, in f32, to be added up.
pub(super) fn depthwise_weight_gradient<R: CubeRuntime>(
    x: CubeTensor<R>,
    gradient: CubeTensor<R>,
    config: WindowConfig,
) -> CubeTensor<R> {
    let WindowConfig { input: [height, width], output: [out_height, out_width], .. } = config;
    let [taps_down, taps_right] = config.kernel;
    let [pixels, channels] = gradient.meta.shape().dims();
    let rows = pixels / out_width;
    let vector = vector(slice::from_ref(&gradient));
    let ((x, input_pitch), (gradient, gradient_pitch)) =
        (pitched(x, vector), pitched(gradient, vector));
    let shares = shares(pixels, channels, config);
    let output = empty(&x, Shape::new([shares, taps_down * taps_right * channels]), DType::F32);
    let channels = channels / vector;
    let threads = shares * channels;
    let (count, dim) = cubes(&output, threads);
    let (client, dtype) = (output.client.clone(), gradient.dtype);
    weight_gradient::launch(
        &client,
        count,
        dim,
        vector,
        x.into_tensor_arg(),
        gradient.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        threads,
        channels,
        input_pitch,
        gradient_pitch,
        rows,
        shares,
        height,
        width,
        out_height,
        out_width,
        config.before[0],
        config.before[1],
        taps_down,
        taps_right,
        config.stride[0],
        config.stride[1],
        dtype.into(),
    );
    output
}

/// Into how many shares the rows of a batch's outputs are dealt for its weights' gradient.
pub(super) fn shares(pixels: usize, channels: usize, config: WindowConfig) -> usize {
    (pixels / config.output[1]).min(MOST_SUMS.div_ceil(channels)).min(MOST_SHARES)
}
