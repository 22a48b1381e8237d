//! Networks that chance makes.

use std::collections::HashMap;

use burn::backend::Flex;
use burn::tensor::TensorData;
use proptest::prelude::*;
use rekindle_nn::ops::{
    ActivationLayer, BatchNorm, CenterCrop, Conv2d, Cropping2d, Dense, DepthwiseConv2d, Dropout,
    Fit, GlobalPool, GroupNorm, Interpolation, LayerNorm, LayerScale, Lrn, Merge, MergeKind, Noise,
    NoiseKind, Normalization, Permute, Pool2d, PoolKind, Prelu, RandomCrop, Rescaling, Reshape,
    Resizing, ScaledAdd, SeparableConv2d, SharedDropout, SoftmaxOver, UnitNorm,
};
use rekindle_nn::{
    Activation, GraphBuilder, Initializer, Network, NetworkError, Op, Padding, Shape, Value,
    Window, assign,
};

use crate::simd::CHANNEL_BLOCK;

/// A part of a network.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Conv(Conv),
    /// Zeros, then a convolution without padding, as MobileNetV2 has it.
    Padded([[usize; 2]; 2], Conv),
    Pool(Pool2d),
    /// Zeros, then a pool.
    PaddedPool([[usize; 2]; 2], Pool2d),
    /// A 1x1 convolution of the input, added to it.
    Shortcut(Activation),
    /// The input and a share of what a convolution makes of it, as Inception-ResNet has it, or of its columns' maxima.
    Residual {
        scale: f64,
        with: u8,
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
        activation: Activation,
    },
    /// Each channel times what a network makes of all channels' means.
    Excite {
        width: usize,
        is_first: bool,
    },
    /// The input, a convolution of it, and a pool of its rows or columns.
    Merge {
        kind: MergeKind,
        with: u8,
    },
    /// The input and what a convolution makes of it side by side, as DenseNet has it.
    Growth(usize),
    Activation(Activation),
    /// A product for each pixel.
    Dense(usize, Activation),
    /// A normalization behind no convolution.
    Norm,
    Rescale(f64),
    RescaleChannels,
    /// A layer of another kind, with some settings.
    Any(u8, usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Conv {
    /// Channels out; nothing for a depthwise one.
    pub out: Option<usize>,
    pub kernel: [usize; 2],
    pub stride: usize,
    pub dilation: usize,
    pub padding: Padding,
    pub groups: usize,
    pub multiplier: usize,
    pub has_bias: bool,
    pub has_norm: bool,
    pub activation: Activation,
}

impl Conv {
    pub fn plain(out: Option<usize>, kernel: [usize; 2], activation: Activation) -> Self {
        Self {
            out,
            kernel,
            stride: 1,
            dilation: 1,
            padding: Padding::Same,
            groups: 1,
            multiplier: 1,
            has_bias: false,
            has_norm: true,
            activation,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub size: [usize; 2],
    pub channels: usize,
    pub parts: Vec<Part>,
    /// Maps, means, maxima, classes of all values, or of what stands for them.
    pub end: u8,
    pub batch: usize,
}

type Added = Result<Value, NetworkError>;

/// Builds a network; every layer has a name of its own.
pub(crate) struct Build {
    pub net: GraphBuilder,
    names: usize,
}

impl Build {
    pub fn new(input: Shape) -> (Self, Value) {
        let (net, x) = GraphBuilder::new(input);
        (Self { net, names: 0 }, x)
    }

    pub fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}_{}", self.names)
    }

    pub fn op(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Added {
        let name = self.name("op");
        self.net.layer(name, op, inputs)
    }

    fn activate(&mut self, activation: Activation, x: Value) -> Added {
        match activation {
            Activation::Linear => Ok(x),
            other => self.op(ActivationLayer::named(other), &[x]),
        }
    }

    fn conv(&mut self, conv: &Conv, x: Value) -> Added {
        let window = Window {
            stride: [conv.stride; 2],
            dilation: [conv.dilation; 2],
            ..Window::new(conv.kernel, conv.padding)
        };
        // An activation behind a normalization is a layer of its own.
        let own = if conv.has_norm { Activation::Linear } else { conv.activation };
        let mut x = match conv.out {
            Some(filters) => {
                let divides = |count: usize| count.is_multiple_of(conv.groups);
                let groups =
                    if divides(filters) && divides(x.channels()) { conv.groups } else { 1 };
                let bias = conv.has_bias;
                self.op(Conv2d { filters, window, groups, bias, activation: own }, &[x])?
            }
            None => {
                let (depth_multiplier, bias) = (conv.multiplier, conv.has_bias);
                self.op(DepthwiseConv2d { window, depth_multiplier, bias, activation: own }, &[x])?
            }
        };
        if conv.has_norm {
            x = self.op(BatchNorm::new(), &[x])?;
            x = self.activate(conv.activation, x)?;
        }
        Ok(x)
    }

    fn part(&mut self, part: &Part, x: Value) -> Added {
        let Shape::Map { height, width, channels } = x.shape() else { return Ok(x) };
        let plain = Conv::plain;
        match part {
            Part::Conv(conv) => self.conv(conv, x),
            Part::Padded(padding, conv) => {
                let name = self.name("pad");
                let x = self.net.zero_padding2d(name, x, *padding)?;
                self.conv(conv, x)
            }
            Part::Pool(pool) => self.op(pool.clone(), &[x]),
            Part::PaddedPool(padding, pool) => {
                let name = self.name("pad");
                let x = self.net.zero_padding2d(name, x, *padding)?;
                self.op(pool.clone(), &[x])
            }
            Part::Shortcut(activation) => {
                let y = self.conv(&plain(Some(channels), [1, 1], Activation::Linear), x)?;
                let y = self.op(Merge::ADD, &[x, y])?;
                self.activate(*activation, y)
            }
            Part::Residual { scale, with } => {
                let bias = Conv {
                    has_norm: false,
                    has_bias: true,
                    ..plain(Some(channels), [1, 1], Activation::Linear)
                };
                let y = self.conv(&bias, x)?;
                let columns = Window::new([height, 1], Padding::Valid);
                let columns = Pool2d { window: columns, ..Pool2d::max(1, 1, Padding::Valid) };
                let inputs = match with % 4 {
                    0 => [y, x],
                    1 => [y, self.op(columns, &[x])?],
                    2 => [self.op(columns, &[x])?, y],
                    _ => [x, y],
                };
                let y = self.op(ScaledAdd { scale: *scale }, &inputs)?;
                self.activate(Activation::Relu, y)
            }
            Part::Branches { widths, kernel } => {
                let (relu, relu6) = (Activation::Relu, Activation::Relu6);
                let a = self.conv(&plain(Some(widths[0]), [1, 1], relu), x)?;
                let a = self.conv(&plain(Some(widths[1]), *kernel, relu), a)?;
                let b = self.conv(&plain(Some(widths[1]), [3, 3], relu6), x)?;
                let mut c = self.op(Pool2d::average(3, 1, Padding::Same), &[x])?;
                if widths[0] < channels {
                    c = self.conv(&plain(Some(widths[0]), [1, 1], relu6), c)?;
                }
                self.op(rekindle_nn::ops::Concatenate::new(), &[a, b, c])
            }
            Part::Inverted { factor, out, stride, activation } => {
                let wide = channels * factor;
                let y = self.conv(&plain(Some(wide), [1, 1], *activation), x)?;
                let depthwise = Conv { stride: *stride, ..plain(None, [3, 3], *activation) };
                let y = self.conv(&depthwise, y)?;
                let narrow = out.unwrap_or(channels);
                let y = self.conv(&plain(Some(narrow), [1, 1], Activation::Linear), y)?;
                let fits = narrow == channels && (*stride == 1 || (height == 1 && width == 1));
                if fits { self.op(Merge::ADD, &[x, y]) } else { Ok(y) }
            }
            Part::Excite { width, is_first } => {
                let y = self.op(GlobalPool::average().keep_dims(), &[x])?;
                let squeeze = Conv {
                    has_norm: false,
                    has_bias: true,
                    ..plain(Some(*width), [1, 1], Activation::Silu)
                };
                let y = self.conv(&squeeze, y)?;
                let excite =
                    Conv { out: Some(channels), activation: Activation::HardSigmoid, ..squeeze };
                let y = self.conv(&excite, y)?;
                self.op(Merge::MULTIPLY, &if *is_first { [y, x] } else { [x, y] })
            }
            Part::Merge { kind, with } => {
                let a = self.conv(&plain(Some(channels), [3, 1], Activation::Tanh), x)?;
                let rows = |kernel| Pool2d {
                    kind: PoolKind::Max,
                    window: Window::new(kernel, Padding::Valid),
                    counts_padding: false,
                };
                let b = match with % 4 {
                    0 => x,
                    1 => self.op(rows([1, width]), &[x])?,
                    2 => self.op(rows([height, 1]), &[x])?,
                    _ => self.conv(&plain(Some(1), [1, 1], Activation::Linear), x)?,
                };
                match (kind, with / 4) {
                    (MergeKind::Subtract, 0) => self.op(Merge { kind: *kind }, &[a, b]),
                    (MergeKind::Subtract, _) => self.op(Merge { kind: *kind }, &[b, a]),
                    (_, 0) => self.op(Merge { kind: *kind }, &[x, a, b]),
                    _ => self.op(Merge { kind: *kind }, &[b, a]),
                }
            }
            Part::Growth(width) => {
                let y = self.op(BatchNorm::new(), &[x])?;
                let y = self.activate(Activation::Relu, y)?;
                let y = self.conv(&plain(Some(*width), [3, 3], Activation::Linear), y)?;
                self.op(rekindle_nn::ops::Concatenate::new(), &[x, y])
            }
            Part::Activation(activation) => self.activate(*activation, x),
            Part::Dense(units, activation) => {
                let dense = Dense { bias: units % 2 == 0, ..Dense::new(*units, *activation) };
                self.op(dense, &[x])
            }
            Part::Norm => self.op(BatchNorm::new().scale(channels % 2 == 0), &[x]),
            Part::Rescale(scale) => self.op(Rescaling::new(*scale, 0.25), &[x]),
            Part::Any(kind, setting) => self.any(*kind, *setting, x),
            Part::RescaleChannels => {
                let each = |step: f64| (0..channels).map(|c| 0.5 + step * (c % 5) as f64).collect();
                self.op(Rescaling { scale: each(0.2), offset: each(-0.3) }, &[x])
            }
        }
    }

    fn any(&mut self, kind: u8, setting: usize, x: Value) -> Added {
        let [height, width, channels] = x.shape().as_map().unwrap_or([1, 1, x.channels()]);
        let axes = [vec![-1], vec![1, 2, 3], vec![1, 2], vec![2, 3], vec![1], vec![-1, 1]];
        let axes = axes[setting % axes.len()].clone();
        let size = 1 + setting % 7;
        let op: Op = match kind {
            0 => SeparableConv2d {
                depth_multiplier: 1 + setting % 3,
                bias: setting.is_multiple_of(2),
                activation: Activation::Silu,
                ..SeparableConv2d::new(1 + setting, [3, 3]).strides(1 + setting % 2)
            }
            .into(),
            1 => LayerNorm {
                axes,
                epsilon: 1e-3,
                center: setting.is_multiple_of(2),
                scale: !setting.is_multiple_of(3),
            }
            .into(),
            2 => {
                let groups = (1..=channels).filter(|groups| channels % groups == 0);
                let groups: Vec<usize> = groups.collect();
                GroupNorm::new(groups[setting % groups.len()]).into()
            }
            3 => UnitNorm { axes }.into(),
            4 => Lrn { size, alpha: 0.5, beta: 0.75, bias: 1.5 }.into(),
            5 => Normalization { axes, invert: setting.is_multiple_of(5), given: None }.into(),
            6 => LayerScale { initial: 0.5, channels }.into(),
            7 => {
                let shared = [vec![], vec![1, 2], vec![1, 2, 3], vec![3]];
                Prelu { shared_axes: shared[setting % 4].clone() }.into()
            }
            8 => Cropping2d { cropping: [[setting % 2, 1], [0, setting % 3]] }.into(),
            9 => CenterCrop { height: size, width: 1 + setting % 5 }.into(),
            10 => {
                let all = [
                    Interpolation::Nearest,
                    Interpolation::Bilinear,
                    Interpolation::Bicubic,
                    Interpolation::Area,
                    Interpolation::Lanczos3,
                ];
                let fit = [Fit::Stretch, Fit::Crop, Fit::Pad(0.25)][setting % 3];
                let resizing = Resizing::new(size + 2, 1 + setting % 9);
                let resizing = resizing.interpolation(all[setting % 5]).fit(fit);
                Resizing { antialias: setting % 2 == 1, ..resizing }.into()
            }
            11 => {
                let targets = [
                    vec![width as i64, height as i64, -1],
                    vec![1, -1, channels as i64],
                    vec![-1, 1, 1],
                    vec![height as i64, 1, -1],
                ];
                Reshape { target: targets[setting % 4].clone() }.into()
            }
            12 => {
                let all = [[2, 1, 3], [3, 1, 2], [1, 3, 2], [3, 2, 1], [2, 3, 1]];
                Permute { dims: all[setting % 5].to_vec() }.into()
            }
            13 => SoftmaxOver { axes }.into(),
            14 => [SharedDropout::of_channels(0.3), SharedDropout::of_samples(0.4)][setting % 2]
                .clone()
                .into(),
            15 => {
                let kinds =
                    [NoiseKind::AlphaDropout, NoiseKind::GaussianDropout, NoiseKind::GaussianNoise];
                Noise { kind: kinds[setting % 3], amount: 0.25 }.into()
            }
            16 => Dropout { rate: 0.3 }.into(),
            17 => {
                let all = [
                    Activation::Gelu,
                    Activation::LogSoftmax,
                    Activation::LogSigmoid,
                    Activation::Celu(0.7),
                    Activation::TanhShrink,
                    Activation::SoftShrink(0.5),
                    Activation::HardShrink(0.5),
                    Activation::Squareplus(4.0),
                    Activation::SparsePlus,
                    Activation::Threshold { threshold: 0.2, value: -0.1 },
                ];
                ActivationLayer::named(all[setting % all.len()]).into()
            }
            _ => {
                RandomCrop { height: size, width: size, resizes: setting.is_multiple_of(2) }.into()
            }
        };
        self.op(op, &[x])
    }

    fn end(&mut self, end: u8, x: Value) -> Added {
        match end {
            0 => Ok(x),
            1 => self.op(GlobalPool::average(), &[x]),
            2 => self.op(GlobalPool::max(), &[x]),
            3 => {
                let name = self.name("flatten");
                let x = self.net.flatten(name, x)?;
                self.op(Dense::new(5, Activation::Softmax), &[x])
            }
            _ => {
                let means = self.op(GlobalPool::average(), &[x])?;
                let maxima = self.op(GlobalPool::max(), &[x])?;
                let x = self.op(rekindle_nn::ops::Concatenate::new(), &[means, maxima])?;
                let x = self.op(Dense { bias: false, ..Dense::new(9, Activation::Relu) }, &[x])?;
                let x = self.op(BatchNorm::new(), &[x])?;
                let x = self.activate(Activation::Silu, x)?;
                self.op(Dense::new(3, Activation::Sigmoid), &[x])
            }
        }
    }
}

impl Recipe {
    pub fn input(&self) -> Shape {
        Shape::map(self.size[0], self.size[1], self.channels)
    }

    /// The network; parts that do not fit are left out.
    pub fn network(&self) -> Network<Flex> {
        let (mut build, mut x) = Build::new(self.input());
        for part in &self.parts {
            if let Ok(y) = build.part(part, x) {
                x = y;
            }
        }
        let x = build.end(self.end, x).unwrap_or(x);
        network(build.net.finish(x).expect("names are unique"))
    }
}

/// A network with weights by chance, also where they would start as zeros or ones.
pub(crate) fn network(graph: rekindle_nn::Graph) -> Network<Flex> {
    let network = Network::init(graph, 1, &Default::default());
    let mut values = HashMap::new();
    for (seed, variable) in network.variables().into_iter().enumerate() {
        let Initializer::Constant(start) = variable.spec.initializer else { continue };
        // None is 0, -0.5 or another kink of a function: where zeros are all that comes in, a bias is what goes out.
        let chance = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1008.0 - 0.500_31;
        let spread = if start == 0.0 { 1.0 } else { 0.9 };
        let each = (0..variable.spec.count()).map(|i| start + spread * chance(i));
        let data = TensorData::new(each.collect::<Vec<f32>>(), variable.spec.burn_shape());
        values.insert(variable.id, data);
    }
    assign(network, values)
}

/// How many channels a map has: whole lines of bf16, which few numbers are, as often as any.
fn width(end: usize) -> impl Strategy<Value = usize> {
    prop_oneof![1..end, (1..3_usize).prop_map(|blocks| 2 * CHANNEL_BLOCK * blocks)]
}

pub(crate) fn activation() -> impl Strategy<Value = Activation> {
    let clamp = [Activation::Linear, Activation::Relu, Activation::Relu6];
    let relu_of = Activation::relu_of(Some(2.0), 0.1, 0.5);
    let others = [
        Activation::LeakyRelu(0.2),
        Activation::Elu(1.0),
        Activation::Selu,
        Activation::Silu,
        Activation::HardSilu,
        Activation::HardSigmoid,
        Activation::HARD_SIGMOID_2,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Softsign,
        Activation::GeluApproximate,
        Activation::Mish,
        Activation::Clip { low: -0.5, high: 0.75 },
        Activation::Softmax,
        relu_of,
    ];
    prop_oneof![3 => prop::sample::select(clamp.to_vec()), 1 => prop::sample::select(others.to_vec())]
}

fn edges() -> impl Strategy<Value = [[usize; 2]; 2]> {
    [[0..4_usize, 0..4], [0..4, 0..4]]
}

fn conv() -> impl Strategy<Value = Conv> {
    let kernel = prop_oneof![
        3 => Just([1, 1]), 4 => Just([3, 3]), 1 => Just([5, 5]), 1 => Just([1, 7]), 1 => Just([7, 1]),
        1 => Just([2, 3]), 1 => Just([17, 1]),
    ];
    let padding = prop_oneof![
        3 => Just(Padding::Same),
        3 => Just(Padding::Valid),
        1 => edges().prop_map(Padding::Explicit)
    ];
    let out = prop_oneof![2 => width(70).prop_map(Some), 1 => Just(None)];
    let groups = prop_oneof![4 => Just(1_usize), 1 => Just(2), 1 => Just(3), 1 => Just(8)];
    let few = prop_oneof![4 => Just(1_usize), 1 => 2..4_usize];
    let settings = (out, kernel, 1..3_usize, few.clone(), padding, groups, few);
    (settings, any::<bool>(), any::<bool>(), activation()).prop_map(
        |(settings, has_bias, has_norm, activation)| {
            let (out, kernel, stride, dilation, padding, groups, multiplier) = settings;
            Conv {
                out,
                kernel,
                stride,
                dilation,
                padding,
                groups,
                multiplier,
                has_bias,
                has_norm,
                activation,
            }
        },
    )
}

fn pool() -> impl Strategy<Value = Pool2d> {
    let padding = prop_oneof![
        2 => Just(Padding::Same),
        2 => Just(Padding::Valid),
        1 => [[0..2_usize, 0..2], [0..2, 0..2]].prop_map(Padding::Explicit)
    ];
    let kind = prop_oneof![Just(PoolKind::Max), Just(PoolKind::Average)];
    (kind, [1..4_usize, 1..4], [1..3_usize, 1..3], padding, any::<bool>(), 1..4_usize).prop_map(
        |(kind, kernel, stride, padding, counts_padding, dilation)| {
            // Only maxima of taps with gaps are known anywhere.
            let dilation = if kind == PoolKind::Max && dilation == 2 { 2 } else { 1 };
            let window = Window { kernel, stride, padding, dilation: [dilation; 2] };
            Pool2d { kind, window, counts_padding }
        },
    )
}

pub(crate) fn part() -> impl Strategy<Value = Part> {
    // Values of bf16 can be concatenated where all branches are whole lines, not only their sum.
    let wide = 2 * CHANNEL_BLOCK;
    let widths = prop_oneof![
        [1..40_usize, 1..40],
        Just([wide, 2 * wide]),
        Just([2 * wide, wide]),
        Just([wide / 2, wide / 4])
    ];
    let kinds = vec![
        MergeKind::Add,
        MergeKind::Subtract,
        MergeKind::Multiply,
        MergeKind::Average,
        MergeKind::Maximum,
        MergeKind::Minimum,
    ];
    let valid = conv().prop_map(|conv| Conv { padding: Padding::Valid, ..conv });
    prop_oneof![
        5 => conv().prop_map(Part::Conv),
        1 => (edges(), conv()).prop_map(|(edges, conv)| Part::Padded(edges, conv)),
        1 => (edges(), valid).prop_map(|(edges, conv)| Part::Padded(edges, conv)),
        2 => pool().prop_map(Part::Pool),
        1 => (edges(), pool()).prop_map(|(edges, pool)| Part::PaddedPool(edges, pool)),
        1 => activation().prop_map(Part::Shortcut),
        1 => (0.1..1.0, 0..8_u8).prop_map(|(scale, with)| Part::Residual { scale, with }),
        3 => (widths, prop_oneof![Just([3, 3]), Just([1, 7]), Just([5, 1])])
            .prop_map(|(widths, kernel)| Part::Branches { widths, kernel }),
        3 => (1..5_usize, prop::option::of(1..50_usize), 1..3_usize, activation()).prop_map(
            |(factor, out, stride, activation)| Part::Inverted { factor, out, stride, activation }
        ),
        1 => (1..20_usize, any::<bool>())
            .prop_map(|(width, is_first)| Part::Excite { width, is_first }),
        2 => (prop::sample::select(kinds), 0..8_u8).prop_map(|(kind, with)| Part::Merge { kind, with }),
        2 => width(40).prop_map(Part::Growth),
        1 => activation().prop_map(Part::Activation),
        1 => (1..40_usize, activation()).prop_map(|(units, activation)| Part::Dense(units, activation)),
        1 => Just(Part::Norm),
        1 => (-2.0..2.0).prop_map(Part::Rescale),
        1 => Just(Part::RescaleChannels),
    ]
}

/// A layer of any kind.
pub(crate) fn any_part() -> impl Strategy<Value = Part> {
    (0..19_u8, 0..60_usize).prop_map(|(kind, setting)| Part::Any(kind, setting))
}

pub(crate) fn recipe() -> impl Strategy<Value = Recipe> {
    recipe_of(part())
}

pub(crate) fn recipe_of(part: impl Strategy<Value = Part>) -> impl Strategy<Value = Recipe> {
    let size = [1..20_usize, 1..20];
    // Threads take some images together where there are many.
    let batch = prop_oneof![3 => 1..4_usize, 1 => 4..12_usize];
    (size, width(40), prop::collection::vec(part, 1..5), 0..5_u8, batch).prop_map(
        |(size, channels, parts, end, batch)| Recipe { size, channels, parts, end, batch },
    )
}
