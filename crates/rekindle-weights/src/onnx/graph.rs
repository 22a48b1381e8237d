//! A file's graph as it stands there: nodes, constants, the input and the output.

use std::collections::HashMap;
use std::sync::Arc;

use rekindle_nn::Op;

use super::node::{Attribute, Node};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::weight::{Weight, integers};

/// A value's name, as its index into the graph's names.
pub(super) type Value = usize;

/// A constant of the file.
#[derive(Debug, Clone)]
pub(super) enum Initial {
    /// The file's tensor of this number.
    Tensor(usize),
    /// Integers of a shape.
    Integers(Vec<usize>, Vec<i64>),
    /// What nothing can be done with: ONNX's number of its type.
    Other(i32),
}

/// Nodes by the value that they make.
pub(crate) struct Graph {
    names: Vec<String>,
    pub(super) nodes: Vec<Node>,
    /// The node that makes a value, and which of its outputs it is.
    maker: HashMap<Value, (usize, usize)>,
    pub(super) initial: HashMap<Value, Initial>,
    pub(super) weights: Arc<Vec<Weight>>,
    /// Real inputs: value, ONNX's type, and extents, 0 where they are free.
    pub(super) inputs: Vec<(Value, i32, Option<Vec<i64>>)>,
    pub(super) outputs: Vec<Value>,
    /// The version of ONNX's operators.
    pub(super) opset: i64,
    /// What the file says beside the graph.
    pub(super) metadata: HashMap<String, String>,
    /// Whether images have their channels last, where another format says it.
    pub(super) channels_last: bool,
    /// What is done to images before the graph takes them, where the file says so beside it.
    pub(super) front: Option<Op>,
}

