//! Writes a network as a TensorFlow Lite file: constants first, so that each is in memory once, then the tables, then a zip of
//! the labels, as Android's task library reads it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use ::safetensors::tensor::{Dtype as SafeDtype, TensorView};
use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, WIPOffset};
use half::f16;
use rekindle_nn::quantized::Bytes;
use rekindle_nn::tflite::{Field, Form, Grid, Node, Stored, Tensor, Tflite, Values};
use rekindle_pixels::Preprocessing;
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::metadata::{self, Facts, LABELS};
use super::{CARD, LONGEST, SETTINGS, VARIABLES};
use crate::export::{Exported, Variables};
use crate::{ExportOptions, ModelCard, WeightsError, write_atomic};

/// The schema's version, and its mark.
const VERSION: u32 = 3;
const IDENTIFIER: &str = "TFL3";
/// Constants begin at multiples of so many bytes, as the schema demands.
const ALIGNMENT: usize = 16;

type Offset = WIPOffset<TableFinishedWIPOffset>;

/// A field of a table.
enum Slot {
    Field(Field),
    Unsigned(u32),
    Offset(WIPOffset<()>),
}

/// A table that is being written: its fields by the schema's numbers.
pub(super) struct Table(Vec<(u16, Slot)>);

impl Table {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    fn with(mut self, number: u16, slot: Slot) -> Self {
        self.0.push((number, slot));
        self
    }

    pub fn byte(self, number: u16, value: i8) -> Self {
        self.with(number, Slot::Field(Field::Byte(value)))
    }

    pub fn unsigned(self, number: u16, value: u32) -> Self {
        self.with(number, Slot::Unsigned(value))
    }

    pub fn offset<T>(self, number: u16, offset: WIPOffset<T>) -> Self {
        self.with(number, Slot::Offset(WIPOffset::new(offset.value())))
    }

    /// A table of one of several kinds, and which.
    pub fn union<T>(self, kind: u16, which: u8, number: u16, offset: WIPOffset<T>) -> Self {
        self.byte(kind, which.cast_signed()).offset(number, offset)
    }

    pub fn end(self, to: &mut FlatBufferBuilder<'_>) -> Offset {
        let start = to.start_table();
        for (number, slot) in self.0 {
            let place = 4 + 2 * number;
            match slot {
                Slot::Field(Field::Byte(value)) => to.push_slot_always(place, value),
                Slot::Field(Field::Int(value)) => to.push_slot_always(place, value),
                Slot::Field(Field::Bool(value)) => to.push_slot_always(place, value),
                Slot::Field(Field::Float(value)) => to.push_slot_always(place, value),
                Slot::Unsigned(value) => to.push_slot_always(place, value),
                Slot::Offset(value) => to.push_slot_always(place, value),
            }
        }
        to.end_table(start)
    }
}

