//! Where in the arena each value lies.

use std::collections::HashMap;

use rekindle_nn::Shape;

use super::Place;
use super::arena::{Life, allocate};
use crate::ir::{Node, NodeOp, has_value, uses};
use crate::simd::CHANNEL_BLOCK;

pub(super) struct Places {
    /// For each node; meaningless for those without a value of their own.
    pub places: Vec<Place>,
    pub arena: usize,
    pub output_shape: Shape,
}

/// Finds a place for every value. What is concatenated, and used nowhere else, is written where the
/// concatenation wants it.
pub(super) fn place(nodes: &[Node], output: usize) -> Places {
    let uses = uses(nodes, output);
    let mut places: Vec<Place> = nodes.iter().map(own_place).collect();
    if is_read_by_products(nodes) {
        places[0].stride = places[0].channels;
    }
    // The concatenation that a value is a slice of, and its first channel there.
    let mut slice: HashMap<usize, (usize, usize)> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let mut channel = 0;
        for &input in node.inputs.iter().filter(|_| matches!(node.op, NodeOp::Concat)) {
            let channels = places[input].channels;
            let is_movable = matches!(
                nodes[input].op,
                NodeOp::Conv(_)
                    | NodeOp::Strip(..)
                    | NodeOp::Pool(_)
                    | NodeOp::Narrow
                    | NodeOp::Concat
                    | NodeOp::Activation(_)
                    | NodeOp::Merge(_)
                    | NodeOp::Pad(_)
                    | NodeOp::Plain(_)
            );
            let is_aligned = channels.is_multiple_of(CHANNEL_BLOCK) && channel % CHANNEL_BLOCK == 0;
            if is_movable && is_aligned && !slice.contains_key(&input) {
                slice.insert(input, (index, channel));
            }
            channel += channels;
        }
    }
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| is_in_place(&node.op)) {
        let input = node.inputs[0];
        let is_free = uses[input] == 1 && !matches!(nodes[input].op, NodeOp::Input);
        if is_free && nodes[input].shape == node.shape {
            slice.insert(input, (index, 0));
        }
    }
    let root = |mut index: usize| {
        let mut channel = 0;
        while let Some(&(concat, first)) = slice.get(&index) {
            channel += first;
            index = concat;
        }
        (index, channel)
    };

    let mut lives: HashMap<usize, Life> = HashMap::new();
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| has_value(&node.op)) {
        let (own, _) = root(index);
        let length = places[own].pixels() * places[own].stride;
        let touched = [own].into_iter().chain(node.inputs.iter().map(|&input| root(input).0));
        for buffer in touched {
            let life = lives.entry(buffer).or_insert(Life { length, first: index, last: index });
            life.last = index;
        }
    }
    if let Some(life) = lives.get_mut(&root(output).0) {
        life.last = nodes.len();
    }
    let buffers: Vec<usize> = lives.keys().copied().collect();
    let (offsets, arena) =
        allocate(&buffers.iter().map(|buffer| lives[buffer]).collect::<Vec<_>>());
    let offsets: HashMap<usize, usize> = buffers.into_iter().zip(offsets).collect();
    for index in 0..nodes.len() {
        let (buffer, channel) = root(index);
        if let Some(offset) = offsets.get(&buffer) {
            places[index].offset = offset + channel;
            places[index].stride = places[buffer].stride;
        }
    }
    Places { output_shape: nodes[output].shape, places, arena }
}

/// Whether a node can compute its value where its first input lies.
fn is_in_place(op: &NodeOp) -> bool {
    match op {
        NodeOp::Activation(_) | NodeOp::Merge(_) => true,
        NodeOp::Plain(plain) => plain.is_in_place(),
        NodeOp::Input
        | NodeOp::Conv(_)
        | NodeOp::Strip(..)
        | NodeOp::Affine(_)
        | NodeOp::Pad(_)
        | NodeOp::Dense { .. }
        | NodeOp::Pool(_)
        | NodeOp::Global(_)
        | NodeOp::Flatten
        | NodeOp::Concat
        | NodeOp::Narrow
        | NodeOp::Layer(_)
        | NodeOp::Fused => false,
    }
}

/// Whether the image is read by products only, which read each pixel's values one by one: the other kernels, and
/// shortcuts, read whole blocks of channels.
fn is_read_by_products(nodes: &[Node]) -> bool {
    nodes.iter().filter(|node| has_value(&node.op) && node.inputs.contains(&0)).all(|node| {
        let is_product = match &node.op {
            NodeOp::Conv(conv) => !conv.depthwise,
            NodeOp::Strip(..) => true,
            _ => false,
        };
        is_product && !node.inputs[1..].contains(&0)
    })
}

fn own_place(node: &Node) -> Place {
    let (height, width, channels) = match node.shape {
        Shape::Map { height, width, channels } => (height, width, channels),
        Shape::Flat(channels) => (1, 1, channels),
    };
    let stride = match node.op {
        NodeOp::Narrow => channels,
        _ => channels.next_multiple_of(CHANNEL_BLOCK),
    };
    Place { offset: 0, height, width, channels, stride }
}
