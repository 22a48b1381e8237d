//! A network as TensorFlow Lite has it, as plain data: tensors and operators. rekindle-weights writes them to a file.
//!
//! Each operation writes its own form ([`Operation::to_tflite`](crate::ops::Operation::to_tflite)). Maps are `[batch, height,
//! width, channels]` and vectors `[batch, features]`, as with Keras; weights have the layouts of TensorFlow Lite's operators.
//! Numbers are float32; with `half`, kernels are stored as 16-bit floats, and a `DEQUANTIZE` makes float32 of them, as
//! TensorFlow's converter does it. What of a quantized network is bytes is int8, with a [`Grid`].

mod layer;
mod operator;

use std::collections::HashMap;

pub use layer::TfliteLayer;
pub use operator::{Field, Form, Fused, Moves, Operator};

use crate::quantized::{Bytes, Product, Scale};
use crate::written::{self, Names, images, output_name, taken};
use crate::{Graph, NetworkError, Source, VariableSpec};

/// A tensor by its place in [`Tflite::tensors`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId(pub usize);

/// Makes a constant of variables, in Keras's layout, and of a setting.
pub type Compute = fn(&[&[f32]], f64) -> Vec<f32>;

/// The values of a constant.
#[derive(Debug, Clone)]
pub enum Values {
    /// A layer's variable.
    Variable {
        /// The layer's name.
        layer: String,
        /// The variable.
        spec: VariableSpec,
        /// Keras's axes in the order in which they are written; without any, as Keras has them.
        order: Vec<usize>,
    },
    /// What is made of some of a layer's variables, none of which is in the file as it is.
    Computed {
        /// The layer's name.
        layer: String,
        /// The variables.
        specs: Vec<VariableSpec>,
        /// A setting of the layer.
        setting: f64,
        /// What is done with them.
        compute: Compute,
    },
    /// Numbers.
    Floats(Vec<f32>),
    /// Integers: axes, sizes, biases.
    Integers(Vec<i32>),
    /// Integers of 8 bits, of a variable in Keras's layout.
    Ints8 {
        /// The values.
        values: Vec<i8>,
        /// The variable.
        spec: VariableSpec,
        /// Keras's axes in the order in which they are written.
        order: Vec<usize>,
    },
}

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// float32.
    Float,
    /// 16-bit floats.
    Half,
    /// 32-bit integers.
    Integer,
    /// 8-bit integers.
    Int8,
    /// Yes or no.
    Flag,
}

/// What integers stand for: `step * (integer - zero)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// One step, or one for each place of the axis.
    pub steps: Vec<f32>,
    /// The integer of zero.
    pub zero: i64,
    /// The axis that steps are for.
    pub axis: i32,
}

impl Grid {
    /// Bytes as TensorFlow Lite has them, which counts them from -128.
    fn of(Scale { step, zero }: Scale) -> Self {
        Self { steps: vec![step], zero: i64::from(zero) - 128, axis: 0 }
    }
}

/// A tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The layer's name for what the layer makes; else `layer/variable` or `layer/OPERATOR`.
    pub name: String,
    /// Its extents; that of the batch, which comes first, is 1.
    pub shape: Vec<usize>,
    /// Whether its first extent is that of the batch.
    pub has_batch: bool,
    /// What it holds.
    pub stored: Stored,
    /// What its integers stand for, where they are numbers.
    pub grid: Option<Grid>,
    /// Its values, in the order of its shape, where it is a constant.
    pub values: Option<Values>,
}

/// An operator, which makes one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operator.
    pub operator: Operator,
    /// What it takes.
    pub inputs: Vec<TensorId>,
    /// What it makes.
    pub output: TensorId,
}

/// A network's graph.
#[derive(Debug, Clone)]
pub struct Tflite {
    /// All tensors: values and constants.
    pub tensors: Vec<Tensor>,
    /// In an order in which each comes behind what it takes.
    pub nodes: Vec<Node>,
    /// The images that come in.
    pub input: TensorId,
    /// What comes out.
    pub output: TensorId,
}

impl Tflite {
    /// The TensorFlow Lite form of a network; with `half`, kernels are stored as 16-bit floats.
    ///
    /// # Errors
    /// When it takes no images, or a layer has no such form; the message names the layer and says why.
    pub fn of(graph: &Graph, half: bool) -> Result<Self, NetworkError> {
        Self::written(graph, half, &Bytes::default())
    }

    /// The same of a quantized network: what is bytes is int8. Images and what comes out are float32.
    ///
    /// # Errors
    /// As [`of`](Self::of)'s.
    pub fn of_quantized(graph: &Graph, bytes: &Bytes) -> Result<Self, NetworkError> {
        Self::written(graph, false, bytes)
    }