/// Writes a model. `card` is the one before preprocessing was put in front; it goes into the file, with the classes.
///
/// # Errors
/// When a layer has no TensorFlow Lite form, a value is not finite or too large for a half, the file would have more than
/// 2 GiB, its metadata has no words for its preprocessing, or it cannot be written.
pub(crate) fn write(
    path: &Path,
    card: &ModelCard,
    model: Exported,
    options: ExportOptions,
    integers: &Bytes,
) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let Exported { card: written, mut variables } = model;
    let is_quantized = !integers.values.is_empty();
    let network = match is_quantized {
        true => Tflite::of_quantized(&written.graph, integers),
        false => Tflite::of(&written.graph, options.half),
    };
    let network = network.map_err(|error| wrong(error.to_string()))?;
    let labels = labels(card).map_err(wrong)?;
    let said = said(card, &written, &network, labels.is_some()).map_err(wrong)?;
    let kept = match is_quantized {
        true => None,
        false => kept(card, &network, &variables).map_err(wrong)?,
    };
    let text = |error: serde_json::Error| error.to_string();
    let own = serde_json::to_string(card).map_err(text).map_err(wrong)?;
    let settings = json!({ "preprocessing": options.preprocessing, "half": options.half });
    let mut beside = vec![
        (metadata::NAME, said),
        (CARD, own.into_bytes()),
        (SETTINGS, settings.to_string().into_bytes()),
    ];
    beside.extend(kept.map(|kept| (VARIABLES, kept)));

    let constants = network.tensors.iter().filter(|tensor| tensor.values.is_some());
    let bytes: usize = constants.map(|tensor| size(tensor) + ALIGNMENT + 4).sum();
    let rest: usize = beside.iter().map(|(_, bytes)| bytes.len() + ALIGNMENT).sum();
    // Tables are about so large.
    let tables = 512 * (network.tensors.len() + network.nodes.len()) + (1 << 12);
    let all = bytes.saturating_add(rest).saturating_add(tables);
    if all as u64 > LONGEST {
        return Err(wrong(format!(
            "it would have about {all} bytes, but a TensorFlow Lite file has at most {LONGEST}: write its weights as 16-bit floats"
        )));
    }
    let mut to = FlatBufferBuilder::with_capacity(all);
    let mut buffers = vec![Table::new().end(&mut to)];
    let mut buffer_of = Vec::with_capacity(network.tensors.len());
    for tensor in &network.tensors {
        let Some(values) = &tensor.values else {
            buffer_of.push(0);
            continue;
        };
        let bytes = encoded(path, tensor, values, &mut variables)?;
        buffer_of.push(buffers.len() as u32);
        buffers.push(buffer(&mut to, &bytes));
    }
    let mut entries = Vec::new();
    for (name, bytes) in &beside {
        let number = buffers.len() as u32;
        buffers.push(buffer(&mut to, bytes));
        let name = to.create_string(name);
        entries.push(Table::new().offset(0, name).unsigned(1, number).end(&mut to));
    }
    let (codes, graph) = graph(&mut to, &network, &buffer_of).map_err(wrong)?;
    let name = |id: rekindle_nn::tflite::TensorId| network.tensors[id.0].name.as_str();
    let signature = signature(&mut to, [network.input, network.output].map(|id| (name(id), id.0)));
    let (codes, graphs) = (to.create_vector(&codes), to.create_vector(&[graph]));
    let (buffers, entries) = (to.create_vector(&buffers), to.create_vector(&entries));
    let signatures = to.create_vector(&[signature]);
    let description = to.create_string(concat!("rekindle ", env!("CARGO_PKG_VERSION")));
    let root = Table::new()
        .unsigned(0, VERSION)
        .offset(1, codes)
        .offset(2, graphs)
        .offset(3, description)
        .offset(4, buffers)
        .offset(6, entries)
        .offset(7, signatures)
        .end(&mut to);
    // With the root's place and the mark in front, so that constants are where they should.
    fill(&mut to, 8);
    to.finish(root, Some(IDENTIFIER));
    write_atomic(path, |temporary| {
        let io = |error| WeightsError::io(path, error);
        let mut file = File::create(temporary).map_err(io)?;
        file.write_all(to.finished_data()).map_err(io)?;
        let Some(labels) = &labels else { return Ok(()) };
        let zipped = |error: zip::result::ZipError| WeightsError::io(path, error.into());
        let mut zip = ZipWriter::new(file);
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(LABELS, stored).map_err(zipped)?;
        zip.write_all(labels.as_bytes()).map_err(io)?;
        zip.finish().map_err(zipped)?.flush().map_err(io)
    })
}

/// Puts zeros in front, so that with `more` bytes before it what is there begins at a multiple of [`ALIGNMENT`] from the end.
fn fill(to: &mut FlatBufferBuilder<'_>, more: usize) {
    while !(to.unfinished_data().len() + more).is_multiple_of(ALIGNMENT) {
        to.push(0_u8);
    }
}

/// A buffer of bytes.
fn buffer(to: &mut FlatBufferBuilder<'_>, bytes: &[u8]) -> Offset {
    // A text is written as a vector of bytes is, with a zero behind it, and at once.
    fill(to, bytes.len() + 1);
    let data = to.create_byte_string(bytes);
    Table::new().offset(0, data).end(to)
}

/// The classes' names, one a line.
fn labels(card: &ModelCard) -> Result<Option<String>, String> {
    if card.classes.is_empty() {
        return Ok(None);
    }
    if let Some(class) = card.classes.iter().find(|class| class.contains(['\n', '\r'])) {
        return Err(format!(
            "the class `{class}` has a line break, and a TensorFlow Lite file has a line for each class: give it another name"
        ));
    }
    Ok(Some(card.classes.iter().map(|class| format!("{class}\n")).collect()))
}

/// TensorFlow Lite's own metadata.
fn said(
    card: &ModelCard,
    written: &ModelCard,
    network: &Tflite,
    has_labels: bool,
) -> Result<Vec<u8>, String> {
    let mode: Preprocessing = written.preprocessing.parse()?;
    let graph = &written.graph;
    let Some(image) = graph.input().as_map() else { return Err("it takes no images".into()) };
    let is_probability = graph.last().is_some_and(|last| last.op.activation().is_probability());
    metadata::written(&Facts {
        name: card.architecture().map_or("network", |known| known.family.title),
        description: &card.description,
        licence: &card.licence,
        input: &network.tensors[network.input.0].name,
        output: &network.tensors[network.output.0].name,
        image,
        linear: mode.linear(image[2]),
        is_probability,
        has_labels,
    })
}

