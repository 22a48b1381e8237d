//! Networks as plain loops in f64.

use std::hash::{DefaultHasher, Hash, Hasher};

use burn::backend::Flex;
use rekindle_nn::ops::{MergeKind, PoolKind};
use rekindle_nn::{Activation, Interpreter, LayerView, NetworkError, Op, SELU, Shape, Window};

/// Plain loops in f64: `[height][width][channels]`.
pub(super) struct Reference {
    noise: Noise,
    layers: usize,
    /// How near any value came to where its activation jumps, relative to its layer's greatest.
    pub nearest_jump: f64,
}

impl Reference {
    pub(super) fn with_noise(noise: Noise) -> Self {
        Self { noise, layers: 0, nearest_jump: f64::INFINITY }
    }

    fn activate(&mut self, mut map: Map, activation: Activation) -> Map {
        let most = map.values.iter().fold(1e-6, |most: f64, value| most.max(value.abs()));
        for jump in jumps(activation) {
            for value in &map.values {
                self.nearest_jump = self.nearest_jump.min((value - jump).abs() / most);
            }
        }
        for pixel in map.values.chunks_mut(map.shape.channels()) {
            activate(activation, pixel);
        }
        map
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
    /// Height, width and channels.
    fn sizes(&self) -> [usize; 3] {
        self.shape.as_map().unwrap_or([1, 1, self.shape.count()])
    }

    /// Zero outside.
    fn at(&self, y: isize, x: isize, channel: usize) -> Option<f64> {
        let [height, width, channels] = self.sizes();
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < height && x < width).then(|| self.values[(y * width + x) * channels + channel])
    }
}

fn activate(activation: Activation, pixel: &mut [f64]) {
    if activation == Activation::Softmax {
        let most = pixel.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = pixel.iter().map(|value| (value - most).exp()).sum();
        pixel.iter_mut().for_each(|value| *value = (*value - most).exp() / total);
        return;
    }
    pixel.iter_mut().for_each(|value| *value = function(activation, *value));
}

/// Where an activation is not continuous: beside it, rounding decides the output.
fn jumps(activation: Activation) -> Vec<f64> {
    match activation {
        Activation::ReluOf { threshold, .. } if threshold != 0.0 => vec![threshold],
        Activation::HardShrink(size) => vec![-size, size],
        Activation::Threshold { threshold, value } if threshold != value => vec![threshold],
        _ => Vec::new(),
    }
}

/// As Keras's documentation defines them.
pub(crate) fn function(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Clip { low, high } => x.clamp(low, high),
        Activation::ReluOf { max_value, negative_slope, threshold } => {
            let above = if x > threshold { x } else { 0.0 };
            let above = max_value.map_or(above, |high| above.clamp(0.0, high));
            above - negative_slope * (threshold - x).max(0.0)
        }
        Activation::LeakyRelu(slope) => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Activation::Elu(alpha) => {
            if x < 0.0 {
                alpha * x.exp_m1()
            } else {
                x
            }
        }
        Activation::Selu => SELU.0 * if x < 0.0 { SELU.1 * x.exp_m1() } else { x },
        Activation::Celu(alpha) => {
            if x < 0.0 {
                alpha * (x / alpha).exp_m1()
            } else {
                x
            }
        }
        Activation::Gelu => x * normal(x),
        Activation::GeluApproximate => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::Silu => x * sigmoid(x),
        Activation::HardSilu => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoidOf { slope, offset } => (slope * x + offset).clamp(0.0, 1.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::LogSigmoid => -softplus(-x),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => softplus(x),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Exponential => x.exp(),
        Activation::Mish => x * softplus(x).tanh(),
        Activation::TanhShrink => x - x.tanh(),
        Activation::SoftShrink(size) => x - x.clamp(-size, size),
        Activation::HardShrink(size) => {
            if x.abs() > size {
                x
            } else {
                0.0
            }
        }
        Activation::Squareplus(b) => 0.5 * (x + (x * x + b).sqrt()),
        Activation::SparsePlus => {
            if x <= -1.0 {
                0.0
            } else if x < 1.0 {
                (x + 1.0).powi(2) / 4.0
            } else {
                x
            }
        }
        Activation::Threshold { threshold, value } => {
            if x > threshold {
                x
            } else {
                value
            }
        }
        Activation::Softmax | Activation::LogSoftmax => unreachable!("not of single values"),
    }
}

