//! The kernels for whatever backend a network is generic over, where that is one that has them; and their gradients.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::HashSet;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::tensor::backend::{Backend, DeviceId, DeviceOps};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor, TensorMetadata, TensorPrimitive};
use burn_cubecl::CubeBackend;

use super::backend::KernelOps;
use super::{ChannelScale, DenseStep, WindowConfig};
use crate::Limits;
use crate::rows::{map, rows};

fn float<B: Backend, const D: usize>(tensor: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Burn's weights of depthwise convolutions, `[channels, 1, kernel height, kernel width]`, as `[kernel height * kernel width,
/// channels]`.
fn taps<B: Backend>(weight: Tensor<B, 4>) -> Tensor<B, 2> {
    let [channels, _, height, width] = weight.dims();
    weight.permute([2, 3, 0, 1]).reshape([height * width, channels])
}

/// As a node of autodiff's graph, of maps and weights as Burn has them.
fn tracked<B: KernelOps, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 4>,
    weight: Tensor<Autodiff<B, C>, 4>,
    config: WindowConfig,
) -> Tensor<Autodiff<B, C>, 4> {
    #[derive(Debug)]
    struct Depthwise;

    fn forward<B: KernelOps>(
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
        config: WindowConfig,
    ) -> FloatTensor<B> {
        let (x, weight) = (rows::<B>(float(x)), taps::<B>(float(weight)));
        let output = B::depthwise(primitive(x), primitive(weight), None, config);
        primitive(map::<B>(float(output), config.output))
    }

    impl<B: KernelOps> Backward<B, 2> for Depthwise {
        type State = (NodeId, NodeId, WindowConfig);

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            gradients: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let [x_node, weight_node] = ops.parents;
            let gradient = gradients.consume::<B>(&ops.node);
            let gradient = primitive(rows::<B>(float(gradient)));
            let (x_state, weight_state, config) = ops.state;
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x_state);
            let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight_state);
            if let Some(node) = x_node {
                let weight = primitive(taps::<B>(float(weight.clone())));
                let gradient = B::depthwise_input_gradient(weight, gradient.clone(), config);
                let gradient = primitive(map::<B>(float(gradient), config.input));
                gradients.register::<B>(node.id, gradient);
            }
            if let Some(node) = weight_node {
                let x = primitive(rows::<B>(float(x)));
                let shares = float::<B, 2>(B::depthwise_weight_gradient(x, gradient, config));
                let [channels, _, height, width] = weight.shape().dims();
                let sum = shares.sum_dim(0).cast(weight.dtype());
                let sum = sum.reshape([height, width, channels, 1]).permute([2, 3, 0, 1]);
                gradients.register::<B>(node.id, primitive(sum));
            }
        }
    }

    let (x, weight) = (primitive(x), primitive(weight));
    let prepared =
        Depthwise.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound().stateful();
    float(match prepared {
        OpsKind::Tracked(mut preparation) => {
            let (x_state, weight_state) =
                (preparation.checkpoint(&x), preparation.checkpoint(&weight));
            let output = forward::<B>(x.primitive, weight.primitive, config);
            preparation.finish((x_state, weight_state, config), output)
        }
        OpsKind::UnTracked(preparation) => {
            preparation.finish(forward::<B>(x.primitive, weight.primitive, config))
        }
    })
}

/// A value that is known to be of another name for its type.
fn same<From: 'static, To: 'static>(value: From) -> Option<To> {
    (Box::new(value) as Box<dyn Any>).downcast::<To>().ok().map(|value| *value)
}

/// A tensor as the backend that `B` is has it.
fn own<B: Backend, K: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Option<FloatTensor<K>> {
    same::<_, Tensor<K, D>>(tensor.clone()).map(primitive)
}

/// What is asked of a backend, once it is known to have the kernels.
trait Call<B: Backend> {
    type Output;

    fn plain<K: KernelOps>(&self) -> Option<Self::Output>;

    /// Where the backend differentiates.
    fn tracked<K: KernelOps, C: CheckpointStrategy>(&self) -> Option<Self::Output> {
        None
    }
}

