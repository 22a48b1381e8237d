use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conv2d::{moves, padding_name, window};
use super::padding::padded;
use super::{Operation, Padding, Window, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer, ints};
use crate::run::{Run, pad};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer, int};
use crate::{Features, NetworkError, Shape};

/// What is made of the values of a window or a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// The largest.
    Max,
    /// The mean.
    Average,
}

/// Keras's `MaxPooling2D` and `AveragePooling2D`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// What is made of a window.
    pub kind: PoolKind,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// Whether a mean counts the padding as zeros; Keras's does not, some of ONNX's do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_padding: bool,
}

impl Pool2d {
    /// The maximum of each window.
    #[must_use]
    pub const fn max(kernel: usize, stride: usize, padding: Padding) -> Self {
        let window = Window::new([kernel, kernel], padding).with_stride(stride);
        Self { kind: PoolKind::Max, window, counts_padding: false }
    }

    /// The mean of each window; padding does not count.
    #[must_use]
    pub const fn average(kernel: usize, stride: usize, padding: Padding) -> Self {
        Self { kind: PoolKind::Average, ..Self::max(kernel, stride, padding) }
    }
}

impl Operation for Pool2d {
    const CLASSES: &'static [&'static str] =
        &["MaxPooling2D", "AveragePooling2D", "MaxPool2D", "AvgPool2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let is_max = config.class.starts_with("Max");
        let kind = if is_max { PoolKind::Max } else { PoolKind::Average };
        // Keras's strides are the window's where a file has none.
        let size = config.clone().pair("pool_size")?;
        let window = window(config, "pool_size", size)?;
        config.channels_last()?;
        Ok(Self { kind, window, counts_padding: false })
    }

    fn class(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "MaxPooling2D",
            PoolKind::Average => "AveragePooling2D",
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("pool_size", json!(self.window.kernel)),
            ("strides", json!(self.window.stride)),
            ("padding", padding_name(self.window.padding).into()),
            ("data_format", "channels_last".into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        let output = self.window.output(input, input.channels())?;
        let is_too_wide = |axis: usize, size: usize| {
            self.window.amount(axis, size).iter().any(|&edge| edge >= self.window.extent(axis))
        };
        match input.as_map() {
            Some([height, width, _]) if is_too_wide(0, height) || is_too_wide(1, width) => {
                Err("padding that is narrower than the window".into())
            }
            _ => Ok(output),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let [height, width, channels] = layer.map()?;
        let Window { kernel, dilation, .. } = self.window;
        let pads = self.window.edges(height, width);
        let mut settings = moves(&self.window, [height, width]);
        // ONNX Runtime wants less padding than the kernel has taps.
        let is_wide = [0, 1].iter().any(|&axis| pads[axis].iter().any(|&pad| pad >= kernel[axis]));
        match self.kind {
            PoolKind::Max => {
                let x = if is_wide {
                    settings.retain(|(name, _)| *name != "pads");
                    let lowest = if layer.is_half() { -65504.0 } else { f64::from(f32::MIN) };
                    padded(layer, &x, pads, Some(lowest))
                } else {
                    x
                };
                settings.push(("dilations", ints(&dilation)));
                Ok(layer.node("MaxPool", &[&x], settings))
            }
            PoolKind::Average if is_wide || dilation != [1, 1] => {
                // A convolution of each channel with ones, divided by how many are not padding.
                settings.push(("dilations", ints(&dilation)));
                settings.push(("group", Attribute::Int(channels as i64)));
                let taps = kernel[0] * kernel[1];
                let ones = vec![1.0; channels * taps];
                let ones = layer.floats("ones", vec![channels, 1, kernel[0], kernel[1]], ones);
                let sum = layer.node("Conv", &[&x, &ones], settings);
                if self.counts_padding {
                    return Ok(layer.with("Div", &sum, taps as f64));
                }
                let [rows, columns] =
                    [(0, height), (1, width)].map(|(axis, size)| inside(&self.window, axis, size));
                let shape = vec![rows.len(), columns.len()];
                let counts =
                    rows.iter().flat_map(|rows| columns.iter().map(move |columns| rows * columns));
                let counts = layer.floats("counts", shape, counts.collect());
                Ok(layer.plain("Div", &[&sum, &counts]))
            }
            PoolKind::Average => {
                let counts = i64::from(self.counts_padding);
                settings.push(("count_include_pad", Attribute::Int(counts)));
                Ok(layer.node("AveragePool", &[&x], settings))
            }
        }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, [height, width, channels]) = (layer.input()?, layer.map()?);
        let window = &self.window;
        let is_padded = matches!(window.padding, Padding::Explicit(edges) if edges != [[0; 2]; 2])
            || (window.padding == Padding::Same && self.counts_padding);
        let edges = Padding::Explicit(window.edges(height, width));
        match self.kind {
            PoolKind::Max if window.dilation != [1, 1] => {
                let lowest = Some(f64::from(f32::MIN));
                let x = layer.padded(x, window.edges(height, width), lowest)?;
                largest_of_taps(layer, x, window)
            }
            PoolKind::Max => {
                let (x, moves, [rows, columns]) =
                    layer.moves(x, window, Some(f64::from(f32::MIN)))?;
                Ok(layer.node(Operator::MaxPool2d(moves), &[x], &[rows, columns, channels]))
            }
            PoolKind::Average
                if window.dilation == [1, 1] && (!is_padded || self.counts_padding) =>
            {
                let padding = if is_padded { edges } else { window.padding };
                let window = Window { padding, ..*window };
                let (x, moves, [rows, columns]) = layer.moves(x, &window, None)?;
                Ok(layer.node(Operator::AveragePool2d(moves), &[x], &[rows, columns, channels]))
            }
            PoolKind::Average => {
                // A convolution of each channel with ones, divided by how many are not padding.
                let taps = window.kernel[0] * window.kernel[1];
                let shape = [1, window.kernel[0], window.kernel[1], channels];
                let ones = layer.floats("ones", &shape, vec![1.0; taps * channels]);
                let padded = Window { padding: edges, ..*window };
                let (x, moves, [rows, columns]) = layer.moves(x, &padded, None)?;
                let operator =
                    Operator::DepthwiseConv2d { moves, multiplier: 1, fused: Fused::None };
                let zeros = layer.floats("zeros", &[channels], vec![0.0; channels]);
                let sum = layer.node(operator, &[x, ones, zeros], &[rows, columns, channels]);
                if self.counts_padding {
                    return Ok(layer.with(Operator::Div(Fused::None), sum, taps as f64));
                }
                let [down, right] =
                    [(0, height), (1, width)].map(|(axis, size)| inside(window, axis, size));
                let counts =
                    down.iter().flat_map(|rows| right.iter().map(move |columns| rows * columns));
                let counts =
                    layer.floats("counts", &[down.len(), right.len(), 1], counts.collect());
                Ok(layer.two(Operator::Div(Fused::None), sum, counts))
            }
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        Features::Map(match self.kind {
            PoolKind::Max => {
                // Lowest, not -infinity: some backends compute with it.
                let lowest = if x.dtype() == DType::F16 { -65504.0 } else { f32::MIN };
                let [_, _, height, width] = x.dims();
                let x = pad(x, self.window.edges(height, width), lowest);
                let Window { kernel, stride, dilation, .. } = self.window;
                max_pool2d(x, kernel, stride, [0, 0], dilation, false)
            }
            PoolKind::Average => average(&self.window, self.counts_padding, x),
        })
    }
}

fn average<B: Backend>(window: &Window, counts_padding: bool, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, height, width] = x.dims();
    let pads = window.edges(height, width);
    let [rows, columns] = pads;
    let Window { kernel, stride, dilation, .. } = *window;
    let ones = || Tensor::<B, 4>::ones([1, 1, height, width], &x.device()).cast(x.dtype());
    if dilation != [1, 1] {
        // No backend has it: a convolution of each channel with ones, divided by how many are not padding.
        let sum = |x: Tensor<B, 4>| {
            let channels = x.dims()[1];
            let shape = [channels, 1, kernel[0], kernel[1]];
            let taps = Tensor::<B, 4>::ones(shape, &x.device()).cast(x.dtype());
            let options = ConvOptions::new(stride, [0, 0], dilation, channels);
            conv2d(pad(x, pads, 0.0), taps, None, options)
        };
        let count = (kernel[0] * kernel[1]) as f64;
        return if counts_padding {
            sum(x).div_scalar(count)
        } else {
            sum(x.clone()) / sum(ones())
        };
    }
    if rows[0] == rows[1] && columns[0] == columns[1] {
        return avg_pool2d(x, kernel, stride, [rows[0], columns[0]], counts_padding, false);
    }
    // Burn pads evenly only: average over zeros, then undo their share.
    let mean = |x| avg_pool2d(pad(x, pads, 0.0), kernel, stride, [0, 0], true, false);
    if counts_padding { mean(x) } else { mean(x.clone()) / mean(ones()) }
}

