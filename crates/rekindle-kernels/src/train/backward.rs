//! The gradients back.

use rayon::prelude::*;

use super::matmul::{Matrix, multiply};
use super::stretch::Sizes;
use super::{
    Conv, Dense, Kept, Norm, Pending, Stretch, Trainer, Work, conv, depthwise, groups, layers, map,
    merge, norm, plain, pool,
};
use crate::PlanError;
use crate::activation::gradient_all;

impl Trainer {
    /// Adds the gradients of the last forward pass, from the gradient of its outputs. The gradient of the input, `[batch,
    /// channels, height, width]`, where it is wanted.
    ///
    /// # Errors
    /// When `outputs` has not one value for each output of the last forward pass.
    pub fn backward(&mut self, outputs: &[f32]) -> Result<Option<Vec<f32>>, PlanError> {
        let expected = self.values[self.output].len();
        if outputs.len() != expected || self.batch == 0 {
            return Err(PlanError::Input { expected, found: outputs.len() });
        }
        let mut gradients: Vec<Option<Vec<f32>>> = vec![None; self.nodes.len()];
        let mut last = self.buffer(outputs.len());
        last.copy_from_slice(outputs);
        gradients[self.output] = Some(last);
        for index in (1..self.nodes.len()).rev() {
            if let Some(gradient) = gradients[index].take() {
                if self.nodes[index].wanted {
                    self.backward_node(index, gradient, &mut gradients);
                } else {
                    self.free.push(gradient);
                }
            }
        }
        // What no gradient has reached.
        for parameter in &mut self.parameters {
            if parameter.stale && parameter.pending.is_none() {
                parameter.gradient.clear();
                parameter.gradient.resize(parameter.values.len(), 0.0);
                parameter.stale = false;
            }
        }
        let [height, width, channels] = map(self.nodes[0].shape);
        Ok(gradients[0].take().map(|gradient| {
            let mut input = vec![0.0; gradient.len()];
            layers::channels_first(&gradient, channels, height * width, &mut input);
            input
        }))
    }

