use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer, int};
use crate::{Features, NetworkError, Shape};

/// Keras's `Flatten`, in Keras's order: height, width, channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Operation for Flatten {
    const CLASSES: &'static [&'static str] = &["Flatten"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        config.channels_last()?;
        Ok(Self {})
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("data_format", "channels_last".into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let count = one(inputs)?.checked_count();
        Ok(Shape::Flat(count.ok_or("fewer values")?))
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        match layer.shape() {
            Shape::Flat(_) => Ok(x),
            // The order is the same without them.
            Shape::Map { height: 1, width: 1, .. } | Shape::Map { channels: 1, .. } => {
                Ok(layer.plain("Flatten", &[&x]))
            }
            Shape::Map { .. } => {
                let x = layer.channels_last(&x);
                Ok(layer.plain("Flatten", &[&x]))
            }
        }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        match layer.shape() {
            Shape::Flat(_) => Ok(x),
            map @ Shape::Map { .. } => layer.reshaped(x, &[map.count()]),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        match first(inputs) {
            Features::Map(x) => Features::Flat(x.permute([0, 2, 3, 1]).flatten(1, 3)),
            flat @ Features::Flat(_) => flat,
        }
    }
}

/// Keras's `Reshape`, in Keras's order: height, width, channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// One size for a vector, three for maps; one of them may be -1, which is whatever is left.
    pub target: Vec<i64>,
}

impl Operation for Reshape {
    const CLASSES: &'static [&'static str] = &["Reshape"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let target = config.integers("target_shape")?.unwrap_or_default();
        if ![1, 3].contains(&target.len()) {
            let expected = "one size for a vector or three for maps";
            return Err(config.wrong("target_shape", format!("{target:?}"), expected));
        }
        Ok(Self { target })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("target_shape", json!(self.target))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let count = one(inputs)?.checked_count().ok_or("fewer values")?;
        let wrong = || format!("as many values as {target:?} has", target = self.target);
        let known = self.target.iter().filter(|&&size| size != -1);
        let known = known.map(|&size| usize::try_from(size).ok().filter(|&size| size > 0));
        let product = known.reduce(|product, size| product?.checked_mul(size?));
        // Without any, they have to be one -1.
        let product = product.unwrap_or(Some(1)).ok_or_else(wrong)?;
        let rest = count / product;
        let open = self.target.iter().filter(|&&size| size == -1).count();
        if rest * product != count || open > 1 || (open == 0 && rest != 1) {
            return Err(wrong());
        }
        let size = |size: i64| usize::try_from(size).unwrap_or(rest);
        match self.target[..] {
            [count] => Ok(Shape::Flat(size(count))),
            [height, width, channels] => Ok(Shape::map(size(height), size(width), size(channels))),
            _ => Err("a target of one size or three".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, from) = (layer.input(), layer.shape());
        let to = self.output(&[from])?;
        if from == to {
            return Ok(x);
        }
        let x = layer.channels_last(&x);
        Ok(match to {
            Shape::Flat(_) => layer.plain("Flatten", &[&x]),
            Shape::Map { height, width, channels } => {
                let extents = [height, width, channels].map(|extent| extent as i64);
                let y = layer.reshaped(&x, &extents);
                layer.transposed(&y, &[0, 3, 1, 2])
            }
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, from) = (layer.input()?, layer.shape());
        match self.output(&[from])? {
            to if from == to => Ok(x),
            Shape::Flat(count) => layer.reshaped(x, &[count]),
            Shape::Map { height, width, channels } => layer.reshaped(x, &[height, width, channels]),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let (batch, from) = (x.batch(), x.shape());
        let to = self
            .output(&[from])
            .unwrap_or_else(|error| unreachable!("output refuses other inputs: {error}"));
        if from == to {
            return x;
        }
        let flat = match x {
            Features::Map(x) => x.permute([0, 2, 3, 1]).flatten(1, 3),
            Features::Flat(x) => x,
        };
        match to {
            Shape::Flat(_) => Features::Flat(flat),
            Shape::Map { height, width, channels } => {
                let x = flat.reshape([batch, height, width, channels]);
                Features::Map(x.permute([0, 3, 1, 2]))
            }
        }
    }
}

/// Keras's `Permute`: axes of maps in another order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// Which axis of the input each axis of the output is; 1 is the first behind the batch.
    pub dims: Vec<usize>,
}

impl Operation for Permute {
    const CLASSES: &'static [&'static str] = &["Permute"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let found = config.integers("dims")?.unwrap_or_default();
        let dims: Vec<usize> =
            found.iter().filter_map(|&axis| usize::try_from(axis).ok()).collect();
        let mut sorted = dims.clone();
        sorted.sort_unstable();
        if dims.len() != found.len() || ![vec![1], vec![1, 2, 3]].contains(&sorted) {
            let expected = "1, 2 and 3, or 1 for a vector";
            return Err(config.wrong("dims", format!("{found:?}"), expected));
        }
        Ok(Self { dims })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("dims", json!(self.dims))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        match (input, &self.dims[..]) {
            (Shape::Map { height, width, channels }, &[a, b, c]) if sorted == [1, 2, 3] => {
                let size = |axis: usize| [height, width, channels][axis - 1];
                Ok(Shape::map(size(a), size(b), size(c)))
            }
            (Shape::Flat(_), [1]) => Ok(input),
            _ => Err(format!("axes {dims:?}", dims = self.dims)),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        match self.dims[..] {
            [a, b, c] => {
                // Keras's axis as ONNX's.
                let axis = |axis: usize| [2, 3, 1][axis - 1];
                Ok(layer.transposed(&x, &[0, axis(c), axis(a), axis(b)]))
            }
            _ => Ok(x),
        }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        match self.dims[..] {
            [1, 2, 3] => Ok(x),
            [a, b, c] => Ok(layer.transposed(x, [0, int(a)?, int(b)?, int(c)?])),
            _ => Ok(x),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        match (first(inputs), &self.dims[..]) {
            (Features::Map(x), &[a, b, c]) => {
                // Keras's axis as Burn's.
                let burn = |axis: usize| [2, 3, 1][axis - 1];
                Features::Map(x.permute([0, burn(c), burn(a), burn(b)]))
            }
            (x, _) => x,
        }
    }
}