/// Calls the backend that `B` is, if it is one of those that have the kernels: whatever `burn::backend::Wgpu` and `Cuda` are,
/// since fusion is a feature that any crate may turn on.
fn call<B: Backend, T: Call<B>>(call: &T) -> Option<T::Output> {
    fn one<B: Backend, T: Call<B>, K: KernelOps>(call: &T) -> Option<T::Output> {
        let own = TypeId::of::<B>();
        if own == TypeId::of::<K>() {
            call.plain::<K>()
        } else if own == TypeId::of::<Autodiff<K>>() {
            call.tracked::<K, NoCheckpointing>()
        } else if own == TypeId::of::<Autodiff<K, BalancedCheckpointing>>() {
            call.tracked::<K, BalancedCheckpointing>()
        } else {
            None
        }
    }
    let found: Option<T::Output> = None;
    #[cfg(feature = "wgpu")]
    let found = {
        type Own = CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
        let found = found.or_else(|| one::<B, T, Own>(call));
        #[cfg(feature = "fusion")]
        let found = found.or_else(|| one::<B, T, burn_fusion::Fusion<Own>>(call));
        found
    };
    #[cfg(feature = "cuda")]
    let found = {
        type Own = CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
        let found = found.or_else(|| one::<B, T, Own>(call));
        #[cfg(feature = "fusion")]
        let found = found.or_else(|| one::<B, T, burn_fusion::Fusion<Own>>(call));
        found
    };
    found
}

/// A depthwise convolution of `x` `[batch, channels, height, width]` with `weight` `[channels, 1, kernel height, kernel width]`
/// and a bias `[channels]` by this crate's kernels, where the backend is one of those that have them.
#[must_use]
pub fn depthwise<B: Backend>(
    x: &Tensor<B, 4>,
    weight: &Tensor<B, 4>,
    bias: Option<&Tensor<B, 1>>,
    config: WindowConfig,
) -> Option<Tensor<B, 4>> {
    struct Maps<'a, B: Backend> {
        x: &'a Tensor<B, 4>,
        weight: &'a Tensor<B, 4>,
        bias: Option<&'a Tensor<B, 1>>,
        config: WindowConfig,
    }

    impl<B: Backend> Call<B> for Maps<'_, B> {
        type Output = Tensor<B, 4>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 4>> {
            let x = own::<B, K, 2>(&rows(self.x.clone()))?;
            let weight = own::<B, K, 2>(&taps(self.weight.clone()))?;
            let bias = self.bias.and_then(|bias| own::<B, K, 2>(&bias.clone().unsqueeze()));
            let output = K::depthwise(x, weight, bias, self.config);
            same(map::<K>(float(output), self.config.output))
        }

        fn tracked<K: KernelOps, C: CheckpointStrategy>(&self) -> Option<Tensor<B, 4>> {
            // Bias and limits are operations of their own, with their own gradients.
            let config = WindowConfig { limits: Limits::NONE, ..self.config };
            let (x, weight) = (same(self.x.clone())?, same(self.weight.clone())?);
            let mut output: Tensor<B, 4> = same(tracked::<K, C>(x, weight, config))?;
            if let Some(bias) = self.bias {
                let channels = bias.dims()[0];
                output = output + bias.clone().reshape([1, channels, 1, 1]);
            }
            Some(self.config.limits.clamp(output))
        }
    }

    call(&Maps { x, weight, bias, config })
}

/// The same of rows, `[batch * height * width, channels]`, with `weight` `[kernel height * kernel width, channels]` and a bias `[1,
/// channels]`; not where the backend differentiates.
#[must_use]
pub fn depthwise_rows<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: &Tensor<B, 2>,
    config: WindowConfig,
) -> Option<Tensor<B, 2>> {
    struct Rows<'a, B: Backend>([&'a Tensor<B, 2>; 3], WindowConfig);

    impl<B: Backend> Call<B> for Rows<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let [x, weight, bias] = self.0.map(own::<B, K, 2>);
            same(float::<K, 2>(K::depthwise(x?, weight?, bias, self.1)))
        }
    }

    call(&Rows([x, weight, bias], config))
}

/// A convolution of rows of few channels, with `weight` `[kernel height * kernel width * inputs, outputs]` and a bias `[1,
/// outputs]`; not where the backend differentiates.
#[must_use]
pub fn stem<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: &Tensor<B, 2>,
    config: WindowConfig,
) -> Option<Tensor<B, 2>> {
    struct Stem<'a, B: Backend>([&'a Tensor<B, 2>; 3], WindowConfig);

    impl<B: Backend> Call<B> for Stem<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let [x, weight, bias] = self.0.map(own::<B, K, 2>);
            same(float::<K, 2>(K::stem(x?, weight?, bias?, self.1)))
        }
    }

    call(&Stem([x, weight, bias], config))
}