/// The normal distribution up to x, by Simpson's rule.
fn normal(x: f64) -> f64 {
    const STEPS: usize = 2000;
    let step = x / STEPS as f64;
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let weight = |i: usize| match i {
        0 | STEPS => 1.0,
        odd if odd % 2 == 1 => 4.0,
        _ => 2.0,
    };
    0.5 + step / 3.0 * (0..=STEPS).map(|i| weight(i) * density(step * i as f64)).sum::<f64>()
}

/// The value that a tap of a window has in a channel; nothing outside of the image.
type Tap<'a> = dyn Fn(usize, usize, usize) -> Option<f64> + 'a;

/// Every output of a window: what `f` makes of a channel's number and the values under the window.
fn windows(input: &Map, shape: Shape, window: &Window, f: &dyn Fn(usize, &Tap<'_>) -> f64) -> Map {
    let Shape::Map { height, width, channels } = shape else { unreachable!("maps only") };
    let [rows, columns, _] = input.sizes();
    let edges = window.edges(rows, columns);
    let mut values = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                let tap = |ky: usize, kx: usize, from: usize| {
                    let at = |axis: usize, output: usize, tap: usize| {
                        let place = output * window.stride[axis] + tap * window.dilation[axis];
                        place as isize - edges[axis][0] as isize
                    };
                    input.at(at(0, y, ky), at(1, x, kx), from)
                };
                values.push(f(channel, &tap));
            }
        }
    }
    Map { shape, values }
}

impl Reference {
    /// A layer's variable, with rounding.
    fn weights(&self, layer: &LayerView<'_, Flex>, name: &str) -> Vec<f64> {
        let values = layer.host(name).expect("listed");
        let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let count = values.len();
        self.noise.add(self.layers, WEIGHTS, &mut values, count);
        values
    }

    /// A convolution in groups; the kernel is `[tap][in / groups][out]`.
    fn conv(
        &self,
        layer: &LayerView<'_, Flex>,
        input: &Map,
        window: &Window,
        groups: usize,
    ) -> Map {
        let weights = self.weights(layer, "kernel");
        let bias = layer.host("bias");
        let (ins, outs) = (input.shape.channels() / groups, layer.shape.channels());
        let per_group = outs / groups;
        windows(input, layer.shape, window, &|out, tap| {
            let mut sum = bias.as_ref().map_or(0.0, |bias| f64::from(bias[out]));
            for ky in 0..window.kernel[0] {
                for kx in 0..window.kernel[1] {
                    let at = ky * window.kernel[1] + kx;
                    for from in 0..ins {
                        let channel = out / per_group * ins + from;
                        let weight = weights[(at * ins + from) * outs + out];
                        sum += tap(ky, kx, channel).unwrap_or(0.0) * weight;
                    }
                }
            }
            sum
        })
    }
}

/// Element by element, sizes of 1 stretched.
fn merged(kind: MergeKind, inputs: &[Map], shape: Shape) -> Vec<f64> {
    let [height, width, channels] = shape.as_map().unwrap_or([1, 1, shape.count()]);
    let mut values = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..channels {
                let each = inputs.iter().map(|input| {
                    let [rows, columns, depth] = input.sizes();
                    let one = |size: usize, at: usize| if size == 1 { 0 } else { at };
                    let (y, x, c) = (one(rows, y), one(columns, x), one(depth, c));
                    input.values[(y * columns + x) * depth + c]
                });
                let count = inputs.len() as f64;
                values.push(match kind {
                    MergeKind::Add => each.sum(),
                    MergeKind::Average => each.sum::<f64>() / count,
                    MergeKind::Multiply => each.product(),
                    MergeKind::Subtract => each.reduce(|a, b| a - b).expect("two"),
                    MergeKind::Maximum => each.fold(f64::NEG_INFINITY, f64::max),
                    MergeKind::Minimum => each.fold(f64::INFINITY, f64::min),
                });
            }
        }
    }
    values
}

impl Interpreter<Flex> for Reference {
    type Value = Map;

