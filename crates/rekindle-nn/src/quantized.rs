//! A quantized network as other programs' engines compute it, as plain data, which the writers of ONNX and TensorFlow Lite take.

use std::collections::HashMap;

use crate::ops::MergeKind;
use crate::{Graph, Op, Padding, Source, ops};

/// What bytes stand for: `step * (byte - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The distance of the numbers of two neighbouring bytes.
    pub step: f32,
    /// The byte of zero.
    pub zero: u8,
}

/// What a layer multiplies bytes with.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// From -127 to 127, in the order of Keras's kernel.
    pub weights: Vec<i8>,
    /// A weight is its byte times its output's step.
    pub steps: Vec<f32>,
    /// Of each output, in steps of its sums.
    pub bias: Vec<i32>,
    /// The step of each output's sums: the input's times the weights'.
    pub bias_steps: Vec<f32>,
    /// Whether an activation clamps its values, which their bytes may do by themselves.
    pub is_clamped: bool,
}

/// What of a graph is bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bytes {
    /// By layer: its value, once rounded, is these bytes for all that read it.
    pub values: HashMap<String, Scale>,
    /// By layer: one with a kernel and a bias that takes bytes.
    pub products: HashMap<String, Product>,
}

/// A network whose normalizations are part of its products.
#[derive(Debug, Clone)]
pub struct QuantizedNetwork {
    /// Its layers.
    pub graph: Graph,
    /// Shape and values, in Keras's layout, of the variables of layers that compute with numbers, by layer and variable.
    pub variables: HashMap<(String, String), (Vec<usize>, Vec<f32>)>,
    /// What is bytes.
    pub bytes: Bytes,
}

impl Bytes {
    /// What the layer at this position takes as bytes, if all of it is.
    fn inputs(&self, graph: &Graph, position: usize) -> Option<Vec<Scale>> {
        let scale = |source: &Source| match source {
            Source::Input => None,
            Source::Layer(layer) => self.values.get(&graph.layers()[*layer].name).copied(),
        };
        graph.layers()[position].inputs.iter().map(scale).collect()
    }

    /// Whether the layer at this position makes bytes of bytes in integers.
    #[must_use]
    pub fn computes(&self, graph: &Graph, position: usize) -> bool {
        let layer = &graph.layers()[position];
        let (Some(inputs), Some(own)) =
            (self.inputs(graph, position), self.values.get(&layer.name))
        else {
            return false;
        };
        let is_same = || inputs.iter().all(|input| input == own);
        match &layer.op {
            _ if self.products.contains_key(&layer.name) => true,
            // Sums of the first ones of more have no scale of their own.
            Op::Merge(merge) => merge.kind == MergeKind::Add && inputs.len() == 2,
            Op::Pool2d(pool) => {
                let is_plain = !matches!(pool.window.padding, Padding::Explicit(_))
                    && pool.window.dilation == [1, 1];
                pool.kind == ops::PoolKind::Max && is_plain && is_same()
            }
            Op::ZeroPadding2d(_) | Op::Concatenate(_) | Op::Flatten(_) => is_same(),
            _ => false,
        }
    }

    /// Whether a product takes the value of the layer at this position.
    #[must_use]
    pub fn is_multiplied(&self, graph: &Graph, position: usize) -> bool {
        graph.layers().iter().any(|layer| {
            layer.inputs.contains(&Source::Layer(position))
                && self.products.contains_key(&layer.name)
        })
    }
}
