//! Products of bf16: which convolutions take them, and which values are bf16 for them.

use rekindle_nn::Shape;

use crate::ir::{Conv, Element, Node, NodeOp, has_value};

/// Channels from which on a convolution takes bf16: the image itself stays as it is, and few channels gain nothing.
const FEWEST_CHANNELS: usize = 16;

fn takes_bf16(conv: &Conv) -> bool {
    !conv.depthwise && conv.run == 1 && conv.slice.is_none() && conv.channels[0] >= FEWEST_CHANNELS
}

/// What reads a value.
#[derive(Default, Clone)]
struct Readers {
    /// Convolutions that want bf16.
    convs: usize,
    concats: Vec<usize>,
    /// All else, which wants f32.
    others: usize,
}

/// As what a value is kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    F32,
    /// Rounded where it is made.
    Bf16,
    /// As f32, which a node behind them rounds.
    Both,
}

/// Has every convolution that gains from it read bf16; the new output. A value that nothing else reads is rounded where
/// it is made, if that is by such a convolution, or as a part of a concatenation; others are rounded by a new node, once
/// for all who read them. Convolutions that are not `is_direct` stay: Winograd's transforms read f32.
pub(crate) fn round_to_bf16(
    nodes: &mut Vec<Node>,
    output: usize,
    is_direct: impl Fn(&Conv, Shape) -> bool,
) -> usize {
    let mut readers = vec![Readers::default(); nodes.len()];
    readers[output].others += 1;
    // Convolutions with factors of bf16.
    let mut takes = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| has_value(&node.op)) {
        for (position, &input) in node.inputs.iter().enumerate() {
            match &node.op {
                NodeOp::Conv(conv)
                    if position == 0 && takes_bf16(conv) && is_direct(conv, node.shape) =>
                {
                    takes[index] = true;
                    readers[input].convs += 1;
                }
                NodeOp::Concat => readers[input].concats.push(index),
                _ => readers[input].others += 1,
            }
        }
    }
    // Backwards: what reads a value comes later than the value.
    let mut kept = vec![Kept::F32; nodes.len()];
    for index in (0..nodes.len()).rev() {
        let Readers { convs, concats, others } = &readers[index];
        let of_bf16 = concats.iter().filter(|&&concat| kept[concat] == Kept::Bf16).count();
        kept[index] = if convs + of_bf16 == 0 {
            Kept::F32
        } else if *others == 0 && of_bf16 == concats.len() && can_be_bf16(nodes, index, &takes) {
            Kept::Bf16
        } else {
            Kept::Both
        };
    }
    // Where nodes are now, and the bf16 of those that are f32 too.
    let (mut now, mut rounded) = (Vec::with_capacity(nodes.len()), vec![None; nodes.len()]);
    let mut all: Vec<Node> = Vec::with_capacity(nodes.len());
    for (index, mut node) in std::mem::take(nodes).into_iter().enumerate() {
        for (position, input) in node.inputs.iter_mut().enumerate() {
            let wants_bf16 = match &node.op {
                NodeOp::Conv(_) => takes[index] && position == 0,
                _ => kept[index] == Kept::Bf16,
            };
            *input = if wants_bf16 { rounded[*input] } else { None }.unwrap_or(now[*input]);
        }
        if let NodeOp::Conv(conv) = &mut node.op {
            conv.residual = conv.residual.map(|residual| now[residual]);
        }
        if kept[index] == Kept::Bf16 {
            node.element = Element::Bf16;
        }
        now.push(all.len());
        let narrow = (kept[index] == Kept::Both).then(|| Node {
            name: node.name.clone(),
            op: NodeOp::Narrow,
            inputs: vec![now[index]],
            shape: node.shape,
            element: Element::Bf16,
        });
        all.push(node);
        if let Some(narrow) = narrow {
            rounded[index] = Some(all.len());
            all.push(narrow);
        }
    }
    *nodes = all;
    now[output]
}

/// Whether a node's value can be bf16 where it is made: in whole lines of the cache.
fn can_be_bf16(nodes: &[Node], index: usize, takes: &[bool]) -> bool {
    let is_whole = |index: usize| match nodes[index].shape {
        Shape::Map { channels, .. } => channels.is_multiple_of(Element::Bf16.at_once()),
        Shape::Flat(_) => false,
    };
    is_whole(index)
        && match &nodes[index].op {
            NodeOp::Conv(conv) => takes[index] && conv.residual.is_none(),
            NodeOp::Concat => nodes[index].inputs.iter().all(|&input| is_whole(input)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Convolutions of one pixel: two in a row, whose values lie side by side, and one of that; the first one's value is
    /// the output's shortcut too.
    #[test]
    fn values_are_rounded_where_they_are_made_if_only_convolutions_read_them() {
        let shape = |channels| Shape::map(3, 3, channels);
        let node = |op, inputs: &[usize], channels| {
            let (name, inputs) = (String::new(), inputs.to_vec());
            Node { name, op, inputs, shape: shape(channels), element: Element::F32 }
        };
        let conv = |from: usize, to: usize, residual| {
            let conv = Conv::new([from, to], vec![0.0; from * to], vec![0.0; to]);
            NodeOp::Conv(Conv { residual, ..conv })
        };
        let mut nodes = vec![
            node(NodeOp::Input, &[], 32),
            node(conv(32, 64, None), &[0], 64),
            node(conv(64, 32, None), &[1], 32),
            node(NodeOp::Concat, &[1, 2], 96),
            node(conv(96, 64, Some(1)), &[3, 1], 64),
        ];
        let output = round_to_bf16(&mut nodes, 4, |_, _| true);
        let found: Vec<(Element, &[usize])> =
            nodes.iter().map(|node| (node.element, &node.inputs[..])).collect();
        let (f32s, bf16s) = (Element::F32, Element::Bf16);
        let expected: [(Element, &[usize]); 7] = [
            (f32s, &[]),
            // The image, for the first convolution.
            (bf16s, &[0]),
            (f32s, &[1]),
            // The first convolution's value, for the second one and the concatenation.
            (bf16s, &[2]),
            (bf16s, &[3]),
            (bf16s, &[3, 4]),
            (f32s, &[5, 2]),
        ];
        assert_eq!((found.as_slice(), output), (expected.as_slice(), 6));
        assert!(matches!(&nodes[6].op, NodeOp::Conv(conv) if conv.residual == Some(2)));
    }
}