    fn layer(
        &mut self,
        layer: LayerView<'_, Flex>,
        mut inputs: Vec<Map>,
    ) -> Result<Map, NetworkError> {
        let shape = layer.shape;
        self.layers += 1;
        for (operand, input) in inputs.iter_mut().enumerate() {
            let channels = input.shape.channels();
            self.noise.add(self.layers, operand, &mut input.values, channels);
        }
        let input = inputs[0].clone();
        let values = match layer.op {
            Op::Conv2d(conv) => {
                let map = self.conv(&layer, &input, &conv.window, conv.groups);
                return Ok(self.activate(map, conv.activation));
            }
            Op::DepthwiseConv2d(conv) => {
                let map = self.conv(&layer, &input, &conv.window, input.shape.channels());
                return Ok(self.activate(map, conv.activation));
            }
            Op::Pool2d(pool) => {
                let kernel = pool.window.kernel;
                return Ok(windows(&input, shape, &pool.window, &|channel, tap| {
                    let taps = (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx)));
                    let seen: Vec<f64> = taps.filter_map(|(ky, kx)| tap(ky, kx, channel)).collect();
                    match pool.kind {
                        PoolKind::Max => seen.iter().copied().fold(f64::from(f32::MIN), f64::max),
                        PoolKind::Average => {
                            let all = kernel[0] * kernel[1];
                            let count = if pool.counts_padding { all } else { seen.len() };
                            seen.iter().sum::<f64>() / count as f64
                        }
                    }
                }));
            }
            Op::ZeroPadding2d(pad) => {
                let [rows, columns, channels] = input.sizes();
                let [[above, below], [left, right]] = pad.padding;
                let mut values = Vec::new();
                for y in 0..above + rows + below {
                    for x in 0..left + columns + right {
                        let (y, x) = (y as isize - above as isize, x as isize - left as isize);
                        values.extend((0..channels).map(|c| input.at(y, x, c).unwrap_or(0.0)));
                    }
                }
                values
            }
            Op::BatchNorm(norm) => {
                let of = |name: &str| layer.host(name);
                let (gamma, beta) = (of("gamma"), of("beta"));
                let (mean, variance) =
                    (of("moving_mean").expect("listed"), of("moving_variance").expect("listed"));
                let each = input.values.iter().enumerate().map(|(index, value)| {
                    let c = index % mean.len();
                    let or = |values: &Option<Vec<f32>>, other: f64| {
                        values.as_ref().map_or(other, |values| f64::from(values[c]))
                    };
                    let scale = or(&gamma, 1.0) / (f64::from(variance[c]) + norm.epsilon).sqrt();
                    (value - f64::from(mean[c])) * scale + or(&beta, 0.0)
                });
                each.collect()
            }
            Op::Activation(activation) => return Ok(self.activate(input, activation.function)),
            Op::Rescaling(rescaling) => {
                let by_channel = rescaling.by_channel(shape.channels());
                let each = input.values.iter().enumerate().map(|(index, x)| {
                    let (scale, offset) = by_channel[index % by_channel.len()];
                    x * scale + offset
                });
                each.collect()
            }
            Op::Merge(merge) => merged(merge.kind, &inputs, shape),
            Op::ScaledAdd(sum) => {
                inputs[1].values.iter_mut().for_each(|value| *value *= sum.scale);
                merged(MergeKind::Add, &inputs, shape)
            }
            Op::Concatenate(_) => {
                let pixels = input.values.len() / input.shape.channels();
                let pixel = |pixel: usize| {
                    inputs.iter().flat_map(move |map| {
                        let width = map.shape.channels();
                        map.values[pixel * width..][..width].iter().copied()
                    })
                };
                (0..pixels).flat_map(pixel).collect()
            }
            Op::GlobalPool(pool) => {
                let channels = shape.channels();
                let of =
                    |channel: usize| input.values.iter().skip(channel).step_by(channels).copied();
                let one = |channel| match pool.kind {
                    PoolKind::Max => of(channel).fold(f64::NEG_INFINITY, f64::max),
                    PoolKind::Average => {
                        of(channel).sum::<f64>() / (input.values.len() / channels) as f64
                    }
                };
                (0..channels).map(one).collect()
            }
            Op::Flatten(_) | Op::Dropout(_) | Op::Identity(_) => input.values,
            Op::Dense(dense) => {
                let weights = self.weights(&layer, "kernel");
                let bias = layer.host("bias");
                let mut values = Vec::new();
                for pixel in input.values.chunks(input.shape.channels()) {
                    values.extend((0..dense.units).map(|out| {
                        let products = pixel.iter().enumerate();
                        let products =
                            products.map(|(from, x)| x * weights[from * dense.units + out]);
                        products.sum::<f64>() + bias.as_ref().map_or(0.0, |b| f64::from(b[out]))
                    }));
                }
                return Ok(self.activate(Map { shape, values }, dense.activation));
            }
            other => unreachable!("{} is compared with Burn's", other.class()),
        };
        Ok(Map { shape, values })
    }
}
