//! The kernels as operations of Burn's backends: CubeCL's own, with fusion around them, with autodiff around both.

use std::any::{Any, TypeId};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata, TensorPrimitive};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::depthwise::{self, DepthwiseConfig};
use crate::Limits;

/// A backend that has kernels of its own for depthwise convolutions.
pub trait DepthwiseOps: Backend {
    /// `x` `[batch, channels, height, width]` with `weight` `[channels, 1, kernel height, kernel width]`, and a bias
    /// `[channels]`.
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        config: DepthwiseConfig,
    ) -> FloatTensor<Self>;

    /// The gradient by an input of this height and width.
    fn depthwise_input_gradient(
        weight: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        size: [usize; 2],
        config: DepthwiseConfig,
    ) -> FloatTensor<Self>;

    /// The gradient by the weights, in shares of the batch that are to be added up: `[shares, channels, 1, kernel height,
    /// kernel width]`.
    fn depthwise_weight_gradient(
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        config: DepthwiseConfig,
    ) -> FloatTensor<Self>;
}

impl<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement> DepthwiseOps
    for CubeBackend<R, F, I, BT>
{
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        config: DepthwiseConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise(x, weight, bias, config)
    }

    fn depthwise_input_gradient(
        weight: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        size: [usize; 2],
        config: DepthwiseConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise_input_gradient(weight, slope, size, config)
    }

    fn depthwise_weight_gradient(
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        config: DepthwiseConfig,
    ) -> FloatTensor<Self> {
        depthwise::depthwise_weight_gradient(x, slope, config)
    }
}

