//! What has no kernel of its own: loops over pixels, a row of outputs at a time where rows stand for themselves.

mod norm;
mod shape;

use std::ops::Range;

use rekindle_nn::Activation;
use rekindle_nn::ops::{Lrn, MergeKind, Resizing};

pub(crate) use norm::{Axes, LEAST_SQUARE, Norm, lrn_span};

use crate::activation::{activate, is_by_pixel};
use crate::simd::CHANNEL_BLOCK;
use crate::vectorized::vectorized;
use crate::view::View;

/// An operation in plain loops.
#[derive(Debug, Clone)]
pub(crate) enum Plain {
    /// In place, where the input is the output's place.
    Activate(Activation),
    /// Softmax over axes.
    Softmax(Axes),
    /// Element by element, sizes of 1 stretched.
    Merge(MergeKind),
    /// Times numbers of each place, and plus others.
    Scale(Stretched, Stretched),
    /// Below 0 times numbers of each place.
    Prelu(Stretched),
    Norm(Norm),
    Lrn(Lrn),
    /// Zeros around the image: those above and left of it.
    Pad([usize; 2]),
    /// What begins at this row and column.
    Crop([usize; 2]),
    Resize(Resizing),
    /// The same values in the same order.
    Reshape,
    /// Which axis of the input each axis of the output is.
    Permute([usize; 3]),
    Pool(WidePool),
}

/// Numbers that stand for all places along axes where there is one.
#[derive(Debug, Clone)]
pub(crate) struct Stretched {
    /// Height, width and channels of the numbers.
    pub sizes: [usize; 3],
    pub values: Vec<f32>,
}

impl Stretched {
    /// Those of one pixel: one for each channel, or one.
    pub fn pixel(&self, y: usize, x: usize) -> &[f32] {
        let [height, width, channels] = self.sizes;
        let (y, x) = (if height == 1 { 0 } else { y }, if width == 1 { 0 } else { x });
        &self.values[(y * width + x) * channels..][..channels]
    }
}

/// A pool of any window.
#[derive(Debug, Clone)]
pub(crate) struct WidePool {
    pub is_max: bool,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns left of the image.
    pub before: [usize; 2],
    /// Whether a mean counts the padding as zeros.
    pub counts_padding: bool,
}

impl Plain {
    /// Whether rows of the output can be computed one by one.
    pub fn is_by_rows(&self) -> bool {
        match self {
            Self::Softmax(axes) | Self::Norm(Norm { axes, .. }) => !axes.over[0],
            Self::Resize(_) | Self::Reshape => false,
            Self::Activate(_)
            | Self::Merge(_)
            | Self::Scale(..)
            | Self::Prelu(_)
            | Self::Lrn(_)
            | Self::Pad(_)
            | Self::Crop(_)
            | Self::Permute(_)
            | Self::Pool(_) => true,
        }
    }

    /// Whether the output may lie where the first input does.
    pub fn is_in_place(&self) -> bool {
        match self {
            Self::Activate(_)
            | Self::Softmax(_)
            | Self::Merge(_)
            | Self::Scale(..)
            | Self::Prelu(_)
            | Self::Norm(_) => true,
            Self::Lrn(_)
            | Self::Pad(_)
            | Self::Crop(_)
            | Self::Resize(_)
            | Self::Reshape
            | Self::Permute(_)
            | Self::Pool(_) => false,
        }
    }

