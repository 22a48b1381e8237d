//! A network as ONNX has it, as plain data: nodes, attributes and constants. rekindle-weights writes them to a file.
//!
//! Each operation writes its own form ([`Operation::to_onnx`](crate::ops::Operation::to_onnx)). Within the graph maps are
//! `[batch, channels, height, width]` and vectors `[batch, features]`, as with Burn's tensors, so that parameters have
//! Burn's layout ([`VariableSpec::to_burn`]).

use std::collections::{HashMap, HashSet};

use crate::{Graph, NetworkError, Shape, Source, VariableSpec};

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
        let OnnxSettings { channels_first, half } = settings;
        let Shape::Map { height, width, channels } = graph.input() else {
            let reason = format!(
                "it takes vectors, {}, and only networks of images are written as ONNX",
                graph.input()
            );
            return Err(NetworkError::graph(reason));
        };
        let mut writer = Writer { half, ..Writer::default() };
        // Values of layers have the layers' names: nothing else may.
        writer.taken.extend(graph.layers().iter().map(|layer| layer.name.clone()));
        let input = writer.free("image");
        let is_probability = graph.last().is_some_and(|last| last.op.activation().is_probability());
        let output = writer.free(if is_probability { "probabilities" } else { "output" });
        let mut x = input.clone();
        if !channels_first {
            x = writer.transposed(&input, &x, &[0, 3, 1, 2]);
        }
        x = writer.cast(&input, x, half);
        let mut values: HashMap<Source, String> = HashMap::from([(Source::Input, x)]);
        for position in graph.part(None, None)?.layers {
            let layer = &graph.layers()[position];
            let found = layer.inputs.iter().map(|source| {
                let value = values.get(source).cloned();
                Some((value?, graph.shape(*source)))
            });
            let inputs: Option<Vec<(String, Shape)>> = found.collect();
            let inputs = inputs.ok_or_else(|| {
                NetworkError::graph(format!("layer `{}` takes what is not there", layer.name))
            })?;
            let start = writer.nodes.len();
            let variables = graph.variables(position);
            let mut part = OnnxLayer {
                writer: &mut writer,
                name: &layer.name,
                inputs,
                variables,
                is_full: !half,
            };
            let value = layer.op.to_onnx(&mut part).map_err(|reason| NetworkError::Onnx {
                layer: layer.name.as_str().into(),
                class: layer.op.class().into(),
                reason: reason.into(),
            })?;
            let value = writer.ended(start, value, &layer.name);
            values.insert(Source::Layer(position), value);
        }
        let end = values.remove(&graph.output());
        let mut end =
            end.ok_or_else(|| NetworkError::graph("its output is none of its layers".into()))?;
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
    taken: HashSet<String>,
    /// What each transposition takes, and its order.
    transpositions: HashMap<String, (String, Vec<usize>)>,
}

impl Writer {
    /// A name that no value has, which is then taken.
    fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 0;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }

    fn node(
        &mut self,
        name: String,
        op: &'static str,
        inputs: Vec<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = self.free(&name);
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

/// What an operation has at hand while it writes its nodes.
///
/// The node that makes the value which [`Operation::to_onnx`](crate::ops::Operation::to_onnx) gives back gets the layer's
/// name.
pub struct OnnxLayer<'a> {
    writer: &'a mut Writer,
    name: &'a str,
    inputs: Vec<(String, Shape)>,
    variables: Vec<VariableSpec>,
    /// Whether numbers are float32 here.
    is_full: bool,
}

