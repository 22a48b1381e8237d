//! Steps over bytes.

use std::ops::Range;

use rekindle_nn::Activation;
use rekindle_nn::ops::{MergeKind, PoolKind};

use super::arena::Arena;
use super::{AnyGemm, Depthwise, Gemm, GemmShape, Plan, Step, Window, Work};
use crate::Limits;
use crate::factor::Factor;
use crate::gemm::{Tile, pack};
use crate::int8::depthwise::{self, MOST_LINES, RowsArgs};
use crate::int8::rows::{self, Mean, PoolRow, Sum};
use crate::int8::{Scale, Scales, ends, quad_rows, round_weights};
use crate::ir::{Conv, Element, NodeOp, Number, Pool};
use crate::isa::Kernels;
use crate::passes::Place;
use crate::simd::int8::QUAD;
use crate::simd::{CHANNEL_BLOCK, aligned};
use crate::view::View;

/// What a step does with bytes.
pub(crate) enum Bytes {
    Depthwise(Depthwise<u8>),
    /// The largest of each window.
    Most(Pool),
    /// The mean of each window, of bytes to bytes.
    Means(Pool, Mean),
    Global {
        is_max: bool,
        scale: Scale,
    },
    Lookup(Box<[u8; 256]>),
    Add(Sum),
    /// Rows above and columns left of the image, and the byte that stands for zero.
    Pad([usize; 2], u8),
    Quantize(Option<Activation>, Scale),
    Dequantize(Scale),
}

impl Bytes {
    /// What it is called in a profile.
    pub fn name(&self) -> String {
        match self {
            Self::Depthwise(Depthwise {
                window: Window { kernel: [rows, columns], .. }, ..
            }) => {
                format!("depthwise {rows}x{columns} int8")
            }
            Self::Most(pool) | Self::Means(pool, _) => {
                format!("pool {}x{} int8", pool.kernel[0], pool.kernel[1])
            }
            Self::Global { .. } => "global pool int8".into(),
            Self::Lookup(_) => "activation int8".into(),
            Self::Add(_) => "merge int8".into(),
            Self::Pad(..) => "padding int8".into(),
            Self::Quantize(None, _) => "to int8".into(),
            Self::Quantize(Some(_), _) => "activation to int8".into(),
            Self::Dequantize(_) => "from int8".into(),
        }
    }

    /// Whether rows of the output can be computed one by one.
    pub fn is_by_rows(&self) -> bool {
        !matches!(self, Self::Global { .. })
    }

    /// A pool's means.
    pub fn means(pool: Pool, input: Scale, out: Scale) -> Self {
        let Limits { low, high } = out.limits(pool.limits);
        let step = (f64::from(input.step) / f64::from(out.step)) as f32;
        Self::Means(pool, Mean { input: input.zero, step, zero: out.zero, low, high })
    }
}

