//! A file that Rekindle has written is read as what it was written of: the card in it says which network that is, and the
//! file's operators and constants have to be those that this network is written as. A file that somebody has changed is read
//! by its operators, as any other; only what no operator says is then taken from the card.

use std::collections::HashMap;

use ::safetensors::SafeTensors;
use half::f16;
use rekindle_nn::tflite::{Field, Stored, Tflite, Values};
use rekindle_nn::{Initializer, VariableSpec};
use serde_json::Value as Json;

use super::file::File;
use super::resolve::Opened;
use super::{CARD, SETTINGS, VARIABLES};
use crate::checkpoint::ReadTensor;
use crate::export::{Exported, put_in};
use crate::onnx::{Constant, FileTensors};
use crate::{Dtype, ModelCard, TensorInfo};

/// The card in a file, if it has one that can be read.
pub(super) fn card(file: &File) -> Option<ModelCard> {
    serde_json::from_slice(file.metadata(CARD)?).ok()
}

/// The variables of the card's network, where the file is what that is written as.
pub(super) fn own(opened: &Opened, card: &ModelCard) -> Option<Vec<(TensorInfo, Constant)>> {
    let file = &opened.file;
    let settings: Json = serde_json::from_slice(file.metadata(SETTINGS)?).ok()?;
    let flag = |name: &str| settings.get(name)?.as_bool();
    let mut model = Exported { card: card.clone(), variables: HashMap::new() };
    if flag("preprocessing")? {
        put_in(&mut model).ok()?;
    }
    let half = flag("half")?;
    let expected = Tflite::of(&model.card.graph, half).ok()?;
    if !has_operators(file, &expected) {
        return None;
    }
    // Of the preprocessing, which is none of the card's layers, and what stands beside the graph.
    let mut known = model.variables;
    let kept = kept(file)?;
    known.extend(
        kept.iter().map(|(key, values)| (key.clone(), (vec![values.len()], values.clone()))),
    );
    let mut tensors = FileTensors(opened.weights());
    let mut variables: HashMap<(&str, &str), Constant> = HashMap::new();
    for (place, written) in expected.tensors.iter().enumerate() {
        let Some(values) = &written.values else { continue };
        let numbers = match values {
            Values::Integers(values) => {
                let found = file.integers(place)?;
                found
                    .iter()
                    .copied()
                    .eq(values.iter().map(|&value| i64::from(value)))
                    .then_some(())?;
                continue;
            }
            // Of a quantized network, which is none that is read.
            Values::Ints8 { .. } => return None,
            Values::Floats(values) => values.clone(),
            Values::Computed { layer, specs, setting, compute } => {
                let of = specs.iter().map(|spec| {
                    let found = known.get(&(layer.clone(), spec.name.to_owned()))?;
                    (found.1.len() == spec.count()).then_some(found.1.as_slice())
                });
                compute(&of.collect::<Option<Vec<_>>>()?, *setting)
            }
            Values::Variable { layer, spec, order } => {
                let key = (layer.clone(), spec.name.to_owned());
                match known.get(&key).filter(|_| !kept.contains_key(&key)) {
                    Some((_, values)) => super::write::ordered(values.clone(), &spec.shape, order),
                    None => {
                        let constant = opened.constant(place)?;
                        variables.insert((layer, spec.name), as_keras(&constant, spec, order)?);
                        continue;
                    }
                }
            }
        };
        let is_half = written.stored == Stored::Half;
        let own = numbers.iter().map(|&value| match is_half {
            true => f16::from_f32(value).to_f32(),
            false => value,
        });
        let found = tensors.read(opened.number(place)?).ok()?;
        found.iter().copied().eq(own).then_some(())?;
    }
    let mut placed = Vec::new();
    for (position, layer) in card.graph.layers().iter().enumerate() {
        for spec in card.graph.variables(position) {
            let key = (layer.name.clone(), spec.name.to_owned());
            let found = variables.remove(&(layer.name.as_str(), spec.name));
            let is_whole = found.is_none();
            let constant = match (found, kept.get(&key), spec.initializer) {
                (Some(constant), ..) => constant,
                (None, Some(values), _) if values.len() == spec.count() => {
                    Constant::given(values.clone()).reshaped(spec.shape.clone()).ok()?
                }
                // Nothing depends on it: how many values a Normalization has seen.
                (None, None, Initializer::Constant(value)) if spec.count() == 1 => {
                    Constant::full(value, spec.shape.clone())
                }
                (None, ..) => return None,
            };
            let is_kernel = spec.name.ends_with("kernel");
            let dtype = if half && is_kernel && !is_whole { Dtype::F16 } else { Dtype::F32 };
            let (layer, variable) = key;
            placed.push((TensorInfo { layer, variable, shape: spec.shape, dtype }, constant));
        }
    }
    Some(placed)
}

