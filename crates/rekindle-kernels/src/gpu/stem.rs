//! The convolution that reads the images themselves, whose three channels fill no tensor core, with its padding, bias and clamp.

use std::slice;

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::WindowConfig;
use super::rows::{STRIP, clamp, cubes, empty, finite, pitched, vector};
use crate::Limits;

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn forward<F: Float, N: Size>(
    input: &Tensor<F>,
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
    #[comptime] inputs: usize,
    #[comptime] kernel_height: usize,
    #[comptime] kernel_width: usize,
    #[comptime] step_down: usize,
    #[comptime] step_right: usize,
    #[comptime] strip: usize,
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
    let mut sums = Array::<Vector<f32, N>>::new(strip);
    let start = Vector::<f32, N>::cast_from(bias[channel]);
    #[unroll]
    for o in 0..strip {
        sums[o] = start;
    }
    #[unroll]
    for ky in 0..kernel_height {
        let from_y = y * step_down + ky;
        if from_y >= top && from_y < height + top {
            let first = (image * height + from_y - top) * width;
            #[unroll]
            for kx in 0..kernel_width {
                #[unroll]
                for from in 0..inputs {
                    let tap = (ky * kernel_width + kx) * inputs + from;
                    let factor = Vector::<f32, N>::cast_from(weight[tap * weight_pitch + channel]);
                    #[unroll]
                    for o in 0..strip {
                        let from_x = (x + o) * step_right + kx;
                        if from_x >= left && from_x < width + left {
                            let value = input[(first + from_x - left) * pitch + from];
                            sums[o] += Vector::<f32, N>::new(f32::cast_from(value)) * factor;
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

/// `x` `[batch * height * width, inputs]` with `weight` `[kernel height * kernel width * inputs, outputs]`, and a bias `[1,
/// outputs]`.
pub(super) fn stem<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: CubeTensor<R>,
    config: WindowConfig,
) -> CubeTensor<R> {
    let WindowConfig { input: [height, width], output: [out_height, out_width], .. } = config;
    let [pixels, inputs] = x.meta.shape().dims();
    let outputs = weight.meta.shape()[1];
    let batch = pixels / (height * width);
    let vector = vector(slice::from_ref(&weight));
    let (x, pitch) = pitched(x, 1);
    let (weight, weight_pitch) = pitched(weight, vector);
    let (bias, _) = pitched(bias, vector);
    let output = empty(&x, Shape::new([batch * out_height * out_width, outputs]), x.dtype);
    let channels = outputs / vector;
    let strip = STRIP.min(out_width);
    let threads = batch * out_height * out_width.div_ceil(strip) * channels;
    let (count, dim) = cubes(&output, threads);
    let [low, high] = finite(config.limits);
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
        inputs,
        config.kernel[0],
        config.kernel[1],
        config.stride[0],
        config.stride[1],
        strip,
        config.limits != Limits::NONE,
        dtype.into(),
    );
    output
}
