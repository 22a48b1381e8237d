//! Networks as plain loops in f64.

use std::hash::{DefaultHasher, Hash, Hasher};

use burn::backend::Flex;
use burn::module::Param;
use burn::tensor::Tensor;
use rekindle_nn::layers::Padding;
use rekindle_nn::{Interpreter, NetworkError, Op, Shape};

use crate::lower::host;

/// Plain loops in f64: `[height][width][channels]`.
pub(super) struct Reference {
    noise: Noise,
    layers: usize,
}

impl Reference {
    pub(super) fn with_noise(noise: Noise) -> Self {
        Self { noise, layers: 0 }
    }
}

/// The operand that weights are; maps are those from 0 on.
const WEIGHTS: usize = usize::MAX;

/// What rounding may do to the operands of each layer, drawn by a seed: none by default.
#[derive(Clone, Copy, Default)]
pub(super) struct Noise {
    /// The most that an operand is off, relative to it.
    pub unit: f64,
    pub seed: u64,
}

impl Noise {
    /// Even seeds move a channel's values alike, as rounding does where they are one number.
    fn add(self, layer: usize, operand: usize, values: &mut [f64], channels: usize) {
        if self.unit == 0.0 {
            return;
        }
        for (index, value) in values.iter_mut().enumerate() {
            let drawn = if self.seed.is_multiple_of(2) { index % channels } else { index };
            let mut hasher = DefaultHasher::new();
            (self.seed, layer, operand, drawn).hash(&mut hasher);
            let chance = hasher.finish() as f64 / u64::MAX as f64;
            *value *= 1.0 + self.unit * (2.0 * chance - 1.0);
        }
    }
}

#[derive(Clone)]
pub(super) struct Map {
    pub shape: Shape,
    pub values: Vec<f64>,
}

impl Map {
    /// Zero outside.
    fn at(&self, y: isize, x: isize, channel: usize) -> Option<f64> {
        let Shape::Map { height, width, channels } = self.shape else { return None };
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < height && x < width).then(|| self.values[(y * width + x) * channels + channel])
    }

    fn each(self, f: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.into_iter().map(f).collect(), ..self }
    }
}

/// The value that a tap of a window has in a channel; nothing outside of the image.
type Tap<'a> = dyn Fn(usize, usize, usize) -> Option<f64> + 'a;

