//! A file that Rekindle has written is read as what it was written of: the card in it says which network that is, and the
//! file's nodes and constants have to be those that this network is written as. A file that somebody has changed is read
//! by its nodes, as any other; only what no node says is then taken from the card.

use std::collections::HashMap;
use std::sync::Arc;

use half::f16;
use rekindle_nn::onnx::{Initial as Written, OPSET, Onnx, OnnxSettings, Values};
use rekindle_nn::{Initializer, Layout, VariableSpec};
use serde_json::Value as Json;

use super::constant::{Constant, FileTensors};
use super::graph::{Graph, Initial};
use super::node::Attribute;
use super::write::attribute;
use super::{CARD, SETTINGS};
use crate::checkpoint::ReadTensor;
use crate::export::{Exported, put_in};
use crate::{Dtype, ModelCard, TensorInfo};

/// The card in a file, if it has one that can be read.
pub(super) fn card(graph: &Graph) -> Option<ModelCard> {
    serde_json::from_str(graph.metadata.get(CARD)?).ok()
}

/// The variables of the card's network, where the file is what that is written as.
pub(super) fn own(graph: &Graph, card: &ModelCard) -> Option<Vec<(TensorInfo, Constant)>> {
    let settings: Json = serde_json::from_str(graph.metadata.get(SETTINGS)?).ok()?;
    let flag = |name: &str| settings.get(name)?.as_bool();
    let mut model = Exported { card: card.clone(), variables: HashMap::new() };
    if flag("preprocessing")? {
        put_in(&mut model).ok()?;
    }
    let settings = OnnxSettings { channels_first: flag("channels_first")?, half: flag("half")? };
    let expected = Onnx::of(&model.card.graph, settings).ok()?;
    if !has_nodes(graph, &expected) {
        return None;
    }
    let initials: HashMap<&str, &Initial> =
        graph.initial.iter().map(|(&value, initial)| (graph.name(value), initial)).collect();
    let mut tensors = FileTensors(Arc::clone(&graph.weights));
    let mut variables: HashMap<(&str, &str), Constant> = HashMap::new();
    for written in &expected.initials {
        let found = *initials.get(written.name.as_str())?;
        match (&written.values, found) {
            (Values::Integers(values), Initial::Integers(shape, found)) => {
                (*shape == written.shape && found == values).then_some(())?;
            }
            (Values::Floats(values), Initial::Tensor(number)) => {
                is_like(graph, *number, written)?;
                has_values(&tensors.read(*number).ok()?, values, written.half)?;
            }
            (Values::Variable { layer, spec }, Initial::Tensor(number)) => {
                let constant = is_like(graph, *number, written)?;
                // Of the preprocessing, which is none of the card's layers.
                match model.variables.get(&(layer.clone(), spec.name.to_owned())) {
                    Some((_, values)) => {
                        let values = spec.to_burn(values.clone()).into_vec::<f32>().ok()?;
                        has_values(&tensors.read(*number).ok()?, &values, written.half)?;
                    }
                    None => {
                        variables.insert((layer, spec.name), in_keras_s_layout(&constant, spec)?);
                    }
                }
            }
            _ => return None,
        }
    }
    let mut placed = Vec::new();
    for (position, layer) in card.graph.layers().iter().enumerate() {
        for spec in card.graph.variables(position) {
            let found = variables.remove(&(layer.name.as_str(), spec.name));
            let constant = match (found, spec.initializer) {
                (Some(constant), _) => constant,
                // Nothing depends on it: how many values a Normalization has seen.
                (None, Initializer::Constant(value)) if spec.count() == 1 => {
                    Constant::full(value, spec.shape.clone())
                }
                (None, _) => return None,
            };
            let dtype = if settings.half { Dtype::F16 } else { Dtype::F32 };
            let (layer, variable) = (layer.name.clone(), spec.name.to_owned());
            placed.push((TensorInfo { layer, variable, shape: spec.shape, dtype }, constant));
        }
    }
    Some(placed)
}

/// Whether a file has exactly these nodes, its input and its output.
fn has_nodes(graph: &Graph, expected: &Onnx) -> bool {
    let is_named =
        |value: Option<usize>, name: &str| value.map_or("", |value| graph.name(value)) == name;
    let is_input = match graph.inputs.as_slice() {
        [(value, 1, Some(extents))] => {
            let own = expected.input.1.iter().map(|&extent| extent as i64);
            is_named(Some(*value), &expected.input.0)
                && extents.iter().copied().eq([0].into_iter().chain(own))
        }
        _ => false,
    };
    let is_output = match graph.outputs[..] {
        [value] => is_named(Some(value), &expected.output.0),
        _ => false,
    };
    let is_node = |(found, node): (&super::node::Node, &rekindle_nn::onnx::Node)| {
        let attributes = node.attributes.iter();
        let attributes = attributes
            .map(|(name, value)| ((*name).to_owned(), Attribute::new(attribute(name, value))));
        let inputs = found.inputs.len() == node.inputs.len()
            && found.inputs.iter().zip(&node.inputs).all(|(found, name)| is_named(*found, name));
        let outputs = matches!(found.outputs[..], [output] if is_named(output, &node.output));
        found.op == node.op
            && found.domain.is_empty()
            && inputs
            && outputs
            && found.attributes.iter().cloned().eq(attributes)
    };
    graph.opset == OPSET
        && is_input
        && is_output
        && graph.nodes.len() == expected.nodes.len()
        && graph.nodes.iter().zip(&expected.nodes).all(is_node)
}

/// The file's tensor, where it has the shape and the kind of numbers that were written.
fn is_like(graph: &Graph, number: usize, written: &Written) -> Option<Constant> {
    let weight = graph.weights.get(number)?;
    let dtype = if written.half { Dtype::F16 } else { Dtype::F32 };
    (weight.shape == written.shape && weight.dtype == dtype).then(|| Constant::file(number, weight))
}

/// Sees that a file's values are these.
fn has_values(found: &[f32], values: &[f32], half: bool) -> Option<()> {
    let own = values.iter().map(|&value| match half {
        true => f16::from_f32(value).to_f32(),
        false => value,
    });
    found.iter().copied().eq(own).then_some(())
}

/// A variable that is in Burn's layout.
fn in_keras_s_layout(constant: &Constant, spec: &VariableSpec) -> Option<Constant> {
    let moved = match (spec.layout, &spec.shape[..]) {
        (Layout::Conv, &[height, width, input, output]) => constant
            .reshaped(vec![output, input, height, width])
            .and_then(|constant| constant.transposed(&[2, 3, 1, 0])),
        (Layout::Depthwise, &[height, width, channels, multiplier]) => constant
            .reshaped(vec![channels, multiplier, height, width])
            .and_then(|constant| constant.transposed(&[2, 3, 0, 1])),
        (Layout::Conv | Layout::Depthwise | Layout::Same | Layout::Flat, shape) => {
            constant.reshaped(shape.to_vec())
        }
    };
    moved.ok()
}