/// As a node of autodiff's graph.
fn tracked<B: DepthwiseOps, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 4>,
    weight: Tensor<Autodiff<B, C>, 4>,
    config: DepthwiseConfig,
) -> Tensor<Autodiff<B, C>, 4> {
    #[derive(Debug)]
    struct Depthwise;

    impl<B: DepthwiseOps> Backward<B, 2> for Depthwise {
        type State = (NodeId, NodeId, DepthwiseConfig);

        fn backward(
            self,
            ops: Ops<Self::State, 2>,
            gradients: &mut Gradients,
            checkpointer: &mut Checkpointer,
        ) {
            let [x_node, weight_node] = ops.parents;
            let slope = gradients.consume::<B>(&ops.node);
            let (x_state, weight_state, config) = ops.state;
            let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x_state);
            let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight_state);
            let [_, _, height, width] = x.shape().dims();
            if let Some(node) = x_node {
                let gradient = B::depthwise_input_gradient(
                    weight.clone(),
                    slope.clone(),
                    [height, width],
                    config,
                );
                gradients.register::<B>(node.id, gradient);
            }
            if let Some(node) = weight_node {
                let shares = B::depthwise_weight_gradient(x, slope, config);
                let shares = Tensor::<B, 5>::from_primitive(TensorPrimitive::Float(shares));
                let sum: Tensor<B, 4> = shares.sum_dim(0).squeeze_dim(0);
                let dtype = weight.dtype();
                gradients.register::<B>(node.id, sum.cast(dtype).into_primitive().tensor());
            }
        }
    }

    let (x, weight) = (x.into_primitive().tensor(), weight.into_primitive().tensor());
    let prepared =
        Depthwise.prepare::<C>([x.node.clone(), weight.node.clone()]).compute_bound().stateful();
    let output = match prepared {
        OpsKind::Tracked(mut preparation) => {
            let (x_state, weight_state) =
                (preparation.checkpoint(&x), preparation.checkpoint(&weight));
            let output = B::depthwise(x.primitive, weight.primitive, None, config);
            preparation.finish((x_state, weight_state, config), output)
        }
        OpsKind::UnTracked(preparation) => {
            preparation.finish(B::depthwise(x.primitive, weight.primitive, None, config))
        }
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// A value that is known to be of another name for its type.
fn same<From: 'static, To: 'static>(value: From) -> Option<To> {
    (Box::new(value) as Box<dyn Any>).downcast::<To>().ok().map(|value| *value)
}

fn plain<B: Backend, K: DepthwiseOps>(
    x: &Tensor<B, 4>,
    weight: &Tensor<B, 4>,
    bias: Option<&Tensor<B, 1>>,
    config: DepthwiseConfig,
) -> Option<Tensor<B, 4>> {
    if TypeId::of::<B>() != TypeId::of::<K>() {
        return None;
    }
    let x: Tensor<K, 4> = same(x.clone())?;
    let weight: Tensor<K, 4> = same(weight.clone())?;
    let bias: Option<Tensor<K, 1>> = bias.and_then(|bias| same(bias.clone()));
    let output = K::depthwise(
        x.into_primitive().tensor(),
        weight.into_primitive().tensor(),
        bias.map(|bias| bias.into_primitive().tensor()),
        config,
    );
    same(Tensor::<K, 4>::from_primitive(TensorPrimitive::Float(output)))
}

fn differentiable<B: Backend, K: DepthwiseOps, C: CheckpointStrategy>(
    x: &Tensor<B, 4>,
    weight: &Tensor<B, 4>,
    bias: Option<&Tensor<B, 1>>,
    config: DepthwiseConfig,
) -> Option<Tensor<B, 4>> {
    if TypeId::of::<B>() != TypeId::of::<Autodiff<K, C>>() {
        return None;
    }
    // Bias and limits are operations of their own, with their own gradients.
    let limits = config.limits;
    let config = DepthwiseConfig { limits: Limits::NONE, ..config };
    let output = tracked::<K, C>(same(x.clone())?, same(weight.clone())?, config);
    let mut output: Tensor<B, 4> = same(output)?;
    if let Some(bias) = bias {
        let channels = bias.dims()[0];
        output = output + bias.clone().reshape([1, channels, 1, 1]);
    }
    Some(limits.clamp(output))
}

/// A depthwise convolution with this crate's kernels, where the backend is one of those that have them.
#[must_use]
pub fn depthwise<B: Backend>(
    x: &Tensor<B, 4>,
    weight: &Tensor<B, 4>,
    bias: Option<&Tensor<B, 1>>,
    config: DepthwiseConfig,
) -> Option<Tensor<B, 4>> {
    use burn::backend::autodiff::checkpoint::strategy::{
        BalancedCheckpointing as Balanced, NoCheckpointing as None_,
    };
    macro_rules! try_on {
        ($($backend:ty),*) => {
            $(
                if let Some(output) = plain::<B, $backend>(x, weight, bias, config)
                    .or_else(|| differentiable::<B, $backend, None_>(x, weight, bias, config))
                    .or_else(|| differentiable::<B, $backend, Balanced>(x, weight, bias, config))
                {
                    return Some(output);
                }
            )*
        };
    }
    // Whatever `burn::backend::Wgpu` and `Cuda` are: fusion is a feature that any crate may turn on.
    #[cfg(feature = "wgpu")]
    {
        type Own = CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;
        try_on!(Own);
        #[cfg(feature = "fusion")]
        try_on!(burn_fusion::Fusion<Own>);
    }
    #[cfg(feature = "cuda")]
    {
        type Own = CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;
        try_on!(Own);
        #[cfg(feature = "fusion")]
        try_on!(burn_fusion::Fusion<Own>);
    }
    None
}

#[cfg(feature = "fusion")]
mod fusion {
    use std::marker::PhantomData;

    use burn::tensor::{DType, Shape};
    use burn_fusion::stream::{Operation, OperationStreams};
    use burn_fusion::{Fusion, FusionBackend, FusionRuntime};
    use burn_ir::{CustomOpIr, HandleContainer, OperationIr, OperationOutput, TensorIr};

    use super::*;

    type Handles<B> =
        HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

    /// Which of the operations, for fusion's queue.
    #[derive(Debug, Clone, Copy)]
    enum Kind {
        Forward,
        InputGradient([usize; 2]),
        WeightGradient,
    }

    #[derive(Debug)]
    struct Queued<B> {
        op: CustomOpIr,
        kind: Kind,
        config: DepthwiseConfig,
        backend: PhantomData<B>,
    }

    impl<B: FusionBackend + DepthwiseOps> Operation<B::FusionRuntime> for Queued<B> {
        fn execute(&self, handles: &mut Handles<B>) {
            let inputs: Vec<FloatTensor<B>> =
                self.op.inputs.iter().map(|input| handles.get_float_tensor::<B>(input)).collect();
            let mut inputs = inputs.into_iter();
            let (Some(a), Some(b)) = (inputs.next(), inputs.next()) else { return };
            let output = match self.kind {
                Kind::Forward => B::depthwise(a, b, inputs.next(), self.config),
                Kind::InputGradient(size) => B::depthwise_input_gradient(a, b, size, self.config),
                Kind::WeightGradient => B::depthwise_weight_gradient(a, b, self.config),
            };
            handles.register_float_tensor::<B>(&self.op.outputs[0].id, output);
        }
    }

    fn queue<B: FusionBackend + DepthwiseOps>(
        inputs: Vec<FloatTensor<Fusion<B>>>,
        shape: Shape,
        dtype: DType,
        kind: Kind,
        config: DepthwiseConfig,
    ) -> FloatTensor<Fusion<B>> {
        let client = inputs[0].client.clone();
        let streams = OperationStreams::with_inputs(inputs.iter());
        let output = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
        let inputs: Vec<TensorIr> = inputs.into_iter().map(|input| input.into_ir()).collect();
        let op = CustomOpIr::new("rekindle_depthwise", &inputs, &[output]);
        let queued = Queued::<B> { op: op.clone(), kind, config, backend: PhantomData };
        client.register(streams, OperationIr::Custom(op), queued).output()
    }

    impl<B: FusionBackend + DepthwiseOps> DepthwiseOps for Fusion<B> {
        fn depthwise(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: Option<FloatTensor<Self>>,
            config: DepthwiseConfig,
        ) -> FloatTensor<Self> {
            let [batch, channels, _, _] = x.shape().dims();
            let [height, width] = config.output;
            let (shape, dtype) = (Shape::new([batch, channels, height, width]), x.dtype());
            let inputs = [x, weight].into_iter().chain(bias).collect();
            queue::<B>(inputs, shape, dtype, Kind::Forward, config)
        }

        fn depthwise_input_gradient(
            weight: FloatTensor<Self>,
            slope: FloatTensor<Self>,
            size: [usize; 2],
            config: DepthwiseConfig,
        ) -> FloatTensor<Self> {
            let [batch, channels, _, _] = slope.shape().dims();
            let (shape, dtype) = (Shape::new([batch, channels, size[0], size[1]]), slope.dtype());
            queue::<B>(vec![weight, slope], shape, dtype, Kind::InputGradient(size), config)
        }

        fn depthwise_weight_gradient(
            x: FloatTensor<Self>,
            slope: FloatTensor<Self>,
            config: DepthwiseConfig,
        ) -> FloatTensor<Self> {
            let [batch, channels, _, _] = x.shape().dims();
            let [rows, columns] = config.kernel;
            let shape = Shape::new([depthwise::shares(batch), channels, 1, rows, columns]);
            queue::<B>(vec![x, slope], shape, DType::F32, Kind::WeightGradient, config)
        }
    }
}