/// The variables that the graph does not hold as they are, as safetensors: a normalization's, which became a scale and a
/// shift.
fn kept(
    card: &ModelCard,
    network: &Tflite,
    variables: &Variables,
) -> Result<Option<Vec<u8>>, String> {
    let whole: HashSet<(&str, &str)> = network
        .tensors
        .iter()
        .filter_map(|tensor| match &tensor.values {
            Some(Values::Variable { layer, spec, .. }) => Some((layer.as_str(), spec.name)),
            _ => None,
        })
        .collect();
    let mut own: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (position, layer) in card.graph.layers().iter().enumerate() {
        for spec in card.graph.variables(position) {
            if whole.contains(&(layer.name.as_str(), spec.name)) {
                continue;
            }
            let key = (layer.name.clone(), spec.name.to_owned());
            // A variable without values is named where it is written.
            let Some((_, values)) = variables.get(&key) else { continue };
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            own.insert(format!("{}/{}", layer.name, spec.name), (vec![values.len()], bytes));
        }
    }
    if own.is_empty() {
        return Ok(None);
    }
    let views = own.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(SafeDtype::F32, shape.clone(), bytes);
        view.map(|view| (name.clone(), view)).map_err(|error| error.to_string())
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    ::safetensors::serialize(views, None).map(Some).map_err(|error| error.to_string())
}

/// How many bytes a constant has.
fn size(tensor: &Tensor) -> usize {
    let count: usize = tensor.shape.iter().product();
    count
        * match tensor.stored {
            Stored::Float | Stored::Integer => 4,
            Stored::Half => 2,
            Stored::Flag | Stored::Int8 => 1,
        }
}

/// Values in Keras's layout with its axes in another order.
pub(super) fn ordered<T: Copy>(values: Vec<T>, shape: &[usize], order: &[usize]) -> Vec<T> {
    if order.iter().copied().eq(0..order.len()) {
        return values;
    }
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let sizes: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
    let mut index = vec![0; sizes.len()];
    let mut place = 0;
    let mut all = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        all.push(values[place]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            place += steps[axis];
            if index[axis] < sizes[axis] {
                break;
            }
            place -= steps[axis] * sizes[axis];
            index[axis] = 0;
        }
    }
    all
}

/// The numbers of a constant, in the order in which they are written. A variable that is written as it is is taken out of
/// `variables`.
fn numbers(values: &Values, variables: &mut Variables) -> Result<Vec<f32>, String> {
    Ok(match values {
        Values::Floats(values) => values.clone(),
        Values::Integers(_) | Values::Ints8 { .. } => Vec::new(),
        Values::Variable { layer, spec, order } => {
            let found = variables.remove(&(layer.clone(), spec.name.to_owned()));
            let found =
                found.map(|(_, values)| values).filter(|values| values.len() == spec.count());
            let found = found.ok_or_else(|| {
                format!("it has no values of shape {shape:?}", shape = spec.shape)
            })?;
            ordered(found, &spec.shape, order)
        }
        Values::Computed { layer, specs, setting, compute } => {
            let of = specs.iter().map(|spec| {
                let found = variables.get(&(layer.clone(), spec.name.to_owned()));
                let found = found.filter(|(_, values)| values.len() == spec.count());
                found.map(|(_, values)| values.as_slice()).ok_or_else(|| {
                    format!(
                        "`{layer}/{}` has no values of shape {shape:?}",
                        spec.name,
                        shape = spec.shape
                    )
                })
            });
            compute(&of.collect::<Result<Vec<_>, String>>()?, *setting)
        }
    })
}

