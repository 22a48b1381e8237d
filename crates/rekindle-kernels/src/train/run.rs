//! A batch through a trainer: forward, and the gradients back.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::TensorData;
use rayon::prelude::*;
use rekindle_nn::DropoutMasks;
use rekindle_nn::layers::Activation;

use super::conv::{self, Geometry};
use super::matmul::{Matrix, multiply};
use super::{
    Conv, Dense, Kept, Norm, Parameter, Pass, Rule, Trainer, Window, Work, depthwise, layers, map,
    norm, pool,
};
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
            Pass::Training { seed, step } => Some(DropoutMasks::new(seed, step)),
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
                    let drawn = masks.next(rate, out.len());
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

    fn geometry(&self, index: usize, window: Window) -> Geometry {
        let node = &self.nodes[index];
        let input = map(self.nodes[node.inputs[0]].shape);
        Geometry { window, input, output: map(node.shape) }
    }

    /// One window over the whole map.
    fn whole(&self, index: usize) -> Geometry {
        let [height, width, channels] = map(self.nodes[self.nodes[index].inputs[0]].shape);
        let window = Window { kernel: [height, width], stride: [1, 1], before: [0, 0] };
        Geometry { window, input: [height, width, channels], output: [1, 1, channels] }
    }

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
            &Work::Conv(Conv { depthwise: is_depthwise, window, kernel, bias }) => {
                let geometry = self.geometry(index, window);
                self.with_gradient(kernel, |trainer, dw| {
                    let run = if is_depthwise {
                        depthwise::backward_kernel
                    } else {
                        conv::backward_kernel
                    };
                    run(&geometry, &trainer.values[input], &dy, dw);
                });
                if let Some(bias) = bias {
                    self.with_gradient(bias, |_, db| conv::backward_bias(&dy, db));
                }
                if is_wanted {
                    dx = self.buffer(size);
                    let run =
                        if is_depthwise { depthwise::backward_input } else { conv::backward_input };
                    run(&geometry, &dy, &self.parameters[kernel].values, &mut dx);
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
            &Work::Dense(Dense { kernel, bias, activation }) => {
                let outputs = self.parameters[bias].values.len();
                activate_backward(activation, &self.values[index], outputs, &mut dy);
                let (batch, count) = (self.batch, size / self.batch);
                self.with_gradient(kernel, |trainer, dw| {
                    let x = Matrix::new(&trainer.values[input], batch, count).transposed();
                    multiply(dw, x, Matrix::new(&dy, batch, outputs), true, true);
                });
                self.with_gradient(bias, |_, db| conv::backward_bias(&dy, db));
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
            &Work::AvgPool(window) => {
                dx = self.buffer(size);
                pool::average_backward(&self.geometry(index, window), &dy, &mut dx);
            }
            Work::GlobalAvg => {
                dx = self.buffer(size);
                layers::global_average_backward(&dy, channels, height * width, &mut dx);
            }
            Work::Flatten => dx = std::mem::take(&mut dy),
            &Work::Scale { scale, .. } => {
                dy.iter_mut().for_each(|dy| *dy *= scale);
                dx = std::mem::take(&mut dy);
            }
            Work::Dropout(_) => {
                if let Kept::Mask(mask) = &self.kept[index] {
                    dy.iter_mut().zip(mask).for_each(|(dy, mask)| *dy *= mask);
                }
                dx = std::mem::take(&mut dy);
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
            Work::Add => {
                let mut other = self.buffer(dy.len());
                other.copy_from_slice(&dy);
                self.accumulate(inputs[1], other, gradients);
                dx = std::mem::take(&mut dy);
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
        self.with_gradient(beta, |_, to| add(to, &sums.plain));
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
        let mut gradient = std::mem::take(&mut self.parameters[parameter].gradient);
        if !gradient.is_empty() {
            add(self, &mut gradient);
        }
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

    /// The parameters, in the order of the layers.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Forgets the gradients.
    pub fn clear(&mut self) {
        for parameter in &mut self.parameters {
            parameter.gradient.fill(0.0);
        }
    }

    /// Updates one parameter by its gradient times `scale`; see [`Rule::update`].
    pub fn update(
        &mut self,
        parameter: usize,
        rule: &Rule,
        time: u64,
        rate: f64,
        scale: f32,
        slots: &mut [Vec<f32>],
    ) {
        let Parameter { spec, values, gradient, changed, .. } = &mut self.parameters[parameter];
        *changed = true;
        rule.update(time, rate, scale, spec.name == "kernel", values, gradient, slots);
    }

    /// Adds `scale` times the gradient of `factor * sum(value * value)` to a parameter's gradient, and gives that sum.
    pub fn add_l2(&mut self, parameter: usize, factor: f64, scale: f32) -> f64 {
        let Parameter { values, gradient, .. } = &mut self.parameters[parameter];
        let slope = 2.0 * factor as f32 * scale;
        gradient.iter_mut().zip(values.iter()).for_each(|(to, value)| *to += slope * value);
        values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() * factor
    }

    /// The length of all gradients together.
    #[must_use]
    pub fn gradient_norm(&self) -> f64 {
        let squares = |parameter: &Parameter| -> f64 {
            let pieces = parameter.gradient.par_chunks(1 << 14);
            let sums = pieces.map(|piece| piece.iter().map(|&g| f64::from(g).powi(2)).sum());
            // Collected first, so that the sum has one order.
            sums.collect::<Vec<f64>>().iter().sum()
        };
        self.parameters.iter().map(squares).sum::<f64>().sqrt()
    }

    /// Puts other values, in Keras's layout, in the place of a parameter's.
    ///
    /// # Errors
    /// When there are more or fewer than the parameter has.
    pub fn set(&mut self, parameter: usize, values: Vec<f32>) -> Result<(), PlanError> {
        let own = &mut self.parameters[parameter];
        if own.values.len() != values.len() {
            return Err(PlanError::Input { expected: own.values.len(), found: values.len() });
        }
        own.values = values;
        own.changed = true;
        Ok(())
    }

    /// Every parameter that changed, in Burn's layout, for `rekindle_nn::assign`.
    #[must_use]
    pub fn changed(&self) -> HashMap<ParamId, TensorData> {
        let changed = self.parameters.iter().filter(|parameter| parameter.changed);
        changed.map(|p| (p.spec.id, p.spec.to_burn(p.values.clone()))).collect()
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

/// The gradient before the activation, in place of the one behind it.
fn activate_backward(activation: Activation, y: &[f32], outputs: usize, dy: &mut [f32]) {
    match activation {
        Activation::Linear => {}
        Activation::Relu => norm::backward_clamp(y, [0.0, f32::INFINITY], dy),
        Activation::Relu6 => norm::backward_clamp(y, [0.0, 6.0], dy),
        Activation::Sigmoid => {
            dy.iter_mut().zip(y).for_each(|(dy, y)| *dy *= y * (1.0 - y));
        }
        Activation::Softmax => {
            for (y, dy) in y.chunks_exact(outputs).zip(dy.chunks_exact_mut(outputs)) {
                let inner: f32 = y.iter().zip(dy.iter()).map(|(y, dy)| y * dy).sum();
                dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = y * (*dy - inner));
            }
        }
    }
}