/// A convolution of rows with `weight` `[outputs, kernel height, kernel width, inputs]` and a bias `[1, outputs]`, with as much padding
/// behind the image as before it; not where the backend differentiates.
#[must_use]
pub fn conv<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 4>,
    bias: &Tensor<B, 2>,
    config: WindowConfig,
) -> Option<Tensor<B, 2>> {
    struct Conv<'a, B: Backend>([&'a Tensor<B, 2>; 2], &'a Tensor<B, 4>, WindowConfig);

    impl<B: Backend> Call<B> for Conv<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let [x, bias] = self.0.map(own::<B, K, 2>);
            same(float::<K, 2>(K::conv(x?, own::<B, K, 4>(self.1)?, bias?, self.2)))
        }
    }

    call(&Conv([x, bias], weight, config))
}

/// Rows beside each other, `[rows, channels of all]`, each clamped to its limits; not where the backend differentiates.
#[must_use]
pub fn join<B: Backend>(parts: &[Tensor<B, 2>], limits: &[Limits]) -> Option<Tensor<B, 2>> {
    struct Join<'a, B: Backend>(&'a [Tensor<B, 2>], &'a [Limits]);

    impl<B: Backend> Call<B> for Join<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let parts: Option<Vec<_>> = self.0.iter().map(own::<B, K, 2>).collect();
            same(float::<K, 2>(K::join(parts?, self.1)))
        }
    }

    call(&Join(parts, limits))
}

/// `[batch, channels, height, width]` as rows, without a copy where they are rows in memory; not where the backend differentiates.
#[must_use]
pub fn map_rows<B: Backend>(map: &Tensor<B, 4>) -> Option<Tensor<B, 2>> {
    struct Map<'a, B: Backend>(&'a Tensor<B, 4>);

    impl<B: Backend> Call<B> for Map<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            same(float::<K, 2>(K::rows(own::<B, K, 4>(self.0)?)))
        }
    }

    call(&Map(map))
}

/// The sum of tensors of one shape on several devices, on each of them, where these have a sum of their own: NVIDIA's, through
/// NCCL.
#[must_use]
pub fn all_reduce<B: Backend, const D: usize>(
    tensors: &[Tensor<B, D>],
) -> Option<Vec<Tensor<B, D>>> {
    struct AllReduce<'a, B: Backend, const D: usize>(&'a [Tensor<B, D>], Vec<DeviceId>);

    impl<B: Backend, const D: usize> Call<B> for AllReduce<'_, B, D> {
        type Output = Vec<Tensor<B, D>>;

        fn plain<K: KernelOps>(&self) -> Option<Vec<Tensor<B, D>>> {
            let sum = |tensor: &Tensor<B, D>| {
                same(float::<K, D>(K::all_reduce(own::<B, K, D>(tensor)?, self.1.clone())))
            };
            self.0.iter().map(sum).collect()
        }
    }

    let devices: Vec<DeviceId> = tensors.iter().map(|tensor| tensor.device().id()).collect();
    let different = devices.iter().collect::<HashSet<_>>().len() == devices.len();
    let nvidia = tensors.first().is_some_and(|first| super::is_nvidia::<B>(&first.device()));
    if !nvidia || !different || devices.len() < 2 {
        return None;
    }
    call(&AllReduce(tensors, devices))
}

/// `[pixels, 3]` of photos' bytes, four in a number, by this crate's kernel, where the backend has it.
#[must_use]
pub fn photos<B: Backend>(
    words: &Tensor<B, 1, Int>,
    pixels: usize,
    scale: ChannelScale,
) -> Option<Tensor<B, 2>> {
    struct Photos<'a, B: Backend> {
        words: &'a Tensor<B, 1, Int>,
        pixels: usize,
        scale: ChannelScale,
    }

    impl<B: Backend> Call<B> for Photos<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let words: Tensor<K, 1, Int> = same(self.words.clone())?;
            let output = K::photos(words.into_primitive(), self.pixels, self.scale);
            same(float::<K, 2>(output))
        }
    }

    call(&Photos { words, pixels, scale })
}

