use burn::tensor::backend::Backend;
use burn::tensor::module::conv2d;
use burn::tensor::ops::PaddedConvOptions;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, Padding, Window, first, one};
use crate::keras::{LayerConfig, activation_config, config};
use crate::onnx::{Attribute, OnnxLayer, ints};
use crate::run::{Run, as_type};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer, int};
use crate::variable::Initializer;
use crate::{Activation, Features, Layout, NetworkError, Shape, VariableSpec};

/// Keras's `Conv2D`: `[height, width, in / groups, filters]` weights over maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Channels out.
    pub filters: usize,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Each takes its share of the input's channels and makes its share of the filters.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Applied to the output.
    pub activation: Activation,
}

impl Conv2d {
    /// With stride 1, padding `same`, no bias and no activation.
    #[must_use]
    pub const fn new(filters: usize, kernel: [usize; 2]) -> Self {
        let window = Window::new(kernel, Padding::Same);
        Self { filters, window, groups: 1, bias: false, activation: Activation::Linear }
    }
}

/// The settings that all convolutions are written with.
macro_rules! convolution_settings {
    ($layer:ty) => {
        impl $layer {
            /// The same step down and right.
            #[must_use]
            pub const fn strides(self, stride: usize) -> Self {
                Self { window: self.window.with_stride(stride), ..self }
            }

            /// Without padding.
            #[must_use]
            pub const fn valid(self) -> Self {
                Self { window: Window { padding: Padding::Valid, ..self.window }, ..self }
            }

            /// With a bias, which Keras's layer has where nobody says otherwise.
            #[must_use]
            pub const fn with_bias(self) -> Self {
                Self { bias: true, ..self }
            }

            /// With an activation.
            #[must_use]
            pub const fn activation(self, activation: Activation) -> Self {
                Self { activation, ..self }
            }
        }
    };
}
pub(super) use convolution_settings;

convolution_settings!(Conv2d);
convolution_settings!(DepthwiseConv2d);

/// Reads what convolutions have in common: window, bias, activation.
pub(super) fn common(config: &mut LayerConfig) -> Result<(Window, bool, Activation), NetworkError> {
    let window = window(config, "kernel_size", None)?;
    config.channels_last()?;
    Ok((window, config.flag("use_bias")?.unwrap_or(true), config.activation("activation")?))
}

/// Reads the window of a convolution or a pool.
pub(super) fn window(
    config: &mut LayerConfig,
    kernel: &str,
    stride: Option<[usize; 2]>,
) -> Result<Window, NetworkError> {
    let Some(size) = config.pair(kernel)? else {
        return Err(config.wrong(kernel, "nothing", "height and width"));
    };
    let padding = match config.text("padding")?.as_deref() {
        Some("same") => Padding::Same,
        None | Some("valid") => Padding::Valid,
        Some(other) => return Err(config.wrong("padding", other, "`same` or `valid`")),
    };
    let stride = config.pair("strides")?.or(stride).unwrap_or([1, 1]);
    let dilation = config.pair("dilation_rate")?.unwrap_or([1, 1]);
    Ok(Window { kernel: size, stride, padding, dilation })
}

/// What is written of a window; paddings of ONNX's kind become a layer of their own before it is.
pub(super) fn padding_name(padding: Padding) -> &'static str {
    match padding {
        Padding::Same => "same",
        Padding::Valid | Padding::Explicit(_) => "valid",
    }
}

