//! A batch through a trainer, forward.

use rayon::prelude::*;
use rekindle_nn::ops::{Noise, NoiseKind};
use rekindle_nn::{DropoutMasks, SELU};

use super::conv::{self, Geometry};
use super::matmul::{Matrix, multiply};
use super::stretch::Sizes;
use super::{
    Kept, Pass, Stretch, Trainer, Window, Work, depthwise, groups, layers, map, merge, norm, plain,
    pool,
};
use crate::PlanError;
use crate::activation::activate_all;

impl Trainer {
    /// Runs a batch, `[batch, channels, height, width]` or `[batch, features]`, and gives the outputs, the last softmax or
    /// sigmoid left off: `[batch, classes]`.
    ///
    /// # Errors
    /// When `inputs` is not a whole number of samples.
    pub fn forward(&mut self, inputs: &[f32], pass: Pass) -> Result<&[f32], PlanError> {
        let count = self.nodes[0].shape.count();
        if inputs.is_empty() || !inputs.len().is_multiple_of(count) {
            return Err(PlanError::Input { expected: count, found: inputs.len() });
        }
        // What they are products of is overwritten.
        self.settle_all();
        self.batch = inputs.len() / count;
        let mut masks = match pass {
            Pass::Inference => None,
            Pass::Training { seed, step, part } => Some(DropoutMasks::new(seed, step).of(part)),
        };
        for index in 0..self.nodes.len() {
            if matches!(self.nodes[index].work, Work::Fused) {
                continue;
            }
            let mut out = std::mem::take(&mut self.values[index]);
            out.resize(self.batch * self.nodes[index].shape.count(), 0.0);
            if index == 0 {
                let [height, width, channels] = map(self.nodes[0].shape);
                layers::channels_last(inputs, channels, height * width, &mut out);
            } else {
                self.forward_node(index, &mut out, masks.as_mut());
            }
            self.values[index] = out;
        }
        Ok(&self.values[self.output])
    }

