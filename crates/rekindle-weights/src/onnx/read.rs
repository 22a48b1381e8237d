//! Reads a file's graph as a network: node after node, each a layer of ours or nothing but another view of a value.

use std::collections::HashMap;

use rekindle_nn::{Base, Layer, Op, Shape, Source, VariableSpec};

use super::constant::{Constant, FileTensors};
use super::data::Data;
use super::graph::{Graph, Initial, Value};
use super::integers::{Integer, Integers};
use super::name::{Taken, of_node, scope};
use super::node::Node;
use super::weight::type_name;
use super::{CARD, Found, tidy};
use crate::export::OWN_INTEGERS;

/// The operators of this version and the next are what they were before, for numbers of the types that we read.
const OPSETS: std::ops::RangeInclusive<i64> = 6..=28;
/// Values of one layer's output: 1 GiB as f32. Photos and networks are far smaller.
const MOST_VALUES: usize = 1 << 28;
/// The largest side of an image.
const MOST_PIXELS: usize = 1 << 16;
/// Values of constants that a file does not hold but says how to make.
const MOST_MADE: usize = 1 << 28;
/// Values of a constant that becomes a setting of a layer.
const MOST_SETTINGS: usize = 1 << 20;

/// What a value of the file is.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It depends on the image.
    Data(Data),
    Constant(Constant),
    /// A shape, an axis.
    Integers(Integers),
    /// `times * (factor * erf(x * scale) + offset)`, on its way to become a GELU; see `pointwise.rs`.
    Erf(Erf),
}

/// An error function that is not yet a GELU.
#[derive(Debug, Clone)]
pub(super) struct Erf {
    pub of: Data,
    pub scale: f64,
    pub factor: f64,
    pub offset: f64,
    /// Whether it is multiplied by `of`.
    pub times: bool,
}

/// A layer, and where the values of its variables come from.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub layer: Layer,
    pub shape: Shape,
    pub values: Vec<Constant>,
    /// The exporter's layer that it is a part of, where the node's name says it.
    pub scope: Option<String>,
}

/// A graph that is being read.
pub(super) struct Reader<'a> {
    pub graph: &'a Graph,
    pub layers: Vec<Made>,
    values: HashMap<Value, Known>,
    taken: Taken,
    /// Values of constants so far that the file does not hold.
    made: usize,
    /// How many samples the file says there are, if it does.
    pub batch: Option<usize>,
    pub assumed: Vec<String>,
}

/// Reads a graph; `size` is height and width of the images where the file leaves them open.
pub(super) fn read(graph: &Graph, size: Option<[usize; 2]>) -> Result<Found, String> {
    if !OPSETS.contains(&graph.opset) {
        return Err(format!(
            "the file is of opset {}, expected {} to {}: export it again with `opset_version=17`",
            graph.opset,
            OPSETS.start(),
            OPSETS.end()
        ));
    }
    let names = |values: &[Value]| {
        let names: Vec<String> =
            values.iter().map(|&value| format!("`{}`", graph.name(value))).collect();
        names.join(", ")
    };
    let &[output] = graph.outputs.as_slice() else {
        return Err(format!(
            "the graph has {} outputs ({}), expected one: export the model with its probabilities only",
            graph.outputs.len(),
            names(&graph.outputs)
        ));
    };
    let inputs: Vec<Value> = graph.inputs.iter().map(|(value, ..)| *value).collect();
    if inputs.len() != 1 {
        return Err(format!(
            "the graph has {} inputs ({}), expected one of images",
            inputs.len(),
            names(&inputs)
        ));
    }
    let order = graph.order(output)?;
    quantised(graph, &order)?;
    let mut reader = Reader {
        graph,
        layers: Vec::new(),
        values: HashMap::new(),
        taken: Taken::default(),
        made: 0,
        batch: None,
        assumed: Vec::new(),
    };
    let mut image = reader.image(size, &order)?;
    let input = image.shape;
    if let Some(front) = &graph.front {
        image = reader.front(front, &image)?;
    }
    reader.values.insert(inputs[0], Known::Data(image));
    let mut used: HashMap<Value, usize> = HashMap::from([(output, 1)]);
    let all_inputs = order.iter().flat_map(|&node| graph.nodes[node].inputs.iter().flatten());
    all_inputs.for_each(|&input| *used.entry(input).or_insert(0) += 1);
    for position in order {
        let node = &graph.nodes[position];
        let known = reader.node(node)?;
        let [Some(first), rest @ ..] = node.outputs.as_slice() else {
            return Err(node.refused("it makes nothing"));
        };
        if let Some(other) = rest.iter().flatten().find(|other| used.contains_key(*other)) {
            let name = graph.name(*other);
            return Err(node.refused(&format!(
                "its further output `{name}` is used, expected the first alone"
            )));
        }
        reader.values.insert(*first, known);
    }
    let Some(Known::Data(data)) = reader.values.get(&output).cloned() else {
        let name = graph.name(output);
        return Err(format!("the graph's output `{name}` does not depend on its image"));
    };
    let end = reader.output(&data)?;
    let Reader { layers, assumed, .. } = reader;
    let (layers, end) = tidy::tidied(layers, end);
    let (layers, values): (Vec<Layer>, Vec<Vec<Constant>>) =
        layers.into_iter().map(|made| (made.layer, made.values)).unzip();
    let base = Base { layers: layers.len(), output: end, architecture: None };
    let network =
        rekindle_nn::Graph::new(input, layers, end, base).map_err(|error| error.to_string())?;
    Ok(Found { graph: network, values, folded: false, assumed })
}