/// The variables beside the graph.
fn kept(file: &File) -> Option<HashMap<(String, String), Vec<f32>>> {
    let Some(bytes) = file.metadata(VARIABLES) else { return Some(HashMap::new()) };
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let mut all = HashMap::new();
    for (name, view) in tensors.iter() {
        let (layer, variable) = name.rsplit_once('/')?;
        let (words, rest) = view.data().as_chunks::<4>();
        let is_float = view.dtype() == ::safetensors::Dtype::F32 && rest.is_empty();
        let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        is_float.then(|| all.insert((layer.to_owned(), variable.to_owned()), values))?;
    }
    Some(all)
}

/// Whether a file has exactly these tensors and operators, its input and its output.
fn has_operators(file: &File, expected: &Tflite) -> bool {
    let tensors = file.tensors.iter().zip(&expected.tensors).all(|(found, tensor)| {
        let kind = match tensor.stored {
            Stored::Float => 0,
            Stored::Half => 1,
            Stored::Integer => 2,
            Stored::Flag => 6,
            Stored::Int8 => 9,
        };
        let shape = tensor.shape.iter().map(|&size| i32::try_from(size).unwrap_or(-1));
        let open = [-1].into_iter().chain(shape.clone().skip(1));
        let is_open = match tensor.has_batch {
            true => found.signature.iter().copied().eq(open),
            false => found.signature.is_empty(),
        };
        let count: usize = tensor.shape.iter().product();
        let has_values = match tensor.values {
            Some(_) => found.data.is_some() || count == 0,
            None => found.data.is_none(),
        };
        found.name == tensor.name
            && found.kind == kind
            && found.shape.iter().copied().eq(shape)
            && found.quantization.is_none()
            && !found.is_sparse
            && is_open
            && has_values
    });
    let operators = file.operators.iter().zip(&expected.nodes).all(|(found, node)| {
        let form = node.operator.form();
        let is_field = |number: usize| {
            let wanted = form.fields.iter().find(|(own, _)| usize::from(*own) == number);
            match (wanted.map(|(_, field)| *field), found.option(number)) {
                (None, None) => true,
                (Some(Field::Byte(value)), Some(_)) => found.byte(number).cast_signed() == value,
                (Some(Field::Bool(value)), Some(_)) => found.byte(number) == u8::from(value),
                (Some(Field::Int(value)), Some(_)) => found.int(number) == value,
                (Some(Field::Float(value)), Some(_)) => found.float(number) == value,
                (None, Some(_)) | (Some(_), None) => false,
            }
        };
        let count = found.options().max(form.fields.len());
        found.code == form.code
            && found.options_type == form.options
            && (0..count).all(is_field)
            && found.inputs.iter().copied().eq(node.inputs.iter().map(|id| Some(id.0)))
            && found.outputs == [node.output.0]
    });
    file.tensors.len() == expected.tensors.len()
        && file.operators.len() == expected.nodes.len()
        && tensors
        && operators
        && file.inputs == [expected.input.0]
        && file.outputs == [expected.output.0]
}

/// A variable that is written with its axes in another order.
fn as_keras(constant: &Constant, spec: &VariableSpec, order: &[usize]) -> Option<Constant> {
    if order.is_empty() {
        return constant.reshaped(spec.shape.clone()).ok();
    }
    let written = order.iter().map(|&axis| spec.shape.get(axis).copied());
    let back = (0..order.len()).map(|axis| order.iter().position(|&from| from == axis));
    let constant = constant.reshaped(written.collect::<Option<_>>()?).ok()?;
    constant.transposed(&back.collect::<Option<Vec<_>>>()?).ok()
}
