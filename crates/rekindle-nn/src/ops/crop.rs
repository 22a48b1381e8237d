use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::resizing::{crop, size};
use super::{Fit, Operation, Resizing, first, one};
use crate::keras::{Generation, LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `Cropping2D`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cropping2d {
    /// Rows left off above and below, columns left off left and right.
    pub cropping: [[usize; 2]; 2],
}

impl Operation for Cropping2d {
    const CLASSES: &'static [&'static str] = &["Cropping2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        config.channels_last()?;
        Ok(Self { cropping: config.edges("cropping")?.unwrap_or_default() })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("cropping", json!(self.cropping)), ("data_format", "channels_last".into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape::Map { height, width, channels } = one(inputs)? else {
            return Err("(None, height, width, channels)".into());
        };
        let [rows, columns] = self.cropping;
        let left = |size: usize, [before, after]: [usize; 2]| {
            size.checked_sub(before)?.checked_sub(after).filter(|&left| left > 0)
        };
        match (left(height, rows), left(width, columns)) {
            (Some(height), Some(width)) => Ok(Shape::map(height, width, channels)),
            _ => {
                let [[top, bottom], [left, right]] = self.cropping;
                Err(format!(
                    "more pixels than it crops: {top} above, {bottom} below, {left} left, {right} right"
                ))
            }
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let [height, width, _] = layer.map()?;
        let [[top, bottom], [left, right]] = self.cropping;
        let x = layer.input();
        Ok(cut(
            layer,
            &x,
            [height, width],
            [top, left],
            [height - top - bottom, width - left - right],
        ))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, [height, width, _]) = (layer.input()?, layer.map()?);
        let [[top, bottom], [left, right]] = self.cropping;
        layer.cut(x, [top, left], [height - top - bottom, width - left - right])
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        let [_, _, height, width] = x.dims();
        let [[top, bottom], [left, right]] = self.cropping;
        Features::Map(crop(x, [top, left], [height - top - bottom, width - left - right]))
    }
}

/// Keras's `CenterCrop`: the middle of an image; one that is too small is resized first, in its proportions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Rows that come out.
    pub height: usize,
    /// Columns that come out.
    pub width: usize,
}

impl CenterCrop {
    /// Keras's `smart_resize`, for images that are too small.
    fn resizing(&self) -> Resizing {
        Resizing::new(self.height, self.width).fit(Fit::Crop)
    }
}

impl Operation for CenterCrop {
    const CLASSES: &'static [&'static str] = &["CenterCrop"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        config.channels_last()?;
        let [height, width] = size(config)?;
        Ok(Self { height, width })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("height", self.height.into()),
            ("width", self.width.into()),
            ("data_format", "channels_last".into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        self.resizing().output(inputs)
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let [height, width, _] = layer.map()?;
        match (height.checked_sub(self.height), width.checked_sub(self.width)) {
            (Some(rows), Some(columns)) => {
                let (x, start) = (layer.input(), [rows / 2, columns / 2]);
                Ok(cut(layer, &x, [height, width], start, [self.height, self.width]))
            }
            _ => self.resizing().to_onnx(layer),
        }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let [height, width, _] = layer.map()?;
        match (height.checked_sub(self.height), width.checked_sub(self.width)) {
            (Some(rows), Some(columns)) => {
                let x = layer.input()?;
                layer.cut(x, [rows / 2, columns / 2], [self.height, self.width])
            }
            _ => self.resizing().to_tflite(layer),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        let [_, _, height, width] = x.dims();
        Features::Map(match (height.checked_sub(self.height), width.checked_sub(self.width)) {
            (Some(rows), Some(columns)) => {
                crop(x, [rows / 2, columns / 2], [self.height, self.width])
            }
            _ => self.resizing().of_maps(x),
        })
    }
}

/// Keras's `RandomCrop` as it is outside of training: Keras 2 resizes an image's middle, Keras 3 (since 3.7) leaves
/// images as they are. No part is drawn at random here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Rows that Keras 2 makes, and that both take at random in training.
    pub height: usize,
    /// Columns that Keras 2 makes, and that both take at random in training.
    pub width: usize,
    /// Whether images are resized, as in Keras 2.
    pub resizes: bool,
}

impl RandomCrop {
    fn resizing(&self) -> Resizing {
        Resizing::new(self.height, self.width).fit(Fit::Crop)
    }
}

impl Operation for RandomCrop {
    const CLASSES: &'static [&'static str] = &["RandomCrop"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        config.channels_last()?;
        let resizes = config.generation == Generation::Keras2;
        // What bounding boxes are made of, and how data is augmented, say nothing of images here.
        for setting in ["factor", "bounding_box_format", "rng_type"] {
            config.take(setting);
        }
        let [height, width] = size(config)?;
        Ok(Self { height, width, resizes })
    }

    fn class(&self) -> &'static str {
        // What Keras 2 does is another layer in Keras 3, whose configurations are written.
        if self.resizes { "Resizing" } else { "RandomCrop" }
    }

    fn to_keras(&self) -> Map<String, Value> {
        if self.resizes {
            return self.resizing().to_keras();
        }
        config([
            ("height", self.height.into()),
            ("width", self.width.into()),
            ("data_format", "channels_last".into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if self.resizes { self.resizing().output(inputs) } else { one(inputs) }
    }

    fn trains_as_keras(&self) -> bool {
        false
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        if self.resizes { self.resizing().to_onnx(layer) } else { Ok(layer.input()) }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        if self.resizes { self.resizing().to_tflite(layer) } else { layer.input() }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        if self.resizes { Features::Map(self.resizing().of_maps(x.into_map())) } else { x }
    }
}

/// ONNX's `Slice` of `height` rows and `width` columns of maps of this size.
pub(super) fn cut(
    layer: &mut OnnxLayer<'_>,
    x: &str,
    size: [usize; 2],
    [top, left]: [usize; 2],
    [height, width]: [usize; 2],
) -> String {
    if size == [height, width] {
        return x.to_owned();
    }
    let integers = |values: [usize; 2]| values.map(|value| value as i64);
    let starts = layer.integers("starts", &integers([top, left]));
    let ends = layer.integers("ends", &integers([top + height, left + width]));
    let axes = layer.integers("axes", &[2, 3]);
    layer.plain("Slice", &[x, &starts, &ends, &axes])
}
