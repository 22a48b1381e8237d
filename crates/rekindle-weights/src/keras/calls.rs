//! What layers are called with (`inbound_nodes`): Keras 3 writes tensors as objects with a `keras_history`, Keras 1 and 2
//! as `[name, node, tensor, arguments]`.

use serde_json::{Map, Value};

/// Lists in lists; real ones have three.
const DEEPEST: usize = 32;

/// An output of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    /// The layer's name.
    pub layer: String,
    /// Which of its outputs.
    pub output: u64,
}

/// What a layer was called with at one place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// An output of a layer.
    Tensor(Tensor),
    /// Numbers, and the sizes of their axes; none for a single number.
    Constant(Vec<f64>, Vec<usize>),
}

/// One call of a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Call {
    /// Tensors and numbers, in order.
    pub operands: Vec<Operand>,
    /// What else it was called with, by name.
    pub settings: Map<String, Value>,
}

/// The calls of a layer, from its `inbound_nodes`.
pub(crate) fn calls(nodes: &Value) -> Vec<Call> {
    let Value::Array(nodes) = nodes else { return Vec::new() };
    // Keras 2 may write the one tensor of the one call without lists around it.
    if history(nodes).is_some() {
        let mut call = Call::default();
        add(&Value::Array(nodes.clone()), &mut call, 0);
        return vec![call];
    }
    let call = |node: &Value| {
        let mut call = Call::default();
        match node {
            Value::Object(fields) if fields.contains_key("args") => {
                add(&fields["args"], &mut call, 0);
                if let Some(Value::Object(named)) = fields.get("kwargs") {
                    add_named(named, &mut call, 0);
                }
            }
            other => add(other, &mut call, 0),
        }
        call
    };
    nodes.iter().map(call).collect()
}

/// The tensors that `input_layers` or `output_layers` list: one, or a list of them, or by name.
pub(crate) fn tensors(value: &Value) -> Vec<Tensor> {
    fn collect(value: &Value, depth: usize, found: &mut Vec<Tensor>) {
        match value {
            _ if depth > DEEPEST => {}
            Value::Array(items) => match history(items) {
                Some(tensor) => found.push(tensor),
                None => items.iter().for_each(|item| collect(item, depth + 1, found)),
            },
            Value::Object(fields) => {
                fields.values().for_each(|item| collect(item, depth + 1, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(value, 0, &mut found);
    found
}

/// `[name, node, tensor, ...]`.
fn history(items: &[Value]) -> Option<Tensor> {
    match items {
        [Value::String(layer), Value::Number(_), output, ..] => {
            Some(Tensor { layer: layer.clone(), output: output.as_u64()? })
        }
        _ => None,
    }
}

/// Adds the operands in a positional argument.
fn add(value: &Value, call: &mut Call, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match value {
        Value::Array(items) => {
            // Keras 2's way to write a constant in a tensor's place.
            if let [Value::String(name), _, constant, rest @ ..] = items.as_slice()
                && name == "_CONSTANT_VALUE"
            {
                call.operands.push(constant_of(constant));
                rest.iter().for_each(|rest| add_arguments(rest, call, depth));
                return;
            }
            if let Some(tensor) = history(items) {
                call.operands.push(Operand::Tensor(tensor));
                items[3..].iter().for_each(|rest| add_arguments(rest, call, depth));
                return;
            }
            if let Some((values, axes)) = numbers(value) {
                call.operands.push(Operand::Constant(values, axes));
                return;
            }
            items.iter().for_each(|item| add(item, call, depth + 1));
        }
        Value::Object(fields) => match operand(fields) {
            Some(operand) => call.operands.push(operand),
            None => {
                let name = format!("argument {}", call.operands.len());
                call.settings.insert(name, value.clone());
            }
        },
        Value::Number(_) => call.operands.push(constant_of(value)),
        Value::Null => {}
        Value::Bool(_) | Value::String(_) => {
            let name = format!("argument {}", call.operands.len());
            call.settings.insert(name, value.clone());
        }
    }
}

fn add_arguments(value: &Value, call: &mut Call, depth: usize) {
    if let Value::Object(named) = value {
        add_named(named, call, depth + 1);
    }
}

/// Adds what a call was given by name: its operands, and its settings.
fn add_named(named: &Map<String, Value>, call: &mut Call, depth: usize) {
    for (name, value) in named {
        let is_operand = match value {
            Value::Array(items) => history(items).is_some(),
            Value::Object(fields) => operand(fields).is_some(),
            _ => false,
        };
        // The second operand of an operation may be a number.
        let is_second = matches!(name.as_str(), "y" | "x" | "x1" | "x2" | "bias" | "value")
            && (value.is_number() || numbers(value).is_some());
        if is_operand || is_second {
            add(value, call, depth);
        } else if !value.is_null() {
            call.settings.insert(name.clone(), value.clone());
        }
    }
}

/// A tensor or an array as Keras 3 writes them.
fn operand(fields: &Map<String, Value>) -> Option<Operand> {
    let config = fields.get("config");
    if let Some(Value::Array(items)) =
        config.and_then(|config| config.get("keras_history")).or(fields.get("keras_history"))
    {
        return history(items).map(Operand::Tensor);
    }
    let class = fields.get("class_name").and_then(Value::as_str)?;
    if matches!(class, "__numpy__" | "__tensor__" | "__array__") {
        let (values, axes) = numbers(config?.get("value")?)?;
        return Some(Operand::Constant(values, axes));
    }
    None
}

fn constant_of(value: &Value) -> Operand {
    match numbers(value) {
        Some((values, axes)) => Operand::Constant(values, axes),
        // Nothing that is no number is equal to one: the operation finds it to be of no size.
        None => Operand::Constant(Vec::new(), vec![0]),
    }
}

/// Numbers in lists in lists, and the sizes of the lists; nothing where there is anything else, or lists differ.
pub(super) fn numbers(value: &Value) -> Option<(Vec<f64>, Vec<usize>)> {
    fn collect(value: &Value, depth: usize) -> Option<(Vec<f64>, Vec<usize>)> {
        match value {
            Value::Number(number) => {
                Some((vec![number.as_f64().filter(|n| n.is_finite())?], Vec::new()))
            }
            Value::Array(items) if depth < 8 && !items.is_empty() => {
                let parts: Option<Vec<_>> =
                    items.iter().map(|item| collect(item, depth + 1)).collect();
                let parts = parts?;
                let (_, inner) = parts.first()?;
                let inner = inner.clone();
                if parts.iter().any(|(_, axes)| *axes != inner) {
                    return None;
                }
                let axes = [items.len()].into_iter().chain(inner).collect();
                Some((parts.into_iter().flat_map(|(values, _)| values).collect(), axes))
            }
            _ => None,
        }
    }
    collect(value, 0)
}
