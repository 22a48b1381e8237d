//! What Keras's files mean: which of their tensors are which variables of which network.
//!
//! A file that holds a model's configuration is taken at its word (`model.rs`); other files hold names only,
//! and Keras's own loader goes by order and shape, so this does too (`order.rs`).

mod config;
mod front;
mod head;
mod model;
mod order;

pub(crate) use front::Front;
pub(crate) use head::classifier;
pub(crate) use model::{crown, recognise};
pub(crate) use order::by_order;

use std::collections::HashMap;

use crate::TensorInfo;

/// Where a tensor's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file's tensor with this number.
    Same(usize),
    /// The kernel of a `Dense(1, sigmoid)` as that of a `Dense(2, softmax)`: zeros for the first class.
    SigmoidKernel(usize),
    /// Its bias.
    SigmoidBias(usize),
    /// Zeros: a bias that the file's layer has not.
    Zeros,
}

/// A tensor under the name that the network has for it.
pub(crate) type Placed = (TensorInfo, Origin);

/// The file's tensors by the layer that they are filed under, in the file's order.
pub(crate) struct Filed<'a> {
    pub tensors: &'a [TensorInfo],
    layers: HashMap<&'a str, Vec<usize>>,
    /// Whether variables are numbers, in Keras's order, instead of names.
    numbered: bool,
}

impl<'a> Filed<'a> {
    pub fn new(tensors: &'a [TensorInfo], numbered: bool) -> Self {
        let mut layers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, tensor) in tensors.iter().enumerate() {
            layers.entry(tensor.layer.as_str()).or_default().push(index);
        }
        Self { tensors, layers, numbered }
    }

    /// The tensors of a layer.
    pub fn of(&self, layer: &str) -> &[usize] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// The tensor of a layer's variable, by its name, or by its number among the layer's variables.
    pub fn variable(&self, layer: &str, name: &str, number: usize) -> Option<usize> {
        let number = number.to_string();
        let wanted = if self.numbered { &number } else { name };
        self.of(layer).iter().copied().find(|&index| self.tensors[index].variable == wanted)
    }
}
