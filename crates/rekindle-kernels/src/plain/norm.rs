//! Normalizations and softmax by statistics of a sample itself.

use std::ops::Range;

use rekindle_nn::ops::{Lrn, MergeKind};

use super::{Stretched, combine};
use crate::vectorized::vectorized;
use crate::view::View;

/// What a statistic is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes {
    /// Whether it is over all rows, columns and channels.
    pub over: [bool; 3],
    /// Groups of channels that have one each, where it is over channels.
    pub groups: usize,
}

impl Axes {
    /// Over channels of each pixel.
    fn is_pixel(&self) -> bool {
        self.over == [false, false, true] && self.groups == 1
    }

    /// How many statistics a row has of `width` pixels with `channels`.
    pub fn cells(&self, width: usize, channels: usize) -> usize {
        let columns = if self.over[1] { 1 } else { width };
        columns * if self.over[2] { self.groups } else { channels }
    }

    /// The statistic of a row that a value belongs to.
    pub fn cell(&self, x: usize, channel: usize, channels: usize) -> usize {
        let x = if self.over[1] { 0 } else { x };
        if self.over[2] {
            x * self.groups + channel * self.groups / channels
        } else {
            x * channels + channel
        }
    }

    /// How many values a statistic is of.
    pub fn count(&self, [height, width, channels]: [usize; 3]) -> usize {
        let size = |axis: usize, size: usize| if self.over[axis] { size } else { 1 };
        size(0, height) * size(1, width) * size(2, channels)
            / if self.over[2] { self.groups } else { 1 }
    }

    /// The rows that have statistics together, some of these.
    pub fn blocks(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let step = if self.over[0] { rows.len().max(1) } else { 1 };
        rows.step_by(step).map(move |row| row..row + step)
    }
}

/// A normalization: to a mean of 0 and a variance of 1, or to a length of 1.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub axes: Axes,
    /// Added to the variance; nothing for a length.
    pub epsilon: Option<f64>,
    pub gamma: Option<Stretched>,
    pub beta: Option<Stretched>,
}

/// The least square of a length that divides, TensorFlow's.
pub(crate) const LEAST_SQUARE: f64 = 1e-12;

impl Norm {
    /// In place, some rows.
    ///
    /// # Safety
    /// As [`Plain::run`](super::Plain::run).
    pub(super) unsafe fn run(&self, out: View, rows: Range<usize>) {
        if let (true, Some(epsilon)) = (self.axes.is_pixel(), self.epsilon) {
            for pixel in rows.start * out.width..rows.end * out.width {
                // SAFETY: the caller's.
                standard_pixel(epsilon, unsafe { out.values_mut(pixel) });
            }
        } else {
            // SAFETY: the caller's.
            unsafe { self.standardize(out, rows.clone()) };
        }
        for row in rows {
            for x in 0..out.width {
                // SAFETY: the caller's.
                let pixel = unsafe { out.values_mut(row * out.width + x) };
                if let Some(gamma) = &self.gamma {
                    combine(MergeKind::Multiply, pixel, gamma.pixel(row, x));
                }
                if let Some(beta) = &self.beta {
                    combine(MergeKind::Add, pixel, beta.pixel(row, x));
                }
            }
        }
    }

    unsafe fn standardize(&self, out: View, rows: Range<usize>) {
        let Self { axes, epsilon, .. } = self;
        let channels = out.channels;
        let shape = [out.height, out.width, channels];
        let share = 1.0 / axes.count(shape) as f64;
        let cells = axes.cells(out.width, channels);
        for block in axes.blocks(rows) {
            // SAFETY: the caller's.
            let each = |f: &mut dyn FnMut(usize, &mut f32)| unsafe {
                each_value(axes, out, block.clone(), f);
            };
            let mut mean = vec![0.0; cells];
            if epsilon.is_some() {
                each(&mut |cell, value| mean[cell] += f64::from(*value) * share);
            }
            let mut square = vec![0.0; cells];
            each(&mut |cell, value| square[cell] += (f64::from(*value) - mean[cell]).powi(2));
            let scale = |square: f64| match epsilon {
                Some(epsilon) => 1.0 / (square * share + epsilon).sqrt(),
                None => 1.0 / square.max(LEAST_SQUARE).sqrt(),
            };
            let scale: Vec<f64> = square.into_iter().map(scale).collect();
            each(&mut |cell, value| {
                *value = ((f64::from(*value) - mean[cell]) * scale[cell]) as f32;
            });
        }
    }
}

