//! The interpreter for GPUs: Burn's tensors, and this crate's kernels where Burn has none that are fast.

use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::ops::DepthwiseConv2d;
use rekindle_nn::{Eager, Features, Interpreter, LayerView, NetworkError, Op, as_type};

/// As [`Eager`], with depthwise convolutions by this crate's kernels on the backends that have them.
#[derive(Debug)]
pub struct Accelerated<'a>(&'a mut Eager);

impl<'a> Accelerated<'a> {
    /// What has no kernel here is left to `eager`.
    pub fn new(eager: &'a mut Eager) -> Self {
        Self(eager)
    }
}

impl<B: Backend> Interpreter<B> for Accelerated<'_> {
    type Value = Features<B>;

    fn layer(
        &mut self,
        layer: LayerView<'_, B>,
        inputs: Vec<Features<B>>,
    ) -> Result<Features<B>, NetworkError> {
        // A last activation that is left off for a loss is for `eager` to know of.
        let is_plain = !(layer.is_output && layer.op.activation().is_probability());
        if let (Op::DepthwiseConv2d(conv), [Features::Map(x)]) = (layer.op, inputs.as_slice())
            && is_plain
            && layer.op.output_shape(layer.name, &[inputs[0].shape()])? == layer.shape
            && let Some(output) = depthwise(&layer, conv, x)
        {
            return Ok(Features::Map(output).activate(conv.activation));
        }
        self.0.layer(layer, inputs)
    }
}

fn depthwise<B: Backend>(
    layer: &LayerView<'_, B>,
    conv: &DepthwiseConv2d,
    x: &Tensor<B, 4>,
) -> Option<Tensor<B, 4>> {
    let [_, _, height, width] = x.dims();
    let window = conv.window;
    if conv.depth_multiplier != 1 || window.dilation != [1, 1] {
        return None;
    }
    let [rows, columns] = window.edges(height, width);
    let [out_height, out_width, _] = layer.shape.as_map()?;
    let config = crate::gpu::WindowConfig {
        input: [height, width],
        kernel: window.kernel,
        stride: window.stride,
        before: [rows[0], columns[0]],
        output: [out_height, out_width],
        limits: crate::Limits::NONE,
    };
    let bias = layer.find::<1>("bias").map(|bias| as_type(bias, x.dtype()));
    let weight = as_type(layer.find::<4>("kernel")?, x.dtype());
    crate::gpu::depthwise(x, &weight, bias.as_ref(), config)
}