impl Operation for Conv2d {
    const CLASSES: &'static [&'static str] = &["Conv2D", "Convolution2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let filters = config.count("filters")?;
        let Some(filters) = filters.filter(|&filters| filters > 0) else {
            return Err(config.wrong("filters", filters.unwrap_or(0), "at least 1"));
        };
        let groups = config.count("groups")?.unwrap_or(1);
        if groups == 0 || !filters.is_multiple_of(groups) {
            return Err(config.wrong("groups", groups, format!("a divisor of {filters} filters")));
        }
        let (window, bias, activation) = common(config)?;
        Ok(Self { filters, window, groups, bias, activation })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("filters", self.filters.into()),
            ("kernel_size", json!(self.window.kernel)),
            ("strides", json!(self.window.stride)),
            ("padding", padding_name(self.window.padding).into()),
            ("data_format", "channels_last".into()),
            ("dilation_rate", json!(self.window.dilation)),
            ("groups", self.groups.into()),
            ("activation", activation_config(self.activation)),
            ("use_bias", self.bias.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        let channels = input.channels();
        if self.groups == 0
            || !channels.is_multiple_of(self.groups)
            || !self.filters.is_multiple_of(self.groups)
        {
            return Err(format!("channels that {} groups divide", self.groups));
        }
        self.window.output(input, self.filters)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let [height, width] = self.window.kernel;
        let input = inputs[0].channels() / self.groups;
        // More taps than a computer can count are found to be in no file.
        let taps = height.saturating_mul(width);
        let kernel = VariableSpec {
            name: "kernel",
            shape: vec![height, width, input, self.filters],
            layout: Layout::Conv,
            trainable: true,
            initializer: Initializer::Glorot([
                taps.saturating_mul(input),
                taps.saturating_mul(self.filters),
            ]),
        };
        let bias = self.bias.then(|| VariableSpec::vector("bias", self.filters, 0.0, true));
        [kernel].into_iter().chain(bias).collect()
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let y = written(layer, &x, &self.window, self.groups, "kernel", self.bias)?;
        Ok(self.activation.to_onnx(layer, y))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        let (channels, groups) = (layer.shape().channels(), self.groups);
        // A group of one channel is what a depthwise convolution is for.
        let y = match groups > 1 && groups == channels {
            true => depthwise(layer, x, &self.window, self.filters, "kernel", self.bias)?,
            false => full(layer, x, &self.window, groups, self.filters, "kernel", self.bias)?,
        };
        Ok(self.activation.to_tflite(layer, y))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        convolve(run, first(inputs), &self.window, self.groups, "kernel", true)
            .activate(run.activation())
    }
}

/// Keras's `DepthwiseConv2D`: `[height, width, channels, depth_multiplier]` weights, `depth_multiplier` filters for each
/// channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthwiseConv2d {
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Filters for each channel; those of one channel are neighbours in the output.
    pub depth_multiplier: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Applied to the output.
    pub activation: Activation,
}

impl DepthwiseConv2d {
    /// With stride 1, padding `same`, one filter a channel, no bias and no activation.
    #[must_use]
    pub const fn new(kernel: [usize; 2]) -> Self {
        let window = Window::new(kernel, Padding::Same);
        Self { window, depth_multiplier: 1, bias: false, activation: Activation::Linear }
    }
}

impl Operation for DepthwiseConv2d {
    const CLASSES: &'static [&'static str] = &["DepthwiseConv2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let depth_multiplier = config.count("depth_multiplier")?.unwrap_or(1);
        if depth_multiplier == 0 {
            return Err(config.wrong("depth_multiplier", 0, "at least 1"));
        }
        // Keras 2 wrote the settings of the convolution that it is derived from, which it does not look at.
        for setting in ["filters", "groups"] {
            if let Some(found) = config.count(setting)?.filter(|&found| found > 1) {
                return Err(config.wrong(setting, found, "nothing or 1"));
            }
        }
        let (window, bias, activation) = common(config)?;
        if window.stride[0] != window.stride[1] {
            let [rows, columns] = window.stride;
            return Err(config.wrong(
                "strides",
                format!("[{rows}, {columns}]"),
                "the same both ways, as TensorFlow demands",
            ));
        }
        Ok(Self { window, depth_multiplier, bias, activation })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("kernel_size", json!(self.window.kernel)),
            ("strides", json!(self.window.stride)),
            ("padding", padding_name(self.window.padding).into()),
            ("depth_multiplier", self.depth_multiplier.into()),
            ("data_format", "channels_last".into()),
            ("dilation_rate", json!(self.window.dilation)),
            ("activation", activation_config(self.activation)),
            ("use_bias", self.bias.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        let channels = input.channels().checked_mul(self.depth_multiplier);
        let channels = channels.ok_or("fewer channels")?;
        self.window.output(input, channels)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let [height, width] = self.window.kernel;
        let channels = inputs[0].channels();
        let kernel = VariableSpec {
            name: "kernel",
            shape: vec![height, width, channels, self.depth_multiplier],
            layout: Layout::Depthwise,
            trainable: true,
            initializer: Initializer::Glorot([height.saturating_mul(width); 2]),
        };
        let outputs = channels * self.depth_multiplier;
        let bias = self.bias.then(|| VariableSpec::vector("bias", outputs, 0.0, true));
        [kernel].into_iter().chain(bias).collect()
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, groups) = (layer.input(), layer.shape().channels());
        let y = written(layer, &x, &self.window, groups, "kernel", self.bias)?;
        Ok(self.activation.to_onnx(layer, y))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, filters) = (layer.input()?, layer.shape().channels() * self.depth_multiplier);
        let y = depthwise(layer, x, &self.window, filters, "kernel", self.bias)?;
        Ok(self.activation.to_tflite(layer, y))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let groups = x.shape().channels();
        convolve(run, x, &self.window, groups, "kernel", true).activate(run.activation())
    }
}

