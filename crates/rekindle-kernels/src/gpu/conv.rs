//! Full convolutions by Burn's kernels, which are tuned on the device, and what follows them: a clamp, and the place in a
//! concatenation, in one pass.

use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_forward_nhwc};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::Strides;
use cubecl::zspace::metadata::Metadata;

use super::WindowConfig;
use super::rows::{clamp, cubes, empty, finite, pitched, vector};
use crate::Limits;

/// Copies rows to columns `first` and on of an output that has more of them.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn finish<F: Float, N: Size>(
    input: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    threads: usize,
    channels: usize,
    pitch: usize,
    first: usize,
    out_channels: usize,
    low: f32,
    high: f32,
    #[comptime] has_limits: bool,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= threads {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let row = ABSOLUTE_POS / channels;
    let mut value = input[row * pitch + channel];
    if has_limits {
        value = Vector::cast_from(clamp(Vector::<f32, N>::cast_from(value), low, high));
    }
    output[row * out_channels + first + channel] = value;
}

/// Rows beside each other, `[rows, channels of all]`, each clamped to its limits.
pub(super) fn join<R: CubeRuntime>(parts: Vec<CubeTensor<R>>, limits: &[Limits]) -> CubeTensor<R> {
    let like = &parts[0];
    let (rows, dtype) = (like.meta.shape()[0], like.dtype);
    let channels = |part: &CubeTensor<R>| part.meta.shape()[1];
    let all: usize = parts.iter().map(channels).sum();
    let output = empty(like, Shape::new([rows, all]), dtype);
    let client = output.client.clone();
    // What divides every part also divides where it begins.
    let vector = vector(&parts);
    let mut first = 0;
    for (part, &limits) in parts.into_iter().zip(limits) {
        let own = channels(&part) / vector;
        let (part, pitch) = pitched(part, vector);
        let (count, dim) = cubes(&part, rows * own);
        let [low, high] = finite(limits);
        finish::launch(
            &client,
            count,
            dim,
            vector,
            part.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            rows * own,
            own,
            pitch,
            first,
            all / vector,
            low,
            high,
            limits != Limits::NONE,
            dtype.into(),
        );
        first += own;
    }
    output
}

/// A tensor as it is in memory, seen as one of another shape.
fn seen_as<R: CubeRuntime>(
    tensor: &CubeTensor<R>,
    shape: Shape,
    strides: Strides,
) -> CubeTensor<R> {
    let CubeTensor { client, handle, device, dtype, .. } = tensor.clone();
    CubeTensor::new(client, handle, Metadata::new(shape, strides), device, dtype)
}

/// `[batch, channels, height, width]` as rows; without a copy where the channels of a pixel are beside each other in memory, as
/// Burn's convolutions and pools leave them.
pub(super) fn rows<R: CubeRuntime>(map: CubeTensor<R>) -> CubeTensor<R> {
    let [batch, channels, height, width] = map.meta.shape().dims();
    let shape = Shape::new([batch * height * width, channels]);
    let [over_batch, over_channels, down, right] = map.meta.strides().to_vec()[..] else {
        unreachable!("four dimensions have as many strides")
    };
    let is_rows = over_channels == 1 && down == width * right && over_batch == height * down;
    if is_rows && right >= channels {
        return seen_as(&map, shape, Strides::new(&[right, 1]));
    }
    let map = burn_cubecl::ops::permute(map, &[0, 2, 3, 1]);
    burn_cubecl::ops::reshape(map, shape)
}

/// `x` `[batch * height * width, inputs]` with `weight` `[outputs, kernel height, kernel width, inputs]`, and a bias `[1, outputs]`;
/// with as much padding behind the image as before it.
pub(super) fn conv<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: CubeTensor<R>,
    config: WindowConfig,
) -> CubeTensor<R> {
    let [height, width] = config.input;
    let [pixels, inputs] = x.meta.shape().dims();
    let (x, pitch) = pitched(x, 1);
    let shape = Shape::new([pixels / (height * width), height, width, inputs]);
    let strides = Strides::new(&[height * width * pitch, width * pitch, pitch, 1]);
    let x = seen_as(&x, shape, strides);
    let outputs = bias.meta.shape()[1];
    let bias = seen_as(&pitched(bias, 1).0, Shape::new([outputs]), Strides::new(&[1]));
    let options = ConvOptions::new(config.stride, config.before, [1, 1], 1);
    let run = |strategy| {
        let (x, weight, bias) = (x.clone(), weight.clone(), Some(bias.clone()));
        conv_forward_nhwc::<R, 2>(x, weight, bias, options.clone(), strategy)
    };
    // The direct one takes every shape.
    let output = run(ConvStrategy::default()).or_else(|_| run(ConvStrategy::Direct));
    let output = output.unwrap_or_else(|error| unreachable!("{config:?}: {error:?}"));
    let output = rows(burn_cubecl::ops::permute(output, &[0, 3, 1, 2]));
    if config.limits == Limits::NONE { output } else { join(vec![output], &[config.limits]) }
}