/// A constant's bytes.
fn encoded(
    path: &Path,
    tensor: &Tensor,
    values: &Values,
    variables: &mut Variables,
) -> Result<Vec<u8>, WeightsError> {
    let name = &tensor.name;
    let wrong = |reason: String| WeightsError::format(path, format!("`{name}`: {reason}"));
    if let Values::Integers(values) = values {
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    if let Values::Ints8 { values, spec, order } = values {
        let ordered = ordered(values.clone(), &spec.shape, order);
        return Ok(ordered.into_iter().map(i8::cast_unsigned).collect());
    }
    let values = numbers(values, variables).map_err(wrong)?;
    let half = tensor.stored == Stored::Half;
    let is_lost = |&value: &f32| !value.is_finite() || half && f16::from_f32(value).is_infinite();
    if let Some(position) = values.iter().position(is_lost) {
        let (tensor, value) = (name.clone(), values[position]);
        if value.is_finite() {
            return Err(wrong(format!(
                "holds {value} at position {position}, which is too large for a 16-bit float (at most 65504): write it as float32"
            )));
        }
        return Err(WeightsError::NotFinite { path: path.to_owned(), tensor, value, position });
    }
    let count: usize = tensor.shape.iter().product();
    if values.len() != count {
        return Err(wrong(format!("it has {} values, expected {count}", values.len())));
    }
    Ok(match half {
        true => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        false => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    })
}

/// The operators' numbers, and the graph.
fn graph(
    to: &mut FlatBufferBuilder<'_>,
    network: &Tflite,
    buffer_of: &[u32],
) -> Result<(Vec<Offset>, Offset), String> {
    let int =
        |size: usize| i32::try_from(size).map_err(|_| format!("a size of {size} is too large"));
    let mut tensors = Vec::new();
    for (tensor, &buffer) in network.tensors.iter().zip(buffer_of) {
        let shape = tensor.shape.iter().map(|&size| int(size)).collect::<Result<Vec<_>, _>>()?;
        let name = to.create_string(&tensor.name);
        let kind = match tensor.stored {
            Stored::Float => 0,
            Stored::Half => 1,
            Stored::Integer => 2,
            Stored::Flag => 6,
            Stored::Int8 => 9,
        };
        let own = to.create_vector(&shape);
        let grid = tensor.grid.as_ref().map(|grid| grid_table(to, grid));
        let mut table =
            Table::new().offset(0, own).byte(1, kind).unsigned(2, buffer).offset(3, name);
        if let Some(grid) = grid {
            table = table.offset(4, grid);
        }
        if tensor.has_batch {
            // The number of samples is free.
            let open: Vec<i32> = [-1].into_iter().chain(shape[1..].iter().copied()).collect();
            table = table.offset(7, to.create_vector(&open));
        }
        let table = table.with(8, Slot::Field(Field::Bool(true)));
        tensors.push(table.end(to));
    }
    let mut codes: Vec<Offset> = Vec::new();
    let mut numbers: HashMap<(i32, i32), u32> = HashMap::new();
    let mut operators = Vec::new();
    for node in &network.nodes {
        let form = match network.tensors[node.output.0].stored {
            Stored::Int8 => node.operator.form_of_bytes(),
            _ => node.operator.form(),
        };
        let key = (form.code, form.version);
        let number = *numbers.entry(key).or_insert_with(|| {
            // Readers from before 2020 know the first field, which has numbers up to 127.
            let old = i8::try_from(form.code).unwrap_or(127);
            let table = Table::new()
                .byte(0, old)
                .with(2, Slot::Field(Field::Int(form.version)))
                .with(3, Slot::Field(Field::Int(form.code)));
            codes.push(table.end(to));
            codes.len() as u32 - 1
        });
        operators.push(operator(to, node, &form, number)?);
    }
    let ends = [network.input, network.output].map(|id| int(id.0));
    let [input, output] = ends;
    let (tensors, operators) = (to.create_vector(&tensors), to.create_vector(&operators));
    let (inputs, outputs) = (to.create_vector(&[input?]), to.create_vector(&[output?]));
    let name = to.create_string("main");
    let graph = Table::new()
        .offset(0, tensors)
        .offset(1, inputs)
        .offset(2, outputs)
        .offset(3, operators)
        .offset(4, name)
        .end(to);
    Ok((codes, graph))
}

/// What integers stand for.
fn grid_table(to: &mut FlatBufferBuilder<'_>, grid: &Grid) -> Offset {
    let steps = to.create_vector(&grid.steps);
    let zeros = to.create_vector(&vec![grid.zero; grid.steps.len()]);
    let table = Table::new().offset(2, steps).offset(3, zeros);
    table.with(6, Slot::Field(Field::Int(grid.axis))).end(to)
}

fn operator(
    to: &mut FlatBufferBuilder<'_>,
    node: &Node,
    form: &Form,
    number: u32,
) -> Result<Offset, String> {
    let options = (form.options != 0).then(|| {
        let fields = form.fields.iter().map(|&(number, field)| (number, Slot::Field(field)));
        Table(fields.collect()).end(to)
    });
    let int = |id: usize| i32::try_from(id).map_err(|_| "too many tensors".to_owned());
    let inputs = node.inputs.iter().map(|id| int(id.0)).collect::<Result<Vec<_>, _>>()?;
    let (inputs, outputs) = (to.create_vector(&inputs), to.create_vector(&[int(node.output.0)?]));
    let mut table = Table::new().unsigned(0, number).offset(1, inputs).offset(2, outputs);
    if let Some(options) = options {
        table = table.union(3, form.options, 4, options);
    }
    Ok(table.end(to))
}

/// What programs call the input and the output.
fn signature(to: &mut FlatBufferBuilder<'_>, ends: [(&str, usize); 2]) -> Offset {
    let [input, output] = ends.map(|(name, id)| {
        let name = to.create_string(name);
        let map = Table::new().offset(0, name).unsigned(1, id as u32).end(to);
        to.create_vector(&[map])
    });
    let key = to.create_string("serving_default");
    Table::new().offset(0, input).offset(1, output).offset(2, key).unsigned(4, 0).end(to)
}
