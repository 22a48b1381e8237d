//! Convolutions in groups as several of slices of their input, whose outputs lie side by side.

use crate::ir::{Conv, Node, NodeOp, replace_each};
use crate::simd::CHANNEL_BLOCK;

/// Splits every convolution in groups; the new output. Small groups are put together, with zeros where one has no weights for
/// another's channels, until their outputs fill whole registers.
pub(crate) fn split_groups(nodes: &mut Vec<Node>, output: usize) -> usize {
    let is_grouped = |node: &Node| matches!(&node.op, NodeOp::Conv(conv) if conv.groups > 1);
    if !nodes.iter().any(is_grouped) {
        return output;
    }
    replace_each(nodes, output, |node, all| match node.op {
        NodeOp::Conv(conv) if conv.groups > 1 => {
            let parts = split(&conv).into_iter().map(|part| {
                let shape = node.shape.with_channels(part.channels[1]);
                let (name, inputs) = (node.name.clone(), node.inputs.clone());
                let element = node.element;
                Node { name, op: NodeOp::Conv(part), inputs, shape, element }
            });
            let first = all.len();
            all.extend(parts);
            if all.len() - first > 1 {
                let inputs = (first..all.len()).collect();
                all.push(Node { op: NodeOp::Concat, inputs, ..node });
            }
        }
        op => all.push(Node { op, ..node }),
    })
}

fn split(conv: &Conv) -> Vec<Conv> {
    let Conv { groups, channels: [inputs, outputs], .. } = *conv;
    let (ins, outs) = (inputs / groups, outputs / groups);
    // How many groups a convolution takes.
    let fits = |together: &usize| {
        groups.is_multiple_of(*together) && (together * outs).is_multiple_of(CHANNEL_BLOCK)
    };
    let together = (1..groups).find(fits).unwrap_or(groups);
    let taps: usize = conv.kernel.iter().product();
    let (wide_ins, wide_outs) = (together * ins, together * outs);
    let part = |first: usize| {
        let mut weights = vec![0.0; taps * wide_ins * wide_outs];
        for tap in 0..taps {
            for group in 0..together {
                for input in 0..ins {
                    let from = (tap * ins + input) * outputs + (first + group) * outs;
                    let row = tap * wide_ins + group * ins + input;
                    let to = row * wide_outs + group * outs;
                    weights[to..to + outs].copy_from_slice(&conv.weights[from..from + outs]);
                }
            }
        }
        let bias = conv.bias[first * outs..][..wide_outs].to_vec();
        Conv {
            groups: 1,
            channels: [wide_ins, wide_outs],
            weights,
            bias,
            slice: (together < groups).then_some(first * ins),
            ..conv.clone()
        }
    };
    (0..groups).step_by(together).map(part).collect()
}
