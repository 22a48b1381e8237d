//! A network as ONNX has it, as plain data: nodes, attributes and constants. rekindle-weights writes them to a file.
//!
//! Each operation writes its own form ([`Operation::to_onnx`](crate::ops::Operation::to_onnx)). Within the graph maps are
//! `[batch, channels, height, width]` and vectors `[batch, features]`, as with Burn's tensors, so that parameters have
//! Burn's layout ([`VariableSpec::to_burn`]).

mod layer;

use std::collections::{HashMap, HashSet};

pub use layer::OnnxLayer;

use crate::quantized::{Bytes, Scale};
use crate::written::{self, Names, images, output_name, taken};
use crate::{Graph, NetworkError, Op, Shape, Source, VariableSpec};

/// The version of ONNX's operators that is written.
pub const OPSET: i64 = 17;

/// ONNX's number of float32.
const FLOAT: i64 = 1;
/// ONNX's number of float16.
const FLOAT16: i64 = 10;

/// A setting of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// Integers.
    Ints(Vec<i64>),
    /// Text.
    Text(&'static str),
}

/// One node; all that are written have one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The layer's name for the node that ends a layer, `layer/Operator` for those before it.
    pub name: String,
    /// ONNX's operator.
    pub op: &'static str,
    /// The names of what it takes; an empty one is left out.
    pub inputs: Vec<String>,
    /// The name of what it makes.
    pub output: String,
    /// Settings.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// The values of a constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// A layer's variable, in Burn's layout.
    Variable {
        /// The layer's name.
        layer: String,
        /// The variable.
        spec: VariableSpec,
    },
    /// Numbers.
    Floats(Vec<f32>),
    /// Integers.
    Integers(Vec<i64>),
    /// Integers of 32 bits.
    Ints32(Vec<i32>),
    /// Integers of 8 bits.
    Ints8(Vec<i8>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    /// `layer/variable`.
    pub name: String,
    /// Its shape; values are in its order.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Values,
    /// Whether numbers are 16-bit floats.
    pub half: bool,
}

/// A network's graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Onnx {
    /// The name and the extents, without the batch, of the images that come in: float32.
    pub input: (String, Vec<usize>),
    /// In an order in which each comes behind what it takes.
    pub nodes: Vec<Node>,
    /// Constants.
    pub initials: Vec<Initial>,
    /// The name and the extents, without the batch, of what comes out: float32.
    pub output: (String, Vec<usize>),
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnnxSettings {
    /// Whether images, and maps that come out, are `[batch, channels, height, width]`; else `[batch, height, width,
    /// channels]`.
    pub channels_first: bool,
    /// Whether it computes with 16-bit floats; images and results are float32 all the same.
    pub half: bool,
}

impl Onnx {
    /// The ONNX form of a network.
    ///
    /// # Errors
    /// When it takes no images, or a layer has no such form; the message names the layer and says why.
    pub fn of(graph: &Graph, settings: OnnxSettings) -> Result<Self, NetworkError> {
        Self::of_quantized(graph, settings, &Bytes::default())
    }

    /// The same of a quantized network, in float32 between pairs of `QuantizeLinear` and `DequantizeLinear`, of which engines
    /// make products of integers.
    ///
    /// # Errors
    /// As [`of`](Self::of)'s.
    pub fn of_quantized(
        graph: &Graph,
        settings: OnnxSettings,
        bytes: &Bytes,
    ) -> Result<Self, NetworkError> {
        let OnnxSettings { channels_first, half } = settings;
        let [height, width, channels] = images(graph, "ONNX")?;
        let mut writer = Writer { half, names: Names::of(graph), ..Writer::default() };
        let input = writer.names.free("image");
        let output = writer.names.free(output_name(graph));
        let mut x = input.clone();
        if !channels_first {
            x = writer.transposed(&input, &x, &[0, 3, 1, 2]);
        }
        x = writer.cast(&input, x, half);
        let mut values: HashMap<Source, String> = HashMap::from([(Source::Input, x)]);
        for position in graph.part(None, None)?.layers {
            let layer = &graph.layers()[position];
            let inputs = taken(graph, layer, &values)?;
            let start = writer.nodes.len();
            let variables = graph.variables(position);
            let product = bytes.products.get(&layer.name);
            let mut part = OnnxLayer::new(&mut writer, &layer.name, inputs, variables, product);
            let value = layer.op.to_onnx(&mut part).map_err(|reason| NetworkError::Onnx {
                layer: layer.name.as_str().into(),
                class: layer.op.class().into(),
                reason: reason.into(),
            })?;
            let mut value = writer.ended(start, value, &layer.name);
            // Engines write a vector's product as numbers, which nothing is lost of. What is clamped has to be bytes.
            let stays = matches!(layer.op, Op::Dense(_))
                && product.is_some_and(|product| !product.is_clamped)
                && !bytes.is_multiplied(graph, position);
            if let Some(scale) = bytes.values.get(&layer.name).filter(|_| !stays) {
                value = writer.rounded(&layer.name, value, *scale);
            }
            values.insert(Source::Layer(position), value);
        }
        let mut end = written::output(graph, &mut values)?;
        let output_shape = match graph.output_shape() {
            Shape::Flat(count) => vec![count],
            Shape::Map { height, width, channels } if channels_first => {
                vec![channels, height, width]
            }
            Shape::Map { height, width, channels } => {
                end = writer.transposed(&output, &end, &[0, 2, 3, 1]);
                vec![height, width, channels]
            }
        };
        end = if half { writer.cast(&output, end, false) } else { end };
        if end == input {
            end = writer.node(output.clone(), "Identity", vec![end], Vec::new());
        }
        writer.rename(0, &end, &output);
        writer.prune(&output);
        let input_shape = match channels_first {
            true => vec![channels, height, width],
            false => vec![height, width, channels],
        };
        let Writer { nodes, initials, .. } = writer;
        Ok(Self { input: (input, input_shape), nodes, initials, output: (output, output_shape) })
    }
}

