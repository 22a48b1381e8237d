//! Depthwise convolutions on GPUs, forward and backward, in CubeCL: one source for CUDA and wgpu. Burn 0.21 has a direct kernel
//! for grouped convolutions, and computes their weights' gradients group by group.
//!
//! Maps are `[batch, channels, height, width]`; sums are in f32 whatever the values are.

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous};
use cubecl::prelude::*;
use cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};

use crate::Limits;

/// Threads of a group that sums up one filter's gradient.
const GROUP: u32 = 64;

/// Most groups that share the images of one filter's gradient.
const MOST_SHARES: usize = 16;

/// What a depthwise convolution does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DepthwiseConfig {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Down and right.
    pub stride: [usize; 2],
    /// Zeros above and left of the image.
    pub before: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// What outputs are clamped to.
    pub limits: Limits,
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn forward<F: Float>(
    input: &Array<F>,
    weight: &Array<F>,
    bias: &Array<F>,
    output: &mut Array<F>,
    channels: usize,
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
    #[comptime] has_bias: bool,
    #[comptime] has_limits: bool,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let x = ABSOLUTE_POS % out_width;
    let row = ABSOLUTE_POS / out_width;
    let y = row % out_height;
    let plane = row / out_height;
    let channel = plane % channels;
    let mut sum = f32::new(0.0);
    if has_bias {
        sum += f32::cast_from(bias[channel]);
    }
    #[unroll]
    for ky in 0..kernel_height {
        let from_y = y * step_down + ky;
        if from_y >= top && from_y < height + top {
            #[unroll]
            for kx in 0..kernel_width {
                let from_x = x * step_right + kx;
                if from_x >= left && from_x < width + left {
                    let pixel = input[(plane * height + from_y - top) * width + from_x - left];
                    let factor = weight[(channel * kernel_height + ky) * kernel_width + kx];
                    sum += f32::cast_from(pixel) * f32::cast_from(factor);
                }
            }
        }
    }
    if has_limits {
        // NaN is neither, and stays.
        if sum < low {
            sum = low;
        }
        if sum > high {
            sum = high;
        }
    }
    output[ABSOLUTE_POS] = F::cast_from(sum);
}

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
#[expect(clippy::manual_is_multiple_of, reason = "CubeCL has no such method")]
fn input_gradient<F: Float>(
    slope: &Array<F>,
    weight: &Array<F>,
    output: &mut Array<F>,
    channels: usize,
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
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let x = ABSOLUTE_POS % width + left;
    let row = ABSOLUTE_POS / width;
    let y = row % height + top;
    let plane = row / height;
    let channel = plane % channels;
    let mut sum = f32::new(0.0);
    #[unroll]
    for ky in 0..kernel_height {
        // The outputs that this tap takes the pixel to.
        if y >= ky && (y - ky) % step_down == 0 && (y - ky) / step_down < out_height {
            #[unroll]
            for kx in 0..kernel_width {
                if x >= kx && (x - kx) % step_right == 0 && (x - kx) / step_right < out_width {
                    let to = (plane * out_height + (y - ky) / step_down) * out_width
                        + (x - kx) / step_right;
                    let factor = weight[(channel * kernel_height + ky) * kernel_width + kx];
                    sum += f32::cast_from(slope[to]) * f32::cast_from(factor);
                }
            }
        }
    }
    output[ABSOLUTE_POS] = F::cast_from(sum);
}

/// A group of threads for each filter and share of the images: `output` is `[shares][channels][taps]`.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn weight_gradient<F: Float>(
    input: &Array<F>,
    slope: &Array<F>,
    output: &mut Array<f32>,
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    top: usize,
    left: usize,
    shares: usize,
    #[comptime] kernel_height: usize,
    #[comptime] kernel_width: usize,
    #[comptime] step_down: usize,
    #[comptime] step_right: usize,
    #[comptime] group: usize,
) {
    let taps = comptime!(kernel_height * kernel_width);
    let channel = CUBE_POS_X as usize;
    let share = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let mut sums = Array::<f32>::new(taps);
    #[unroll]
    for tap in 0..taps {
        sums[tap] = f32::new(0.0);
    }
    let pixels = out_height * out_width;
    let mut image = share;
    while image < batch {
        let plane = image * channels + channel;
        let mut pixel = unit;
        while pixel < pixels {
            let y = pixel / out_width * step_down;
            let x = pixel % out_width * step_right;
            let value = f32::cast_from(slope[plane * pixels + pixel]);
            #[unroll]
            for ky in 0..kernel_height {
                if y + ky >= top && y + ky < height + top {
                    #[unroll]
                    for kx in 0..kernel_width {
                        if x + kx >= left && x + kx < width + left {
                            let at = (plane * height + y + ky - top) * width + x + kx - left;
                            sums[ky * kernel_width + kx] += value * f32::cast_from(input[at]);
                        }
                    }
                }
            }
            pixel += group;
        }
        image += shares;
    }
    let mut shared = SharedMemory::<f32>::new(group);
    #[unroll]
    for tap in 0..taps {
        shared[unit] = sums[tap];
        sync_cube();
        // One thread adds what all have: a few additions, in an order that does not change.
        if unit == 0 {
            let mut sum = f32::new(0.0);
            for other in 0..group {
                sum += shared[other];
            }
            output[(share * channels + channel) * taps + tap] = sum;
        }
        sync_cube();
    }
}

