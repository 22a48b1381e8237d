//! How the image comes in.

use rekindle_nn::Shape;

use crate::Limits;
use crate::ir::{Node, NodeOp, has_value, uses};

/// Has the image stored with the padding of the convolution that reads it, so that each row of that one's kernel
/// is one run of values; the rows above and columns left of the image.
pub(crate) fn pad_input(nodes: &mut [Node], output: usize) -> [usize; 2] {
    let is_single = uses(nodes, output)[0] == 1;
    let (input, rest) = nodes.split_at_mut(1);
    let readers = rest.iter_mut().filter(|node| has_value(&node.op) && node.inputs.contains(&0));
    for Node { op, shape, .. } in readers.filter(|_| is_single) {
        let (
            NodeOp::Conv(conv),
            Shape::Map { height, width, .. },
            Shape::Map { height: rows, width: columns, channels },
        ) = (op, *shape, input[0].shape)
        else {
            continue;
        };
        let is_plain = !conv.depthwise
            && conv.residual.is_none()
            && conv.slice.is_none()
            && conv.dilation == [1, 1];
        if !is_plain {
            continue;
        }
        let [above, left] = std::mem::take(&mut conv.before);
        let reach = |axis: usize, outputs: usize, before: usize, size: usize| {
            ((outputs - 1) * conv.stride[axis] + conv.kernel[axis]).max(before + size)
        };
        let (height, width) = (reach(0, height, above, rows), reach(1, width, left, columns));
        input[0].shape = Shape::Map { height, width, channels };
        conv.run = conv.kernel[1];
        conv.kernel[1] = 1;
        return [above, left];
    }
    [0, 0]
}

/// Takes out the scale and shift of channels that all of a network reads of its image, for where the image comes in.
pub(crate) fn scale_input(nodes: &mut [Node], output: &mut usize) -> Option<Vec<[f32; 2]>> {
    if uses(nodes, *output)[0] != 1 {
        return None;
    }
    let is_reader = |node: &Node| has_value(&node.op) && node.inputs.first() == Some(&0);
    let first = nodes.iter().position(is_reader)?;
    let shape = nodes[0].shape;
    let scale = match &nodes[first].op {
        NodeOp::Conv(conv)
            if conv.depthwise
                && conv.is_pixel()
                && conv.residual.is_none()
                && conv.limits == Limits::NONE
                && nodes[first].shape == shape =>
        {
            conv.weights.iter().zip(&conv.bias).map(|(&scale, &shift)| [scale, shift]).collect()
        }
        _ => return None,
    };
    nodes[first].op = NodeOp::Fused;
    for node in nodes.iter_mut() {
        node.inputs.iter_mut().filter(|input| **input == first).for_each(|input| *input = 0);
        if let NodeOp::Conv(conv) = &mut node.op {
            conv.residual = conv.residual.map(|from| if from == first { 0 } else { from });
        }
    }
    if *output == first {
        *output = 0;
    }
    Some(scale)
}
