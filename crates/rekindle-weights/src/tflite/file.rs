//! A file as it stands there: tensors, operators, and what is said beside them.

use std::collections::HashMap;
use std::ops::Range;

use prost::bytes::Bytes;

use super::names::operator_name;
use super::tables::{Tables, limits};

/// What tensors hold, by TensorFlow Lite's numbers.
pub(super) const FLOAT32: u8 = 0;
pub(super) const FLOAT16: u8 = 1;
pub(super) const INT32: u8 = 2;
pub(super) const INT64: u8 = 4;
pub(super) const INT8: u8 = 9;
pub(super) const FLOAT64: u8 = 10;
pub(super) const BFLOAT16: u8 = 18;

/// Operators whose settings are a list.
const RESHAPE: i32 = 22;
const SQUEEZE: i32 = 43;

/// Integers of fewer bits that stand for numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quantization {
    pub scale: Vec<f32>,
    pub zero: Vec<i64>,
    pub axis: i32,
}

/// A tensor.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub name: String,
    pub shape: Vec<i32>,
    /// The same with -1 for what is not known, where the file has it.
    pub signature: Vec<i32>,
    pub kind: u8,
    /// Where its values are in the file, if it is a constant.
    pub data: Option<Range<usize>>,
    pub quantization: Option<Quantization>,
    /// Whether zeros are left out of its values.
    pub is_sparse: bool,
}

/// An operator.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    pub code: i32,
    /// TensorFlow Lite's name, or that of a program's own operator.
    pub name: String,
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
    pub options_type: u8,
    /// The fields of its settings: the bytes from where each begins.
    options: Vec<Option<[u8; 4]>>,
    /// A setting that is a list.
    pub list: Option<Vec<i32>>,
}

impl Operator {
    /// The bytes of a setting, if it is there.
    pub fn option(&self, number: usize) -> Option<[u8; 4]> {
        self.options.get(number).copied().flatten()
    }

    /// How many settings can be there.
    pub fn options(&self) -> usize {
        self.options.len()
    }

    pub fn int(&self, number: usize) -> i32 {
        self.option(number).map_or(0, i32::from_le_bytes)
    }

    pub fn byte(&self, number: usize) -> u8 {
        self.option(number).map_or(0, |raw| raw[0])
    }

    pub fn flag(&self, number: usize) -> bool {
        self.byte(number) != 0
    }

    pub fn float(&self, number: usize) -> f32 {
        self.option(number).map_or(0.0, f32::from_le_bytes)
    }
}

/// A file.
pub(crate) struct File {
    pub(super) bytes: Bytes,
    pub(super) tensors: Vec<Tensor>,
    pub(super) operators: Vec<Operator>,
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    /// What is said beside the graph, by its name: where it is.
    pub(super) metadata: HashMap<String, Range<usize>>,
    /// What `metadata.rs` has found in it, and in the zip behind the model.
    pub(super) said: super::metadata::Said,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("operators", &self.operators.len()).finish_non_exhaustive()
    }
}

/// A place in a list, seen to be one.
fn place(found: i32, count: usize, what: &str) -> Result<usize, String> {
    let place = usize::try_from(found).ok().filter(|&place| place < count);
    place.ok_or_else(|| format!("damaged: {what} {found} of {count}"))
}

