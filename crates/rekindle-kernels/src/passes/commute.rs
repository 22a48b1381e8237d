//! What may be computed in another order for less work.

use rekindle_nn::Shape;

use crate::ir::{Node, NodeOp, Pool, uses};

/// Has convolutions of one pixel that read a mean of neighbours, and make fewer channels of it, come before it: both are
/// linear, so that only the clamp has to stay behind. Inception's pools then have a quarter of the channels or less.
pub(crate) fn pools_last(nodes: &mut [Node], output: usize) {
    let uses = uses(nodes, output);
    for index in 0..nodes.len() {
        let NodeOp::Conv(conv) = &nodes[index].op else { continue };
        let [inputs, outputs] = conv.channels;
        let is_pointwise = !conv.depthwise && conv.residual.is_none() && conv.is_pixel();
        let before = nodes[index].inputs[0];
        let is_mean = match nodes[before].op {
            // A mean counts only what lies on the image, so that it leaves a bias as it is.
            NodeOp::Pool(Pool { is_max: false, stride, .. }) => {
                uses[before] == 1 && stride == [1, 1]
            }
            _ => false,
        };
        let source = nodes[before].inputs.first().copied().unwrap_or(before);
        let Shape::Map { height, width, .. } = nodes[source].shape else { continue };
        if !is_pointwise || !is_mean || outputs >= inputs {
            continue;
        }
        let (first, second) = nodes.split_at_mut(index);
        let (first, second) = (&mut first[before], &mut second[0]);
        std::mem::swap(&mut first.op, &mut second.op);
        std::mem::swap(&mut first.name, &mut second.name);
        first.shape = Shape::Map { height, width, channels: outputs };
        if let (NodeOp::Conv(conv), NodeOp::Pool(pool)) = (&mut first.op, &mut second.op) {
            std::mem::swap(&mut pool.limits, &mut conv.limits);
        }
    }
}
