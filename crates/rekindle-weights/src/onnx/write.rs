//! Writes a network as an ONNX file: the messages of what its operations say of themselves, and the values of its
//! variables behind them, one after the other, so that they are in memory once.

use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use rekindle_nn::onnx::{Attribute, Initial, Node, OPSET, Onnx, OnnxSettings, Values};
use rekindle_nn::quantized::Bytes;
use serde_json::json;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use super::{CARD, LONGEST, SETTINGS};
use crate::export::{Exported, Variables};
use crate::{ExportOptions, ModelCard, WeightsError, write_atomic};

/// The version of ONNX's file layout that came with [`OPSET`].
const IR_VERSION: i64 = 8;
/// ONNX's number of float32.
const FLOAT: i32 = 1;
/// ONNX's number of bytes.
const UINT8: i32 = 2;
/// ONNX's number of 8-bit integers.
const INT8: i32 = 3;
/// ONNX's number of 32-bit integers.
const INT32: i32 = 6;
/// ONNX's number of int64.
const INT64: i32 = 7;
/// ONNX's number of float16.
const FLOAT16: i32 = 10;

/// Writes a model. `card` is the one before preprocessing was put in front; it goes into the file, with the classes.
///
/// # Errors
/// When a layer has no ONNX form, a value is not finite or too large for a half, the file would have more than 2 GiB, or it
/// cannot be written.
pub(crate) fn write(
    path: &Path,
    card: &ModelCard,
    model: Exported,
    options: ExportOptions,
    bytes: &Bytes,
) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let Exported { card: written, mut variables } = model;
    let settings = OnnxSettings { channels_first: options.channels_first, half: options.half };
    let network = Onnx::of_quantized(&written.graph, settings, bytes)
        .map_err(|error| wrong(error.to_string()))?;
    let head = head(card, &written, &network, options).map_err(wrong)?.encode_to_vec();
    let graph = graph(card, &network).encode_to_vec();
    let tensors: Vec<Tensor<'_>> = network.initials.iter().map(Tensor::new).collect();
    let length: usize = graph.len() + tensors.iter().map(Tensor::field_length).sum::<usize>();
    if length as u64 + head.len() as u64 > LONGEST - 64 {
        return Err(wrong(format!(
            "it would have {length} bytes, but an ONNX file has at most {LONGEST}: write its weights as 16-bit floats"
        )));
    }
    write_atomic(path, |temporary| {
        let io = |error| WeightsError::io(path, error);
        let mut file = BufWriter::new(std::fs::File::create(temporary).map_err(io)?);
        file.write_all(&head).map_err(io)?;
        file.write_all(&key(7, length)).map_err(io)?;
        file.write_all(&graph).map_err(io)?;
        for tensor in &tensors {
            file.write_all(&key(5, tensor.length())).map_err(io)?;
            file.write_all(&tensor.header.encode_to_vec()).map_err(io)?;
            file.write_all(&key(9, tensor.bytes)).map_err(io)?;
            tensor.write(path, &mut variables, &mut file)?;
        }
        file.flush().map_err(io)
    })
}

/// What comes before a field of bytes: its number, and how many there are.
fn key(tag: u32, length: usize) -> Vec<u8> {
    let mut key = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut key);
    encode_varint(length as u64, &mut key);
    key
}

/// A constant that is written.
struct Tensor<'a> {
    initial: &'a Initial,
    /// All but the values.
    header: TensorProto,
    /// How many bytes the values have.
    bytes: usize,
}

impl<'a> Tensor<'a> {
    fn new(initial: &'a Initial) -> Self {
        let (data_type, size) = match (&initial.values, initial.half) {
            (Values::Integers(_), _) => (INT64, 8),
            (Values::Ints32(_), _) => (INT32, 4),
            (Values::Ints8(_), _) => (INT8, 1),
            (Values::Bytes(_), _) => (UINT8, 1),
            (Values::Variable { .. } | Values::Floats(_), true) => (FLOAT16, 2),
            (Values::Variable { .. } | Values::Floats(_), false) => (FLOAT, 4),
        };
        let header = TensorProto {
            dims: initial.shape.iter().map(|&extent| extent as i64).collect(),
            data_type,
            name: initial.name.clone(),
            ..TensorProto::default()
        };
        let bytes = initial.shape.iter().product::<usize>() * size;
        Self { initial, header, bytes }
    }

    fn length(&self) -> usize {
        self.header.encoded_len() + 1 + encoded_len_varint(self.bytes as u64) + self.bytes
    }

    /// With what comes before it in the graph.
    fn field_length(&self) -> usize {
        let length = self.length();
        1 + encoded_len_varint(length as u64) + length
    }

