//! Which tensors of a file are the variables of which layer.

use std::collections::HashMap;

use rekindle_nn::{Graph, VariableSpec};

use super::{Origin, Placed};
use crate::TensorInfo;

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

    /// Whether variables are numbers, in Keras's order, instead of names.
    pub fn numbered(&self) -> bool {
        self.numbered
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

/// The tensors of every layer of a graph, by the graph's names; `keys` are what they are filed under, the first that is
/// there. All shapes are seen to be the layers' own.
pub(super) fn place(
    graph: &Graph,
    keys: &[Vec<String>],
    filed: &Filed<'_>,
) -> Result<Vec<Placed>, String> {
    let mut placed = Vec::new();
    for (position, layer) in graph.layers().iter().enumerate() {
        let wanted = graph.variables(position);
        if wanted.is_empty() {
            continue;
        }
        let described = format!("layer `{}` ({})", layer.name, layer.op.class());
        let key = keys[position].iter().find(|key| !filed.of(key).is_empty());
        let Some(key) = key else {
            return Err(format!(
                "{described} has {} variables, but the file has none for it",
                wanted.len()
            ));
        };
        // The position of each wanted variable among the file's; by number they are in Keras's order.
        for (number, variable) in wanted.iter().enumerate() {
            let own = filed.variable(key, variable.name, number);
            // Keras 3 names some of its variables `variable`, `variable_1`, ...
            let only = || match filed.of(key) {
                &[one] if wanted.len() == 1 => {
                    filed.tensors[one].variable.starts_with("variable").then_some(one)
                }
                _ => None,
            };
            let Some(index) = own.or_else(only) else {
                return Err(format!("{described} has no {} in the file", variable.name));
            };
            let info = &filed.tensors[index];
            if info.shape != variable.shape {
                return Err(format!(
                    "{described}: the file has a {} of shape {found:?}, expected {expected:?}",
                    variable.name,
                    found = info.shape,
                    expected = variable.shape
                ));
            }
            placed.push((named(&layer.name, variable, info), Origin::Same(index)));
        }
        let found = filed.of(key).len();
        if found != wanted.len() {
            return Err(format!(
                "{described} has {found} variables in the file, expected {}",
                wanted.len()
            ));
        }
    }
    Ok(placed)
}

fn named(layer: &str, variable: &VariableSpec, info: &TensorInfo) -> TensorInfo {
    TensorInfo { layer: layer.to_owned(), variable: variable.name.to_owned(), ..info.clone() }
}
