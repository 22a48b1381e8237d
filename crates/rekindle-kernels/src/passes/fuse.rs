//! What can be part of a convolution becomes part of it.

use rekindle_nn::Shape;
use rekindle_nn::ops::MergeKind;

use crate::Limits;
use crate::ir::{Conv, Node, NodeOp};

/// Moves normalizations, clamps, paddings and shortcuts into convolutions; the new output.
pub(crate) fn fuse(nodes: &mut [Node], output: usize) -> usize {
    let mut uses = vec![0; nodes.len()];
    nodes.iter().flat_map(|node| &node.inputs).for_each(|&input| uses[input] += 1);
    uses[output] += 1;
    // The node that now computes another's value.
    let mut now: Vec<usize> = (0..nodes.len()).collect();
    for index in 0..nodes.len() {
        let own = nodes[index].inputs.clone();
        let inputs: Vec<usize> = own.iter().map(|&input| now[input]).collect();
        nodes[index].inputs.clone_from(&inputs);
        let Some(&before) = inputs.first() else { continue };
        let only_use = uses[own[0]] == 1;
        let (earlier, rest) = nodes.split_at_mut(index);
        let node = &mut rest[0];
        let is_taken = match &mut node.op {
            NodeOp::Affine(affine) => match &mut earlier[before].op {
                NodeOp::Conv(conv) if only_use && conv.is_open() => {
                    fold(conv, affine);
                    true
                }
                _ => {
                    node.op = NodeOp::Conv(Conv::pointwise(affine));
                    false
                }
            },
            NodeOp::Activation(activation) => {
                match (activation.limits(), open_limits(&mut earlier[before].op)) {
                    (Some([low, high]), Some(limits)) if only_use => {
                        *limits = Limits { low, high };
                        true
                    }
                    _ => false,
                }
            }
            NodeOp::Conv(conv) => {
                // A padding before the convolution becomes its own.
                if let Node { op: NodeOp::Pad(edges), inputs, shape, .. } = &earlier[before]
                    && let [rows, columns] = *edges
                    && is_narrow(rows, conv.extent(0))
                    && is_narrow(columns, conv.extent(1))
                    && (!conv.depthwise || is_valid(conv, *shape, node.shape))
                {
                    // One with padding of its own has zeros beside zeros.
                    conv.before = [rows[0] + conv.before[0], columns[0] + conv.before[1]];
                    node.inputs.clone_from(inputs);
                }
                false
            }
            NodeOp::Merge(MergeKind::Add) if inputs.len() == 2 && inputs[0] != inputs[1] => {
                let (first, second) = (inputs[0].min(inputs[1]), inputs[0].max(inputs[1]));
                let last = if inputs[0] > inputs[1] { own[0] } else { own[1] };
                let is_shape = earlier[first].shape == earlier[second].shape;
                match &mut earlier[second].op {
                    NodeOp::Conv(conv)
                        if is_shape
                            && uses[last] == 1
                            && !conv.depthwise
                            && conv.groups == 1
                            && conv.is_open() =>
                    {
                        conv.residual = Some(first);
                        earlier[second].inputs.push(first);
                        now[index] = second;
                        // Whoever takes the sum is now a reader of the convolution, and the only one.
                        node.op = NodeOp::Fused;
                        continue;
                    }
                    _ => false,
                }
            }
            NodeOp::Input
            | NodeOp::Strip(..)
            | NodeOp::Pad(_)
            | NodeOp::Dense { .. }
            | NodeOp::Pool(_)
            | NodeOp::Global(_)
            | NodeOp::Flatten
            | NodeOp::Merge(_)
            | NodeOp::Concat
            | NodeOp::Plain(_)
            | NodeOp::Points(..)
            | NodeOp::Narrow
            | NodeOp::Quantize(_)
            | NodeOp::Dequantize
            | NodeOp::Layer(_)
            | NodeOp::Fused => false,
        };
        if is_taken {
            node.op = NodeOp::Fused;
            now[index] = before;
        }
    }
    let output = now[output];
    drop_unused(nodes, output);
    output
}

/// The limits of what clamps its sums, where it does not yet.
fn open_limits(op: &mut NodeOp) -> Option<&mut Limits> {
    match op {
        NodeOp::Conv(Conv { limits, .. }) | NodeOp::Dense { limits, .. }
            if *limits == Limits::NONE =>
        {
            Some(limits)
        }
        _ => None,
    }
}

/// Whether every window has a place on the image.
fn is_narrow(edges: [usize; 2], extent: usize) -> bool {
    edges.iter().all(|&edge| edge < extent)
}

/// Whether a convolution has no padding of its own.
fn is_valid(conv: &Conv, from: Shape, to: Shape) -> bool {
    let (Some(from), Some(to)) = (from.as_map(), to.as_map()) else { return false };
    (0..2).all(|axis| {
        let reach = (to[axis] - 1) * conv.stride[axis] + conv.extent(axis);
        conv.before[axis] == 0 && reach <= from[axis]
    })
}

fn fold(conv: &mut Conv, affine: &[(f64, f64)]) {
    let outputs = affine.len();
    for (index, weight) in conv.weights.iter_mut().enumerate() {
        *weight = (f64::from(*weight) * affine[index % outputs].0) as f32;
    }
    for (bias, (scale, shift)) in conv.bias.iter_mut().zip(affine) {
        *bias = (f64::from(*bias) * scale + shift) as f32;
    }
}

/// Paddings that have become part of all that read them.
fn drop_unused(nodes: &mut [Node], output: usize) {
    let mut is_used = vec![false; nodes.len()];
    is_used[output] = true;
    for index in (0..nodes.len()).rev() {
        if is_used[index] && !matches!(nodes[index].op, NodeOp::Fused) {
            nodes[index].inputs.iter().for_each(|&input| is_used[input] = true);
        } else if !matches!(nodes[index].op, NodeOp::Input) {
            nodes[index].op = NodeOp::Fused;
        }
    }
}