    /// What it is called in a profile.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Activate(_) => "activation",
            Self::Softmax(_) => "softmax",
            Self::Merge(_) => "merge",
            Self::Scale(..) => "scale",
            Self::Prelu(_) => "prelu",
            Self::Norm(_) => "normalization",
            Self::Lrn(_) => "response normalization",
            Self::Pad(_) => "padding",
            Self::Crop(_) => "crop",
            Self::Resize(_) => "resize",
            Self::Reshape => "reshape",
            Self::Permute(_) => "permute",
            Self::Pool(_) => "pool",
        }
    }

    /// Some rows of the output; all, where [`is_by_rows`](Self::is_by_rows) is false.
    ///
    /// # Safety
    /// Views must be valid for what they say, and the rows of `out` this thread's; inputs are other values than `out`,
    /// but for the first of what works in place, which may be the same.
    pub unsafe fn run(&self, inputs: &[View], out: View, rows: Range<usize>) {
        let &[from, ..] = inputs else { return };
        // SAFETY: the caller's, for all of these.
        unsafe {
            match self {
                Self::Softmax(axes) => {
                    rows.clone().for_each(|row| copy_row(from, out, row));
                    norm::softmax(axes, out, rows);
                }
                Self::Norm(norm) => {
                    rows.clone().for_each(|row| copy_row(from, out, row));
                    norm.run(out, rows);
                }
                Self::Resize(resizing) => shape::resize(resizing, from, out),
                Self::Reshape => shape::reshape(from, out),
                Self::Activate(activation) => {
                    for row in rows {
                        copy_row(from, out, row);
                        activate_row(*activation, out, row);
                    }
                }
                Self::Merge(kind) => {
                    rows.for_each(|row| merge_row(*kind, inputs, out, row));
                }
                Self::Scale(scale, shift) => {
                    for row in rows {
                        copy_row(from, out, row);
                        for x in 0..out.width {
                            let pixel = out.values_mut(row * out.width + x);
                            combine(MergeKind::Multiply, pixel, scale.pixel(row, x));
                            combine(MergeKind::Add, pixel, shift.pixel(row, x));
                        }
                    }
                }
                Self::Prelu(alpha) => {
                    for row in rows {
                        copy_row(from, out, row);
                        for x in 0..out.width {
                            let pixel = out.values_mut(row * out.width + x);
                            prelu(pixel, alpha.pixel(row, x));
                        }
                    }
                }
                Self::Lrn(lrn) => rows.for_each(|row| norm::lrn_row(lrn, from, out, row)),
                Self::Pad(before) => rows.for_each(|row| shape::pad_row(*before, from, out, row)),
                Self::Crop(first) => rows.for_each(|row| shape::crop_row(*first, from, out, row)),
                Self::Permute(axes) => {
                    rows.for_each(|row| shape::permute_row(*axes, from, out, row));
                }
                Self::Pool(pool) => rows.for_each(|row| pool_row(pool, from, out, row)),
            }
        }
    }
}

/// Inputs of a sum that are added row by row at once.
const MOST_RUNS: usize = 8;

/// Whether a row is one run of values: nobody else's lie between its pixels.
fn is_own(view: View) -> bool {
    view.stride == view.channels.next_multiple_of(CHANNEL_BLOCK)
}

/// The same values in another place, if it is another.
unsafe fn copy_row(from: View, to: View, row: usize) {
    if from.base == to.base {
        return;
    }
    for pixel in row * to.width..(row + 1) * to.width {
        // SAFETY: the caller's; both have these pixels.
        unsafe { to.values_mut(pixel).copy_from_slice(from.values(pixel)) };
    }
}

unsafe fn activate_row(activation: Activation, out: View, row: usize) {
    let first = row * out.width;
    if is_own(out) && !is_by_pixel(activation) {
        let count = (out.width - 1) * out.stride + out.channels;
        // SAFETY: the caller's; up to the last channel of the row's last pixel.
        let values = unsafe { std::slice::from_raw_parts_mut(out.pixel(first), count) };
        return activate(activation, values);
    }
    for pixel in first..first + out.width {
        // SAFETY: the caller's.
        activate(activation, unsafe { out.values_mut(pixel) });
    }
}

unsafe fn merge_row(kind: MergeKind, inputs: &[View], out: View, row: usize) {
    let count = inputs.len();
    let is_like = |input: &View| {
        [input.height, input.width, input.channels, input.stride]
            == [out.height, out.width, out.channels, out.stride]
    };
    if inputs.iter().all(is_like) && is_own(out) {
        // One run of values, as if it were a pixel.
        let run = |view: View| {
            let channels = (view.width - 1) * view.stride + view.channels;
            View { base: view.pixel(row * view.width), height: 1, width: 1, channels, ..view }
        };
        let mut runs = [run(out); MOST_RUNS];
        if count <= MOST_RUNS {
            for (run_of, input) in runs.iter_mut().zip(inputs) {
                *run_of = run(*input);
            }
            // SAFETY: the caller's.
            return unsafe { merge_pixels(kind, &runs[..count], run(out), 0) };
        }
    }
    // SAFETY: the caller's.
    unsafe { merge_pixels(kind, inputs, out, row) };
}