/// Names what says that a graph computes with integers.
fn quantised(graph: &Graph, order: &[usize]) -> Result<(), String> {
    const OPERATORS: &[&str] = &[
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearMul",
        "QLinearGlobalAveragePool",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearSigmoid",
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "QLinearLeakyRelu",
        "QLinearSoftmax",
    ];
    let is_quantised = |node: &&Node| OPERATORS.contains(&node.op.as_str());
    match order.iter().map(|&node| &graph.nodes[node]).find(is_quantised) {
        None => Ok(()),
        Some(node) => {
            let own = if graph.metadata.contains_key(CARD) { OWN_INTEGERS } else { "" };
            Err(node.refused(&format!(
                "the model is quantised to integers, which is not supported: use the model in float32 that it was made of{own}"
            )))
        }
    }
}

impl Reader<'_> {
    /// The image, once its axes are known.
    fn image(&mut self, size: Option<[usize; 2]>, order: &[usize]) -> Result<Data, String> {
        let (value, data_type, extents) = &self.graph.inputs[0];
        let name = self.graph.name(*value);
        if !matches!(data_type, 1 | 10) {
            return Err(format!(
                "the input `{name}` is of {}, expected images of float32",
                type_name(*data_type)
            ));
        }
        let shape = match extents {
            Some(extents) => format!("the shape {extents:?}"),
            None => "no shape".to_owned(),
        };
        // A network of vectors is none of images, but a graph.
        if let Some(&[batch, features]) = extents.as_deref()
            && let Ok(features @ 1..=MOST_VALUES) = usize::try_from(features)
        {
            self.batch = usize::try_from(batch).ok().filter(|&batch| batch > 0);
            return Ok(Data::channels_last(Source::Input, Shape::Flat(features)));
        }
        let Some(&[batch, a, b, c]) = extents.as_deref() else {
            return Err(format!(
                "the input `{name}` has {shape}, expected four axes: samples, channels, height and width in \
                 the order of PyTorch's or Keras's images"
            ));
        };
        self.batch = usize::try_from(batch).ok().filter(|&batch| batch > 0);
        let channels_first = !self.graph.channels_last && self.is_channels_first([a, b, c], order);
        let [channels, height, width] = if channels_first { [a, b, c] } else { [c, a, b] };
        let side = |found: i64, which: usize| match (usize::try_from(found), size) {
            (Ok(found @ 1..=MOST_PIXELS), _) => Ok(found),
            (Ok(0) | Err(_), Some(size))
                if found <= 0 && (1..=MOST_PIXELS).contains(&size[which]) =>
            {
                Ok(size[which])
            }
            (Ok(0) | Err(_), None) if found <= 0 => Err(format!(
                "the graph takes images of any size: the input `{name}` has {shape}; say which size is meant"
            )),
            _ => Err(format!(
                "the input `{name}` has {shape}, expected at most {MOST_PIXELS} pixels a side"
            )),
        };
        let (height, width) = (side(height, 0)?, side(width, 1)?);
        let Ok(channels @ 1..=4096) = usize::try_from(channels) else {
            return Err(format!("the input `{name}` has {shape}, expected a number of channels"));
        };
        let shape = Shape::map(height, width, channels);
        if shape.checked_count().is_none_or(|count| count > MOST_VALUES) {
            return Err(format!("the input `{name}` has too many values: {shape}"));
        }
        Ok(if channels_first {
            Data::channels_first(Source::Input, shape)
        } else {
            Data::channels_last(Source::Input, shape)
        })
    }

    /// What is done to the image before the graph takes it.
    fn front(&mut self, front: &Op, image: &Data) -> Result<Data, String> {
        let node = Node {
            op: front.class().into(),
            domain: String::new(),
            name: front.class().to_lowercase(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
            label: Some("the normalization that the file's metadata says".into()),
        };
        match self.over(&node, front.clone(), image, Vec::new())? {
            Known::Data(data) => Ok(data),
            Known::Constant(_) | Known::Integers(_) | Known::Erf(_) => {
                Err(node.refused("it makes no image"))
            }
        }
    }

    /// Whether the image's channels come first: what the graph does with it says so, or else its extents.
    fn is_channels_first(&self, extents: [i64; 3], order: &[usize]) -> bool {
        let mut same = vec![self.graph.inputs[0].0];
        for &position in order {
            let node = &self.graph.nodes[position];
            let takes = node.inputs.iter().flatten().any(|input| same.contains(input));
            if !takes || same.len() > 64 {
                continue;
            }
            match node.op.as_str() {
                "Transpose" => match node.ints("perm") {
                    Ok(Some([0, 3, 1, 2])) => return false,
                    Ok(Some([0, 2, 3, 1])) => return true,
                    _ => break,
                },
                "Conv"
                | "MaxPool"
                | "AveragePool"
                | "GlobalAveragePool"
                | "GlobalMaxPool"
                | "BatchNormalization"
                | "LRN"
                | "InstanceNormalization" => return true,
                "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Shape" | "ReduceMean"
                | "ReduceMax" => break,
                _ => same.extend(node.outputs.iter().flatten()),
            }
        }
        let [first, _, last] = extents;
        let is_channels = |extent: i64| (1..=4).contains(&extent);
        is_channels(first) || !is_channels(last)
    }

    /// What a value is.
    pub fn known(&self, node: &Node, number: usize) -> Result<Known, String> {
        let value = node.needed(number)?;
        if let Some(known) = self.values.get(&value) {
            return Ok(known.clone());
        }
        match self.graph.initial.get(&value) {
            Some(Initial::Tensor(number)) => match self.graph.weights.get(*number) {
                Some(weight) => Ok(Known::Constant(Constant::file(*number, weight))),
                None => Err(node.refused("its weights are not in the file")),
            },
            Some(Initial::Integers(shape, values)) => {
                Ok(Known::Integers(Integers::known(shape.clone(), values)))
            }
            Some(Initial::Other(data_type)) => {
                let name = self.graph.name(value);
                Err(node.refused(&format!(
                    "the constant `{name}` is of {}, expected float32 (or a short list of int64)",
                    type_name(*data_type)
                )))
            }
            None => Err(node.refused(&format!("`{}` is made by no node", self.graph.name(value)))),
        }
    }

    /// An input that depends on the image.
    pub fn data(&self, node: &Node, number: usize) -> Result<Data, String> {
        match self.known(node, number)? {
            Known::Data(data) => Ok(data),
            Known::Erf(_) => Err(node.refused(
                "it takes an error function, expected that only as a part of GELU: `0.5 * x * (1 + erf(x / sqrt(2)))`",
            )),
            Known::Constant(_) | Known::Integers(_) => {
                Err(node.refused(&format!("input {number} is a constant, expected one that depends on the image")))
            }
        }
    }

    /// An input that is a constant of numbers.
    pub fn constant(&self, node: &Node, number: usize) -> Result<Constant, String> {
        match self.known(node, number)? {
            Known::Constant(constant) => Ok(constant),
            Known::Integers(integers) => integers_as_constant(&integers).ok_or_else(|| {
                node.refused(&format!("input {number} depends on the number of samples"))
            }),
            Known::Data(_) | Known::Erf(_) => {
                Err(node
                    .refused(&format!("input {number} depends on the image, expected a constant")))
            }
        }
    }

    /// An input that is integers, if it is there.
    pub fn integers(&self, node: &Node, number: usize) -> Result<Option<Integers>, String> {
        if node.input(number).is_none() {
            return Ok(None);
        }
        match self.known(node, number)? {
            Known::Integers(integers) => Ok(Some(integers)),
            Known::Data(_) | Known::Constant(_) | Known::Erf(_) => Err(node.refused(&format!(
                "input {number} is no constant list of integers, which is not supported"
            ))),
        }
    }

    /// The values of a constant that becomes a setting.
    pub fn numbers(&self, node: &Node, constant: &Constant) -> Result<Vec<f32>, String> {
        if constant.count() > MOST_SETTINGS {
            let shape = constant.shape();
            return Err(node.refused(&format!(
                "a constant of shape {shape:?} is more than a layer's setting can be"
            )));
        }
        let values = constant.read(&mut FileTensors(self.graph.weights.clone()));
        let values = values.map_err(|reason| node.refused(&reason))?;
        match values.iter().find(|value| value.is_nan()) {
            None => Ok(values),
            Some(_) => Err(node.refused("a constant holds NaN: the file is damaged")),
        }
    }

    /// The one number of a constant input, if it is there.
    pub fn number(&self, node: &Node, number: usize) -> Result<Option<f64>, String> {
        if node.input(number).is_none() {
            return Ok(None);
        }
        let constant = self.constant(node, number)?;
        if constant.count() != 1 {
            let shape = constant.shape().to_vec();
            return Err(node.wrong(&format!("input {number}"), shape, "a single number"));
        }
        Ok(self.numbers(node, &constant)?.first().map(|&value| super::node::exact(value)))
    }

    /// One number everywhere, where so many values may be made of nothing.
    pub fn full(&mut self, node: &Node, value: f32, shape: Vec<usize>) -> Result<Constant, String> {
        let made = super::constant::count(&shape).and_then(|count| self.made.checked_add(count));
        match made {
            Some(made) if made <= MOST_MADE => {
                self.made = made;
                Ok(Constant::full(value, shape))
            }
            _ => Err(node
                .refused(&format!("a constant of shape {shape:?} is more than any network has"))),
        }
    }

    /// Adds a layer with the values of its variables, in their order.
    pub fn layer(
        &mut self,
        node: &Node,
        op: impl Into<Op>,
        inputs: &[(Source, Shape)],
        values: Vec<Constant>,
    ) -> Result<(Source, Shape), String> {
        let op = op.into();
        let (sources, shapes): (Vec<Source>, Vec<Shape>) = inputs.iter().copied().unzip();
        let shape = op
            .output_shape(&node.name, &shapes)
            .map_err(|error| node.refused(&error.to_string()))?;
        if shape.checked_count().is_none_or(|count| count > MOST_VALUES) {
            return Err(node.refused(&format!("an output of {shape} is more than any network has")));
        }
        let specs = op.variables(&shapes);
        let fits = |(spec, values): (&VariableSpec, &Constant)| {
            super::constant::count(&spec.shape) == Some(values.count())
        };
        if specs.len() != values.len() || !specs.iter().zip(&values).all(fits) {
            let found: Vec<&[usize]> = values.iter().map(Constant::shape).collect();
            let expected: Vec<&[usize]> = specs.iter().map(|spec| spec.shape.as_slice()).collect();
            return Err(node.refused(&format!(
                "its weights have the shapes {found:?}, expected {expected:?}"
            )));
        }
        let weights = node.input(1).filter(|value| self.graph.initial.contains_key(value));
        let weights = weights.map(|value| self.graph.name(value));
        let name = of_node(&node.name, weights, &node.op, &mut self.taken);
        let layer = Layer { name, op, inputs: sources };
        let scope = scope(&node.name, &node.op);
        self.layers.push(Made { layer, shape, values, scope });
        Ok((Source::Layer(self.layers.len() - 1), shape))
    }

    /// A layer of one input that changes neither shape nor axes.
    pub fn over(
        &mut self,
        node: &Node,
        op: impl Into<Op>,
        data: &Data,
        values: Vec<Constant>,
    ) -> Result<Known, String> {
        let (source, shape) = self.layer(node, op, &[(data.source, data.shape)], values)?;
        Ok(Known::Data(Data { source, shape, axes: data.axes.clone() }))
    }
}

/// Integers as numbers.
pub(super) fn integers_as_constant(integers: &Integers) -> Option<Constant> {
    let values = integers.values.iter().map(|value| match value {
        Integer::Known(value) => Some(*value as f32),
        Integer::Batch => None,
    });
    Constant::given(values.collect::<Option<_>>()?).reshaped(integers.shape.clone()).ok()
}
