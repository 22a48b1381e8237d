use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, PoolKind, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `GlobalAveragePooling2D` and `GlobalMaxPooling2D`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalPool {
    /// What is made of each channel.
    pub kind: PoolKind,
    /// Whether maps of one pixel come out, and not a vector.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_dims: bool,
}

impl GlobalPool {
    /// The mean of each channel, as a vector.
    #[must_use]
    pub const fn average() -> Self {
        Self { kind: PoolKind::Average, keep_dims: false }
    }

    /// The maximum of each channel, as a vector.
    #[must_use]
    pub const fn max() -> Self {
        Self { kind: PoolKind::Max, keep_dims: false }
    }

    /// Maps of one pixel come out.
    #[must_use]
    pub const fn keep_dims(self) -> Self {
        Self { keep_dims: true, ..self }
    }
}

impl Operation for GlobalPool {
    const CLASSES: &'static [&'static str] =
        &["GlobalAveragePooling2D", "GlobalMaxPooling2D", "GlobalAvgPool2D", "GlobalMaxPool2D"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let is_max = config.class.starts_with("GlobalMax");
        config.channels_last()?;
        let kind = if is_max { PoolKind::Max } else { PoolKind::Average };
        Ok(Self { kind, keep_dims: config.flag("keepdims")?.unwrap_or(false) })
    }

    fn class(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "GlobalMaxPooling2D",
            PoolKind::Average => "GlobalAveragePooling2D",
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("data_format", "channels_last".into()), ("keepdims", self.keep_dims.into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match one(inputs)? {
            Shape::Map { channels, .. } if self.keep_dims => Ok(Shape::map(1, 1, channels)),
            Shape::Map { channels, .. } => Ok(Shape::Flat(channels)),
            Shape::Flat(_) => Err("(None, height, width, channels)".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let y = match self.kind {
            PoolKind::Average => layer.plain("GlobalAveragePool", &[&x]),
            PoolKind::Max => layer.plain("GlobalMaxPool", &[&x]),
        };
        Ok(if self.keep_dims { y } else { layer.plain("Flatten", &[&y]) })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, keeps_axes) = (layer.input()?, self.keep_dims);
        let operator = match self.kind {
            PoolKind::Average => Operator::Mean { keeps_axes },
            PoolKind::Max => Operator::ReduceMax { keeps_axes },
        };
        layer.reduced(operator, x, &[0, 1], keeps_axes)
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        let [batch, channels, ..] = x.dims();
        let pixels = x.flatten::<3>(2, 3);
        let pooled = match self.kind {
            PoolKind::Average => pixels.mean_dim(2),
            PoolKind::Max => pixels.max_dim(2),
        };
        if self.keep_dims {
            return Features::Map(pooled.reshape([batch, channels, 1, 1]));
        }
        Features::Flat(pooled.squeeze_dim(2))
    }
}