/// What a node computes with bytes; `None` where a scale is missing.
pub(super) fn work(
    op: NodeOp,
    inputs: &mut [Place],
    of_inputs: &[Option<Scale>],
    out: Option<Scale>,
    kernels: &Kernels,
) -> Option<Work> {
    let int8 = kernels.int8?;
    let input = of_inputs.first().copied().flatten();
    let product = |conv: &Conv| -> Option<Work> {
        let residual = of_inputs.get(1).copied().flatten();
        let scales = Scales { input: input?, residual, out };
        Some(if conv.depthwise {
            Work::Bytes(Bytes::Depthwise(depthwise(conv, scales, int8.shift)))
        } else if out.is_some() {
            Work::Gemm(AnyGemm::U8ToU8(gemm(conv, scales, kernels, int8.shift, int8.tile)))
        } else {
            Work::Gemm(AnyGemm::U8(gemm(conv, scales, kernels, int8.shift, int8.tile_to_f32)))
        })
    };
    Some(match op {
        NodeOp::Conv(conv) => {
            if let (Some(first), Some(input)) = (conv.slice, inputs.first_mut()) {
                *input = input.slice(first, conv.channels[0]);
            }
            product(&conv)?
        }
        NodeOp::Dense { weights, bias, limits } => {
            let channels = [weights.len() / bias.len(), bias.len()];
            product(&Conv { limits, ..Conv::new(channels, weights, bias) })?
        }
        NodeOp::Pool(pool) if pool.is_max => Work::Bytes(Bytes::Most(pool)),
        NodeOp::Pool(pool) => Work::Bytes(Bytes::means(pool, input?, out?)),
        NodeOp::Global(kind) => {
            let is_max = kind == PoolKind::Max;
            Work::Bytes(Bytes::Global { is_max, scale: input? })
        }
        NodeOp::Activation(activation) => {
            Work::Bytes(Bytes::Lookup(rows::table(activation, input?, out?)))
        }
        NodeOp::Merge(MergeKind::Add) => {
            let second = of_inputs.get(1).copied().flatten()?;
            Work::Bytes(Bytes::Add(Sum::new([input?, second], out?)))
        }
        NodeOp::Pad([rows, columns]) => Work::Bytes(Bytes::Pad([rows[0], columns[0]], out?.zero)),
        NodeOp::Quantize(activation) => Work::Bytes(Bytes::Quantize(activation, out?)),
        NodeOp::Dequantize => Work::Bytes(Bytes::Dequantize(input?)),
        _ => unreachable!("`quantize` gives no others bytes"),
    })
}

/// A convolution's settings, for a product of `columns` columns that makes bytes of `out`.
fn window(conv: &Conv, columns: usize, out: Option<Scale>) -> Window {
    let own = Window::of(conv, columns);
    let limits = out.map_or(own.limits, |out| out.limits(own.limits));
    Window { limits, ..own }
}

/// A product of bytes.
pub(super) fn gemm<O>(
    conv: &Conv,
    scales: Scales,
    kernels: &Kernels,
    shift: i32,
    tile: Tile<u8, O>,
) -> Gemm<u8, O> {
    let ([inputs, outputs], panel) = (conv.channels, kernels.columns);
    let padded = kernels.padded(outputs, Element::U8);
    let rounded = round_weights(&conv.weights, &conv.bias, scales.input);
    let quads = quad_rows(&rounded.weights, inputs, outputs);
    let rows = quads.len() / outputs;
    let weights = aligned(pack(&quads, rows, outputs, padded, panel).as_flattened());
    let depth = inputs.next_multiple_of(QUAD);
    let ends = ends(&rounded, &conv.bias, scales, [padded, depth], shift);
    let window = window(conv, padded, scales.out);
    Gemm { shape: GemmShape { window, panel, depth }, weights, tile, ends }
}

/// A depthwise convolution of bytes.
pub(super) fn depthwise(conv: &Conv, scales: Scales, shift: i32) -> Depthwise<u8> {
    let [_, channels] = conv.channels;
    let padded = channels.next_multiple_of(CHANNEL_BLOCK);
    let rounded = round_weights(&conv.weights, &conv.bias, scales.input);
    let weights = aligned(&depthwise::pack(&rounded.weights, conv.kernel, channels, padded));
    let ends = ends(&rounded, &conv.bias, scales, [padded, CHANNEL_BLOCK], shift);
    Depthwise { window: window(conv, padded, scales.out), weights, ends }
}

