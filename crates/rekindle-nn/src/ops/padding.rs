use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, pad};
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `ZeroPadding2D`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroPadding2d {
    /// Rows above and below, columns left and right.
    pub padding: [[usize; 2]; 2],
}

impl ZeroPadding2d {
    /// The same on all sides.
    #[must_use]
    pub const fn even(size: usize) -> Self {
        Self { padding: [[size; 2]; 2] }
    }

    /// Keras's `imagenet_utils.correct_pad` for maps of this size: an odd size gets `kernel / 2` on both sides, an even
    /// one less before than after, so that the stride-2 convolution behind it sees what TensorFlow's `same` would show
    /// it.
    #[must_use]
    pub fn correct(height: usize, width: usize, kernel: usize) -> Self {
        let along = |size: usize| {
            let after = kernel / 2;
            [after - usize::from(size.is_multiple_of(2)).min(after), after]
        };
        Self { padding: [along(height), along(width)] }
    }
}

impl Operation for ZeroPadding2d {
    const CLASSES: &'static [&'static str] = &["ZeroPadding2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        config.channels_last()?;
        Ok(Self { padding: config.edges("padding")?.unwrap_or([[1; 2]; 2]) })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("padding", json!(self.padding)), ("data_format", "channels_last".into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Shape::Map { height, width, channels } = one(inputs)? else {
            return Err("(None, height, width, channels)".into());
        };
        let [rows, columns] = self.padding;
        let sum =
            |size: usize, [before, after]: [usize; 2]| size.checked_add(before)?.checked_add(after);
        match (sum(height, rows), sum(width, columns)) {
            (Some(height), Some(width)) => Ok(Shape::map(height, width, channels)),
            _ => Err("less padding".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        Ok(padded(layer, &x, self.padding, None))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        layer.padded(x, self.padding, None)
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        Features::Map(pad(first(inputs).into_map(), self.padding, 0.0))
    }
}

/// ONNX's `Pad` of rows above and below, columns left and right; zeros, or the value that is said.
pub(super) fn padded(
    layer: &mut OnnxLayer<'_>,
    x: &str,
    [[top, bottom], [left, right]]: [[usize; 2]; 2],
    value: Option<f64>,
) -> String {
    let pads = [0, 0, top, left, 0, 0, bottom, right].map(|edge| edge as i64);
    if pads == [0; 8] {
        return x.to_owned();
    }
    let pads = layer.integers("pads", &pads);
    match value {
        None => layer.plain("Pad", &[x, &pads]),
        Some(value) => {
            let value = layer.number(value);
            layer.plain("Pad", &[x, &pads, &value])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ZeroPadding2d;

    #[test]
    fn correct_pad_is_keras_s() {
        // keras.src.applications.imagenet_utils.correct_pad for sizes 96 and 97, kernels 3, 5 and 7.
        assert_eq!(ZeroPadding2d::correct(96, 97, 3).padding, [[0, 1], [1, 1]]);
        assert_eq!(ZeroPadding2d::correct(96, 97, 5).padding, [[1, 2], [2, 2]]);
        assert_eq!(ZeroPadding2d::correct(96, 97, 7).padding, [[2, 3], [3, 3]]);
    }
}