impl OnnxLayer<'_> {
    /// The first value that the layer takes.
    #[must_use]
    pub fn input(&self) -> String {
        self.inputs.first().map(|(name, _)| name.clone()).unwrap_or_default()
    }

    /// All values that the layer takes.
    #[must_use]
    pub fn inputs(&self) -> Vec<String> {
        self.inputs.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The shape of the first value that the layer takes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.inputs.first().map_or(Shape::Flat(0), |(_, shape)| *shape)
    }

    /// Height, width and channels of the first value, which has to be maps.
    ///
    /// # Errors
    /// When it is a vector.
    pub fn map(&self) -> Result<[usize; 3], String> {
        self.shape().as_map().ok_or_else(|| format!("it takes maps, found {}", self.shape()))
    }

    /// Whether numbers are 16-bit floats here.
    #[must_use]
    pub fn is_half(&self) -> bool {
        !self.is_full
    }

    /// Adds a node, and gives the name of what it makes.
    pub fn node(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.writer.node(format!("{}/{op}", self.name), op, inputs, attributes)
    }

    /// Adds a node without settings.
    pub fn plain(&mut self, op: &'static str, inputs: &[&str]) -> String {
        self.node(op, inputs, Vec::new())
    }

    /// A node of two values, the second of which is one number.
    pub fn with(&mut self, op: &'static str, value: &str, number: f64) -> String {
        let number = self.number(number);
        self.plain(op, &[value, &number])
    }

    fn initial(&mut self, name: &str, shape: Vec<usize>, values: Values) -> String {
        let half = !self.is_full && !matches!(values, Values::Integers(_));
        let name = self.writer.free(name);
        self.writer.initials.push(Initial { name: name.clone(), shape, values, half });
        name
    }

    /// One number, which all layers that take it share.
    pub fn number(&mut self, value: f64) -> String {
        let value = value as f32;
        let half = !self.is_full;
        let is_it = |initial: &&Initial| {
            initial.shape.is_empty()
                && initial.half == half
                && matches!(&initial.values, Values::Floats(known) if known[..] == [value])
        };
        match self.writer.initials.iter().find(is_it) {
            Some(initial) => initial.name.clone(),
            None => {
                self.initial(&format!("constant/{value}"), Vec::new(), Values::Floats(vec![value]))
            }
        }
    }

    /// A constant of the layer: `layer/name`.
    pub fn floats(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> String {
        self.initial(&format!("{}/{name}", self.name), shape, Values::Floats(values))
    }

    /// The same in float32, whatever the network computes with.
    pub fn full_floats(&mut self, name: &str, shape: Vec<usize>, values: Vec<f32>) -> String {
        let is_full = std::mem::replace(&mut self.is_full, true);
        let name = self.floats(name, shape, values);
        self.is_full = is_full;
        name
    }

    /// One number, or one for each channel, as it stretches over the first value.
    pub fn by_channel(&mut self, name: &str, values: &[f64]) -> String {
        match values {
            &[one] => self.number(one),
            values => {
                let shape = channels_of(self.shape(), values.len());
                self.floats(name, shape, values.iter().map(|&value| value as f32).collect())
            }
        }
    }

    /// A list of integers: `layer/name`.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let integers = Values::Integers(values.to_vec());
        self.initial(&format!("{}/{name}", self.name), vec![values.len()], integers)
    }

    /// A variable in Burn's layout: `layer/variable`; nothing where the layer has none of this name.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        let shape = self.variables.iter().find(|spec| spec.name == name)?.burn_shape();
        self.variable_as(name, shape)
    }

    /// A variable whose values, in Burn's order, have another shape.
    pub fn variable_as(&mut self, name: &str, shape: Vec<usize>) -> Option<String> {
        let spec = self.variables.iter().find(|spec| spec.name == name)?.clone();
        let values = Values::Variable { layer: self.name.to_owned(), spec };
        Some(self.initial(&format!("{}/{name}", self.name), shape, values))
    }

    /// A variable of one value for each channel, as it stretches over the first value.
    pub fn variable_by_channel(&mut self, name: &str) -> Option<String> {
        let shape = self.shape();
        self.variable_as(name, channels_of(shape, shape.channels()))
    }

    /// A vector variable, or where the layer has none of this name as many equal numbers.
    pub fn variable_or(&mut self, name: &str, count: usize, value: f32) -> String {
        match self.variable(name) {
            Some(variable) => variable,
            None => self.floats(name, vec![count], vec![value; count]),
        }
    }

    /// A variable along axes of one sample as Keras counts them (0 is the first), so that it stretches over the first value.
    pub fn variable_along(&mut self, name: &str, axes: &[usize]) -> Option<String> {
        let shape = self.along(axes);
        let variable = self.variable_as(name, shape)?;
        Some(self.stretched(variable))
    }

    /// The same of numbers; a single one counts for all.
    pub fn floats_along(&mut self, name: &str, axes: &[usize], values: Vec<f32>) -> String {
        if let [one] = values[..] {
            return self.number(f64::from(one));
        }
        let shape = self.along(axes);
        let constant = self.floats(name, shape, values);
        self.stretched(constant)
    }

    fn along(&self, axes: &[usize]) -> Vec<usize> {
        let sizes = match self.shape() {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        let size = |(axis, size)| if axes.contains(&axis) { size } else { 1 };
        sizes.into_iter().enumerate().map(size).collect()
    }

    /// A constant in Keras's order of axes, in ONNX's.
    fn stretched(&mut self, constant: String) -> String {
        match self.shape() {
            Shape::Map { .. } => self.transposed(&constant, &[2, 0, 1]),
            Shape::Flat(_) => constant,
        }
    }

    /// Axes in another order.
    pub fn transposed(&mut self, value: &str, order: &[usize]) -> String {
        self.writer.transposed(self.name, value, order)
    }

    /// Maps as `[batch, height, width, channels]`; vectors as they are.
    pub fn channels_last(&mut self, value: &str) -> String {
        match self.shape() {
            Shape::Map { .. } => self.transposed(value, &[0, 2, 3, 1]),
            Shape::Flat(_) => value.to_owned(),
        }
    }

    /// Other extents behind the batch, in the same order of values.
    pub fn reshaped(&mut self, value: &str, extents: &[i64]) -> String {
        let shape: Vec<i64> = [0].iter().chain(extents).copied().collect();
        let shape = self.integers("shape", &shape);
        self.plain("Reshape", &[value, &shape])
    }

    /// What `write` makes of a value in float32, whatever the network computes with: halves have too few bits for sums
    /// and squares.
    ///
    /// # Errors
    /// That of `write`.
    pub fn in_full(
        &mut self,
        value: &str,
        write: impl FnOnce(&mut Self, &str) -> Result<String, String>,
    ) -> Result<String, String> {
        if self.is_full {
            return write(self, value);
        }
        let full = self.writer.cast(self.name, value.to_owned(), false);
        self.is_full = true;
        let result = write(self, &full);
        self.is_full = false;
        Ok(self.writer.cast(self.name, result?, true))
    }
}

/// The shape of one value for each channel.
fn channels_of(shape: Shape, channels: usize) -> Vec<usize> {
    match shape {
        Shape::Map { .. } => vec![channels, 1, 1],
        Shape::Flat(_) => vec![channels],
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
