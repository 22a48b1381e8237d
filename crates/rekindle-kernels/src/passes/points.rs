//! Winograd's method in three steps, each of whole maps.

use std::sync::Arc;

use rekindle_nn::Shape;

use crate::ir::{Element, Node, NodeOp, Stage, replace_each};

/// How many points and tiles a convolution has, and the element of its image's points.
pub(crate) struct Points {
    pub element: Element,
    pub points: usize,
    pub tiles: usize,
}

/// Makes three nodes of each convolution that `points` says something of, by its input's element; the new output. The points'
/// products then take one point after the other, so that each of their weights is read once for an image.
pub(crate) fn split_points(
    nodes: &mut Vec<Node>,
    output: usize,
    points: impl Fn(&Node, Element) -> Option<Points>,
) -> usize {
    replace_each(nodes, output, |node, all| {
        let element = node.inputs.first().map_or(node.element, |&input| all[input].element);
        match (points(&node, element), node.op) {
            (Some(points), NodeOp::Conv(conv)) => {
                // Points that lie a power of 2 apart would meet in the same lines of the cache.
                let shape = |channels| Shape::map(points.points, points.tiles | 1, channels);
                let [inputs, outputs] = conv.channels;
                let conv = Arc::new(conv);
                let op = |stage| NodeOp::Points(stage, Arc::clone(&conv), node.shape);
                let mut push = |op, inputs, shape, element| {
                    all.push(Node { name: node.name.clone(), op, inputs, shape, element });
                    vec![all.len() - 1]
                };
                let image = push(op(Stage::Image), node.inputs, shape(inputs), points.element);
                let product = push(op(Stage::Product), image, shape(outputs), Element::F32);
                push(op(Stage::Output), product, node.shape, node.element);
            }
            (_, op) => all.push(Node { op, ..node }),
        }
    })
}