/// Whether a backend, that does not differentiate, is one of those that have this crate's kernels.
#[must_use]
pub fn has_kernels<B: Backend>() -> bool {
    struct Has;

    impl<B: Backend> Call<B> for Has {
        type Output = ();

        fn plain<K: KernelOps>(&self) -> Option<()> {
            Some(())
        }
    }

    call::<B, _>(&Has).is_some()
}

/// A dense layer of `x` `[rows, inputs]`, with `weights` `[inputs + 1, outputs]` whose last row is the bias, clamped, and times a mask
/// `[rows, outputs]`; all in f32, and not where the backend differentiates.
#[must_use]
pub fn dense<B: Backend>(
    x: &Tensor<B, 2>,
    weights: &Tensor<B, 2>,
    mask: Option<&Tensor<B, 2>>,
    limits: Limits,
) -> Option<Tensor<B, 2>> {
    struct Dense<'a, B: Backend>([&'a Tensor<B, 2>; 2], Option<&'a Tensor<B, 2>>, Limits);

    impl<B: Backend> Call<B> for Dense<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let [x, weights] = self.0.map(own::<B, K, 2>);
            let mask = self.1.and_then(own::<B, K, 2>);
            same(float::<K, 2>(K::dense(x?, weights?, mask, self.2)))
        }
    }

    call(&Dense([x, weights], mask, limits))
}

/// The gradient of the layer before a dense one, `[rows, inputs]`: from the gradient of its output, `[rows, outputs]`, with its `weights`
/// `[inputs + 1, outputs]`, where the output `y` `[rows, inputs]` of the layer before was clamped and multiplied by a mask of the
/// same shape.
#[must_use]
pub fn dense_input_gradient<B: Backend>(
    gradient: &Tensor<B, 2>,
    weights: &Tensor<B, 2>,
    y: &Tensor<B, 2>,
    mask: Option<&Tensor<B, 2>>,
    limits: Limits,
) -> Option<Tensor<B, 2>> {
    struct Gradient<'a, B: Backend>([&'a Tensor<B, 2>; 3], Option<&'a Tensor<B, 2>>, Limits);

    impl<B: Backend> Call<B> for Gradient<'_, B> {
        type Output = Tensor<B, 2>;

        fn plain<K: KernelOps>(&self) -> Option<Tensor<B, 2>> {
            let [gradient, weights, y] = self.0.map(own::<B, K, 2>);
            let mask = self.1.and_then(own::<B, K, 2>);
            same(float::<K, 2>(K::dense_input_gradient(gradient?, weights?, y?, mask, self.2)))
        }
    }

    call(&Gradient([gradient, weights, y], mask, limits))
}

/// The weights of a dense layer and what the optimizer remembers of them, `[inputs + 1, outputs]` each, after a step by `x` `[rows,
/// inputs]` and the gradient of the output, `[rows, outputs]`. They are changed in place where `state` has the only ones.
#[must_use]
pub fn dense_step<B: Backend>(
    x: &Tensor<B, 2>,
    gradient: &Tensor<B, 2>,
    state: Vec<Tensor<B, 2>>,
    step: DenseStep,
) -> Option<Vec<Tensor<B, 2>>> {
    struct Step<'a, B: Backend> {
        batch: [&'a Tensor<B, 2>; 2],
        /// Taken, so that nobody else has them.
        state: Cell<Vec<Tensor<B, 2>>>,
        step: DenseStep,
    }

    impl<B: Backend> Call<B> for Step<'_, B> {
        type Output = Vec<Tensor<B, 2>>;

        fn plain<K: KernelOps>(&self) -> Option<Vec<Tensor<B, 2>>> {
            let [x, gradient] = self.batch.map(own::<B, K, 2>);
            let state = self.state.take().into_iter();
            let state = state.map(|tensor| same::<_, Tensor<K, 2>>(tensor).map(primitive));
            let state = K::dense_step(x?, gradient?, state.collect::<Option<_>>()?, self.step);
            state.into_iter().map(|tensor| same(float::<K, 2>(tensor))).collect()
        }
    }

    call(&Step { batch: [x, gradient], state: Cell::new(state), step })
}