vectorized! {
    /// A pixel's channels to a mean of 0 and a variance of 1.
    fn standard_pixel(epsilon: f64, values: &mut [f32]) {
        const LANES: usize = 16;
        let share = 1.0 / values.len() as f32;
        #[inline(always)]
        fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
            let (whole, rest) = values.as_chunks::<LANES>();
            let mut sums = [0.0_f32; LANES];
            for chunk in whole {
                for lane in 0..LANES {
                    sums[lane] += f(chunk[lane]);
                }
            }
            sums.iter().sum::<f32>() + rest.iter().map(|&value| f(value)).sum::<f32>()
        }
        let mean = sum(values, |value| value) * share;
        let variance = sum(values, |value| (value - mean) * (value - mean)) * share;
        let scale = 1.0 / (variance + epsilon as f32).sqrt();
        values.iter_mut().for_each(|value| *value = (*value - mean) * scale);
    }
}

/// Calls `f` with the statistic of each value of some rows, and the value.
unsafe fn each_value(
    axes: &Axes,
    out: View,
    rows: Range<usize>,
    f: &mut dyn FnMut(usize, &mut f32),
) {
    for row in rows {
        for x in 0..out.width {
            // SAFETY: the caller's.
            let pixel = unsafe { out.values_mut(row * out.width + x) };
            for (channel, value) in pixel.iter_mut().enumerate() {
                f(axes.cell(x, channel, out.channels), value);
            }
        }
    }
}

/// Powers with a sum of 1 over axes, in place.
///
/// # Safety
/// As [`Plain::run`](super::Plain::run).
pub(super) unsafe fn softmax(axes: &Axes, out: View, rows: Range<usize>) {
    let cells = axes.cells(out.width, out.channels);
    for block in axes.blocks(rows) {
        // SAFETY: the caller's.
        let each = |f: &mut dyn FnMut(usize, &mut f32)| unsafe {
            each_value(axes, out, block.clone(), f);
        };
        let mut highest = vec![f32::NEG_INFINITY; cells];
        each(&mut |cell, value| highest[cell] = highest[cell].max(*value));
        let mut total = vec![0.0_f32; cells];
        each(&mut |cell, value| {
            *value = (*value - highest[cell]).exp();
            total[cell] += *value;
        });
        each(&mut |cell, value| *value /= total[cell]);
    }
}

/// Channels before and behind one that count with it.
pub(crate) fn lrn_span(lrn: &Lrn, channel: usize, channels: usize) -> Range<usize> {
    // Of an even size, the channel more is behind.
    let (before, after) = ((lrn.size - 1) / 2, lrn.size / 2);
    channel.saturating_sub(before)..channel.saturating_add(after + 1).min(channels)
}

/// A row of a local response normalization.
///
/// # Safety
/// As [`Plain::run`](super::Plain::run).
pub(super) unsafe fn lrn_row(lrn: &Lrn, from: View, out: View, row: usize) {
    let share = lrn.alpha / lrn.size as f64;
    for pixel in row * out.width..(row + 1) * out.width {
        // SAFETY: the caller's.
        let (x, y) = unsafe { (from.values(pixel), out.values_mut(pixel)) };
        for (channel, y) in y.iter_mut().enumerate() {
            let around = &x[lrn_span(lrn, channel, x.len())];
            let sum: f64 = around.iter().map(|&value| f64::from(value).powi(2)).sum();
            *y = (f64::from(x[channel]) * (lrn.bias + share * sum).powf(-lrn.beta)) as f32;
        }
    }
}