/// A graph that is being written.
#[derive(Default)]
struct Writer {
    nodes: Vec<Node>,
    initials: Vec<Initial>,
    half: bool,
    /// Names of values.
    names: Names,
    /// What each transposition takes, and its order.
    transpositions: HashMap<String, (String, Vec<usize>)>,
}

impl Writer {
    fn node(
        &mut self,
        name: String,
        op: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = self.names.free(&name);
        self.nodes.push(Node {
            name: output.clone(),
            op,
            inputs,
            output: output.clone(),
            attributes,
        });
        output
    }

    /// Axes in another order; one transposition for two, and none where they cancel.
    fn transposed(&mut self, within: &str, value: &str, order: &[usize]) -> String {
        let (value, order) = match self.transpositions.get(value) {
            Some((before, first)) => {
                (before.clone(), order.iter().map(|&axis| first[axis]).collect())
            }
            None => (value.to_owned(), order.to_vec()),
        };
        if order.iter().copied().eq(0..order.len()) {
            return value;
        }
        let perm = Attribute::Ints(order.iter().map(|&axis| axis as i64).collect());
        let name = format!("{within}/Transpose");
        let output = self.node(name, "Transpose", vec![value.clone()], vec![("perm", perm)]);
        self.transpositions.insert(output.clone(), (value, order));
        output
    }

    fn constant(&mut self, name: &str, shape: Vec<usize>, values: Values) -> String {
        let half = self.half && matches!(values, Values::Floats(_) | Values::Variable { .. });
        let name = self.names.free(name);
        self.initials.push(Initial { name: name.clone(), shape, values, half });
        name
    }

    /// As bytes, and back as numbers.
    fn rounded(&mut self, layer: &str, value: String, Scale { step, zero }: Scale) -> String {
        let step = self.constant(&format!("{layer}/scale"), Vec::new(), Values::Floats(vec![step]));
        let zero =
            self.constant(&format!("{layer}/zero_point"), Vec::new(), Values::Bytes(vec![zero]));
        let ends = [step, zero];
        let mut value = value;
        for op in ["QuantizeLinear", "DequantizeLinear"] {
            let inputs = [value].into_iter().chain(ends.clone()).collect();
            value = self.node(format!("{layer}/{op}"), op, inputs, Vec::new());
        }
        value
    }

    /// In halves, or in float32, where the graph computes in halves.
    fn cast(&mut self, within: &str, value: String, to_half: bool) -> String {
        if !self.half {
            return value;
        }
        let to = Attribute::Int(if to_half { FLOAT16 } else { FLOAT });
        self.node(format!("{within}/Cast"), "Cast", vec![value], vec![("to", to)])
    }

    /// Gives the layer's name to the node that makes its value, if that is one of the nodes from `start` on.
    fn ended(&mut self, start: usize, value: String, layer: &str) -> String {
        let made = self.nodes[start..].iter_mut().find(|node| node.output == value);
        let Some(node) = made else { return value };
        node.name = layer.to_owned();
        self.rename(start, &value, layer);
        layer.to_owned()
    }

    /// Gives a value of one of the nodes from `start` on another name.
    fn rename(&mut self, start: usize, value: &str, name: &str) {
        for node in &mut self.nodes[start..] {
            let inputs = node.inputs.iter_mut().chain([&mut node.output]);
            inputs.filter(|input| *input == value).for_each(|input| *input = name.to_owned());
        }
        if let Some(found) = self.transpositions.remove(value) {
            self.transpositions.insert(name.to_owned(), found);
        }
        for (source, _) in self.transpositions.values_mut().filter(|(source, _)| source == value) {
            *source = name.to_owned();
        }
    }

    /// Leaves out what the output does not depend on: transpositions that others have taken the place of.
    fn prune(&mut self, output: &str) {
        let mut used: HashSet<String> = HashSet::from([output.to_owned()]);
        for node in self.nodes.iter().rev() {
            if used.contains(&node.output) {
                used.extend(node.inputs.iter().cloned());
            }
        }
        self.nodes.retain(|node| used.contains(&node.output));
        self.initials.retain(|initial| used.contains(&initial.name));
    }
}

/// Axes of one sample as Keras counts them, 0 the first, as ONNX's axes of the whole value.
pub(crate) fn axes_of(axes: &[usize], shape: Shape) -> Vec<usize> {
    let places: &[usize] = match shape {
        Shape::Map { .. } => &[2, 3, 1],
        Shape::Flat(_) => &[1],
    };
    axes.iter().filter_map(|&axis| places.get(axis).copied()).collect()
}

/// Sizes as ONNX's integers.
pub(crate) fn ints(sizes: &[usize]) -> Attribute {
    Attribute::Ints(sizes.iter().map(|&size| size as i64).collect())
}
