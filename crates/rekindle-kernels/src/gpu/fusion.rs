//! The kernels as operations in the queue of Burn's fusion.

use std::fmt;
use std::marker::PhantomData;

use burn::tensor::backend::DeviceId;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_fusion::stream::{Operation, OperationStreams};
use burn_fusion::{Fusion, FusionBackend, FusionRuntime};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, OperationOutput, TensorIr};

use super::backend::KernelOps;
use super::{ChannelScale, DenseStep, WindowConfig, depthwise};
use crate::Limits;

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

/// An operation in fusion's queue.
struct Queued<B, F> {
    op: CustomOpIr,
    run: F,
    backend: PhantomData<B>,
}

impl<B, F> fmt::Debug for Queued<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.op.fmt(f)
    }
}

impl<B, F> Operation<B::FusionRuntime> for Queued<B, F>
where
    B: FusionBackend,
    F: Fn(&[TensorIr], &mut Handles<B>) -> Vec<FloatTensor<B>> + Send + Sync,
{
    fn execute(&self, handles: &mut Handles<B>) {
        let outputs = (self.run)(&self.op.inputs, handles);
        for (ir, output) in self.op.outputs.iter().zip(outputs) {
            handles.register_float_tensor::<B>(&ir.id, output);
        }
    }
}

/// Has `run` make tensors of these shapes of the inputs, when it is their turn.
fn queue_all<B: FusionBackend>(
    name: &'static str,
    inputs: Vec<FloatTensor<Fusion<B>>>,
    shapes: Vec<Shape>,
    dtype: DType,
    run: impl Fn(&[TensorIr], &mut Handles<B>) -> Vec<FloatTensor<B>> + Send + Sync + 'static,
) -> Vec<FloatTensor<Fusion<B>>> {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(inputs.iter());
    let outputs = shapes.into_iter();
    let outputs: Vec<TensorIr> =
        outputs.map(|shape| TensorIr::uninit(client.create_empty_handle(), shape, dtype)).collect();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(|input| input.into_ir()).collect();
    let op = CustomOpIr::new(name, &inputs, &outputs);
    let queued = Queued::<B, _> { op: op.clone(), run, backend: PhantomData };
    client.register(streams, OperationIr::Custom(op), queued)
}

/// The same for one tensor.
fn queue<B: FusionBackend>(
    name: &'static str,
    inputs: Vec<FloatTensor<Fusion<B>>>,
    shape: Shape,
    dtype: DType,
    run: impl Fn(&[TensorIr], &mut Handles<B>) -> FloatTensor<B> + Send + Sync + 'static,
) -> FloatTensor<Fusion<B>> {
    let run = move |inputs: &[TensorIr], handles: &mut Handles<B>| vec![run(inputs, handles)];
    queue_all::<B>(name, inputs, vec![shape], dtype, run).output()
}

/// Rows of as many images as there are in `rows`, whose maps were of one size and are of another.
fn resized<B: FusionBackend>(
    rows: &FloatTensor<Fusion<B>>,
    sizes: [[usize; 2]; 2],
    channels: usize,
) -> Shape {
    let [from, to] = sizes.map(|[height, width]| height * width);
    Shape::new([rows.shape()[0] / from * to, channels])
}

/// A convolution of rows with weights and a bias `[1, outputs]`.
fn windows<B: FusionBackend>(
    name: &'static str,
    [x, weight, bias]: [FloatTensor<Fusion<B>>; 3],
    config: WindowConfig,
    run: impl Fn(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, WindowConfig) -> FloatTensor<B>
    + Send
    + Sync
    + 'static,
) -> FloatTensor<Fusion<B>> {
    let shape = resized::<B>(&x, [config.input, config.output], bias.shape()[1]);
    let dtype = x.dtype();
    queue::<B>(name, vec![x, weight, bias], shape, dtype, move |inputs, handles| {
        let [x, weight, bias] =
            [0, 1, 2].map(|input| handles.get_float_tensor::<B>(&inputs[input]));
        run(x, weight, bias, config)
    })
}