unsafe fn merge_pixels(kind: MergeKind, inputs: &[View], out: View, row: usize) {
    let count = inputs.len();
    for x in 0..out.width {
        // SAFETY: the caller's.
        let to = unsafe { out.values_mut(row * out.width + x) };
        for (index, input) in inputs.iter().enumerate() {
            let y = if input.height == 1 { 0 } else { row };
            let x = if input.width == 1 { 0 } else { x };
            let pixel = y * input.width + x;
            if index == 0 && input.base == out.base {
                continue;
            }
            // SAFETY: the caller's; it is none of the output's values.
            let from = unsafe { input.values(pixel) };
            match (index, from) {
                (0, &[one]) => to.fill(one),
                (0, values) => to.copy_from_slice(values),
                _ => combine(kind, to, from),
            }
        }
        if kind == MergeKind::Average {
            let share = 1.0 / count as f32;
            to.iter_mut().for_each(|value| *value *= share);
        }
    }
}

vectorized! {
    /// Takes other values into `to`; one stands for all.
    fn combine(kind: MergeKind, to: &mut [f32], from: &[f32]) {
        #[inline(always)]
        fn each(to: &mut [f32], from: &[f32], f: impl Fn(f32, f32) -> f32) {
            match from {
                &[one] => to.iter_mut().for_each(|to| *to = f(*to, one)),
                many => to.iter_mut().zip(many).for_each(|(to, &from)| *to = f(*to, from)),
            }
        }
        match kind {
            MergeKind::Add | MergeKind::Average => each(to, from, |a, b| a + b),
            MergeKind::Subtract => each(to, from, |a, b| a - b),
            MergeKind::Multiply => each(to, from, |a, b| a * b),
            // Comparisons that keep a NaN of either.
            MergeKind::Maximum => each(to, from, |a, b| if a >= b || a.is_nan() { a } else { b }),
            MergeKind::Minimum => each(to, from, |a, b| if a <= b || a.is_nan() { a } else { b }),
        }
    }
}

vectorized! {
    /// What is below 0 is multiplied; one number stands for all channels.
    fn prelu(values: &mut [f32], alpha: &[f32]) {
        match alpha {
            &[one] => values.iter_mut().for_each(|x| *x = if *x < 0.0 { *x * one } else { *x }),
            many => {
                for (x, alpha) in values.iter_mut().zip(many) {
                    *x = if *x < 0.0 { *x * alpha } else { *x };
                }
            }
        }
    }
}

unsafe fn pool_row(pool: &WidePool, from: View, out: View, row: usize) {
    let [above, left] = pool.before;
    for x in 0..out.width {
        // SAFETY: the caller's.
        let to = unsafe { out.values_mut(row * out.width + x) };
        to.fill(if pool.is_max { f32::MIN } else { 0.0 });
        let mut count = 0_usize;
        for ky in 0..pool.kernel[0] {
            for kx in 0..pool.kernel[1] {
                let y = row * pool.stride[0] + ky * pool.dilation[0];
                let x = x * pool.stride[1] + kx * pool.dilation[1];
                let on_image = |at: usize, before: usize, size: usize| {
                    at.checked_sub(before).filter(|&at| at < size)
                };
                let pixel = on_image(y, above, from.height).zip(on_image(x, left, from.width));
                // No window lies behind the padding.
                count += usize::from(pool.counts_padding || pixel.is_some());
                let Some((y, x)) = pixel else { continue };
                // SAFETY: the pixel lies on the image.
                let values = unsafe { from.values(y * from.width + x) };
                let kind = if pool.is_max { MergeKind::Maximum } else { MergeKind::Add };
                // Of one channel, one value stands for all.
                combine(kind, to, values);
            }
        }
        if !pool.is_max {
            let share = 1.0 / count.max(1) as f32;
            to.iter_mut().for_each(|value| *value *= share);
        }
    }
}
