//! Plans of networks that chance makes, against plain loops in f64.

use burn::backend::Flex;
use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use rekindle_nn::layers::{Activation, BatchNormConfig, Conv2dConfig, DenseConfig, Padding};
use rekindle_nn::{Interpreter, NetworkError, Op, Pool, Shape};

use crate::lower::{Lower, host};
use crate::plan::compile;
use crate::simd::CHANNEL_BLOCK;
use crate::{Isa, PlanConfig, PlanError, Precision};

/// A part of a network.
#[derive(Debug, Clone)]
enum Part {
    Conv(Conv),
    /// Zeros by the parity of the size, then stride 2 without padding, as MobileNetV2 has it.
    Padded(Conv),
    Pool {
        is_max: bool,
        pool: Pool,
    },
    /// A 1x1 convolution of the input, added to it.
    Shortcut {
        activation: u8,
    },
    /// Convolutions and a pool of the input side by side.
    Branches {
        widths: [usize; 2],
        kernel: [usize; 2],
    },
    /// MobileNetV2's block: widened, depthwise, narrowed, added where it fits.
    Inverted {
        factor: usize,
        out: Option<usize>,
        stride: usize,
    },
    /// A normalization behind no convolution.
    Norm,
    Rescale(f64),
}

#[derive(Debug, Clone)]
struct Conv {
    /// Channels out; nothing for a depthwise one.
    out: Option<usize>,
    kernel: [usize; 2],
    stride: usize,
    padding: Padding,
    has_bias: bool,
    has_norm: bool,
    activation: u8,
}

#[derive(Debug, Clone)]
struct Recipe {
    size: [usize; 2],
    channels: usize,
    parts: Vec<Part>,
    /// Maps, means, maxima, or classes of all values.
    end: u8,
    batch: usize,
}

/// Builds networks by walking them: the same calls for each interpreter.
struct Build<'a, I: Interpreter<Flex>> {
    it: &'a mut I,
    names: usize,
}

impl<I: Interpreter<Flex>> Build<'_, I> {
    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}_{}", self.names)
    }

    fn op(&mut self, op: Op<'_, Flex>, x: I::Value) -> Result<I::Value, NetworkError> {
        let name = self.name("op");
        self.it.layer(&name, op, vec![x])
    }

    fn activate(&mut self, which: u8, x: I::Value) -> Result<I::Value, NetworkError> {
        match which {
            0 => Ok(x),
            1 => self.op(Op::Relu, x),
            _ => self.op(Op::Relu6, x),
        }
    }

    fn norm(&mut self, channels: usize, x: I::Value) -> Result<I::Value, NetworkError> {
        let name = self.name("norm");
        let mut norm = BatchNormConfig::new(&name, channels).init::<Flex>(&Default::default());
        let seed = self.names;
        norm.gamma = Some(values(channels, seed, 0.5, 1.5));
        norm.beta = values(channels, seed + 1, -0.5, 0.5);
        norm.moving_mean = values(channels, seed + 2, -0.5, 0.5);
        norm.moving_variance = values(channels, seed + 3, 0.5, 1.5);
        self.it.batch_norm(&norm, x)
    }

    fn conv(
        &mut self,
        conv: &Conv,
        channels: usize,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        let name = self.name("conv");
        let config = match conv.out {
            Some(out) => Conv2dConfig::new(&name, [channels, out], conv.kernel),
            None => Conv2dConfig::depthwise(&name, channels, conv.kernel),
        };
        let config = config.with_stride(conv.stride).with_padding(conv.padding);
        let mut layer = config.init::<Flex>(&Default::default());
        let out = conv.out.unwrap_or(channels);
        if conv.has_bias {
            layer.bias = Some(values(out, self.names, -0.5, 0.5));
        }
        let mut x = self.it.conv2d(&layer, x)?;
        if conv.has_norm {
            x = self.norm(out, x)?;
        }
        self.activate(conv.activation, x)
    }

    fn part(&mut self, part: &Part, shape: Shape, x: I::Value) -> Result<I::Value, NetworkError> {
        let Shape::Map { height, width, channels } = shape else { return Ok(x) };
        let plain = |out, kernel, activation| Conv {
            out,
            kernel,
            stride: 1,
            padding: Padding::Same,
            has_bias: false,
            has_norm: true,
            activation,
        };
        match part {
            Part::Conv(conv) => self.conv(conv, channels, x),
            Part::Padded(conv) => {
                let x = self.op(Op::CorrectPad { kernel: 3 }, x)?;
                let conv =
                    Conv { kernel: [3, 3], stride: 2, padding: Padding::Valid, ..conv.clone() };
                self.conv(&conv, channels, x)
            }
            Part::Pool { is_max: true, pool } => self.op(Op::MaxPool(*pool), x),
            Part::Pool { is_max: false, pool } => self.op(Op::AvgPool(*pool), x),
            Part::Shortcut { activation } => {
                let y = self.conv(&plain(Some(channels), [1, 1], 0), channels, x.clone())?;
                let y = self.it.add("add", x, y)?;
                self.activate(*activation, y)
            }
            Part::Branches { widths, kernel } => {
                let a = self.conv(&plain(Some(widths[0]), [1, 1], 1), channels, x.clone())?;
                let a = self.conv(&plain(Some(widths[1]), *kernel, 1), widths[0], a)?;
                let b = self.conv(&plain(Some(widths[1]), [3, 3], 2), channels, x.clone())?;
                let pool = Pool { kernel: [3, 3], stride: [1, 1], padding: Padding::Same };
                let mut c = self.op(Op::AvgPool(pool), x)?;
                if widths[0] < channels {
                    c = self.conv(&plain(Some(widths[0]), [1, 1], 2), channels, c)?;
                }
                self.it.concat("concat", vec![a, b, c])
            }
            Part::Inverted { factor, out, stride } => {
                let wide = channels * factor;
                let y = self.conv(&plain(Some(wide), [1, 1], 2), channels, x.clone())?;
                let mut depthwise = plain(None, [3, 3], 2);
                depthwise.stride = *stride;
                let y = self.conv(&depthwise, wide, y)?;
                let narrow = out.unwrap_or(channels);
                let y = self.conv(&plain(Some(narrow), [1, 1], 0), wide, y)?;
                let fits = narrow == channels && (*stride == 1 || (height == 1 && width == 1));
                if fits { self.it.add("add", x, y) } else { Ok(y) }
            }
            Part::Norm => self.norm(channels, x),
            Part::Rescale(scale) => self.op(Op::Rescale { scale: *scale, offset: 0.25 }, x),
        }
    }

    fn all(
        &mut self,
        recipe: &Recipe,
        shape_of: impl Fn(&I, &I::Value) -> Shape,
        mut x: I::Value,
    ) -> I::Value {
        for part in &recipe.parts {
            let shape = shape_of(self.it, &x);
            // What does not fit is left out.
            if let Ok(y) = self.part(part, shape, x.clone()) {
                x = y;
            }
        }
        let end = match recipe.end {
            0 => Ok(x.clone()),
            1 => self.op(Op::GlobalAvgPool, x.clone()),
            2 => self.op(Op::GlobalMaxPool, x.clone()),
            _ => self.op(Op::Flatten, x.clone()).and_then(|x| {
                let count = shape_of(self.it, &x).count();
                let dense =
                    DenseConfig::new("dense", count, 5).with_activation(Activation::Softmax);
                self.it.dense(&dense.init::<Flex>(&Default::default()), x)
            }),
        };
        end.unwrap_or(x)
    }
}