/// A convolution with the layer's parameter `kernel`, and its bias where it has one and this is where it belongs.
pub(super) fn convolve<B: Backend>(
    run: &Run<'_, B>,
    x: Features<B>,
    window: &Window,
    groups: usize,
    kernel: &str,
    with_bias: bool,
) -> Features<B> {
    let x = x.into_map();
    let [_, _, height, width] = x.dims();
    let [rows, columns] = window.edges(height, width);
    let (before, after) = ([rows[0], columns[0]], [rows[1], columns[1]]);
    let options =
        PaddedConvOptions::asymmetric(window.stride, before, after, window.dilation, groups);
    let bias = run.find::<1>("bias").filter(|_| with_bias).map(|bias| as_type(bias, x.dtype()));
    let weight = as_type(run.parameter::<4>(kernel), x.dtype());
    Features::Map(conv2d(x, weight, bias, options))
}

/// ONNX's `Conv` of the layer's parameter `kernel`, with its bias where it has one and this is where it belongs. The
/// values come with the height and width of the layer's input.
pub(super) fn written(
    layer: &mut OnnxLayer<'_>,
    x: &str,
    window: &Window,
    groups: usize,
    kernel: &str,
    with_bias: bool,
) -> Result<String, String> {
    let [height, width, _] = layer.map()?;
    let mut settings = moves(window, [height, width]);
    settings.push(("dilations", ints(&window.dilation)));
    settings.push(("group", Attribute::Int(groups as i64)));
    let kernel = layer.variable(kernel).ok_or_else(|| format!("it has no variable `{kernel}`"))?;
    let bias = if with_bias { layer.variable("bias") } else { None };
    let inputs: Vec<&str> = [x, &kernel].into_iter().chain(bias.as_deref()).collect();
    Ok(layer.node("Conv", &inputs, settings))
}

/// How a window moves over maps of this height and width, in ONNX's attributes.
pub(super) fn moves(
    window: &Window,
    [height, width]: [usize; 2],
) -> Vec<(&'static str, Attribute)> {
    let [[top, bottom], [left, right]] = window.edges(height, width);
    vec![
        ("kernel_shape", ints(&window.kernel)),
        ("strides", ints(&window.stride)),
        ("pads", ints(&[top, left, bottom, right])),
    ]
}

/// TensorFlow Lite's `CONV_2D` of the layer's parameter `kernel`. Its bias is zeros where the layer has none or it belongs
/// elsewhere: there are runtimes that want one.
pub(super) fn full(
    layer: &mut TfliteLayer<'_>,
    x: TensorId,
    window: &Window,
    groups: usize,
    filters: usize,
    kernel: &str,
    with_bias: bool,
) -> Result<TensorId, String> {
    let (x, moves, [rows, columns]) = layer.moves(x, window, None)?;
    let kernel = layer.kernel(kernel, &[3, 0, 1, 2], None)?;
    let bias = bias(layer, filters, with_bias);
    let operator = Operator::Conv2d { moves, is_grouped: groups > 1, fused: Fused::None };
    Ok(layer.node(operator, &[x, kernel, bias], &[rows, columns, filters]))
}

/// TensorFlow Lite's `DEPTHWISE_CONV_2D` of the layer's parameter `kernel`: the filters of one channel are neighbours.
pub(super) fn depthwise(
    layer: &mut TfliteLayer<'_>,
    x: TensorId,
    window: &Window,
    filters: usize,
    kernel: &str,
    with_bias: bool,
) -> Result<TensorId, String> {
    let channels = layer.extents(x).last().copied().unwrap_or(0).max(1);
    let (x, moves, [rows, columns]) = layer.moves(x, window, None)?;
    let [height, width] = window.kernel;
    let shape = [1, height, width, filters];
    let kernel = layer.kernel(kernel, &[0, 1, 2, 3], Some(&shape))?;
    let bias = bias(layer, filters, with_bias);
    let multiplier = int(filters / channels)?;
    let operator = Operator::DepthwiseConv2d { moves, multiplier, fused: Fused::None };
    Ok(layer.node(operator, &[x, kernel, bias], &[rows, columns, filters]))
}

fn bias(layer: &mut TfliteLayer<'_>, filters: usize, is_there: bool) -> TensorId {
    let own = if is_there { layer.variable("bias", &[filters]) } else { None };
    own.unwrap_or_else(|| layer.floats("zeros", &[filters], vec![0.0; filters]))
}
