use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conv2d::{
    common, convolution_settings, convolve, depthwise, full, padding_name, written,
};
use super::{Operation, Padding, Window, first, one};
use crate::keras::{LayerConfig, activation_config, config};
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer};
use crate::variable::Initializer;
use crate::{Activation, Features, Layout, NetworkError, Shape, VariableSpec};

/// Keras's `SeparableConv2D`: filters for each channel, then a 1 x 1 convolution over all that they make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeparableConv2d {
    /// Channels out.
    pub filters: usize,
    /// Kernel, stride, padding, dilation of the filters for each channel.
    pub window: Window,
    /// Filters for each channel.
    pub depth_multiplier: usize,
    /// Whether a bias is added at the end.
    pub bias: bool,
    /// Applied to the output; there is none between the two.
    pub activation: Activation,
}

impl SeparableConv2d {
    /// With stride 1, padding `same`, one filter a channel, no bias and no activation.
    #[must_use]
    pub const fn new(filters: usize, kernel: [usize; 2]) -> Self {
        let window = Window::new(kernel, Padding::Same);
        Self { filters, window, depth_multiplier: 1, bias: false, activation: Activation::Linear }
    }
}

convolution_settings!(SeparableConv2d);

impl Operation for SeparableConv2d {
    const CLASSES: &'static [&'static str] = &["SeparableConv2D", "SeparableConvolution2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let filters = config.count("filters")?;
        let Some(filters) = filters.filter(|&filters| filters > 0) else {
            return Err(config.wrong("filters", filters.unwrap_or(0), "at least 1"));
        };
        let depth_multiplier = config.count("depth_multiplier")?.unwrap_or(1);
        if depth_multiplier == 0 {
            return Err(config.wrong("depth_multiplier", 0, "at least 1"));
        }
        // Keras 2 wrote the groups of the convolution that it is derived from, which it does not look at.
        if let Some(found) = config.count("groups")?.filter(|&found| found > 1) {
            return Err(config.wrong("groups", found, "nothing or 1"));
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
        Ok(Self { filters, window, depth_multiplier, bias, activation })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("filters", self.filters.into()),
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
        if input.channels().checked_mul(self.depth_multiplier).is_none() {
            return Err("fewer channels".into());
        }
        self.window.output(input, self.filters)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let [height, width] = self.window.kernel;
        let (input, taps) = (inputs[0].channels(), height.saturating_mul(width));
        let between = input * self.depth_multiplier;
        let depthwise = VariableSpec {
            name: "depthwise_kernel",
            shape: vec![height, width, input, self.depth_multiplier],
            layout: Layout::Depthwise,
            trainable: true,
            initializer: Initializer::Glorot([
                taps.saturating_mul(input),
                taps.saturating_mul(self.depth_multiplier),
            ]),
        };
        let pointwise = VariableSpec {
            name: "pointwise_kernel",
            shape: vec![1, 1, between, self.filters],
            layout: Layout::Conv,
            trainable: true,
            initializer: Initializer::Glorot([between, self.filters]),
        };
        let bias = self.bias.then(|| VariableSpec::vector("bias", self.filters, 0.0, true));
        [depthwise, pointwise].into_iter().chain(bias).collect()
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, groups) = (layer.input(), layer.shape().channels());
        let x = written(layer, &x, &self.window, groups, "depthwise_kernel", false)?;
        let point = Window::new([1, 1], Padding::Valid);
        let y = written(layer, &x, &point, 1, "pointwise_kernel", self.bias)?;
        Ok(self.activation.to_onnx(layer, y))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, filters) = (layer.input()?, layer.shape().channels() * self.depth_multiplier);
        let x = depthwise(layer, x, &self.window, filters, "depthwise_kernel", false)?;
        let point = Window::new([1, 1], Padding::Valid);
        let y = full(layer, x, &point, 1, self.filters, "pointwise_kernel", self.bias)?;
        Ok(self.activation.to_tflite(layer, y))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let groups = x.shape().channels();
        let x = convolve(run, x, &self.window, groups, "depthwise_kernel", false);
        let point = Window::new([1, 1], Padding::Valid);
        convolve(run, x, &point, 1, "pointwise_kernel", true).activate(run.activation())
    }
}