    fn backward_node(
        &mut self,
        index: usize,
        mut dy: Vec<f32>,
        gradients: &mut [Option<Vec<f32>>],
    ) {
        let inputs = self.nodes[index].inputs.clone();
        let input = inputs[0];
        let is_wanted = self.nodes[input].wanted;
        let size = self.values[input].len();
        let [height, width, channels] = map(self.nodes[input].shape);
        // What most layers pass on is as large as their input; those in place give `dy` itself.
        let mut dx = Vec::new();
        match &self.nodes[index].work {
            &Work::Conv(Conv { depthwise: is_depthwise, groups: count, window, kernel, bias }) => {
                let geometry = self.geometry(index, window);
                self.with_gradient(kernel, |trainer, dw| {
                    let x = &trainer.values[input];
                    match count {
                        _ if is_depthwise => depthwise::backward_kernel(&geometry, x, &dy, dw),
                        1 => conv::backward_kernel(&geometry, x, &dy, dw),
                        count => groups::backward_kernel(&geometry, count, x, &dy, dw),
                    }
                });
                if let Some(bias) = bias {
                    self.with_gradient(bias, |_, db| conv::backward_bias(&dy, db));
                }
                if is_wanted {
                    dx = self.buffer(size);
                    let kernel = &self.parameters[kernel].values;
                    match count {
                        _ if is_depthwise => {
                            depthwise::backward_input(&geometry, &dy, kernel, &mut dx);
                        }
                        1 => conv::backward_input(&geometry, &dy, kernel, &mut dx),
                        count => groups::backward_input(&geometry, count, &dy, kernel, &mut dx),
                    }
                }
            }
            Work::Norm(_) => {
                self.backward_norm(index, &mut dy);
                dx = std::mem::take(&mut dy);
            }
            &Work::Clamp { low, high } => {
                norm::backward_clamp(&self.values[index], [low, high], &mut dy);
                dx = std::mem::take(&mut dy);
            }
            &Work::Activation(activation) => {
                let (x, y) = (&self.values[input], &self.values[index]);
                gradient_all(activation, channels, x, y, &mut dy);
                dx = std::mem::take(&mut dy);
            }
            &Work::Dense(Dense { kernel, bias, outputs, product }) => {
                let (batch, count) = (size / channels, channels);
                match product {
                    Some(product) if self.parameters[kernel].trains => {
                        self.settle(kernel);
                        let dy = product.packed(&dy);
                        self.parameters[kernel].pending = Some(Pending { product, input, dy });
                    }
                    _ => self.with_stale(kernel, |trainer, dw, is_stale| {
                        let x = Matrix::new(&trainer.values[input], batch, count).transposed();
                        multiply(dw, x, Matrix::new(&dy, batch, outputs), !is_stale, true);
                    }),
                }
                if let Some(bias) = bias {
                    self.with_gradient(bias, |_, db| conv::backward_bias(&dy, db));
                }
                if is_wanted {
                    dx = self.buffer(size);
                    let kernel = Matrix::new(&self.parameters[kernel].values, count, outputs);
                    let dy = Matrix::new(&dy, batch, outputs);
                    multiply(&mut dx, dy, kernel.transposed(), false, true);
                }
            }
            Work::MaxPool(_) | Work::GlobalMax => {
                let geometry = match self.nodes[index].work {
                    Work::MaxPool(window) => self.geometry(index, window),
                    _ => self.whole(index),
                };
                dx = self.buffer(size);
                if let Kept::Positions(positions) = &self.kept[index] {
                    pool::maximum_backward(&geometry, &dy, positions, &mut dx);
                }
            }
            &Work::AvgPool { window, counts_padding } => {
                dx = self.buffer(size);
                let geometry = self.geometry(index, window);
                pool::average_backward(&geometry, counts_padding, &dy, &mut dx);
            }
            Work::GlobalAvg => {
                dx = self.buffer(size);
                layers::global_average_backward(&dy, channels, height * width, &mut dx);
            }
            Work::Flatten => dx = std::mem::take(&mut dy),
            Work::Scale(scales) => {
                for pixel in dy.chunks_exact_mut(channels) {
                    pixel.iter_mut().zip(scales).for_each(|(dy, [scale, _])| *dy *= scale);
                }
                dx = std::mem::take(&mut dy);
            }
            Work::Dropout(_) | Work::SharedDropout { .. } | Work::Noise(_) => {
                if let Kept::Mask(mask) = &self.kept[index] {
                    dy.iter_mut().zip(mask).for_each(|(dy, mask)| *dy *= mask);
                }
                dx = std::mem::take(&mut dy);
            }
            Work::Plain(plain) => {
                let shapes = [[height, width, channels], map(self.nodes[index].shape)];
                // A buffer of its own: `plain` is borrowed of the trainer.
                let mut gradients = vec![0.0; size];
                let values = [self.values[input].as_slice(), &self.values[index], &dy];
                plain::backward(plain, values, shapes, &mut gradients);
                dx = gradients;
            }
            &Work::Stretch(Stretch { scale, shift, sizes }) => {
                let sizes = Sizes { image: [height, width, channels], numbers: sizes };
                if let Some(shift) = shift {
                    self.with_gradient(shift, |trainer, to| {
                        sizes.sum(&trainer.values[input], &dy, to, |_, dy| dy);
                    });
                }
                if let Some(scale) = scale {
                    self.with_gradient(scale, |trainer, to| {
                        sizes.sum(&trainer.values[input], &dy, to, |x, dy| x * dy);
                    });
                    let scale = &self.parameters[scale].values;
                    sizes.change(scale, &mut dy, |dy, scale| dy * scale);
                }
                dx = std::mem::take(&mut dy);
            }
            &Work::Prelu(alpha, sizes) => {
                let sizes = Sizes { image: [height, width, channels], numbers: sizes };
                self.with_gradient(alpha, |trainer, to| {
                    sizes.sum(&trainer.values[input], &dy, to, |x, dy| x.min(0.0) * dy);
                });
                dx = self.buffer(size);
                let x = &self.values[input];
                sizes.map(&self.parameters[alpha].values, x, &mut dx, |x, alpha| {
                    if x < 0.0 { alpha } else { 1.0 }
                });
                dx.iter_mut().zip(&dy).for_each(|(dx, dy)| *dx *= dy);
            }
            &Work::Pad { before } => {
                let (inner, outer) = ([height, width, channels], map(self.nodes[index].shape));
                dx = self.buffer(size);
                let images = dx.par_chunks_mut(inner.iter().product());
                images.zip(dy.par_chunks(outer.iter().product())).for_each(|(dx, dy)| {
                    for (here, there) in layers::inner_rows(inner, outer, before) {
                        dx[here].copy_from_slice(&dy[there]);
                    }
                });
            }
            &Work::Merge(kind) => {
                let shape = map(self.nodes[index].shape);
                let parts: Vec<Vec<f32>> = {
                    let operands: Vec<merge::Operand<'_>> = inputs
                        .iter()
                        .map(|&input| (map(self.nodes[input].shape), self.values[input].as_slice()))
                        .collect();
                    let y = &self.values[index];
                    (0..inputs.len())
                        .map(|number| merge::backward(kind, &operands, number, shape, y, &dy))
                        .collect()
                };
                for (&input, part) in inputs.iter().zip(parts) {
                    self.accumulate(input, part, gradients);
                }
                self.free.push(dy);
                return;
            }
            Work::Concat => {
                let [_, _, total] = map(self.nodes[index].shape);
                let mut first = 0;
                for &input in &inputs {
                    let [_, _, count] = map(self.nodes[input].shape);
                    let mut part = self.buffer(self.values[input].len());
                    layers::copy_channels(&dy[first..], total, &mut part, count, count);
                    self.accumulate(input, part, gradients);
                    first += count;
                }
                self.free.push(dy);
                return;
            }
            Work::Input | Work::Fused => unreachable!("no gradient reaches them"),
        }
        if dy.capacity() > 0 {
            self.free.push(dy);
        }
        self.accumulate(input, dx, gradients);
    }

