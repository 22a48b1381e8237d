//! The interpreter for GPUs: Burn's tensors, and this crate's kernels where Burn has none that are fast.

use burn::tensor::backend::Backend;
use rekindle_nn::layers::Conv2d;
use rekindle_nn::{Eager, Features, Interpreter, NetworkError, Op};

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
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Features<B>>,
    ) -> Result<Features<B>, NetworkError> {
        if let (Op::Conv2d(conv), [Features::Map(x)]) = (&op, inputs.as_slice()) {
            op.output_shape(name, &[inputs[0].shape()])?;
            if let Some(output) = depthwise(conv, x) {
                return Ok(Features::Map(output));
            }
        }
        self.0.layer(name, op, inputs)
    }
}

#[cfg(feature = "gpu")]
fn depthwise<B: Backend>(
    conv: &Conv2d<B>,
    x: &burn::tensor::Tensor<B, 4>,
) -> Option<burn::tensor::Tensor<B, 4>> {
    if !conv.depthwise {
        return None;
    }
    let [_, _, height, width] = x.dims();
    let pad = |axis: usize, size| conv.padding.amount(size, conv.kernel[axis], conv.stride[axis]);
    let (rows, columns) = (pad(0, height), pad(1, width));
    let out = |axis: usize, size: usize, pads: [usize; 2]| {
        (size + pads[0] + pads[1] - conv.kernel[axis]) / conv.stride[axis] + 1
    };
    let config = crate::gpu::DepthwiseConfig {
        kernel: conv.kernel,
        stride: conv.stride,
        before: [rows[0], columns[0]],
        output: [out(0, height, rows), out(1, width, columns)],
    };
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    crate::gpu::depthwise(x, &conv.weight.val(), bias.as_ref(), config)
}

#[cfg(not(feature = "gpu"))]
fn depthwise<B: Backend>(
    _: &Conv2d<B>,
    _: &burn::tensor::Tensor<B, 4>,
) -> Option<burn::tensor::Tensor<B, 4>> {
    None
}
