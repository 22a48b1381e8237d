//! From nodes to what a plan does, their weights packed.

use rekindle_nn::Shape;

use super::fuse::{Conv, Node, NodeOp};
use super::{Gemm, Place, Step, Strip, Window, Winograd, Work};
use crate::gemm::pack;
use crate::isa::Kernels;
use crate::simd::{CHANNEL_BLOCK, Values, aligned};
use crate::winograd::Transforms;
use crate::{Limits, PlanConfig};

/// What to do for the values of nodes, which lie in these places.
pub(super) fn steps(nodes: Vec<Node>, places: &[Place], config: PlanConfig) -> Vec<Step> {
    let kernels = config.isa.kernels();
    let mut steps = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let out = places[index];
        let inputs: Vec<Place> = node.inputs.iter().map(|&input| places[input]).collect();
        let mut push = |inputs: Vec<Place>, out: Place, work: Work| {
            steps.push(Step { name: node.name.clone(), inputs, out, work });
        };
        match node.op {
            NodeOp::Conv(mut conv) => {
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
            NodeOp::Dense { weights, bias, activation } => {
                let outputs = bias.len();
                let (padded, panel) = (kernels.padded(outputs, false), kernels.columns);
                let depth = weights.len() / outputs;
                let limits = Limits::of(activation);
                let (weights, bias) =
                    (aligned(&pack(&weights, depth, outputs, padded, panel)), pad(&bias, padded));
                let (kernel, stride, before) = ([1, 1], [1, 1], [0, 0]);
                let window = Window { kernel, stride, before, weights, bias, limits };
                let gemm = Gemm { window, panel, depth, cells: false, to_cells: false };
                push(inputs, out, Work::Gemm(gemm));
                if activation.is_probability() {
                    push(vec![out], out, Work::Probabilities(activation));
                }
            }
            NodeOp::Pool { pool, is_max, limits } => {
                push(inputs, out, Work::Pool { pool, is_max, limits });
            }
            NodeOp::Global { is_max } => push(inputs, out, Work::Global { is_max }),
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
            NodeOp::Input | NodeOp::Fused | NodeOp::CorrectPad(_) => {}
            NodeOp::Affine(_) | NodeOp::Clamp(..) | NodeOp::Add => {
                unreachable!("`fuse` leaves none")
            }
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