    fn written(graph: &Graph, half: bool, bytes: &Bytes) -> Result<Self, NetworkError> {
        let [height, width, channels] = images(graph, "TensorFlow Lite")?;
        let mut writer = Writer { half, names: Names::of(graph), ..Writer::default() };
        let input = writer.value("image", &[height, width, channels], Stored::Float);
        let end_name = writer.names.free(output_name(graph));
        let mut values: HashMap<Source, TensorId> = HashMap::from([(Source::Input, input)]);
        for position in graph.part(None, None)?.layers {
            let layer = &graph.layers()[position];
            let mut inputs = taken(graph, layer, &values)?;
            let computes = bytes.computes(graph, position);
            if !computes {
                inputs.iter_mut().for_each(|(value, _)| *value = writer.floats(*value));
            }
            let start = writer.nodes.len();
            let variables = graph.variables(position);
            let product = bytes.products.get(&layer.name).filter(|_| computes);
            let mut part = TfliteLayer::new(&mut writer, &layer.name, inputs, variables, product);
            let value = layer.op.to_tflite(&mut part).map_err(|reason| NetworkError::Tflite {
                layer: layer.name.as_str().into(),
                class: layer.op.class().into(),
                reason: reason.into(),
            })?;
            if writer.nodes[start..].iter().any(|node| node.output == value) {
                writer.tensors[value.0].name.clone_from(&layer.name);
            }
            let value = match bytes.values.get(&layer.name) {
                Some(scale) if computes => {
                    writer.in_bytes(start, value, &Grid::of(*scale));
                    value
                }
                Some(scale) => writer.rounded(value, &Grid::of(*scale)),
                None => value,
            };
            values.insert(Source::Layer(position), value);
        }
        let end = written::output(graph, &mut values)?;
        let mut end = writer.floats(end);
        if end == input {
            let inputs = vec![(input, graph.input())];
            let mut part = TfliteLayer::new(&mut writer, &end_name, inputs, Vec::new(), None);
            end = part.reshaped(input, &[height, width, channels]).map_err(NetworkError::graph)?;
        }
        writer.tensors[end.0].name = end_name;
        let Writer { tensors, nodes, .. } = writer;
        Ok(Self { tensors, nodes, input, output: end })
    }
}

/// A graph that is being written.
#[derive(Default)]
struct Writer {
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    half: bool,
    /// Names of tensors.
    names: Names,
    /// Numbers that are constants already, by their bits.
    numbers: HashMap<u32, TensorId>,
    /// The numbers that values of integers stand for.
    floats: HashMap<TensorId, TensorId>,
}

impl Writer {
    fn add(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(self.tensors.len() - 1)
    }

    /// A value that depends on the images: these extents behind the batch.
    fn value(&mut self, name: &str, extents: &[usize], stored: Stored) -> TensorId {
        let name = self.names.free(name);
        let shape = [1].iter().chain(extents).copied().collect();
        self.add(Tensor { name, shape, has_batch: true, stored, grid: None, values: None })
    }

    /// An operator that makes of a value the same one as something else.
    fn made_of(&mut self, value: TensorId, operator: Operator, stored: Stored) -> TensorId {
        let Tensor { name, shape, .. } = &self.tensors[value.0];
        let (name, extents) = (format!("{name}/{}", operator.form().name), shape[1..].to_vec());
        let output = self.value(&name, &extents, stored);
        self.nodes.push(Node { operator, inputs: vec![value], output });
        output
    }

    /// A value as float32.
    fn floats(&mut self, value: TensorId) -> TensorId {
        if self.tensors[value.0].stored != Stored::Int8 {
            return value;
        }
        if let Some(known) = self.floats.get(&value) {
            return *known;
        }
        let made = self.made_of(value, Operator::Dequantize, Stored::Float);
        self.floats.insert(value, made);
        made
    }

    /// A value of float32 as bytes.
    fn rounded(&mut self, value: TensorId, grid: &Grid) -> TensorId {
        let made = self.made_of(value, Operator::Quantize, Stored::Int8);
        self.tensors[made.0].grid = Some(grid.clone());
        made
    }

    /// Has what the nodes from `start` on make be bytes: their value with this grid, what comes before it, which is the input
    /// with a padding, with the input's.
    fn in_bytes(&mut self, start: usize, value: TensorId, grid: &Grid) {
        for node in &self.nodes[start..] {
            let input = node.inputs.first().and_then(|input| self.tensors[input.0].grid.clone());
            let own = if node.output == value { Some(grid.clone()) } else { input };
            let tensor = &mut self.tensors[node.output.0];
            (tensor.stored, tensor.grid) = (Stored::Int8, own);
        }
    }
}

/// A size as the schema has it.
pub(crate) fn int(size: usize) -> Result<i32, String> {
    i32::try_from(size).map_err(|_| format!("a size of {size} is more than its files have"))
}