impl Plan {
    /// Some rows of a step over bytes, or all where it is not by rows.
    pub(super) fn run_bytes_step(
        &self,
        bytes: &Bytes,
        step: &Step,
        arena: Arena,
        rows: Range<usize>,
    ) {
        let (input, out) = (&step.inputs[0], &step.out);
        match bytes {
            Bytes::Depthwise(conv) => {
                let Some(kernels) = self.kernels.int8 else { return };
                let input = arena.view(input);
                match out.element {
                    Element::U8 => byte_rows(conv, input, arena.view(out), rows, kernels.depthwise),
                    _ => byte_rows(conv, input, arena.view(out), rows, kernels.depthwise_to_f32),
                }
            }
            Bytes::Most(pool) => {
                each_window(pool, step, arena, rows, rows::most);
            }
            Bytes::Means(pool, mean) => {
                each_window(pool, step, arena, rows, |row, input, out| {
                    rows::means(row, *mean, input, out);
                });
            }
            Bytes::Global { is_max, scale } => {
                let to = arena.write(out.offset, out.channels);
                rows::global(arena.read(input), input.stride, *scale, *is_max, to);
            }
            Bytes::Lookup(table) => {
                each_run([input, out], arena, rows, |from, to| rows::lookup(table, from, to));
            }
            Bytes::Add(sum) => {
                let second = &step.inputs[1];
                let [a, b, to] = [input, second, out].map(|place| arena.view(place));
                for pixels in runs([input, second, out], rows) {
                    // SAFETY: no thread writes the step's inputs, and these rows of its output are this thread's.
                    unsafe {
                        let (a, b) = (run_of(a, &pixels), run_of(b, &pixels));
                        rows::add(*sum, a, b, run_of_mut(to, &pixels));
                    }
                }
            }
            Bytes::Pad([above, left], zero) => {
                let (from, to) = (arena.view(input), arena.view(out));
                rows.for_each(|row| pad_row(from, to, [*above, *left], *zero, row));
            }
            Bytes::Quantize(activation, scale) if input.stride == input.channels => {
                let (from, to) = (arena.view(input), arena.view(out));
                rows.for_each(|row| quantize_packed(from, to, *activation, *scale, row));
            }
            Bytes::Quantize(activation, scale) => {
                each_run([input, out], arena, rows, |from, to| {
                    rows::quantize(from, *activation, *scale, to);
                });
            }
            Bytes::Dequantize(scale) => {
                each_run([input, out], arena, rows, |from, to| rows::dequantize(from, *scale, to));
            }
        }
    }
}

/// Some rows of a depthwise convolution.
fn byte_rows<O: Number>(
    Depthwise { window, weights, ends }: &Depthwise<u8>,
    input: View<u8>,
    out: View<O>,
    rows: Range<usize>,
    kernel: depthwise::Depthwise<O>,
) {
    let ([down, step], [above, left]) = (window.stride, window.before);
    let [far, spread] = window.dilation;
    let can_pair = depthwise::can_pair(window.kernel, window.stride, window.dilation);
    let mut row = rows.start;
    while row < rows.end {
        let count = if can_pair && row + 1 < rows.end { 2 } else { 1 };
        let mut lines = [std::ptr::null(); MOST_LINES];
        let used = window.kernel[0] + (count - 1) * down;
        for (ky, line) in lines.iter_mut().enumerate().take(used) {
            let y = (row * down + ky * far).wrapping_sub(above);
            if y < input.height {
                *line = input.pixel(y * input.width).cast_const();
            }
        }
        let args = RowsArgs {
            lines,
            stride: input.stride,
            width: input.width,
            rows: count,
            kernel: window.kernel,
            step,
            spread,
            left,
            weights: weights.as_ptr(),
            bias: ends.bias.as_ptr(),
            scaling: u8::scaling(ends, 0),
            outside: ends.outside.as_ptr(),
            out: out.pixel(row * out.width),
            out_stride: out.stride,
            out_line: out.width * out.stride,
            outputs: out.width,
            channels: window.bias.len(),
            low: window.limits.low,
            high: window.limits.high,
        };
        // SAFETY: lines are the image's or null; input, output, weights and what sums begin with have channels in whole blocks;
        // the rows belong to this thread; the plan's kernels were chosen for this machine.
        unsafe { kernel(&args) };
        row += count;
    }
}

/// Each row of a pool's outputs.
fn each_window(
    pool: &Pool,
    step: &Step,
    arena: Arena,
    rows: Range<usize>,
    run: impl Fn(&PoolRow, View<u8>, View<u8>),
) {
    let (input, out): (View<u8>, View<u8>) = (arena.view(&step.inputs[0]), arena.view(&step.out));
    for row in rows {
        let start = row * pool.stride[0];
        let end = (start + pool.kernel[0]).saturating_sub(pool.before[0]).min(input.height);
        let args = PoolRow {
            rows: [start.saturating_sub(pool.before[0]), end],
            kernel: pool.kernel[1],
            step: pool.stride[1],
            left: pool.before[1],
        };
        run(&args, input, out.starting_at(row * out.width));
    }
}

