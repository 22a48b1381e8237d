//! The interpreter that turns a network into the nodes of a plan.

use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::{Interpreter, Network, NetworkError, Op, Section, Shape};

use crate::plan::{Conv, Node, NodeOp, compile};
use crate::{Limits, Plan, PlanConfig, PlanError};

/// Compiles `network`, up to and with layer `until` or to its end, for images of shape `input`.
///
/// # Errors
/// When the network cannot take such images, has no such layer, or has a layer that the engine cannot run.
pub fn lower<B: Backend, N: Network<B>>(
    network: &N,
    until: Option<&str>,
    input: Shape,
    config: impl Into<PlanConfig>,
) -> Result<Plan, PlanError> {
    let mut lower = Lower::default();
    let start = lower.input(input);
    let output = match until {
        Some(layer) => Section::until(network, &mut lower, layer, start)?,
        None => network.walk(&mut lower, start)?,
    };
    compile(lower.nodes, output, config.into())
}

/// Whether the engine can take the place of this backend: whether its tensors are in the CPU's memory.
#[must_use]
pub fn serves<B: Backend>(device: &B::Device) -> bool {
    // What Burn's CPU backends call themselves.
    ["flex", "ndarray", "cpu"].iter().any(|name| B::name(device).starts_with(name))
}

/// Collects the nodes of a plan.
#[derive(Default)]
pub(crate) struct Lower {
    pub nodes: Vec<Node>,
}

impl Lower {
    /// Where images come in.
    pub fn input(&mut self, shape: Shape) -> usize {
        self.push("input", NodeOp::Input, Vec::new(), shape)
    }

    fn push(&mut self, name: &str, op: NodeOp, inputs: Vec<usize>, shape: Shape) -> usize {
        self.nodes.push(Node { name: name.to_owned(), op, inputs, shape });
        self.nodes.len() - 1
    }
}

impl<B: Backend> Interpreter<B> for Lower {
    /// A node's number.
    type Value = usize;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<usize>,
    ) -> Result<usize, NetworkError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&input| self.nodes[input].shape).collect();
        let shape = op.output_shape(name, &shapes)?;
        let node = match op {
            Op::Conv2d(conv) => {
                let [_, output] = conv.channels;
                let [kh, kw] = conv.kernel;
                let (height, width) = match shapes[0] {
                    Shape::Map { height, width, .. } => (height, width),
                    Shape::Flat(_) => unreachable!("output_shape refuses flat inputs"),
                };
                let rows = conv.padding.amount(height, kh, conv.stride[0]);
                let columns = conv.padding.amount(width, kw, conv.stride[1]);
                // [tap][in][out], as Keras has it.
                let weights = op.variables()[0].from_burn(host(conv.weight.val()));
                NodeOp::Conv(Conv {
                    depthwise: conv.depthwise,
                    channels: conv.channels,
                    kernel: conv.kernel,
                    stride: conv.stride,
                    before: [rows[0], columns[0]],
                    weights,
                    bias: conv.bias.as_ref().map_or(vec![0.0; output], |bias| host(bias.val())),
                    limits: Limits::NONE,
                    residual: None,
                    run: 1,
                    cells: false,
                    to_cells: false,
                })
            }
            Op::BatchNorm(norm) => {
                let ones = || vec![1.0; norm.channels];
                let gamma = norm.gamma.as_ref().map_or_else(ones, |gamma| host(gamma.val()));
                let (beta, mean) = (host(norm.beta.val()), host(norm.moving_mean.val()));
                let variance = host(norm.moving_variance.val());
                let affine = (0..norm.channels).map(|channel| {
                    let spread = (f64::from(variance[channel]) + norm.epsilon).sqrt();
                    let scale = f64::from(gamma[channel]) / spread;
                    (scale, f64::from(beta[channel]) - f64::from(mean[channel]) * scale)
                });
                NodeOp::Affine(affine.collect())
            }
            Op::Dense(dense) => NodeOp::Dense {
                weights: host(dense.weight.val()),
                bias: host(dense.bias.val()),
                activation: dense.activation,
            },
            Op::Relu => NodeOp::Clamp(0.0, f32::INFINITY),
            Op::Relu6 => NodeOp::Clamp(0.0, 6.0),
            Op::CorrectPad { kernel } => NodeOp::CorrectPad(kernel),
            Op::MaxPool(pool) => NodeOp::Pool { pool, is_max: true, limits: Limits::NONE },
            Op::AvgPool(pool) => NodeOp::Pool { pool, is_max: false, limits: Limits::NONE },
            Op::GlobalAvgPool => NodeOp::Global { is_max: false },
            Op::GlobalMaxPool => NodeOp::Global { is_max: true },
            Op::Flatten => NodeOp::Flatten,
            Op::Rescale { scale, offset } => {
                let (Shape::Map { channels, .. } | Shape::Flat(channels)) = shape;
                NodeOp::Affine(vec![(scale, offset); channels])
            }
            Op::Dropout(_) => return Ok(inputs[0]),
            Op::Add => NodeOp::Add,
            Op::Concat => NodeOp::Concat,
        };
        Ok(self.push(name, node, inputs, shape))
    }
}

/// The values of a tensor, on the host.
pub(crate) fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    // The conversion makes it f32, whatever the backend computes with.
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}