    /// Writes the values; those of a variable are taken out of `variables`.
    fn write(
        &self,
        path: &Path,
        variables: &mut Variables,
        file: &mut impl Write,
    ) -> Result<(), WeightsError> {
        let io = |error| WeightsError::io(path, error);
        let Initial { name, shape, values, half } = self.initial;
        let values = match values {
            Values::Integers(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                return file.write_all(&bytes).map_err(io);
            }
            Values::Ints32(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                return file.write_all(&bytes).map_err(io);
            }
            Values::Ints8(values) => {
                let bytes: Vec<u8> = values.iter().map(|value| value.cast_unsigned()).collect();
                return file.write_all(&bytes).map_err(io);
            }
            Values::Bytes(bytes) => return file.write_all(bytes).map_err(io),
            Values::Floats(values) => values.clone(),
            Values::Variable { layer, spec } => {
                let key = (layer.clone(), spec.name.to_owned());
                let found = variables.remove(&key).map(|(_, values)| values);
                let found = found.filter(|values| values.len() == spec.count());
                let found = found.ok_or_else(|| {
                    let reason =
                        format!("`{name}` has no values of shape {shape:?}", shape = spec.shape);
                    WeightsError::format(path, reason)
                })?;
                spec.to_burn(found)
                    .into_vec::<f32>()
                    .map_err(|error| WeightsError::format(path, format!("`{name}`: {error}")))?
            }
        };
        let count: usize = shape.iter().product();
        let position = values
            .iter()
            .position(|&value| !value.is_finite() || *half && f16::from_f32(value).is_infinite());
        if let Some(position) = position {
            let (tensor, value) = (name.clone(), values[position]);
            if value.is_finite() {
                let reason = format!(
                    "`{tensor}` holds {value} at position {position}, which is too large for a 16-bit float (at most 65504): \
                     write it as float32"
                );
                return Err(WeightsError::format(path, reason));
            }
            return Err(WeightsError::NotFinite { path: path.to_owned(), tensor, value, position });
        }
        if values.len() != count {
            let reason = format!("`{name}` has {} values, expected {count}", values.len());
            return Err(WeightsError::format(path, reason));
        }
        // Some at a time, so that no second copy of all is in memory.
        for part in values.chunks(1 << 16) {
            let bytes: Vec<u8> = match half {
                true => part.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
                false => part.iter().flat_map(|value| value.to_le_bytes()).collect(),
            };
            file.write_all(&bytes).map_err(io)?;
        }
        Ok(())
    }
}

/// All of the file but its graph.
fn head(
    card: &ModelCard,
    written: &ModelCard,
    network: &Onnx,
    options: ExportOptions,
) -> Result<ModelProto, String> {
    let text = |error: serde_json::Error| error.to_string();
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let settings = json!({
        "preprocessing": options.preprocessing,
        "channels_first": options.channels_first,
        "half": options.half,
    });
    let mut metadata = Vec::new();
    if !card.classes.is_empty() {
        metadata.push(entry("classes", serde_json::to_string(&card.classes).map_err(text)?));
    }
    metadata.push(entry("preprocessing", written.preprocessing.clone()));
    metadata.push(entry(CARD, serde_json::to_string(card).map_err(text)?));
    metadata.push(entry(SETTINGS, settings.to_string()));
    let pixels = match written.preprocessing.as_str() {
        "none" => "RGB from 0 to 255".to_owned(),
        mode => format!("RGB preprocessed in Keras's mode `{mode}`"),
    };
    let (input, output) = (&network.input, &network.output);
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "rekindle".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!(
            "Takes `{}`, float32 [batch, {}], {pixels}. Gives `{}`, float32 [batch, {}]. The metadata `classes` are names in \
             the order of the outputs, as a JSON list.",
            input.0,
            listed(&input.1),
            output.0,
            listed(&output.1)
        ),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata,
    })
}

fn listed(extents: &[usize]) -> String {
    let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
    extents.join(", ")
}

/// The graph without its constants.
fn graph(card: &ModelCard, network: &Onnx) -> GraphProto {
    let name = card.architecture().map_or("network", |known| known.family.name);
    GraphProto {
        node: network.nodes.iter().map(node).collect(),
        name: name.into(),
        initializer: Vec::new(),
        input: vec![described(&network.input)],
        output: vec![described(&network.output)],
    }
}

fn node(node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: vec![node.output.clone()],
        name: node.name.clone(),
        op_type: node.op.into(),
        attribute: node.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        domain: String::new(),
    }
}

pub(super) fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let plain = AttributeProto { name: name.into(), ..AttributeProto::default() };
    match value {
        Attribute::Float(f) => AttributeProto { f: *f, r#type: 1, ..plain },
        Attribute::Int(i) => AttributeProto { i: *i, r#type: 2, ..plain },
        Attribute::Text(s) => AttributeProto { s: s.as_bytes().into(), r#type: 3, ..plain },
        Attribute::Ints(ints) => AttributeProto { ints: ints.clone(), r#type: 7, ..plain },
    }
}

/// An input or an output: the number of samples is free.
fn described((name, extents): &(String, Vec<usize>)) -> ValueInfoProto {
    let batch = DimensionProto { dim_value: 0, dim_param: "batch".into() };
    let extents = extents
        .iter()
        .map(|&extent| DimensionProto { dim_value: extent as i64, dim_param: String::new() });
    let shape = TensorShapeProto { dim: [batch].into_iter().chain(extents).collect() };
    let tensor = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}