impl Interpreter<Flex> for Reference {
    type Value = Map;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, Flex>,
        mut inputs: Vec<Map>,
    ) -> Result<Map, NetworkError> {
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape).collect();
        let shape = op.output_shape(name, &shapes)?;
        self.layers += 1;
        for (operand, input) in inputs.iter_mut().enumerate() {
            let (Shape::Map { channels, .. } | Shape::Flat(channels)) = input.shape;
            self.noise.add(self.layers, operand, &mut input.values, channels);
        }
        let with_noise = |weights: Vec<f32>| {
            let mut weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let count = weights.len();
            self.noise.add(self.layers, WEIGHTS, &mut weights, count);
            weights
        };
        let input = inputs.remove(0);
        // Every output of a window: the values under it, by tap.
        let windows = |stride: [usize; 2],
                       before: [usize; 2],
                       f: &dyn Fn(usize, &Tap<'_>) -> f64| {
            let Shape::Map { height, width, channels } = shape else { unreachable!("maps only") };
            let mut values = Vec::new();
            for y in 0..height {
                for x in 0..width {
                    for channel in 0..channels {
                        let tap = |ky: usize, kx: usize, from: usize| {
                            let y = (y * stride[0] + ky) as isize - before[0] as isize;
                            let x = (x * stride[1] + kx) as isize - before[1] as isize;
                            input.at(y, x, from)
                        };
                        values.push(f(channel, &tap));
                    }
                }
            }
            Map { shape, values }
        };
        let before = |padding: Padding, kernel: [usize; 2], stride: [usize; 2]| {
            let Shape::Map { height, width, .. } = shapes[0] else { return [0, 0] };
            [
                padding.amount(height, kernel[0], stride[0])[0],
                padding.amount(width, kernel[1], stride[1])[0],
            ]
        };
        Ok(match op {
            Op::Conv2d(conv) => {
                // [tap][in][out], as Keras has it.
                let weights = with_noise(op.variables()[0].from_burn(host(conv.weight.val())));
                let bias = conv.bias.as_ref().map(|bias| host(bias.val()));
                let ([ins, outs], kernel) = (conv.channels, conv.kernel);
                windows(conv.stride, before(conv.padding, kernel, conv.stride), &|out, tap| {
                    let mut sum = bias.as_ref().map_or(0.0, |bias| f64::from(bias[out]));
                    for ky in 0..kernel[0] {
                        for kx in 0..kernel[1] {
                            let at = ky * kernel[1] + kx;
                            if conv.depthwise {
                                sum += tap(ky, kx, out).unwrap_or(0.0) * weights[at * outs + out];
                                continue;
                            }
                            for from in 0..ins {
                                let weight = weights[(at * ins + from) * outs + out];
                                sum += tap(ky, kx, from).unwrap_or(0.0) * weight;
                            }
                        }
                    }
                    sum
                })
            }
            Op::MaxPool(pool) => windows(
                pool.stride,
                before(pool.padding, pool.kernel, pool.stride),
                &|channel, tap| {
                    let taps = (0..pool.kernel[0])
                        .flat_map(|ky| (0..pool.kernel[1]).map(move |kx| (ky, kx)));
                    taps.filter_map(|(ky, kx)| tap(ky, kx, channel))
                        .fold(f64::NEG_INFINITY, f64::max)
                },
            ),
            Op::AvgPool(pool) => windows(
                pool.stride,
                before(pool.padding, pool.kernel, pool.stride),
                &|channel, tap| {
                    let taps = (0..pool.kernel[0])
                        .flat_map(|ky| (0..pool.kernel[1]).map(move |kx| (ky, kx)));
                    let seen: Vec<f64> = taps.filter_map(|(ky, kx)| tap(ky, kx, channel)).collect();
                    seen.iter().sum::<f64>() / seen.len() as f64
                },
            ),
            Op::CorrectPad { kernel } => {
                let Shape::Map { height, width, .. } = shapes[0] else { unreachable!("maps only") };
                let [above, left] =
                    [height, width].map(|size| rekindle_nn::correct_pad(size, kernel)[0]);
                windows([1, 1], [above, left], &|channel, tap| tap(0, 0, channel).unwrap_or(0.0))
            }
            Op::BatchNorm(norm) => {
                let of = |values: &Param<Tensor<Flex, 1>>| host(values.val());
                let gamma = norm.gamma.as_ref().map(of).unwrap_or_default();
                let (beta, mean, variance) =
                    (of(&norm.beta), of(&norm.moving_mean), of(&norm.moving_variance));
                let values = input.values.iter().enumerate().map(|(index, value)| {
                    let c = index % norm.channels;
                    let scale =
                        f64::from(gamma[c]) / (f64::from(variance[c]) + norm.epsilon).sqrt();
                    (value - f64::from(mean[c])) * scale + f64::from(beta[c])
                });
                Map { shape, values: values.collect() }
            }
            Op::Relu => input.each(|x| x.max(0.0)),
            Op::Relu6 => input.each(|x| x.clamp(0.0, 6.0)),
            Op::Rescale { scale, offset } => input.each(|x| x * scale + offset),
            Op::Add => {
                let sums = input.values.iter().zip(&inputs[0].values).map(|(a, b)| a + b);
                Map { shape, values: sums.collect() }
            }
            Op::Concat => {
                let all: Vec<Map> = std::iter::once(input).chain(inputs).collect();
                let widths: Vec<usize> = all
                    .iter()
                    .map(|map| match map.shape {
                        Shape::Map { channels, .. } | Shape::Flat(channels) => channels,
                    })
                    .collect();
                let pixels = all[0].values.len() / widths[0];
                let pixel = |pixel: usize| {
                    all.iter().zip(&widths).flat_map(move |(map, &width)| {
                        map.values[pixel * width..][..width].iter().copied()
                    })
                };
                Map { shape, values: (0..pixels).flat_map(pixel).collect() }
            }
            Op::GlobalAvgPool | Op::GlobalMaxPool => {
                let channels = shape.count();
                let of =
                    |channel: usize| input.values.iter().skip(channel).step_by(channels).copied();
                let is_max = matches!(op, Op::GlobalMaxPool);
                let one = |channel| match is_max {
                    true => of(channel).fold(f64::NEG_INFINITY, f64::max),
                    false => of(channel).sum::<f64>() / (input.values.len() / channels) as f64,
                };
                Map { shape, values: (0..channels).map(one).collect() }
            }
            Op::Flatten => Map { shape, ..input },
            Op::Dense(dense) => {
                let (weights, bias) =
                    (with_noise(host(dense.weight.val())), host(dense.bias.val()));
                let one = |out: usize| {
                    let products = input
                        .values
                        .iter()
                        .enumerate()
                        .map(|(from, x)| x * weights[from * dense.outputs + out]);
                    products.sum::<f64>() + f64::from(bias[out])
                };
                let logits: Vec<f64> = (0..dense.outputs).map(one).collect();
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
                let total: f64 = powers.iter().sum();
                Map { shape, values: powers.into_iter().map(|power| power / total).collect() }
            }
            Op::Dropout(_) => input,
        })
    }
}
