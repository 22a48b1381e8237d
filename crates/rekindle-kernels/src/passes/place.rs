//! Where in the arena each value lies.

mod arena;

use std::collections::HashMap;

use rekindle_nn::Shape;

use crate::ir::{Element, Node, NodeOp, has_value, uses};
use crate::simd::CHANNEL_BLOCK;
use crate::simd::int8::QUAD;
use arena::{Life, allocate};

/// Where a value lies in the arena: `[height][width][stride]` of an element, of which `channels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub element: Element,
    /// Bytes before it.
    pub offset: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
}

impl Place {
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// From the first number to the end of the last pixel's channels.
    pub fn extent(&self) -> usize {
        (self.pixels() - 1) * self.stride + self.channels
    }

    /// Some of its channels.
    pub fn slice(self, first: usize, channels: usize) -> Self {
        Self { offset: self.offset + first * self.element.bytes(), channels, ..self }
    }
}

pub(crate) struct Places {
    /// For each node; meaningless for those without a value of their own.
    pub places: Vec<Place>,
    /// Bytes of all.
    pub arena: usize,
    pub output_shape: Shape,
}

/// Finds a place for every value. What is concatenated, and used nowhere else, is written where the
/// concatenation wants it.
pub(crate) fn place(nodes: &[Node], output: usize) -> Places {
    let uses = uses(nodes, output);
    let mut places: Vec<Place> = nodes.iter().map(own_place).collect();
    if is_read_by_products(nodes) {
        places[0].stride = places[0].channels;
    }
    // Products read the bytes of a pixel in fours.
    for index in (1..nodes.len()).filter(|&index| is_image_of_bytes(nodes, index, output)) {
        places[index].stride = places[index].channels.next_multiple_of(QUAD);
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
                    | NodeOp::Points(..)
                    | NodeOp::Narrow
                    | NodeOp::Quantize(_)
                    | NodeOp::Dequantize
                    | NodeOp::Concat
                    | NodeOp::Activation(_)
                    | NodeOp::Merge(_)
                    | NodeOp::Pad(_)
                    | NodeOp::Plain(_)
            );
            let line = places[input].element.at_once();
            let is_aligned = channels.is_multiple_of(line) && channel % line == 0;
            if is_movable && is_aligned && !slice.contains_key(&input) {
                slice.insert(input, (index, channel));
            }
            channel += channels;
        }
    }
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| is_in_place(&node.op)) {
        let input = node.inputs[0];
        let is_free = uses[input] == 1 && !matches!(nodes[input].op, NodeOp::Input);
        // Loops over bytes have their output by itself.
        let is_element = nodes[input].element == node.element && node.element != Element::U8;
        let is_like = nodes[input].shape == node.shape && is_element;
        if is_free && is_like {
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
        let Place { element, stride, .. } = places[own];
        let length = places[own].pixels() * stride * element.bytes();
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
            places[index].offset = offset + channel * places[index].element.bytes();
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
        | NodeOp::Points(..)
        | NodeOp::Narrow
        | NodeOp::Quantize(_)
        | NodeOp::Dequantize
        | NodeOp::Layer(_)
        | NodeOp::Fused => false,
    }
}

/// Whether the image is read only by products, and by what makes bytes of it, which read each pixel's values one by one: the
/// other kernels, and shortcuts, read whole blocks of channels.
fn is_read_by_products(nodes: &[Node]) -> bool {
    nodes.iter().filter(|node| has_value(&node.op) && node.inputs.contains(&0)).all(|node| {
        let is_product = match &node.op {
            NodeOp::Conv(conv) => !conv.depthwise,
            NodeOp::Strip(..) | NodeOp::Quantize(_) => true,
            _ => false,
        };
        is_product && !node.inputs[1..].contains(&0)
    })
}

/// Whether a value is the image as bytes, which products only read.
fn is_image_of_bytes(nodes: &[Node], index: usize, output: usize) -> bool {
    let is_image = matches!(nodes[index].op, NodeOp::Quantize(_)) && nodes[index].inputs == [0];
    let mut readers =
        nodes.iter().filter(|node| has_value(&node.op) && node.inputs.contains(&index));
    let is_product = |node: &Node| {
        let is_own = matches!(&node.op, NodeOp::Conv(conv) if !conv.depthwise);
        is_own && !node.inputs[1..].contains(&index)
    };
    is_image && index != output && readers.all(is_product)
}

fn own_place(node: &Node) -> Place {
    let (height, width, channels) = match node.shape {
        Shape::Map { height, width, channels } => (height, width, channels),
        Shape::Flat(channels) => (1, 1, channels),
    };
    let stride = channels.next_multiple_of(CHANNEL_BLOCK);
    Place { element: node.element, offset: 0, height, width, channels, stride }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies side by side is bf16 as its parts are: each is written where it belongs, and takes half of f32's bytes.
    #[test]
    fn parts_of_a_concatenation_have_their_bytes_in_it() {
        let node = |op, inputs: &[usize], channels, element| {
            let (name, inputs) = (String::new(), inputs.to_vec());
            Node { name, op, inputs, shape: Shape::map(3, 3, channels), element }
        };
        for (element, bytes) in [(Element::F32, 4), (Element::Bf16, 2), (Element::U8, 1)] {
            let op = || match element {
                Element::F32 => NodeOp::Plain(crate::plain::Plain::Crop([0, 0])),
                Element::Bf16 => NodeOp::Narrow,
                Element::U8 => NodeOp::Quantize(None),
            };
            let nodes = [
                node(NodeOp::Input, &[], 64, Element::F32),
                node(op(), &[0], 64, element),
                node(op(), &[0], 32, element),
                node(NodeOp::Concat, &[1, 2], 96, element),
            ];
            let Places { places, arena, .. } = place(&nodes, 3);
            let [first, second, all] = [1, 2, 3].map(|index| places[index]);
            assert_eq!([first.element, second.element, all.element], [element; 3]);
            assert_eq!([first.stride, second.stride, all.stride], [96; 3]);
            assert_eq!((first.offset, second.offset), (all.offset, all.offset + 64 * bytes));
            assert_eq!(all.slice(64, 32), second);
            // Whole lines of the cache.
            assert_eq!(arena, 9 * 64 * 4 + (9_usize * 96 * bytes).next_multiple_of(64));
        }
    }
}