    fn forward_node(&mut self, index: usize, out: &mut [f32], masks: Option<&mut DropoutMasks>) {
        let kept = std::mem::take(&mut self.kept[index]);
        let node = &self.nodes[index];
        let x = &self.values[node.inputs[0]];
        let [height, width, channels] = map(self.nodes[node.inputs[0]].shape);
        let pixels = height * width;
        let values = |index: usize| self.parameters[index].values.as_slice();
        match &node.work {
            Work::Conv(conv) => {
                let geometry = self.geometry(index, conv.window);
                let bias = conv.bias.map(values);
                let kernel = values(conv.kernel);
                match conv.groups {
                    _ if conv.depthwise => depthwise::forward(&geometry, x, kernel, bias, out),
                    1 => conv::forward(&geometry, x, kernel, bias, out),
                    count => groups::forward(&geometry, count, x, kernel, bias, out),
                }
            }
            Work::Norm(norm) => {
                let (mean, variance, is_batch) = match norm.momentum {
                    Some(_) if masks.is_some() => {
                        let (mean, variance) = norm::moments(x, channels);
                        (mean, variance, true)
                    }
                    _ => (wide(values(norm.mean)), wide(values(norm.variance)), false),
                };
                let inverse: Vec<f64> = variance
                    .iter()
                    .map(|variance| 1.0 / (variance + norm.epsilon).sqrt())
                    .collect();
                let gamma = norm.gamma.map(values);
                let scale: Vec<f64> = (0..channels)
                    .map(|c| inverse[c] * gamma.map_or(1.0, |gamma| f64::from(gamma[c])))
                    .collect();
                let beta = norm.beta.map(values);
                let shift: Vec<f32> = (0..channels)
                    .map(|c| {
                        (beta.map_or(0.0, |beta| f64::from(beta[c])) - mean[c] * scale[c]) as f32
                    })
                    .collect();
                norm::forward(x, &narrow(&scale), &shift, [norm.low, norm.high], out);
                self.kept[index] =
                    Kept::Moments { mean: narrow(&mean), inverse: narrow(&inverse), is_batch };
                if let (true, Some(momentum)) = (is_batch, norm.momentum) {
                    let (of_mean, of_variance) = (norm.mean, norm.variance);
                    self.follow(of_mean, &mean, momentum);
                    self.follow(of_variance, &variance, momentum);
                }
            }
            &Work::Clamp { low, high } => {
                let none = (vec![1.0; channels], vec![0.0; channels]);
                norm::forward(x, &none.0, &none.1, [low, high], out);
            }
            Work::Dense(dense) => {
                let bias = dense.bias.map(values);
                if let Some(product) = dense.product {
                    product.forward(x, values(dense.kernel), bias, out);
                    self.kept[index] = kept;
                    return;
                }
                let (rows, outputs) = (x.len() / channels, dense.outputs);
                let kernel = Matrix::new(values(dense.kernel), channels, outputs);
                multiply(out, Matrix::new(x, rows, channels), kernel, false, true);
                if let Some(bias) = bias {
                    for row in out.chunks_exact_mut(outputs) {
                        row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                    }
                }
            }
            Work::MaxPool(window) => {
                let geometry = self.geometry(index, *window);
                let mut positions = positions(kept, out.len());
                pool::maximum(&geometry, x, out, &mut positions);
                self.kept[index] = Kept::Positions(positions);
            }
            &Work::AvgPool { window, counts_padding } => {
                pool::average(&self.geometry(index, window), counts_padding, x, out);
            }
            Work::GlobalAvg => layers::global_average(x, channels, pixels, out),
            Work::GlobalMax => {
                let geometry = self.whole(index);
                let mut positions = positions(kept, out.len());
                pool::maximum(&geometry, x, out, &mut positions);
                self.kept[index] = Kept::Positions(positions);
            }
            Work::Flatten => out.copy_from_slice(x),
            Work::Scale(scales) => {
                let pixels = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                pixels.for_each(|(y, x)| {
                    for ((y, x), [scale, shift]) in y.iter_mut().zip(x).zip(scales) {
                        *y = x * scale + shift;
                    }
                });
            }
            &Work::Activation(activation) => {
                out.copy_from_slice(x);
                activate_all(activation, channels, out);
            }
            &Work::Dropout(rate) => match masks {
                Some(masks) if rate > 0.0 => {
                    // Drawn channel by channel, as other backends have their maps.
                    let drawn = masks.next(rate, self.batch, out.len() / self.batch);
                    let mut mask = vec![0.0; out.len()];
                    layers::channels_last(&drawn, channels, pixels, &mut mask);
                    for ((y, x), mask) in out.iter_mut().zip(x).zip(&mask) {
                        *y = x * mask;
                    }
                    self.kept[index] = Kept::Mask(mask);
                }
                _ => {
                    out.copy_from_slice(x);
                }
            },
            &Work::SharedDropout { rate, sizes } => match masks {
                Some(masks) if rate > 0.0 => {
                    let count: usize = sizes.iter().product();
                    let drawn = masks.next(rate, self.batch, count);
                    let mut numbers = vec![0.0; drawn.len()];
                    layers::channels_last(&drawn, sizes[2], sizes[0] * sizes[1], &mut numbers);
                    let sizes = Sizes { image: [height, width, channels], numbers: sizes };
                    let size = height * width * channels;
                    let mut mask = vec![0.0; out.len()];
                    let samples = mask.chunks_exact_mut(size).zip(numbers.chunks_exact(count));
                    samples.for_each(|(mask, numbers)| {
                        sizes.change(numbers, mask, |_, number| number);
                    });
                    for ((y, x), mask) in out.iter_mut().zip(x).zip(&mask) {
                        *y = x * mask;
                    }
                    self.kept[index] = Kept::Mask(mask);
                }
                _ => out.copy_from_slice(x),
            },
            Work::Noise(noise) => match masks {
                Some(masks) if noise.amount > 0.0 => {
                    let count = out.len() / self.batch;
                    let drawn = match noise.kind {
                        NoiseKind::AlphaDropout => masks.next(noise.amount, self.batch, count),
                        NoiseKind::GaussianDropout | NoiseKind::GaussianNoise => {
                            masks.normal(self.batch, count)
                        }
                    };
                    let mut random = vec![0.0; drawn.len()];
                    layers::channels_last(&drawn, channels, pixels, &mut random);
                    if add_noise(noise, x, &mut random, out) {
                        self.kept[index] = Kept::Mask(random);
                    }
                }
                _ => out.copy_from_slice(x),
            },
            Work::Plain(plain) => {
                let to = map(node.shape);
                plain::forward(plain, x, [height, width, channels], out, to);
            }
            &Work::Stretch(Stretch { scale, shift, sizes }) => {
                let sizes = Sizes { image: [height, width, channels], numbers: sizes };
                match scale {
                    Some(scale) => sizes.map(values(scale), x, out, |x, scale| x * scale),
                    None => out.copy_from_slice(x),
                }
                if let Some(shift) = shift {
                    sizes.change(values(shift), out, |y, shift| y + shift);
                }
            }
            &Work::Prelu(alpha, sizes) => {
                let sizes = Sizes { image: [height, width, channels], numbers: sizes };
                let prelu = |x: f32, alpha: f32| if x < 0.0 { x * alpha } else { x };
                sizes.map(values(alpha), x, out, prelu);
            }
            &Work::Pad { before } => {
                let (inner, outer) = (map(self.nodes[node.inputs[0]].shape), map(node.shape));
                let images = x.par_chunks(inner.iter().product());
                images.zip(out.par_chunks_mut(outer.iter().product())).for_each(|(x, out)| {
                    out.fill(0.0);
                    for (here, there) in layers::inner_rows(inner, outer, before) {
                        out[there].copy_from_slice(&x[here]);
                    }
                });
            }
            Work::Merge(kind) => {
                let inputs = node.inputs.iter();
                let inputs: Vec<merge::Operand<'_>> = inputs
                    .map(|&input| (map(self.nodes[input].shape), self.values[input].as_slice()))
                    .collect();
                merge::forward(*kind, &inputs, map(node.shape), out);
            }
            Work::Concat => {
                let [_, _, total] = map(node.shape);
                let mut first = 0;
                for &input in &node.inputs {
                    let [_, _, count] = map(self.nodes[input].shape);
                    layers::copy_channels(
                        &self.values[input],
                        count,
                        &mut out[first..],
                        total,
                        count,
                    );
                    first += count;
                }
            }
            Work::Input | Work::Fused => unreachable!("they are not run"),
        }
    }

