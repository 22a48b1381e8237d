//! Sums of a convolution and a shortcut as what other engines compute: the convolution, the sum, what it is clamped to.

use rekindle_nn::Activation;
use rekindle_nn::ops::MergeKind;

use crate::Limits;
use crate::ir::{Element, Node, NodeOp, PRODUCT, SUM, replace_each};

/// Takes shortcuts out of convolutions again; the new output.
pub(crate) fn part_shortcuts(nodes: &mut Vec<Node>, output: usize) -> usize {
    replace_each(nodes, output, |mut node, all| {
        let residual = match &mut node.op {
            NodeOp::Conv(conv) => conv.residual.take().map(|residual| (residual, conv)),
            _ => None,
        };
        let Some((residual, conv)) = residual else {
            all.push(node);
            return;
        };
        let limits = std::mem::replace(&mut conv.limits, Limits::NONE);
        let name = std::mem::take(&mut node.name);
        let shape = node.shape;
        let made = |name: String, op: NodeOp, inputs: Vec<usize>| Node {
            name,
            op,
            inputs,
            shape,
            element: Element::F32,
        };
        node.name = format!("{name}{PRODUCT}");
        node.inputs.truncate(1);
        let (own, sum) = (all.len(), all.len() + 1);
        all.push(node);
        let add = NodeOp::Merge(MergeKind::Add);
        if limits == Limits::NONE {
            all.push(made(name, add, vec![own, residual]));
        } else {
            all.push(made(format!("{name}{SUM}"), add, vec![own, residual]));
            all.push(made(name, NodeOp::Activation(clamp(limits)), vec![sum]));
        }
    })
}

/// The function that clamps to limits.
pub(crate) fn clamp(limits: Limits) -> Activation {
    match [limits.low, limits.high] {
        [0.0, f32::INFINITY] => Activation::Relu,
        [0.0, 6.0] => Activation::Relu6,
        [f32::NEG_INFINITY, f32::INFINITY] => Activation::Linear,
        [low, high] => Activation::Clip { low: low.into(), high: high.into() },
    }
}