/// What the names of values and the constants are collected in.
#[derive(Default)]
pub(super) struct Names {
    numbers: HashMap<String, Value>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> Value {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Empty names are left-out inputs.
    fn some(&mut self, names: &[String]) -> Vec<Option<Value>> {
        names.iter().map(|name| (!name.is_empty()).then(|| self.number(name))).collect()
    }
}

impl Graph {
    /// The graph. `weight` keeps a tensor of numbers, and says its number, or nothing for another type.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn new(
        model: ModelProto,
        mut weight: impl FnMut(TensorProto) -> Result<Option<usize>, String>,
    ) -> Result<Self, String> {
        let graph = model.graph.ok_or("damaged ONNX: there is no graph")?;
        let GraphProto { node, initializer, input, output, .. } = graph;
        let mut names = Names::default();
        let mut initial = HashMap::new();
        let mut keep = |names: &mut Names, tensor: TensorProto| {
            let value = names.number(&tensor.name);
            let (name, data_type) = (tensor.name.clone(), tensor.data_type);
            let integers = integers(&tensor).map_err(|reason| format!("`{name}`: {reason}"))?;
            let kept = match integers {
                Some((shape, values)) => Initial::Integers(shape, values),
                None => weight(tensor)?.map_or(Initial::Other(data_type), Initial::Tensor),
            };
            if initial.insert(value, kept).is_some() {
                return Err(format!("two constants are called `{name}`: the file is damaged"));
            }
            Ok(())
        };
        for tensor in initializer {
            keep(&mut names, tensor)?;
        }
        let (mut nodes, mut maker) = (Vec::new(), HashMap::new());
        for node in node {
            let NodeProto { input, output, name, op_type, attribute, domain } = node;
            let mut attributes = Vec::with_capacity(attribute.len());
            for mut attribute in attribute {
                // A Constant's tensor is one of the file's.
                if let ("Constant", [name, ..]) = (op_type.as_str(), output.as_slice())
                    && let Some(tensor) = attribute.t.take()
                {
                    keep(&mut names, TensorProto { name: name.clone(), ..tensor })?;
                    continue;
                }
                attributes.push((attribute.name.clone(), Attribute::new(attribute)));
            }
            let (inputs, outputs) = (names.some(&input), names.some(&output));
            if op_type == "Constant" && attributes.is_empty() {
                continue;
            }
            for (number, value) in outputs.iter().enumerate() {
                let Some(value) = *value else { continue };
                if maker.insert(value, (nodes.len(), number)).is_some() {
                    let name = &names.names[value];
                    return Err(format!("two nodes make `{name}`: the file is damaged"));
                }
            }
            // Names are a courtesy in ONNX; the first output's is always there.
            let name =
                if name.is_empty() { output.first().cloned().unwrap_or_default() } else { name };
            let label = None;
            nodes.push(Node { op: op_type, domain, name, inputs, outputs, attributes, label });
        }
        let mut inputs = Vec::new();
        for input in &input {
            let value = names.number(&input.name);
            // Old exporters list weights among the inputs.
            if !initial.contains_key(&value) {
                let (data_type, extents) = described(input);
                inputs.push((value, data_type, extents));
            }
        }
        let outputs = output.iter().map(|output| names.number(&output.name)).collect();
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opsets = model.opset_import.iter().filter(|opset| own(&opset.domain));
        let opset = opsets.map(|opset| opset.version).max().unwrap_or(1);
        let metadata = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value));
        let metadata = metadata.collect();
        let (names, weights) = (names.names, Arc::new(Vec::new()));
        let (channels_last, front) = (false, None);
        Ok(Self {
            names,
            nodes,
            maker,
            initial,
            weights,
            inputs,
            outputs,
            opset,
            metadata,
            channels_last,
            front,
        })
    }

    /// The tensors of numbers.
    pub fn weights(&self) -> Arc<Vec<Weight>> {
        Arc::clone(&self.weights)
    }

    /// Says that images have their channels last, and what nodes are called in messages, in their order.
    pub fn is_channels_last(&mut self, labels: Vec<String>) {
        self.channels_last = true;
        for (node, label) in self.nodes.iter_mut().zip(labels) {
            node.label = Some(label);
        }
    }

    /// Says what is done to images before the graph takes them.
    pub fn begins_with(&mut self, front: Option<Op>) {
        self.front = front;
    }

    /// Whether the file leaves height or width of its images open.
    pub(super) fn has_open_size(&self) -> bool {
        let extents = self.inputs.first().and_then(|(_, _, extents)| extents.as_ref());
        extents.is_some_and(|extents| extents.iter().skip(1).any(|&extent| extent <= 0))
    }

    /// A value's name in the file.
    pub(super) fn name(&self, value: Value) -> &str {
        self.names.get(value).map_or("", String::as_str)
    }

    /// The node that makes a value; nothing for inputs and constants.
    pub(super) fn maker(&self, value: Value) -> Option<usize> {
        self.maker.get(&value).map(|&(node, _)| node)
    }

    /// The nodes that a value depends on, each behind those that it takes values from.
    ///
    /// # Errors
    /// When a value depends on itself.
    pub(super) fn order(&self, value: Value) -> Result<Vec<usize>, String> {
        let mut order = Vec::new();
        // 0: not seen; 1: its inputs are being looked at; 2: done.
        let mut state = vec![0_u8; self.nodes.len()];
        let mut open: Vec<usize> = self.maker(value).into_iter().collect();
        while let Some(&node) = open.last() {
            if state[node] != 0 {
                open.pop();
                if state[node] == 1 {
                    state[node] = 2;
                    order.push(node);
                }
                continue;
            }
            state[node] = 1;
            for input in self.nodes[node].inputs.iter().rev().flatten() {
                let Some(maker) = self.maker(*input) else { continue };
                match state[maker] {
                    0 => open.push(maker),
                    1 => {
                        let name = self.name(*input);
                        return Err(format!("`{name}` is made of itself: the file is damaged"));
                    }
                    _ => {}
                }
            }
        }
        Ok(order)
    }
}

/// Type and extents of an input.
fn described(input: &ValueInfoProto) -> (i32, Option<Vec<i64>>) {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let extents = tensor.and_then(|tensor| tensor.shape.as_ref());
    let extents = extents.map(|shape| shape.dim.iter().map(|dim| dim.dim_value).collect());
    (tensor.map_or(0, |tensor| tensor.elem_type), extents)
}
