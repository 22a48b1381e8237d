//! From nodes to what a plan does, their weights packed.

use rekindle_nn::Shape;
use rekindle_nn::ops::PoolKind;

use super::{Gemm, Place, Step, Strip, Window, Winograd, Work};
use crate::PlanConfig;
use crate::gemm::pack;
use crate::ir::{Conv, Node, NodeOp};
use crate::isa::Kernels;
use crate::plain::Plain;
use crate::simd::{CHANNEL_BLOCK, Values, aligned};
use crate::winograd::Transforms;

/// What to do for the values of nodes, which lie in these places.
pub(super) fn steps(nodes: Vec<Node>, places: &[Place], config: PlanConfig) -> Vec<Step> {
    let kernels = config.isa.kernels();
    let mut steps = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let out = places[index];
        let mut inputs: Vec<Place> = node.inputs.iter().map(|&input| places[input]).collect();
        let mut push = |inputs: Vec<Place>, out: Place, work: Work| {
            steps.push(Step { name: node.name.clone(), inputs, out, work });
        };
        match node.op {
            NodeOp::Conv(mut conv) => {
                if let (Some(first), Some(input)) = (conv.slice, inputs.first_mut()) {
                    input.offset += first;
                    input.channels = conv.channels[0];
                }
                let work = if conv.depthwise {
                    Work::Depthwise(window(conv, &kernels))
                } else if let Some(transforms) = winograd(&conv, node.shape, config) {
                    let (direct, outputs) = (std::mem::take(&mut conv.weights), conv.channels[1]);
                    let window = window(conv, &kernels);
                    let panel = kernels.columns;
                    Work::Winograd(Winograd::new(window, &direct, outputs, panel, transforms))
                } else {
                    Work::Gemm(gemm(conv, &kernels))
                };
                push(inputs, out, work);
            }
            NodeOp::Strip(convs, shape) => {
                let [expand, depthwise, project] = *convs;
                let Shape::Map { height, width, channels } = shape else {
                    unreachable!("a depthwise convolution reads it");
                };
                let expanded = [height, width, channels.next_multiple_of(CHANNEL_BLOCK)];
                let strip = Strip {
                    expand: gemm(expand, &kernels),
                    expanded,
                    depthwise: window(depthwise, &kernels),
                    project: gemm(project, &kernels),
                };
                push(inputs, out, Work::Strip(Box::new(strip)));
            }
            NodeOp::Dense { weights, bias, limits } => {
                let outputs = bias.len();
                let (padded, panel) = (kernels.padded(outputs, false), kernels.columns);
                let depth = weights.len() / outputs;
                let (weights, bias) =
                    (aligned(&pack(&weights, depth, outputs, padded, panel)), pad(&bias, padded));
                let (kernel, stride, before) = ([1, 1], [1, 1], [0, 0]);
                let dilation = [1, 1];
                let window = Window { kernel, stride, dilation, before, weights, bias, limits };
                let gemm = Gemm { window, panel, depth, cells: false, to_cells: false };
                push(inputs, out, Work::Gemm(gemm));
            }
            NodeOp::Pool(pool) => push(inputs, out, Work::Pool(pool)),
            NodeOp::Global(kind) => {
                push(inputs, out, Work::Global { is_max: kind == PoolKind::Max });
            }
            NodeOp::Activation(activation) => {
                push(inputs, out, Work::Plain(Plain::Activate(activation)));
            }
            NodeOp::Merge(kind) => push(inputs, out, Work::Plain(Plain::Merge(kind))),
            NodeOp::Pad([rows, columns]) => {
                push(inputs, out, Work::Plain(Plain::Pad([rows[0], columns[0]])));
            }
            NodeOp::Plain(plain) => push(inputs, out, Work::Plain(plain)),
            NodeOp::Flatten => push(inputs, out, Work::Flatten),
            NodeOp::Narrow => push(inputs, out, Work::Narrow),
            NodeOp::Concat => {
                let mut channel = 0;
                for input in inputs {
                    let there =
                        Place { offset: out.offset + channel, channels: input.channels, ..out };
                    channel += input.channels;
                    // Most are there already.
                    if input.offset != there.offset {
                        push(vec![input], there, Work::Copy);
                    }
                }
            }
            NodeOp::Input | NodeOp::Fused => {}
            NodeOp::Affine(_) => unreachable!("`fuse` leaves none"),
            NodeOp::Layer(_) => unreachable!("`lower` makes none"),
        }
    }
    steps
}

/// How Winograd's method computes a convolution, where it does.
pub(super) fn winograd(conv: &Conv, out: Shape, config: PlanConfig) -> Option<Transforms> {
    match out {
        Shape::Map { height, width, .. } if !conv.cells => {
            Winograd::choose(conv, [height, width], &config.isa.kernels(), config.precision)
        }
        _ => None,
    }
}

/// A convolution's settings, its weights packed.
fn window(conv: Conv, kernels: &Kernels) -> Window {
    let [_, outputs] = conv.channels;
    let depth = conv.weights.len() / outputs;
    let (padded, width) = match conv.depthwise {
        true => {
            let padded = outputs.next_multiple_of(CHANNEL_BLOCK);
            (padded, padded)
        }
        false => (kernels.padded(outputs, conv.cells), kernels.columns),
    };
    Window {
        kernel: conv.kernel,
        stride: conv.stride,
        dilation: conv.dilation,
        before: conv.before,
        weights: aligned(&pack(&conv.weights, depth, outputs, padded, width)),
        bias: pad(&conv.bias, padded),
        limits: conv.limits,
    }
}

fn gemm(conv: Conv, kernels: &Kernels) -> Gemm {
    let (values, cells, to_cells) = (conv.channels[0] * conv.run, conv.cells, conv.to_cells);
    let depth = if cells { values.div_ceil(2) } else { values };
    Gemm { window: window(conv, kernels), panel: kernels.columns, depth, cells, to_cells }
}

fn pad(values: &[f32], length: usize) -> Values {
    let mut values = aligned(values);
    values.resize(length, 0.0);
    values
}
