//! The interpreter for GPUs: Burn's tensors, and this crate's kernels where Burn has none that are fast.

use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::interpret::as_type;
use rekindle_nn::layers::Conv2d;
use rekindle_nn::{Eager, Features, Interpreter, NetworkError, Op, Shape};

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
        if let (Op::Conv2d(conv), [Features::Map(x)]) = (&op, inputs.as_slice())
            && conv.depthwise
            && let Shape::Map { height, width, .. } = op.output_shape(name, &[inputs[0].shape()])?
            && let Some(output) = depthwise(conv, x, [height, width])
        {
            return Ok(Features::Map(output));
        }
        self.0.layer(name, op, inputs)
    }
}

fn depthwise<B: Backend>(
    conv: &Conv2d<B>,
    x: &Tensor<B, 4>,
    output: [usize; 2],
) -> Option<Tensor<B, 4>> {
    let [_, _, height, width] = x.dims();
    let before = |axis: usize, size: usize| {
        conv.padding.amount(size, conv.kernel[axis], conv.stride[axis])[0]
    };
    let config = crate::gpu::WindowConfig {
        input: [height, width],
        kernel: conv.kernel,
        stride: conv.stride,
        before: [before(0, height), before(1, width)],
        output,
        limits: crate::Limits::NONE,
    };
    let bias = conv.bias.as_ref().map(|bias| as_type(bias.val(), x.dtype()));
    crate::gpu::depthwise(x, &as_type(conv.weight.val(), x.dtype()), bias.as_ref(), config)
}