/// How many taps of each place of a window, along rows (0) or columns (1) of `size`, are not padding.
fn inside(window: &Window, axis: usize, size: usize) -> Vec<f32> {
    let [before, after] = window.amount(axis, size);
    let last = (size + before + after).saturating_sub(window.extent(axis));
    let count = |start: usize| {
        let taps = (0..window.kernel[axis]).map(|tap| start + tap * window.dilation[axis]);
        taps.filter(|tap| (before..before + size).contains(tap)).count() as f32
    };
    (0..=last).step_by(window.stride[axis]).map(count).collect()
}

/// More taps of a window than this are not written one by one.
const MOST_TAPS: usize = 1 << 10;

/// The largest of the taps of a window whose taps are no neighbours, over maps that are padded already: all first taps, all
/// second ones, ... are maps of their own.
fn largest_of_taps(
    layer: &mut TfliteLayer<'_>,
    x: TensorId,
    window: &Window,
) -> Result<TensorId, String> {
    let extents = layer.extents(x);
    let [height, width, channels] = extents[..] else { return Err("it takes maps".into()) };
    let bare = Window { padding: Padding::Valid, ..*window };
    let out = bare.output(Shape::map(height, width, channels), channels)?;
    let Some([rows, columns, _]) = out.as_map() else { return Err("it takes maps".into()) };
    let Window { kernel, stride, dilation, .. } = *window;
    if kernel[0] * kernel[1] > MOST_TAPS {
        return Err(format!(
            "TensorFlow Lite has no maximum of windows with a dilation, and {} x {} taps are too many to be written one by one",
            kernel[0], kernel[1]
        ));
    }
    let step = layer.integers("strides", &[1, int(stride[0])?, int(stride[1])?, 1], &[4]);
    let mut largest = None;
    for tap in 0..kernel[0] * kernel[1] {
        let begin = [tap / kernel[1] * dilation[0], tap % kernel[1] * dilation[1]];
        let end = [begin[0] + (rows - 1) * stride[0] + 1, begin[1] + (columns - 1) * stride[1] + 1];
        let begin = layer.integers("begin", &[0, int(begin[0])?, int(begin[1])?, 0], &[4]);
        let end = layer.integers("end", &[0, int(end[0])?, int(end[1])?, 0], &[4]);
        let taps =
            layer.node(Operator::StridedSlice, &[x, begin, end, step], &[rows, columns, channels]);
        largest = Some(match largest {
            None => taps,
            Some(largest) => layer.two(Operator::Maximum, largest, taps),
        });
    }
    largest.ok_or_else(|| "a window without taps".into())
}
