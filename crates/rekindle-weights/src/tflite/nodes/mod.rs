//! Which of ONNX's nodes a file's operators are. Maps stay `[batch, height, width, channels]`: a transposition in front of
//! what wants channels first, and one behind it, are nothing but names of axes to the reader.

mod constants;
mod operators;
mod shapes;

use std::collections::{HashMap, HashSet};

pub(super) use constants::constants;

use super::file::{FLOAT32, File, INT32, INT64, Operator, Tensor};
use crate::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// ONNX's operators in which nodes are written.
const OPSET: i64 = 17;
/// ONNX's numbers of types.
const FLOAT: i32 = 1;
const INTEGER: i32 = 7;
/// Values of a constant that a file does not hold.
const MOST_EQUAL: usize = 1 << 22;

/// A file's graph as nodes.
pub(super) struct Translated {
    pub model: ModelProto,
    /// What each node is called in messages.
    pub labels: Vec<String>,
}

/// The nodes of a file. With `joins`, an activation behind an operator of the same name is said to be a part of its layer; else
/// to be one of its own.
///
/// # Errors
/// When something in it cannot be honoured; the message names operator and tensor.
pub(super) fn translated(
    file: &File,
    constants: &[TensorProto],
    joins: bool,
) -> Result<Translated, String> {
    let mut nodes = Nodes::new(file, joins)?;
    for number in 0..file.operators.len() {
        nodes.operator(number).map_err(|reason| {
            let label = nodes.label(number);
            if reason.starts_with(&label) { reason } else { format!("{label}: {reason}") }
        })?;
    }
    let Nodes { names, nodes, labels, initial, .. } = nodes;
    // The file's own first, so that their numbers are the same in each reading.
    let initial = constants.iter().cloned().chain(initial).collect();
    let of = |tensor: usize| described(&names[tensor], &file.tensors[tensor]);
    let input = file.inputs.iter().map(|&tensor| of(tensor)).collect::<Result<_, _>>()?;
    let output = file.outputs.iter().map(|&tensor| of(tensor)).collect::<Result<_, _>>()?;
    let graph =
        GraphProto { node: nodes, initializer: initial, input, output, ..GraphProto::default() };
    let opset = OperatorSetIdProto { domain: String::new(), version: OPSET };
    let model =
        ModelProto { graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    Ok(Translated { model, labels })
}

/// An input or an output: extents that are not known are 0.
fn described(name: &str, tensor: &Tensor) -> Result<ValueInfoProto, String> {
    if tensor.kind != FLOAT32 {
        return Err(format!(
            "`{name}` holds {}, expected float32: the model is quantised to integers throughout, which is not supported: use the \
             float model that it was made of",
            kind_name(tensor.kind)
        ));
    }
    let extents = if tensor.signature.is_empty() { &tensor.shape } else { &tensor.signature };
    let dim = extents.iter().map(|&extent| DimensionProto {
        dim_value: i64::from(extent).max(0),
        dim_param: String::new(),
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = TensorTypeProto { elem_type: FLOAT, shape };
    let kind = Some(TypeProto { tensor_type: Some(tensor) });
    Ok(ValueInfoProto { name: name.to_owned(), r#type: kind })
}

/// The name of what a tensor holds, `TensorType` in `schema.fbs`.
pub(super) fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 21] = [
        "float32",
        "float16",
        "int32",
        "uint8",
        "int64",
        "text",
        "bool",
        "int16",
        "complex64",
        "int8",
        "float64",
        "complex128",
        "uint64",
        "a resource",
        "a variant",
        "uint32",
        "uint16",
        "int4",
        "bfloat16",
        "int2",
        "uint4",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("an unknown type")
}

/// Each tensor's name, which no other has.
pub(super) fn names(file: &File) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut all = Vec::with_capacity(file.tensors.len());
    for (number, tensor) in file.tensors.iter().enumerate() {
        let own = tensor.name.clone();
        let free = !own.is_empty() && taken.insert(own.clone());
        all.push(if free { own } else { format!("{own}#{number}") });
    }
    all
}

/// A file whose nodes are being written.
pub(super) struct Nodes<'a> {
    pub file: &'a File,
    joins: bool,
    names: Vec<String>,
    /// The operator that makes a tensor.
    makers: HashMap<usize, usize>,
    /// Operators that take a tensor.
    pub readers: HashMap<usize, Vec<usize>>,
    nodes: Vec<NodeProto>,
    labels: Vec<String>,
    initial: Vec<TensorProto>,
    /// The operator whose nodes are being written.
    at: usize,
}

pub(super) fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

/// A setting of a node.
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
}

pub(super) type Attributes = Vec<(&'static str, Attribute)>;

impl<'a> Nodes<'a> {
    fn new(file: &'a File, joins: bool) -> Result<Self, String> {
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<usize, Vec<usize>>::new());
        for (number, operator) in file.operators.iter().enumerate() {
            for &output in &operator.outputs {
                if makers.insert(output, number).is_some() || file.tensors[output].data.is_some() {
                    let name = &file.tensors[output].name;
                    return Err(format!("damaged: `{name}` is made twice"));
                }
            }
            for input in operator.inputs.iter().flatten() {
                readers.entry(*input).or_default().push(number);
            }
        }
        Ok(Self {
            file,
            joins,
            names: names(file),
            makers,
            readers,
            nodes: Vec::new(),
            labels: Vec::new(),
            initial: Vec::new(),
            at: 0,
        })
    }

    /// What an operator is called in messages.
    fn label(&self, number: usize) -> String {
        let operator = &self.file.operators[number];
        let output = operator.outputs.first().map_or("", |&output| &self.file.tensors[output].name);
        format!("operator {number} ({}) of `{output}`", operator.name)
    }

    /// The operator whose nodes are being written.
    pub fn own(&self) -> &'a Operator {
        &self.file.operators[self.at]
    }

    pub fn tensor(&self, tensor: usize) -> &'a Tensor {
        &self.file.tensors[tensor]
    }

    /// The operator that makes a tensor, where it is of this name.
    pub fn made_by(&self, tensor: usize, name: &str) -> Option<&'a Operator> {
        let operator = &self.file.operators[*self.makers.get(&tensor)?];
        (operator.name == name).then_some(operator)
    }

    /// An input that has to be there.
    pub fn input(&self, number: usize) -> Result<usize, String> {
        let found = self.own().inputs.get(number).copied().flatten();
        found.ok_or_else(|| format!("input {number} is missing"))
    }

    /// An input that may be left out.
    pub fn optional(&self, number: usize) -> Option<usize> {
        self.own().inputs.get(number).copied().flatten()
    }

    /// The name of a tensor's value.
    pub fn value(&self, tensor: usize) -> String {
        self.names[tensor].clone()
    }

    pub fn is_constant(&self, tensor: usize) -> bool {
        self.tensor(tensor).data.is_some()
    }

    pub fn is_integer(&self, tensor: usize) -> bool {
        matches!(self.tensor(tensor).kind, INT32 | INT64)
    }

    pub fn rank(&self, tensor: usize) -> usize {
        self.tensor(tensor).shape.len()
    }

    /// The size of the last axis.
    pub fn channels(&self, tensor: usize) -> i64 {
        self.tensor(tensor).shape.last().map_or(0, |&size| i64::from(size))
    }

    /// The integers of an input that is a constant.
    pub fn list(&self, number: usize) -> Result<Vec<i64>, String> {
        let tensor = self.input(number)?;
        self.file.integers(tensor).ok_or_else(|| {
            format!(
                "input {number}, `{}`, is computed, expected constant integers",
                self.names[tensor]
            )
        })
    }

    /// The one number of a constant.
    pub fn number(&self, tensor: usize) -> Option<f32> {
        let tensor = self.tensor(tensor);
        let bytes = self.file.part(tensor.data.as_ref()?);
        match (tensor.kind, <[u8; 4]>::try_from(bytes)) {
            (FLOAT32, Ok(bytes)) => Some(f32::from_le_bytes(bytes)),
            _ => None,
        }
    }

    /// Sees that there are no settings but these, and from `least` to `most` inputs.
    pub fn only(
        &self,
        options: &[usize],
        inputs: std::ops::RangeInclusive<usize>,
    ) -> Result<(), String> {
        let own = self.own();
        let unknown = (0..own.options())
            .find(|number| own.option(*number).is_some() && !options.contains(number));
        if let Some(number) = unknown {
            return Err(format!("its setting {number} would not be honoured"));
        }
        if !inputs.contains(&own.inputs.len()) {
            let (least, most) = (inputs.start(), inputs.end());
            return Err(format!("found {} inputs, expected {least} to {most}", own.inputs.len()));
        }
        Ok(())
    }

    /// Integers as a constant.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("#integers {}", self.initial.len());
        self.initial.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: INTEGER,
            int64_data: values.to_vec(),
            name: name.clone(),
            ..TensorProto::default()
        });
        name
    }

    /// Equal numbers as a constant; a file may claim any extents.
    pub fn full(&mut self, value: f32, count: usize) -> Result<String, String> {
        if count > MOST_EQUAL {
            return Err(format!("a constant of {count} values is more than any network has"));
        }
        let name = format!("#numbers {}", self.initial.len());
        self.initial.push(TensorProto {
            dims: vec![count as i64],
            data_type: FLOAT,
            float_data: vec![value; count],
            name: name.clone(),
            ..TensorProto::default()
        });
        Ok(name)
    }

    /// What a node's layer is called: converters join the names of what they have joined.
    fn layer_name(&self) -> String {
        let own = self.own();
        let output = own.outputs.first().map_or("", |&output| self.names[output].as_str());
        let first = output.split(';').next().unwrap_or_default();
        // The end of a graph has the function's name; the weights say more.
        if first.contains("PartitionedCall") && !first.contains('/') {
            let weights =
                own.inputs.get(1).copied().flatten().filter(|&input| self.is_constant(input));
            if let Some(weights) = weights {
                let name = self.names[weights].split(';').next().unwrap_or_default();
                return name.to_owned();
            }
            return own.name.to_lowercase();
        }
        first.to_owned()
    }

    /// Adds a node, and gives the name of what it makes.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Attributes) -> String {
        let output = format!("#{} {}", self.nodes.len(), op);
        let name = self.layer_name();
        self.add(op, name, inputs, &output, attributes);
        output
    }

    fn add(
        &mut self,
        op: &str,
        name: String,
        inputs: &[&str],
        output: &str,
        attributes: Attributes,
    ) {
        let attribute = attributes.into_iter().map(|(name, value)| {
            let plain = AttributeProto { name: name.into(), ..AttributeProto::default() };
            match value {
                Attribute::Float(f) => AttributeProto { f, r#type: 1, ..plain },
                Attribute::Int(i) => AttributeProto { i, r#type: 2, ..plain },
                Attribute::Text(s) => AttributeProto { s: s.as_bytes().into(), r#type: 3, ..plain },
                Attribute::Ints(ints) => AttributeProto { ints, r#type: 7, ..plain },
            }
        });
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name,
            op_type: op.to_owned(),
            attribute: attribute.collect(),
            domain: String::new(),
        });
        self.labels.push(self.label(self.at));
    }

    /// A node that the reader refuses, if the answer depends on it.
    pub fn unknown(&mut self) -> Result<(), String> {
        let own = self.own();
        let outputs: Vec<String> =
            own.outputs.iter().map(|&output| self.names[output].clone()).collect();
        for output in outputs {
            self.add(&own.name, String::new(), &[], &output, Vec::new());
        }
        Ok(())
    }

    /// Gives the operator's value.
    pub fn ends(&mut self, value: &str) -> Result<(), String> {
        let [output] = self.own().outputs[..] else {
            return Err(format!("it makes {} values, expected one", self.own().outputs.len()));
        };
        let output = self.names[output].clone();
        self.add("Identity", String::new(), &[value], &output, Vec::new());
        Ok(())
    }

    /// The same, behind the activation that the operator ends with.
    pub fn ends_with(&mut self, value: &str, fused: u8) -> Result<(), String> {
        let clip = |low: f32, high: f32| {
            vec![("min", Attribute::Float(low)), ("max", Attribute::Float(high))]
        };
        let (op, attributes) = match fused {
            0 => return self.ends(value),
            1 => ("Relu", Vec::new()),
            2 => ("Clip", clip(-1.0, 1.0)),
            3 => ("Clip", clip(0.0, 6.0)),
            4 => ("Tanh", Vec::new()),
            other => {
                return Err(format!("it ends with activation {other}, which is not supported"));
            }
        };
        let output = self.function_node(op, &[value], attributes);
        self.ends(&output)
    }

    /// A node of a function of single values, which may be a part of what comes before it.
    pub fn function_node(&mut self, op: &str, inputs: &[&str], attributes: Attributes) -> String {
        let output = format!("#{} {op}", self.nodes.len());
        let mut name = self.layer_name();
        if !self.joins {
            // Of no scope that a layer with weights is of.
            name = format!("{}_{}", name.replace('/', "_"), op.to_lowercase());
        }
        self.add(op, name, inputs, &output, attributes);
        output
    }

    /// Channels first, of maps.
    pub fn first(&mut self, value: &str) -> String {
        self.node("Transpose", &[value], vec![("perm", ints(&[0, 3, 1, 2]))])
    }

    /// Channels last again.
    pub fn last(&mut self, value: &str) -> String {
        self.node("Transpose", &[value], vec![("perm", ints(&[0, 2, 3, 1]))])
    }
}