impl File {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is damaged, or of another version.
    pub fn new(bytes: Bytes) -> Result<Self, String> {
        let limits = limits(bytes.len());
        let mut tables = Tables::new(&bytes, &limits);
        let root = tables.root()?;
        let [version, codes, subgraphs, _, buffers, _, metadata, _, external, _] =
            tables.fields(root)?;
        let version = tables.unsigned(version)?;
        if version != 3 {
            return Err(format!("the schema's version is {version}, expected 3"));
        }
        if !tables.tables(external)?.is_empty() {
            return Err("its weights are in other files, which is not supported: convert the model without that".into());
        }
        let mut ranges = Vec::new();
        for buffer in tables.tables(buffers)? {
            let [data, offset, size] = tables.fields(buffer)?;
            let (offset, size) = (tables.long(offset)?, tables.long(size)?);
            // Larger files have values behind the tables; 1 marks that they are not written yet.
            let range = match (tables.bytes(data)?, offset) {
                (Some(range), 0 | 1) => Some(range).filter(|range| !range.is_empty()),
                (None, 0 | 1) => None,
                (_, offset) => {
                    let end = offset.checked_add(size).and_then(|end| usize::try_from(end).ok());
                    match (usize::try_from(offset), end) {
                        (Ok(start), Some(end)) if end <= bytes.len() => Some(start..end),
                        _ => {
                            return Err(format!("damaged: {size} bytes at {offset} are not there"));
                        }
                    }
                }
            };
            ranges.push(range);
        }
        let mut operators_of = Vec::new();
        for code in tables.tables(codes)? {
            let [old, custom, _, new] = tables.fields(code)?;
            // Numbers above 126 do not fit into the first field.
            let code =
                i32::from(tables.byte(old)?.cast_signed()).max(tables.unsigned(new)?.cast_signed());
            let custom = tables.text(custom)?;
            let name = if custom.is_empty() { operator_name(code) } else { custom };
            operators_of.push((code, name));
        }
        let subgraphs = tables.tables(subgraphs)?;
        let Some(&graph) = subgraphs.first() else {
            return Err("damaged: there is no graph".into());
        };
        let [tensors, inputs, outputs, operators] = tables.fields(graph)?;
        let mut found = Vec::new();
        for tensor in tables.tables(tensors)? {
            found.push(self::tensor(&mut tables, tensor, &ranges)?);
        }
        let count = found.len();
        let each = |list: Vec<i32>| {
            list.into_iter().map(|one| place(one, count, "tensor")).collect::<Result<Vec<_>, _>>()
        };
        let inputs = each(tables.integers(inputs)?)?;
        let outputs = each(tables.integers(outputs)?)?;
        let mut all = Vec::new();
        for operator in tables.tables(operators)? {
            all.push(self::operator(&mut tables, operator, &operators_of, count)?);
        }
        let mut beside = HashMap::new();
        for entry in tables.tables(metadata)? {
            let [name, buffer] = tables.fields(entry)?;
            let (name, buffer) = (tables.text(name)?, tables.unsigned(buffer)?);
            let buffer = place(buffer.cast_signed(), ranges.len(), "buffer")?;
            if let Some(range) = ranges[buffer].clone() {
                beside.insert(name, range);
            }
        }
        let mut file = Self {
            tensors: found,
            operators: all,
            inputs,
            outputs,
            metadata: beside,
            said: super::metadata::Said::default(),
            bytes,
        };
        file.said = super::metadata::read(&file)?;
        Ok(file)
    }

    /// The bytes of a part that has been seen to be there.
    pub(super) fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// What is said beside the graph under a name.
    pub(super) fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.metadata.get(name).map(|range| self.part(range))
    }

    /// The integers of a constant; nothing where it is none.
    pub(super) fn integers(&self, tensor: usize) -> Option<Vec<i64>> {
        let tensor = self.tensors.get(tensor)?;
        let bytes = self.part(tensor.data.as_ref()?);
        Some(match tensor.kind {
            INT32 => {
                let words = bytes.as_chunks::<4>().0.iter();
                words.map(|&word| i64::from(i32::from_le_bytes(word))).collect()
            }
            INT64 => {
                bytes.as_chunks::<8>().0.iter().map(|&word| i64::from_le_bytes(word)).collect()
            }
            _ => return None,
        })
    }
}

fn tensor(
    tables: &mut Tables<'_>,
    tensor: usize,
    ranges: &[Option<Range<usize>>],
) -> Result<Tensor, String> {
    let [shape, kind, buffer, name, quantization, _, sparsity, signature] =
        tables.fields(tensor)?;
    let name = tables.text(name)?;
    let buffer = place(tables.unsigned(buffer)?.cast_signed(), ranges.len(), "buffer")
        .map_err(|reason| format!("`{name}`: {reason}"))?;
    let quantization = match quantization {
        None => None,
        Some(at) => {
            let at = tables.follow(at)?;
            let [_, _, scale, zero, _, _, axis] = tables.fields(at)?;
            let (scale, zero) = (tables.floats(scale)?, tables.longs(zero)?);
            let axis = tables.unsigned(axis)?.cast_signed();
            (!scale.is_empty()).then_some(Quantization { scale, zero, axis })
        }
    };
    Ok(Tensor {
        shape: tables.integers(shape)?,
        signature: tables.integers(signature)?,
        kind: tables.byte(kind)?,
        data: ranges[buffer].clone(),
        quantization,
        is_sparse: sparsity.is_some(),
        name,
    })
}

fn operator(
    tables: &mut Tables<'_>,
    operator: usize,
    codes: &[(i32, String)],
    count: usize,
) -> Result<Operator, String> {
    let [code, inputs, outputs, options_type, options] = tables.fields(operator)?;
    let code = place(tables.unsigned(code)?.cast_signed(), codes.len(), "operator")?;
    let (code, name) = codes[code].clone();
    let inputs = tables.integers(inputs)?.into_iter().map(|input| match input {
        -1 => Ok(None),
        input => place(input, count, "tensor").map(Some),
    });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = tables.integers(outputs)?.into_iter();
    let outputs = outputs.map(|output| place(output, count, "tensor"));
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    let (mut fields, mut list) = (Vec::new(), None);
    if let Some(at) = options {
        let table = tables.follow(at)?;
        let found: [Option<usize>; 12] = tables.fields(table)?;
        if matches!(code, RESHAPE | SQUEEZE) && found[0].is_some() {
            list = Some(tables.integers(found[0])?);
        }
        for field in found {
            fields.push(field.map(|at| tables.raw(at)).transpose()?);
        }
    }
    let options_type = tables.byte(options_type)?;
    Ok(Operator { code, name, inputs, outputs, options_type, options: fields, list })
}