/// Calls a kernel for the type that values have.
macro_rules! by_type {
    ($dtype:expr, $kernel:ident, $($argument:expr),* $(,)?) => {
        match $dtype {
            DType::F16 => $kernel::launch::<half::f16, R>($($argument),*),
            DType::BF16 => $kernel::launch::<half::bf16, R>($($argument),*),
            _ => $kernel::launch::<f32, R>($($argument),*),
        }
    };
}

fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: Shape, dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

fn threads<R: CubeRuntime>(output: &CubeTensor<R>) -> (CubeCount, CubeDim) {
    let count = output.meta.num_elements();
    let dim = CubeDim::new(&output.client, count);
    (calculate_cube_count_elemwise(&output.client, count, dim), dim)
}

/// `x` `[batch, channels, height, width]` with `weight` `[channels, 1, kernel height, kernel width]`, and a bias `[channels]`.
pub(super) fn depthwise<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    config: DepthwiseConfig,
) -> CubeTensor<R> {
    let (x, weight) = (into_contiguous(x), into_contiguous(weight));
    let [batch, channels, height, width] = x.meta.shape().dims();
    let [out_height, out_width] = config.output;
    let output = empty(&x, Shape::new([batch, channels, out_height, out_width]), x.dtype);
    let (count, dim) = threads(&output);
    let (has_bias, Limits { low, high }) = (bias.is_some(), config.limits);
    let has_limits = config.limits != Limits::NONE;
    // Infinity is no literal of every shader language.
    let (low, high) = (low.max(f32::MIN), high.min(f32::MAX));
    // Nothing is read of it where there is none.
    let bias = into_contiguous(bias.unwrap_or_else(|| weight.clone()));
    let client = output.client.clone();
    by_type!(
        x.dtype,
        forward,
        &client,
        count,
        dim,
        x.into_array_arg(),
        weight.into_array_arg(),
        bias.into_array_arg(),
        output.clone().into_array_arg(),
        channels,
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
        has_bias,
        has_limits,
    );
    output
}

/// The gradient by an input of `[height, width]`.
pub(super) fn depthwise_input_gradient<R: CubeRuntime>(
    weight: CubeTensor<R>,
    slope: CubeTensor<R>,
    [height, width]: [usize; 2],
    config: DepthwiseConfig,
) -> CubeTensor<R> {
    let (slope, weight) = (into_contiguous(slope), into_contiguous(weight));
    let [batch, channels, out_height, out_width] = slope.meta.shape().dims();
    let output = empty(&slope, Shape::new([batch, channels, height, width]), slope.dtype);
    let (count, dim) = threads(&output);
    let client = output.client.clone();
    by_type!(
        slope.dtype,
        input_gradient,
        &client,
        count,
        dim,
        slope.into_array_arg(),
        weight.into_array_arg(),
        output.clone().into_array_arg(),
        channels,
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
    );
    output
}

/// The gradient by the weights, as `[shares, channels, 1, kernel height, kernel width]`, in f32, to be added up.
pub(super) fn depthwise_weight_gradient<R: CubeRuntime>(
    x: CubeTensor<R>,
    slope: CubeTensor<R>,
    config: DepthwiseConfig,
) -> CubeTensor<R> {
    let (x, slope) = (into_contiguous(x), into_contiguous(slope));
    let [batch, channels, height, width] = x.meta.shape().dims();
    let [out_height, out_width] = config.output;
    let [rows, columns] = config.kernel;
    let shares = shares(batch);
    let output = empty(&x, Shape::new([shares, channels, 1, rows, columns]), DType::F32);
    let count = CubeCount::Static(channels as u32, shares as u32, 1);
    let client = output.client.clone();
    by_type!(
        x.dtype,
        weight_gradient,
        &client,
        count,
        CubeDim::new_1d(GROUP),
        x.into_array_arg(),
        slope.into_array_arg(),
        output.clone().into_array_arg(),
        batch,
        channels,
        height,
        width,
        out_height,
        out_width,
        config.before[0],
        config.before[1],
        shares,
        rows,
        columns,
        config.stride[0],
        config.stride[1],
        GROUP as usize,
    );
    output
}

/// Into how many shares a batch is cut for its weights' gradient.
pub(super) fn shares(batch: usize) -> usize {
    batch.min(MOST_SHARES)
}