fn values(count: usize, seed: usize, low: f32, high: f32) -> Param<Tensor<Flex, 1>> {
    let each = (0..count)
        .map(|i| low + (high - low) * ((i * 7919 + seed * 104_729) % 1009) as f32 / 1008.0);
    let data = TensorData::new(each.collect::<Vec<f32>>(), [count]);
    Param::from_data(data, &Default::default())
}

/// Plain loops in f64: `[height][width][channels]`.
struct Reference;

#[derive(Clone)]
struct Map {
    shape: Shape,
    values: Vec<f64>,
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
                let weights = op.variables()[0].from_burn(host(conv.weight.val()));
                let bias = conv.bias.as_ref().map(|bias| host(bias.val()));
                let ([ins, outs], kernel) = (conv.channels, conv.kernel);
                windows(conv.stride, before(conv.padding, kernel, conv.stride), &|out, tap| {
                    let mut sum = bias.as_ref().map_or(0.0, |bias| f64::from(bias[out]));
                    for ky in 0..kernel[0] {
                        for kx in 0..kernel[1] {
                            let at = ky * kernel[1] + kx;
                            if conv.depthwise {
                                sum += tap(ky, kx, out).unwrap_or(0.0)
                                    * f64::from(weights[at * outs + out]);
                                continue;
                            }
                            for from in 0..ins {
                                let weight = f64::from(weights[(at * ins + from) * outs + out]);
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
                let (weights, bias) = (host(dense.weight.val()), host(dense.bias.val()));
                let one = |out: usize| {
                    let products = input
                        .values
                        .iter()
                        .enumerate()
                        .map(|(from, x)| x * f64::from(weights[from * dense.outputs + out]));
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

/// How many channels a map has: blocks of cells, which few numbers are whole ones of, as often as any.
fn width(end: usize) -> impl Strategy<Value = usize> {
    prop_oneof![1..end, (1..3_usize).prop_map(|blocks| 2 * CHANNEL_BLOCK * blocks)]
}

fn conv() -> impl Strategy<Value = Conv> {
    let kernel = prop_oneof![
        3 => Just([1, 1]), 4 => Just([3, 3]), 1 => Just([5, 5]), 1 => Just([1, 7]), 1 => Just([7, 1]), 1 => Just([2, 3]),
    ];
    let padding = prop_oneof![Just(Padding::Same), Just(Padding::Valid)];
    let out = prop_oneof![2 => width(70).prop_map(Some), 1 => Just(None)];
    (out, kernel, 1..3_usize, padding, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |(out, kernel, stride, padding, has_bias, has_norm, activation)| Conv {
            out,
            kernel,
            stride,
            padding,
            has_bias,
            has_norm,
            activation,
        },
    )
}

fn part() -> impl Strategy<Value = Part> {
    let pool =
        (1..4_usize, 1..4_usize, 1..3_usize, any::<bool>()).prop_map(|(kh, kw, stride, same)| {
            Pool {
                kernel: [kh, kw],
                stride: [stride, stride],
                padding: if same { Padding::Same } else { Padding::Valid },
            }
        });
    // Cells can be concatenated where all branches are wide, not only their sum.
    let wide = 2 * CHANNEL_BLOCK;
    let widths = prop_oneof![
        [1..40_usize, 1..40],
        Just([wide, 2 * wide]),
        Just([2 * wide, wide]),
        Just([wide / 2, wide / 4])
    ];
    prop_oneof![
        4 => conv().prop_map(Part::Conv),
        1 => conv().prop_map(Part::Padded),
        2 => (any::<bool>(), pool).prop_map(|(is_max, pool)| Part::Pool { is_max, pool }),
        1 => (0..3_u8).prop_map(|activation| Part::Shortcut { activation }),
        4 => (widths, prop_oneof![Just([3, 3]), Just([1, 7]), Just([5, 1])])
            .prop_map(|(widths, kernel)| Part::Branches { widths, kernel }),
        2 => (1..5_usize, prop::option::of(1..50_usize), 1..3_usize)
            .prop_map(|(factor, out, stride)| Part::Inverted { factor, out, stride }),
        1 => Just(Part::Norm),
        1 => (-2.0..2.0).prop_map(Part::Rescale),
    ]
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let size = [1..20_usize, 1..20];
    // Threads take some images together where there are many.
    let batch = prop_oneof![3 => 1..4_usize, 1 => 4..12_usize];
    (size, width(40), prop::collection::vec(part(), 1..5), 0..4_u8, batch).prop_map(
        |(size, channels, parts, end, batch)| Recipe { size, channels, parts, end, batch },
    )
}

fn check(recipe: &Recipe, threads: &[rayon::ThreadPool]) -> Result<(), TestCaseError> {
    let [height, width] = recipe.size;
    let input = Shape::Map { height, width, channels: recipe.channels };
    let count = input.count();
    let value = |i: usize| ((i * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0;
    // [batch][channels][height][width]
    let images: Vec<f32> = (0..recipe.batch * count).map(value).collect();
    let mut expected = Vec::new();
    for image in images.chunks(count) {
        let pixel = |pixel: usize| {
            (0..recipe.channels)
                .map(move |channel| f64::from(image[channel * height * width + pixel]))
        };
        let start = Map { shape: input, values: (0..height * width).flat_map(pixel).collect() };
        let mut reference = Reference;
        let map =
            Build { it: &mut reference, names: 0 }.all(recipe, |_, map: &Map| map.shape, start);
        match map.shape {
            Shape::Flat(_) => expected.extend(map.values),
            Shape::Map { height, width, channels } => {
                let plane = |channel: usize| {
                    map.values.iter().skip(channel).step_by(channels).take(height * width).copied()
                };
                expected.extend((0..channels).flat_map(plane));
            }
        }
    }
    let most = expected.iter().fold(1e-6, |most: f64, value| most.max(value.abs()));
    let all = Isa::available().into_iter().flat_map(|isa| {
        [Precision::F32, Precision::Bf16].map(|precision| PlanConfig { isa, precision })
    });
    for config in all.filter(|config| config.checked().is_ok()) {
        let mut lower = Lower::default();
        let start = lower.input(input);
        let end = Build { it: &mut lower, names: 0 }.all(
            recipe,
            |lower, &node| lower.nodes[node].shape,
            start,
        );
        let fail = |error: PlanError| TestCaseError::fail(error.to_string());
        let plan = compile(lower.nodes, end, config).map_err(fail)?;
        let most_off = if config.precision == Precision::F32 { 1e-4 } else { 2e-2 };
        for pool in threads {
            // Twice, since memory is used again.
            for _ in 0..2 {
                let found = pool.install(|| plan.run(&images)).map_err(fail)?;
                prop_assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs() / most;
                    let threads = pool.current_num_threads();
                    prop_assert!(
                        off <= most_off,
                        "{config:?}, {threads} threads: {found} {expected}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(miri, ignore = "minutes; the kernels' own tests run there")]
fn plans_are_plain_loops() {
    let threads = [1, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(recipe in recipe())| check(&recipe, &threads)?);
}