impl<B: FusionBackend + KernelOps> KernelOps for Fusion<B> {
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        let shape = resized::<B>(&x, [config.input, config.output], x.shape()[1]);
        let dtype = x.dtype();
        let inputs = [x, weight].into_iter().chain(bias).collect();
        queue::<B>("rekindle_depthwise", inputs, shape, dtype, move |inputs, handles| {
            let mut inputs = inputs.iter().map(|input| handles.get_float_tensor::<B>(input));
            let (x, weight) = (inputs.next(), inputs.next());
            let (Some(x), Some(weight)) = (x, weight) else { unreachable!("both are queued") };
            B::depthwise(x, weight, inputs.next(), config)
        })
    }

    fn depthwise_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        let shape = resized::<B>(&gradient, [config.output, config.input], gradient.shape()[1]);
        let dtype = gradient.dtype();
        let (inputs, name) = (vec![weight, gradient], "rekindle_depthwise_input_gradient");
        queue::<B>(name, inputs, shape, dtype, move |inputs, handles| {
            let [weight, gradient] =
                [0, 1].map(|input| handles.get_float_tensor::<B>(&inputs[input]));
            B::depthwise_input_gradient(weight, gradient, config)
        })
    }

    fn depthwise_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        let [pixels, channels] = gradient.shape().dims();
        let [rows, columns] = config.kernel;
        let shares = depthwise::shares(pixels, channels, config);
        let shape = Shape::new([shares, rows * columns * channels]);
        let (inputs, name) = (vec![x, gradient], "rekindle_depthwise_weight_gradient");
        queue::<B>(name, inputs, shape, DType::F32, move |inputs, handles| {
            let [x, gradient] = [0, 1].map(|input| handles.get_float_tensor::<B>(&inputs[input]));
            B::depthwise_weight_gradient(x, gradient, config)
        })
    }

    fn stem(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        windows::<B>("rekindle_stem", [x, weight, bias], config, B::stem)
    }

    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        config: WindowConfig,
    ) -> FloatTensor<Self> {
        windows::<B>("rekindle_conv", [x, weight, bias], config, B::conv)
    }

    fn join(parts: Vec<FloatTensor<Self>>, limits: &[Limits]) -> FloatTensor<Self> {
        let rows = parts[0].shape()[0];
        let channels = parts.iter().map(|part| part.shape()[1]).sum();
        let (shape, dtype, limits) =
            (Shape::new([rows, channels]), parts[0].dtype(), limits.to_vec());
        queue::<B>("rekindle_join", parts, shape, dtype, move |inputs, handles| {
            let parts = inputs.iter().map(|input| handles.get_float_tensor::<B>(input));
            B::join(parts.collect(), &limits)
        })
    }

    fn rows(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, channels, height, width] = map.shape().dims();
        let (shape, dtype) = (Shape::new([batch * height * width, channels]), map.dtype());
        queue::<B>("rekindle_rows", vec![map], shape, dtype, |inputs, handles| {
            B::rows(handles.get_float_tensor::<B>(&inputs[0]))
        })
    }

    fn all_reduce(tensor: FloatTensor<Self>, devices: Vec<DeviceId>) -> FloatTensor<Self> {
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        queue::<B>("rekindle_all_reduce", vec![tensor], shape, dtype, move |inputs, handles| {
            B::all_reduce(handles.get_float_tensor::<B>(&inputs[0]), devices.clone())
        })
    }

    fn photos(words: IntTensor<Self>, pixels: usize, scale: ChannelScale) -> FloatTensor<Self> {
        let shape = Shape::new([pixels, 3]);
        queue::<B>("rekindle_photos", vec![words], shape, DType::F32, move |inputs, handles| {
            B::photos(handles.get_int_tensor::<B>(&inputs[0]), pixels, scale)
        })
    }

    fn dense(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self> {
        let shape = Shape::new([x.shape()[0], weights.shape()[1]]);
        let inputs = [x, weights].into_iter().chain(mask).collect();
        queue::<B>("rekindle_dense", inputs, shape, DType::F32, move |inputs, handles| {
            let [x, weights] = [0, 1].map(|input| handles.get_float_tensor::<B>(&inputs[input]));
            let mask = inputs.get(2).map(|mask| handles.get_float_tensor::<B>(mask));
            B::dense(x, weights, mask, limits)
        })
    }

    fn dense_input_gradient(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        y: FloatTensor<Self>,
        mask: Option<FloatTensor<Self>>,
        limits: Limits,
    ) -> FloatTensor<Self> {
        let (shape, name) = (y.shape(), "rekindle_dense_input_gradient");
        let inputs = [gradient, weights, y].into_iter().chain(mask).collect();
        queue::<B>(name, inputs, shape, DType::F32, move |inputs, handles| {
            let [gradient, weights, y] =
                [0, 1, 2].map(|input| handles.get_float_tensor::<B>(&inputs[input]));
            let mask = inputs.get(3).map(|mask| handles.get_float_tensor::<B>(mask));
            B::dense_input_gradient(gradient, weights, y, mask, limits)
        })
    }

    fn dense_step(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        state: Vec<FloatTensor<Self>>,
        step: DenseStep,
    ) -> Vec<FloatTensor<Self>> {
        let shapes = state.iter().map(TensorMetadata::shape).collect();
        let inputs = [x, gradient].into_iter().chain(state).collect();
        queue_all::<B>("rekindle_dense_step", inputs, shapes, DType::F32, move |inputs, handles| {
            let mut inputs = inputs.iter().map(|input| handles.get_float_tensor::<B>(input));
            let (x, gradient) = (inputs.next(), inputs.next());
            let (Some(x), Some(gradient)) = (x, gradient) else { unreachable!("both are queued") };
            B::dense_step(x, gradient, inputs.collect(), step)
        })
    }
}
