use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, axes, first};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer};
use crate::run::Run;
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// What is made of values at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeKind {
    /// The sum.
    Add,
    /// The first less the second.
    Subtract,
    /// The product.
    Multiply,
    /// The mean.
    Average,
    /// The largest.
    Maximum,
    /// The least.
    Minimum,
}

impl MergeKind {
    /// Two tensors, element by element; of a mean the sum, which is still to be divided.
    pub fn two<B: Backend, const D: usize>(self, a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Add | Self::Average => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Maximum => a.max_pair(b),
            Self::Minimum => a.min_pair(b),
        }
    }
}

/// Keras's `Add`, `Subtract`, `Multiply`, `Average`, `Maximum` and `Minimum`: element by element, of values whose sizes
/// are the same or 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// What is made of the values.
    pub kind: MergeKind,
}

impl Merge {
    /// The sum.
    pub const ADD: Self = Self { kind: MergeKind::Add };
    /// The product.
    pub const MULTIPLY: Self = Self { kind: MergeKind::Multiply };

    const KINDS: [(MergeKind, &'static str); 6] = [
        (MergeKind::Add, "Add"),
        (MergeKind::Subtract, "Subtract"),
        (MergeKind::Multiply, "Multiply"),
        (MergeKind::Average, "Average"),
        (MergeKind::Maximum, "Maximum"),
        (MergeKind::Minimum, "Minimum"),
    ];
}

/// The shape that two are stretched to, where sizes of 1 count as any.
fn broadcast(a: Shape, b: Shape) -> Option<Shape> {
    let size = |a: usize, b: usize| match (a, b) {
        (1, size) | (size, 1) => Some(size),
        (a, b) => (a == b).then_some(a),
    };
    match (a, b) {
        (Shape::Flat(a), Shape::Flat(b)) => size(a, b).map(Shape::Flat),
        (
            Shape::Map { height, width, channels },
            Shape::Map { height: rows, width: columns, channels: depth },
        ) => Some(Shape::map(size(height, rows)?, size(width, columns)?, size(channels, depth)?)),
        // A vector beside maps is channels in NumPy's rule, but Keras's batch stands in the way.
        (Shape::Map { .. }, Shape::Flat(_)) | (Shape::Flat(_), Shape::Map { .. }) => None,
    }
}

impl Operation for Merge {
    const CLASSES: &'static [&'static str] =
        &["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        match Self::KINDS.iter().find(|(_, class)| *class == config.class) {
            Some((kind, _)) => Ok(Self { kind: *kind }),
            None => Err(config.wrong("class_name", &config.class, Self::CLASSES.join(", "))),
        }
    }

    fn class(&self) -> &'static str {
        let known = Self::KINDS.iter().find(|(kind, _)| *kind == self.kind);
        known.map_or("Add", |(_, class)| class)
    }

    fn to_keras(&self) -> Map<String, Value> {
        Map::new()
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let (count, expected) = match self.kind {
            MergeKind::Subtract => (2..=2, "two inputs of one shape"),
            _ => (2..=usize::MAX, "at least two inputs of one shape"),
        };
        let shape = match inputs {
            [first, rest @ ..] if count.contains(&inputs.len()) => {
                rest.iter().try_fold(*first, |shape, next| broadcast(shape, *next))
            }
            _ => None,
        };
        shape.ok_or_else(|| expected.into())
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let inputs = layer.inputs();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        // Sizes of 1 are stretched as here.
        Ok(match (self.kind, &inputs[..]) {
            (MergeKind::Add, [_, _]) => layer.plain("Add", &inputs),
            (MergeKind::Add, _) => layer.plain("Sum", &inputs),
            (MergeKind::Subtract, _) => layer.plain("Sub", &inputs),
            (MergeKind::Multiply, [first, rest @ ..]) => {
                rest.iter().fold((*first).to_owned(), |all, next| layer.plain("Mul", &[&all, next]))
            }
            (MergeKind::Multiply, []) => return Err("it takes nothing".into()),
            (MergeKind::Average, _) => layer.plain("Mean", &inputs),
            (MergeKind::Maximum, _) => layer.plain("Max", &inputs),
            (MergeKind::Minimum, _) => layer.plain("Min", &inputs),
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let operator = match self.kind {
            MergeKind::Add | MergeKind::Average => Operator::Add(Fused::None),
            MergeKind::Subtract => Operator::Sub(Fused::None),
            MergeKind::Multiply => Operator::Mul(Fused::None),
            MergeKind::Maximum => Operator::Maximum,
            MergeKind::Minimum => Operator::Minimum,
        };
        let inputs = layer.inputs();
        let Some((&first, rest)) = inputs.split_first() else {
            return Err("it takes nothing".into());
        };
        let all = rest.iter().fold(first, |all, &next| layer.two(operator, all, next));
        match self.kind {
            MergeKind::Average => {
                Ok(layer.with(Operator::Mul(Fused::None), all, 1.0 / inputs.len() as f64))
            }
            MergeKind::Add
            | MergeKind::Subtract
            | MergeKind::Multiply
            | MergeKind::Maximum
            | MergeKind::Minimum => Ok(all),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let count = inputs.len();
        let kind = self.kind;
        let all = inputs.into_iter().reduce(|a, b| match (a, b) {
            (Features::Map(a), Features::Map(b)) => Features::Map(kind.two(a, b)),
            (Features::Flat(a), Features::Flat(b)) => Features::Flat(kind.two(a, b)),
            _ => unreachable!("output refuses maps beside vectors"),
        });
        let all = first(all.into_iter().collect());
        match kind {
            MergeKind::Average => {
                let share = 1.0 / count as f64;
                all.map(|x| x.mul_scalar(share), |x| x.mul_scalar(share))
            }
            MergeKind::Add
            | MergeKind::Subtract
            | MergeKind::Multiply
            | MergeKind::Maximum
            | MergeKind::Minimum => all,
        }
    }
}

/// Keras's `Concatenate` along channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concatenate {
    /// Keras's axis: -1, or as a file has it 3 of maps and 1 of vectors.
    #[serde(default = "axes::last", skip_serializing_if = "axes::is_last")]
    pub axis: i64,
}

impl Concatenate {
    /// Along the last axis.
    #[must_use]
    pub const fn new() -> Self {
        Self { axis: -1 }
    }
}

impl Default for Concatenate {
    fn default() -> Self {
        Self::new()
    }
}

impl Operation for Concatenate {
    const CLASSES: &'static [&'static str] = &["Concatenate"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        match config.integers("axis")?.as_deref() {
            None => Ok(Self::new()),
            Some(&[axis]) => Ok(Self { axis }),
            Some(other) => Err(config.wrong("axis", format!("{other:?}"), "one axis")),
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("axis", json!(self.axis))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let Some(&first) = inputs.first() else { return Err("at least one input".into()) };
        if !axes::is_channels(self.axis, first) {
            return Err(format!("inputs side by side in channels, not on axis {}", self.axis));
        }
        if inputs.iter().any(|shape| shape.with_channels(1) != first.with_channels(1)) {
            return Err("inputs of one height and width".into());
        }
        let channels =
            inputs.iter().try_fold(0_usize, |sum, shape| sum.checked_add(shape.channels()));
        Ok(first.with_channels(channels.ok_or("fewer channels")?))
    }

    fn settle(&mut self, _inputs: &[Shape]) {
        self.axis = -1;
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let inputs = layer.inputs();
        match &inputs[..] {
            [one] => Ok(one.clone()),
            inputs => {
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                Ok(layer.node("Concat", &inputs, vec![("axis", Attribute::Int(1))]))
            }
        }
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let inputs = layer.inputs();
        if let [one] = inputs[..] {
            return Ok(one);
        }
        let all: Vec<Vec<usize>> = inputs.iter().map(|&input| layer.extents(input)).collect();
        let mut extents = all.first().cloned().ok_or("it takes nothing")?;
        if let Some(last) = extents.last_mut() {
            *last = all.iter().filter_map(|own| own.last()).sum();
        }
        Ok(layer.node(Operator::Concatenation { axis: -1 }, &inputs, &extents))
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let (mut maps, mut flats) = (Vec::new(), Vec::new());
        for input in inputs {
            match input {
                Features::Map(x) => maps.push(x),
                Features::Flat(x) => flats.push(x),
            }
        }
        if flats.is_empty() {
            Features::Map(Tensor::cat(maps, 1))
        } else {
            Features::Flat(Tensor::cat(flats, 1))
        }
    }
}