    /// The gradients of a normalization's parameters; `dy` becomes its input's.
    fn backward_norm(&mut self, index: usize, dy: &mut [f32]) {
        let Work::Norm(Norm { gamma, beta, low, high, .. }) = self.nodes[index].work else {
            unreachable!("called for normalizations only")
        };
        let input = self.nodes[index].inputs[0];
        let Kept::Moments { mean, inverse, is_batch } = std::mem::take(&mut self.kept[index])
        else {
            unreachable!("the forward pass keeps them")
        };
        let moments = [mean.as_slice(), inverse.as_slice()];
        let range = [low, high];
        let sums =
            norm::backward_sums(&self.values[input], &self.values[index], moments, range, dy);
        let scale: Vec<f32> = match gamma {
            Some(gamma) => {
                let gamma = &self.parameters[gamma].values;
                inverse.iter().zip(gamma).map(|(inverse, gamma)| inverse * gamma).collect()
            }
            None => inverse.clone(),
        };
        let add = |to: &mut [f32], sum: &[f32]| {
            to.iter_mut().zip(sum).for_each(|(to, sum)| *to += sum);
        };
        if let Some(gamma) = gamma {
            self.with_gradient(gamma, |_, to| add(to, &sums.weighted));
        }
        if let Some(beta) = beta {
            self.with_gradient(beta, |_, to| add(to, &sums.plain));
        }
        if self.nodes[input].wanted {
            if is_batch {
                norm::backward_batch(&self.values[input], moments, &scale, &sums, dy);
            } else {
                norm::backward_fixed(&scale, dy);
            }
        }
    }

    /// Adds to a parameter's gradient, if it has one.
    fn with_gradient(&mut self, parameter: usize, add: impl FnOnce(&Self, &mut [f32])) {
        let own = &mut self.parameters[parameter];
        if own.trains && std::mem::take(&mut own.stale) {
            own.gradient.clear();
            own.gradient.resize(own.values.len(), 0.0);
        }
        self.with_stale(parameter, |trainer, gradient, _| add(trainer, gradient));
    }

    /// The same for what can also put values in the place of those of an earlier step, if the last argument says so: a
    /// large kernel's take as long to clear as to compute.
    fn with_stale(&mut self, parameter: usize, add: impl FnOnce(&Self, &mut [f32], bool)) {
        let own = &mut self.parameters[parameter];
        if !own.trains {
            return;
        }
        let mut gradient = std::mem::take(&mut own.gradient);
        gradient.resize(own.values.len(), 0.0);
        let is_stale = std::mem::take(&mut own.stale);
        add(self, &mut gradient, is_stale);
        self.parameters[parameter].gradient = gradient;
    }

    /// Adds to the gradient of a node's value.
    fn accumulate(&mut self, node: usize, part: Vec<f32>, gradients: &mut [Option<Vec<f32>>]) {
        if !self.nodes[node].wanted {
            self.free.push(part);
            return;
        }
        match &mut gradients[node] {
            Some(sum) => {
                sum.par_chunks_mut(1 << 15).zip(part.par_chunks(1 << 15)).for_each(
                    |(sum, part)| {
                        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                    },
                );
                self.free.push(part);
            }
            none => *none = Some(part),
        }
    }

    /// A buffer of this length with any values.
    fn buffer(&mut self, length: usize) -> Vec<f32> {
        // The smallest that is large enough, or else the largest.
        let fits = |buffer: &Vec<f32>| (buffer.capacity() < length, buffer.capacity());
        let best = (0..self.free.len()).min_by_key(|&index| {
            let (small, capacity) = fits(&self.free[index]);
            (small, if small { usize::MAX - capacity } else { capacity })
        });
        let mut buffer = best.map(|index| self.free.swap_remove(index)).unwrap_or_default();
        buffer.resize(length, 0.0);
        buffer
    }
}