    /// Moves a moving statistic towards the batch's.
    fn follow(&mut self, parameter: usize, batch: &[f64], momentum: f64) {
        let parameter = &mut self.parameters[parameter];
        parameter.changed = true;
        for (moving, batch) in parameter.values.iter_mut().zip(batch) {
            *moving = (f64::from(*moving) * momentum + batch * (1.0 - momentum)) as f32;
        }
    }

    pub(super) fn geometry(&self, index: usize, window: Window) -> Geometry {
        let node = &self.nodes[index];
        let input = map(self.nodes[node.inputs[0]].shape);
        Geometry { window, input, output: map(node.shape) }
    }

    /// One window over the whole map.
    pub(super) fn whole(&self, index: usize) -> Geometry {
        let [height, width, channels] = map(self.nodes[self.nodes[index].inputs[0]].shape);
        let (kernel, stride, dilation) = ([height, width], [1, 1], [1, 1]);
        let window = Window { kernel, stride, dilation, before: [0, 0] };
        Geometry { window, input: [height, width, channels], output: [1, 1, channels] }
    }
}

/// Adds noise by random values, which become what gradients are multiplied by; whether there is such.
fn add_noise(noise: &Noise, x: &[f32], random: &mut [f32], out: &mut [f32]) -> bool {
    let rate = noise.amount;
    let values = out.iter_mut().zip(x).zip(random);
    match noise.kind {
        NoiseKind::AlphaDropout => {
            let least = -SELU.0 * SELU.1;
            let a = ((1.0 - rate) * (1.0 + rate * least * least)).powf(-0.5);
            let end = (a * least - a * least * rate) as f32;
            let (a, least) = (a as f32, least as f32);
            values.for_each(|((y, x), random)| {
                *random = if *random > 0.0 { a } else { 0.0 };
                *y = (x - least) * *random + end;
            });
            true
        }
        NoiseKind::GaussianDropout => {
            let deviation = (rate / (1.0 - rate)).sqrt() as f32;
            values.for_each(|((y, x), random)| {
                *random = 1.0 + deviation * *random;
                *y = x * *random;
            });
            true
        }
        NoiseKind::GaussianNoise => {
            values.for_each(|((y, x), random)| *y = x + rate as f32 * *random);
            false
        }
    }
}

/// Room for this many positions, in the buffer of before where there is one.
fn positions(kept: Kept, count: usize) -> Vec<u32> {
    let mut positions = match kept {
        Kept::Positions(positions) => positions,
        _ => Vec::new(),
    };
    positions.resize(count, 0);
    positions
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
