//! Products of bf16: which convolutions take them, and where values are rounded for them.

use rekindle_nn::Shape;

use super::conv::View;
use super::fuse::{Conv, Node, NodeOp};
use crate::simd::CHANNEL_BLOCK;
use crate::simd::bf16::pair_rows;

/// Channels from which on a convolution takes bf16: the image itself stays as it is, and few channels gain nothing.
const FEWEST_CHANNELS: usize = 16;

impl Conv {
    fn takes_bf16(&self) -> bool {
        !self.depthwise && self.run == 1 && self.channels[0] >= FEWEST_CHANNELS
    }
}

/// Has every convolution that gains from it read cells of bf16, which a new node rounds once for all who read a value;
/// the new output. Those that are not `is_direct` stay: Winograd's transforms read f32.
pub(super) fn narrow(
    nodes: &mut Vec<Node>,
    output: usize,
    is_direct: impl Fn(&Conv, Shape) -> bool,
) -> usize {
    let mut readers = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter_mut().enumerate() {
        let NodeOp::Conv(conv) = &mut node.op else { continue };
        if conv.takes_bf16() && is_direct(conv, node.shape) {
            conv.cells = true;
            conv.weights = pair_rows(&conv.weights, conv.channels[0], conv.channels[1]);
            readers[node.inputs[0]].push(index);
        }
    }
    // Where nodes are now, and their values in cells.
    let (mut now, mut cells) = (Vec::with_capacity(nodes.len()), vec![None; nodes.len()]);
    let mut all = Vec::with_capacity(nodes.len());
    for (index, mut node) in std::mem::take(nodes).into_iter().enumerate() {
        for (position, input) in node.inputs.iter_mut().enumerate() {
            let is_narrow = position == 0 && readers[*input].contains(&index);
            *input = if is_narrow { cells[*input] } else { None }.unwrap_or(now[*input]);
        }
        now.push(all.len());
        let (name, shape) = (node.name.clone(), node.shape);
        all.push(node);
        if let (false, Shape::Map { height, width, channels }) = (readers[index].is_empty(), shape)
        {
            let channels = channels.next_multiple_of(CHANNEL_BLOCK) / 2;
            let shape = Shape::Map { height, width, channels };
            cells[index] = Some(all.len());
            all.push(Node { name, op: NodeOp::Narrow, inputs: vec![now[index]], shape });
        }
    }
    *nodes = all;
    now[output]
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
