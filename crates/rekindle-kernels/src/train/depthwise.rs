//! Depthwise convolutions, a block of channels at a time, so that sums stay in registers.

use rayon::prelude::*;

use super::PIECE;
use super::conv::{Geometry, add_all};
use crate::vectorized::{fma, vectorized};

/// Channels whose sums are made together; a remainder is made one by one.
const LANES: usize = 16;

/// For each row (or column) of the output: the first row of the kernel that lies on the image, the first behind
/// those that do, and the image's row below the first.
fn spans(
    outputs: usize,
    size: usize,
    kernel: usize,
    stride: usize,
    before: usize,
) -> Vec<[usize; 3]> {
    let span = |output: usize| {
        let start = output * stride;
        let first = before.saturating_sub(start).min(kernel);
        let last = (size + before).saturating_sub(start).min(kernel).max(first);
        [first, last, (start + first).saturating_sub(before)]
    };
    (0..outputs).map(span).collect()
}

/// Both axes.
struct Spans {
    rows: Vec<[usize; 3]>,
    columns: Vec<[usize; 3]>,
}

impl Spans {
    fn new(geometry: &Geometry) -> Self {
        let Geometry { window, input, output } = geometry;
        let axis = |axis: usize| {
            let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
            spans(output[axis], input[axis], kernel, stride, window.before[axis])
        };
        Self { rows: axis(0), columns: axis(1) }
    }
}

/// `out = x * kernel + bias`, the kernel `[tap][channels]`.
pub(super) fn forward(
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let spans = Spans::new(geometry);
    let (from, to) = (geometry.input.iter().product(), geometry.output.iter().product());
    let images = x.par_chunks(from).zip(out.par_chunks_mut(to));
    images.for_each(|(x, out)| forward_image(geometry, &spans, x, kernel, bias, out));
}

/// The input's gradient.
pub(super) fn backward_input(geometry: &Geometry, dy: &[f32], kernel: &[f32], dx: &mut [f32]) {
    let spans = Spans::new(geometry);
    let (from, to) = (geometry.input.iter().product(), geometry.output.iter().product());
    let images = dy.par_chunks(to).zip(dx.par_chunks_mut(from));
    images.for_each(|(dy, dx)| {
        dx.fill(0.0);
        backward_image(geometry, &spans, dy, kernel, dx);
    });
}

/// Adds the kernel's gradient.
pub(super) fn backward_kernel(geometry: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let spans = Spans::new(geometry);
    let (from, to): (usize, usize) =
        (geometry.input.iter().product(), geometry.output.iter().product());
    let pieces = x.par_chunks(from * PIECE).zip(dy.par_chunks(to * PIECE));
    let parts: Vec<Vec<f32>> = pieces
        .map(|(x, dy)| {
            let mut part = vec![0.0; dw.len()];
            for (x, dy) in x.chunks_exact(from).zip(dy.chunks_exact(to)) {
                kernel_image(geometry, &spans, x, dy, &mut part);
            }
            part
        })
        .collect();
    add_all(dw, &parts);
}

vectorized! {
    fn forward_image(geometry: &Geometry, spans: &Spans, x: &[f32], kernel: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
        let ([_, width, channels], [_, out_width, _]) = (geometry.input, geometry.output);
        let kernel_width = geometry.window.kernel[1];
        let whole = channels / LANES * LANES;
        for (oy, &[ky_first, ky_last, y]) in spans.rows.iter().enumerate() {
            for (ox, &[kx_first, kx_last, x_first]) in spans.columns.iter().enumerate() {
                let to = &mut out[(oy * out_width + ox) * channels..][..channels];
                for channel in (0..whole).step_by(LANES) {
                    let mut sums = [0.0_f32; LANES];
                    if let Some(bias) = bias {
                        sums.copy_from_slice(&bias[channel..][..LANES]);
                    }
                    for ky in ky_first..ky_last {
                        for kx in kx_first..kx_last {
                            let at = ((y + ky - ky_first) * width + x_first + kx - kx_first) * channels;
                            let pixel = &x[at + channel..][..LANES];
                            let tap = &kernel[(ky * kernel_width + kx) * channels + channel..][..LANES];
                            for lane in 0..LANES {
                                sums[lane] = fma::<FUSED>(pixel[lane], tap[lane], sums[lane]);
                            }
                        }
                    }
                    to[channel..][..LANES].copy_from_slice(&sums);
                }
                for channel in whole..channels {
                    let mut sum = bias.map_or(0.0, |bias| bias[channel]);
                    for ky in ky_first..ky_last {
                        for kx in kx_first..kx_last {
                            let at = ((y + ky - ky_first) * width + x_first + kx - kx_first) * channels;
                            sum += x[at + channel] * kernel[(ky * kernel_width + kx) * channels + channel];
                        }
                    }
                    to[channel] = sum;
                }
            }
        }
    }
}