/// A row of bytes of pixels that lie side by side, as an image's do.
fn quantize_packed(
    from: View,
    to: View<u8>,
    activation: Option<Activation>,
    scale: Scale,
    row: usize,
) {
    let mut bytes = [0; PACKED];
    let (channels, first) = (from.channels, row * from.width);
    let at_once = PACKED / channels;
    if at_once == 0 {
        for pixel in first..first + from.width {
            // SAFETY: no thread writes the step's input, and this row of its output is this thread's.
            let (from, to) = unsafe { (from.values(pixel), to.values_mut(pixel)) };
            rows::quantize(from, activation, scale, to);
        }
        return;
    }
    for start in (0..from.width).step_by(at_once) {
        let pixels = first + start..first + (start + at_once).min(from.width);
        let bytes = &mut bytes[..pixels.len() * channels];
        // SAFETY: no thread writes the step's input.
        rows::quantize(unsafe { run_of(from, &pixels) }, activation, scale, bytes);
        for (pixel, bytes) in pixels.zip(bytes.chunks_exact(channels)) {
            // SAFETY: this row of the output is this thread's.
            unsafe { to.values_mut(pixel) }.copy_from_slice(bytes);
        }
    }
}

/// Bytes that are made at once.
const PACKED: usize = 1536;

/// A row of the padded map.
fn pad_row(from: View<u8>, out: View<u8>, [above, left]: [usize; 2], zero: u8, row: usize) {
    let inside = row.checked_sub(above).filter(|&y| y < from.height);
    for x in 0..out.width {
        // SAFETY: the row is this thread's.
        let to = unsafe { out.values_mut(row * out.width + x) };
        match inside.zip(x.checked_sub(left).filter(|&x| x < from.width)) {
            // SAFETY: no thread writes the step's input.
            Some((y, x)) => to.copy_from_slice(unsafe { from.values(y * from.width + x) }),
            None => to.fill(zero),
        }
    }
}

/// Pixels that are worked on at once: whole rows where nobody else's values lie between them in any of the places.
fn runs<const N: usize>(
    places: [&Place; N],
    rows: Range<usize>,
) -> impl Iterator<Item = Range<usize>> {
    let width = places[0].width;
    let is_run = places.iter().all(|place| {
        let is_own = place.stride < place.channels + CHANNEL_BLOCK;
        is_own && place.stride == places[0].stride
    });
    let size = if is_run { width } else { 1 };
    (rows.start * width..rows.end * width).step_by(size).map(move |start| start..start + size)
}

/// Hands each run of some rows of the input and the output to a function of its values.
fn each_run<I: Number, O: Number>(
    [input, out]: [&Place; 2],
    arena: Arena,
    rows: Range<usize>,
    run: impl Fn(&[I], &mut [O]),
) {
    let (from, to): (View<I>, View<O>) = (arena.view(input), arena.view(out));
    for pixels in runs([input, out], rows) {
        // SAFETY: no thread writes the step's input, and these rows of its output are this thread's.
        unsafe { run(run_of(from, &pixels), run_of_mut(to, &pixels)) };
    }
}

/// Pixels and what lies between them.
///
/// # Safety
/// Nobody may write them meanwhile.
unsafe fn run_of<'a, T: Copy>(view: View<T>, pixels: &Range<usize>) -> &'a [T] {
    let count = (pixels.len() - 1) * view.stride + view.channels;
    // SAFETY: within the view, which is valid, and the caller's.
    unsafe { std::slice::from_raw_parts(view.pixel(pixels.start), count) }
}

/// The same, for this thread alone.
///
/// # Safety
/// Nobody else may have them meanwhile.
unsafe fn run_of_mut<'a, T: Copy>(view: View<T>, pixels: &Range<usize>) -> &'a mut [T] {
    let count = (pixels.len() - 1) * view.stride + view.channels;
    // SAFETY: within the view, which is valid, and the caller's.
    unsafe { std::slice::from_raw_parts_mut(view.pixel(pixels.start), count) }
}
