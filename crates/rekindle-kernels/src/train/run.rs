//! A batch through a trainer, forward.

use rayon::prelude::*;
use rekindle_nn::DropoutMasks;
use rekindle_nn::layers::Activation;

use super::conv::{self, Geometry};
use super::matmul::{Matrix, multiply};
use super::{Kept, Pass, Trainer, Window, Work, depthwise, layers, map, norm, pool};
use crate::PlanError;

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
                let run = if conv.depthwise { depthwise::forward } else { conv::forward };
                run(&geometry, x, values(conv.kernel), bias, out);
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
                let beta = values(norm.beta);
                let shift: Vec<f32> = (0..channels)
                    .map(|c| (f64::from(beta[c]) - mean[c] * scale[c]) as f32)
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
                let (kernel, bias) = (values(dense.kernel), values(dense.bias));
                let (inputs, outputs) = (x.len() / self.batch, bias.len());
                let kernel = Matrix::new(kernel, inputs, outputs);
                multiply(out, Matrix::new(x, self.batch, inputs), kernel, false, true);
                for row in out.chunks_exact_mut(outputs) {
                    row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
                    activate(dense.activation, row);
                }
            }
            Work::MaxPool(window) => {
                let geometry = self.geometry(index, *window);
                let mut positions = positions(kept, out.len());
                pool::maximum(&geometry, x, out, &mut positions);
                self.kept[index] = Kept::Positions(positions);
            }
            Work::AvgPool(window) => pool::average(&self.geometry(index, *window), x, out),
            Work::GlobalAvg => layers::global_average(x, channels, pixels, out),
            Work::GlobalMax => {
                let geometry = self.whole(index);
                let mut positions = positions(kept, out.len());
                pool::maximum(&geometry, x, out, &mut positions);
                self.kept[index] = Kept::Positions(positions);
            }
            Work::Flatten => out.copy_from_slice(x),
            &Work::Scale { scale, offset } => {
                out.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale + offset);
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
            Work::Add => {
                let other = &self.values[node.inputs[1]];
                let pieces = x.par_chunks(1 << 15).zip(other.par_chunks(1 << 15));
                out.par_chunks_mut(1 << 15).zip(pieces).for_each(|(out, (x, other))| {
                    for ((out, x), other) in out.iter_mut().zip(x).zip(other) {
                        *out = x + other;
                    }
                });
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
        let window = Window { kernel: [height, width], stride: [1, 1], before: [0, 0] };
        Geometry { window, input: [height, width, channels], output: [1, 1, channels] }
    }
}

/// Room for so many positions, where there was some already.
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

fn activate(activation: Activation, row: &mut [f32]) {
    match activation {
        Activation::Linear => {}
        Activation::Relu => row.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y }),
        Activation::Relu6 => row.iter_mut().for_each(|y| {
            *y = if *y < 0.0 { 0.0 } else { *y };
            *y = if *y > 6.0 { 6.0 } else { *y };
        }),
        Activation::Sigmoid => row.iter_mut().for_each(|y| *y = 1.0 / (1.0 + (-*y).exp())),
        Activation::Softmax => {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|y| *y = (*y - highest).exp());
            let total: f32 = row.iter().sum();
            row.iter_mut().for_each(|y| *y /= total);
        }
    }
}
