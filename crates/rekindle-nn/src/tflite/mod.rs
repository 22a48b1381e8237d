//! A network as TensorFlow Lite has it, as plain data: tensors and operators. rekindle-weights writes them to a file.
//!
//! Each operation writes its own form ([`Operation::to_tflite`](crate::ops::Operation::to_tflite)). Maps are `[batch, height,
//! width, channels]` and vectors `[batch, features]`, as with Keras; weights have the layouts of TensorFlow Lite's operators.
//! Numbers are float32; with `half`, kernels are stored as 16-bit floats, and a `DEQUANTIZE` makes float32 of them, as
//! TensorFlow's converter does it. A quantised graph (int8) will be another kind of [`Stored`].

mod layer;
mod operator;

use std::collections::HashMap;

pub use layer::TfliteLayer;
pub use operator::{Field, Form, Fused, Moves, Operator};

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
    /// Integers: axes, sizes.
    Integers(Vec<i32>),
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
    /// Yes or no.
    Flag,
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
        let [height, width, channels] = images(graph, "TensorFlow Lite")?;
        let mut writer = Writer { half, names: Names::of(graph), ..Writer::default() };
        let input = writer.value("image", &[height, width, channels], Stored::Float);
        let end_name = writer.names.free(output_name(graph));
        let mut values: HashMap<Source, TensorId> = HashMap::from([(Source::Input, input)]);
        for position in graph.part(None, None)?.layers {
            let layer = &graph.layers()[position];
            let inputs = taken(graph, layer, &values)?;
            let start = writer.nodes.len();
            let variables = graph.variables(position);
            let mut part = TfliteLayer::new(&mut writer, &layer.name, inputs, variables);
            let value = layer.op.to_tflite(&mut part).map_err(|reason| NetworkError::Tflite {
                layer: layer.name.as_str().into(),
                class: layer.op.class().into(),
                reason: reason.into(),
            })?;
            if writer.nodes[start..].iter().any(|node| node.output == value) {
                writer.tensors[value.0].name.clone_from(&layer.name);
            }
            values.insert(Source::Layer(position), value);
        }
        let mut end = written::output(graph, &mut values)?;
        if end == input {
            let mut part =
                TfliteLayer::new(&mut writer, &end_name, vec![(input, graph.input())], Vec::new());
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
        self.add(Tensor { name, shape, has_batch: true, stored, values: None })
    }
}

/// A size as the schema has it.
pub(crate) fn int(size: usize) -> Result<i32, String> {
    i32::try_from(size).map_err(|_| format!("a size of {size} is more than its files have"))
}