vectorized! {
    fn backward_image(geometry: &Geometry, spans: &Spans, dy: &[f32], kernel: &[f32], dx: &mut [f32]) {
        let ([_, width, channels], [_, out_width, _]) = (geometry.input, geometry.output);
        let kernel_width = geometry.window.kernel[1];
        for (oy, &[ky_first, ky_last, y]) in spans.rows.iter().enumerate() {
            for (ox, &[kx_first, kx_last, x_first]) in spans.columns.iter().enumerate() {
                let from = &dy[(oy * out_width + ox) * channels..][..channels];
                for ky in ky_first..ky_last {
                    for kx in kx_first..kx_last {
                        let at = ((y + ky - ky_first) * width + x_first + kx - kx_first) * channels;
                        let to = &mut dx[at..][..channels];
                        let tap = &kernel[(ky * kernel_width + kx) * channels..][..channels];
                        for channel in 0..channels {
                            to[channel] = fma::<FUSED>(from[channel], tap[channel], to[channel]);
                        }
                    }
                }
            }
        }
    }
}

vectorized! {
    fn kernel_image(geometry: &Geometry, spans: &Spans, x: &[f32], dy: &[f32], dw: &mut [f32]) {
        let ([_, width, channels], [_, out_width, _]) = (geometry.input, geometry.output);
        let [kernel_height, kernel_width] = geometry.window.kernel;
        let whole = channels / LANES * LANES;
        let is_3x3 = kernel_height == 3 && kernel_width == 3;
        let blocked = if is_3x3 { whole } else { 0 };
        for channel in (0..blocked).step_by(LANES) {
            let mut sums = [[0.0_f32; LANES]; 9];
            for (oy, &[ky_first, ky_last, y]) in spans.rows.iter().enumerate() {
                for (ox, &[kx_first, kx_last, x_first]) in spans.columns.iter().enumerate() {
                    let from = &dy[(oy * out_width + ox) * channels + channel..][..LANES];
                    if [ky_first, ky_last, kx_first, kx_last] == [0, 3, 0, 3] {
                        for ky in 0..3 {
                            for kx in 0..3 {
                                let at = ((y + ky) * width + x_first + kx) * channels + channel;
                                let pixel = &x[at..][..LANES];
                                for lane in 0..LANES {
                                    sums[ky * 3 + kx][lane] = fma::<FUSED>(pixel[lane], from[lane], sums[ky * 3 + kx][lane]);
                                }
                            }
                        }
                        continue;
                    }
                    for ky in ky_first..ky_last {
                        for kx in kx_first..kx_last {
                            let at = ((y + ky - ky_first) * width + x_first + kx - kx_first) * channels + channel;
                            let pixel = &x[at..][..LANES];
                            for lane in 0..LANES {
                                sums[ky * 3 + kx][lane] = fma::<FUSED>(pixel[lane], from[lane], sums[ky * 3 + kx][lane]);
                            }
                        }
                    }
                }
            }
            for (tap, sums) in sums.iter().enumerate() {
                let to = &mut dw[tap * channels + channel..][..LANES];
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
            }
        }
        if blocked == channels {
            return;
        }
        for (oy, &[ky_first, ky_last, y]) in spans.rows.iter().enumerate() {
            for (ox, &[kx_first, kx_last, x_first]) in spans.columns.iter().enumerate() {
                let from = &dy[(oy * out_width + ox) * channels..][..channels];
                for ky in ky_first..ky_last {
                    for kx in kx_first..kx_last {
                        let at = ((y + ky - ky_first) * width + x_first + kx - kx_first) * channels;
                        let pixel = &x[at..][..channels];
                        let to = &mut dw[(ky * kernel_width + kx) * channels..][..channels];
                        for channel in blocked..channels {
                            to[channel] += pixel[channel] * from[channel];
                        }
                    }
                }
            }
        }
    }
}
