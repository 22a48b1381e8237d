//! Inverted residual blocks become one step each.

use crate::ir::{Conv, Element, Node, NodeOp, uses};

/// Values of a widened map from which on a block is computed strip by strip: below, the rows that each thread computes beside its
/// own cost more than two meetings of all threads fewer.
const STRIPS_FROM: usize = if cfg!(test) { 512 } else { 32 * 1024 };

/// Makes one step of three convolutions where what lies between them is large.
pub(crate) fn join_strips(nodes: &mut [Node], output: usize) {
    let uses = uses(nodes, output);
    for index in 0..nodes.len() {
        // All of them of f32: bytes fit the cache as they are.
        let is_f32 = |index: usize| {
            let node: &Node = &nodes[index];
            let elements = node.inputs.iter().map(|&input| nodes[input].element);
            elements.chain([node.element]).all(|element| element == Element::F32)
        };
        let is = |index: usize, test: fn(&Conv) -> bool| {
            is_f32(index) && matches!(&nodes[index].op, NodeOp::Conv(conv) if test(conv))
        };
        let is_last = |conv: &Conv| {
            !conv.depthwise
                && conv.slice.is_none()
                && (conv.kernel, conv.stride) == ([1, 1], [1, 1])
                && conv.before == [0, 0]
        };
        if !is(index, is_last) {
            continue;
        }
        let middle = nodes[index].inputs[0];
        let is_middle = |conv: &Conv| conv.depthwise && conv.dilation == [1, 1];
        if uses[middle] != 1 || !is(middle, is_middle) {
            continue;
        }
        let first = nodes[middle].inputs[0];
        let is_large = nodes[first].shape.count() >= STRIPS_FROM;
        let is_first = |conv: &Conv| !conv.depthwise && conv.residual.is_none();
        if !is_large || uses[first] != 1 || !is(first, is_first) {
            continue;
        }
        let mut take = |index: usize| match std::mem::replace(&mut nodes[index].op, NodeOp::Fused) {
            NodeOp::Conv(conv) => conv,
            _ => unreachable!("it has just been one"),
        };
        let convs = Box::new([take(first), take(middle), take(index)]);
        let (shape, name) = (nodes[first].shape, nodes[first].name.clone());
        let source = nodes[first].inputs[0];
        nodes[index].op = NodeOp::Strip(convs, shape);
        nodes[index].name = name;
        nodes[index].inputs[0] = source;
    }
}
