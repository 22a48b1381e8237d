//! Products of bf16: which convolutions take them, and where values are rounded for them.

use rekindle_nn::Shape;

use crate::ir::{Conv, Node, NodeOp, has_value};
use crate::simd::CHANNEL_BLOCK;
use crate::simd::bf16::pair_rows;
use crate::view::View;

/// Channels from which on a convolution takes bf16: the image itself stays as it is, and few channels gain nothing.
const FEWEST_CHANNELS: usize = 16;

impl Conv {
    fn takes_bf16(&self) -> bool {
        !self.depthwise
            && self.run == 1
            && self.slice.is_none()
            && self.channels[0] >= FEWEST_CHANNELS
    }
}

/// What reads a value.
#[derive(Default, Clone)]
struct Readers {
    /// Convolutions that want cells.
    convs: usize,
    concats: Vec<usize>,
    /// All else, which wants values.
    others: usize,
}

/// How a value is kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Values,
    /// Cells where it is made.
    Cells,
    /// Values, which a node behind them rounds to cells.
    Both,
}

/// Has every convolution that gains from it read cells of bf16; the new output. A value that nothing else reads becomes
/// cells where it is made, if that is by such a convolution, or as a part of a concatenation; others are rounded by a
/// new node, once for all who read them. Convolutions that are not `is_direct` stay: Winograd's transforms read f32.
pub(super) fn narrow(
    nodes: &mut Vec<Node>,
    output: usize,
    is_direct: impl Fn(&Conv, Shape) -> bool,
) -> usize {
    let mut readers = vec![Readers::default(); nodes.len()];
    readers[output].others += 1;
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| has_value(&node.op)) {
        for (position, &input) in node.inputs.iter().enumerate() {
            match &mut node.op {
                NodeOp::Conv(conv)
                    if position == 0 && conv.takes_bf16() && is_direct(conv, node.shape) =>
                {
                    conv.cells = true;
                    conv.weights = pair_rows(&conv.weights, conv.channels[0], conv.channels[1]);
                    readers[input].convs += 1;
                }
                NodeOp::Concat => readers[input].concats.push(index),
                _ => readers[input].others += 1,
            }
        }
    }
    // Backwards: what reads a value comes later than the value.
    let mut kept = vec![Kept::Values; nodes.len()];
    for index in (0..nodes.len()).rev() {
        let Readers { convs, concats, others } = &readers[index];
        let of_cells = concats.iter().filter(|&&concat| kept[concat] == Kept::Cells).count();
        kept[index] = if convs + of_cells == 0 {
            Kept::Values
        } else if *others == 0 && of_cells == concats.len() && can_be_cells(nodes, index) {
            Kept::Cells
        } else {
            Kept::Both
        };
    }
    // Where nodes are now, and their values in cells.
    let (mut now, mut cells) = (Vec::with_capacity(nodes.len()), vec![None; nodes.len()]);
    let mut all = Vec::with_capacity(nodes.len());
    for (index, mut node) in std::mem::take(nodes).into_iter().enumerate() {
        for (position, input) in node.inputs.iter_mut().enumerate() {
            let wants_cells = match &node.op {
                NodeOp::Conv(conv) => conv.cells && position == 0,
                _ => kept[index] == Kept::Cells,
            };
            *input = if wants_cells { cells[*input] } else { None }.unwrap_or(now[*input]);
        }
        let (name, values) = (node.name.clone(), node.shape);
        let in_cells = match values {
            Shape::Map { height, width, channels } => {
                let channels = channels.next_multiple_of(CHANNEL_BLOCK) / 2;
                Shape::Map { height, width, channels }
            }
            flat @ Shape::Flat(_) => flat,
        };
        now.push(all.len());
        if kept[index] == Kept::Cells {
            node.shape = in_cells;
            if let NodeOp::Conv(conv) = &mut node.op {
                conv.to_cells = true;
            }
        }
        all.push(node);
        if kept[index] == Kept::Both {
            cells[index] = Some(all.len());
            let inputs = vec![now[index]];
            all.push(Node { name, op: NodeOp::Narrow, inputs, shape: in_cells });
        }
    }
    *nodes = all;
    now[output]
}

/// Whether a node's value can be made of cells: blocks of cells are twice as wide.
fn can_be_cells(nodes: &[Node], index: usize) -> bool {
    let is_wide = |index: usize| match nodes[index].shape {
        Shape::Map { channels, .. } => channels.is_multiple_of(2 * CHANNEL_BLOCK),
        Shape::Flat(_) => false,
    };
    is_wide(index)
        && match &nodes[index].op {
            NodeOp::Conv(conv) => conv.cells && conv.residual.is_none(),
            NodeOp::Concat => nodes[index].inputs.iter().all(|&input| is_wide(input)),
            _ => false,
        }
}

/// Rounds a row of pixels.
///
/// # Safety
/// As [`Narrow`](crate::simd::bf16::Narrow): the instruction set must be there, and the row belong to this thread.
pub(super) unsafe fn narrow_row(
    kernel: crate::simd::bf16::Narrow,
    from: View,
    to: View,
    row: usize,
) {
    let channels = from.channels.next_multiple_of(CHANNEL_BLOCK);
    for pixel in row * from.width..(row + 1) * from.width {
        let (from_pixel, to_pixel) = (from.pixel(pixel), to.pixel(pixel));
        // SAFETY: pixels have their channels in whole blocks, and a place for half as many cells.
        unsafe {
            kernel(from_pixel, to_pixel, channels);
            if from.channels % 2 == 1 {
                // What lies behind the last channel is no zero, and may be no number.
                let last = to_pixel.add(from.channels / 2);
                *last = f32::from_bits((*last).to_bits() & 0xffff);
            }
        }
    }
}
