//! The kernels as operations of Burn's backends, and of CubeCL's; `fusion.rs` has those with fusion around them.

use burn::tensor::TensorMetadata;
use burn::tensor::backend::{Backend, DeviceId};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::server::ReduceOperation;

use super::rows::empty;
use super::{ChannelScale, DenseStep, WindowConfig, conv, dense, depthwise, photos, stem};
use crate::Limits;

/// A backend that has kernels of this crate. Maps are rows, `[batch * height * width, channels]`.
pub trait KernelOps: Backend {
    /// `x` with `weight` `[kernel height * kernel width, channels]`, and a bias `[1, channels]`.
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        config: WindowConfig,
    ) -> FloatTensor<Self>;

    /// The gradient by the input.
    fn depthwise_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self>;

    /// The gradient by the weights, in shares of the batch that are to be added up: `[shares, kernel height * kernel width *
    /// channels]`.
    fn depthwise_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self>;

    /// `x` of few channels with `weight` `[kernel height * kernel width * inputs, outputs]`, and a bias `[1, outputs]`.
    fn stem(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self>;

    /// `x` with `weight` `[outputs, kernel height, kernel width, inputs]`, and a bias `[1, outputs]`; with as much padding behind the
    /// image as before it.
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self>;

    /// Rows beside each other, `[rows, channels of all]`, each clamped to its limits.
    fn join(parts: Vec<FloatTensor<Self>>, limits: &[Limits]) -> FloatTensor<Self>;

    /// `[batch, channels, height, width]` as rows, without a copy where they are rows in memory.
    fn rows(map: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The sum of tensors on these devices, of which this is one, by NVIDIA's NCCL; all of them have to be given, in the same
    /// order.
    fn all_reduce(tensor: FloatTensor<Self>, devices: Vec<DeviceId>) -> FloatTensor<Self>;

    /// `[pixels, 3]` of their bytes, four in a number.
    fn photos(words: IntTensor<Self>, pixels: usize, scale: ChannelScale) -> FloatTensor<Self>;

    /// A dense layer of `x` `[rows, inputs]`, with `weights` `[inputs + 1, outputs]` whose last row is the bias, clamped, and times a
    /// mask `[rows, outputs]`.
    fn dense(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self>;

    /// The gradient of the layer before one with `weights`, whose output `y` was clamped and masked: `[rows, inputs]`.
    fn dense_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        y: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self>;

    /// The weights of a dense layer and what the optimizer remembers of them, after a step.
    fn dense_step(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: Vec<FloatTensor<Self>>,
        step: DenseStep,
    ) -> Vec<FloatTensor<Self>>;
}

impl<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement> KernelOps
    for CubeBackend<R, F, I, BT>
{
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise(x, weight, bias, config)
    }

    fn depthwise_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise_input_gradient(weight, gradient, config)
    }

    fn depthwise_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise_weight_gradient(x, gradient, config)
    }

    fn stem(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        stem::stem(x, weight, bias, config)
    }

    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        conv::conv(x, weight, bias, config)
    }

    fn join(parts: Vec<FloatTensor<Self>>, limits: &[Limits]) -> FloatTensor<Self> {
        conv::join(parts, limits)
    }

    fn rows(map: FloatTensor<Self>) -> FloatTensor<Self> {
        conv::rows(map)
    }

    fn all_reduce(tensor: FloatTensor<Self>, devices: Vec<DeviceId>) -> FloatTensor<Self> {
        // In memory of its own, which is as large on all devices.
        let (mut client, dtype) = (tensor.client.clone(), tensor.dtype);
        let sum = empty(&tensor, tensor.shape(), dtype);
        let (from, to) = (tensor.binding(), sum.clone().binding());
        cubecl::std::tensor::copy_into(&client, from, to, dtype.into());
        let (from, to) = (sum.handle.clone(), sum.handle.clone());
        client.all_reduce(from, to, dtype.into(), devices, ReduceOperation::Sum);
        // What comes next on the device waits for it.
        client.sync_collective();
        sum
    }

    fn photos(words: IntTensor<Self>, pixels: usize, scale: ChannelScale) -> FloatTensor<Self> {
        photos::photos(words, pixels, scale)
    }

    fn dense(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self> {
        dense::dense(x, weights, mask, limits)
    }

    fn dense_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        y: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self> {
        dense::dense_input_gradient(gradient, weights, y, mask, limits)
    }

    fn dense_step(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: Vec<FloatTensor<Self>>,
        step: DenseStep,
    ) -> Vec<FloatTensor<Self>> {
        dense::dense_step(x, gradient, state, step)
    }
}
