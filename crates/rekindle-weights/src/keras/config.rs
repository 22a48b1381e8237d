//! The `config.json` of a `.keras` file, which is also the attribute `model_config` of a whole model's HDF5: a flat list
//! of layers, each of which knows whose outputs it takes.

use std::collections::{HashMap, HashSet};

use rekindle_nn::keras::Generation;
use serde_json::{Map, Value};

use super::calls::{Call, Operand, Tensor, calls, tensors};
use super::class::{foreign, quantized, snake_case};

/// Models in models; Keras's own converters give up far earlier.
const DEEPEST: usize = 16;
/// How Keras 2 calls operations, which it keeps as layers.
pub(super) const OLD_OPERATIONS: [&str; 3] = ["TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"];
/// More layers than any model that Keras can train.
const MOST_LAYERS: usize = 50_000;

/// Where a value comes from in a flat list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// The image.
    Image,
    /// The output of the node at this position.
    Node(usize),
}

/// What a node was called with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Argument {
    /// A value of the network.
    Value(Link),
    /// Numbers, and the sizes of their axes; none for a single number.
    Constant(Vec<f64>, Vec<usize>),
}

/// One layer or operation of a Keras model.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Keras's class.
    pub class: String,
    /// The layer's name.
    pub name: String,
    /// The name of the model in the model that it is in, if it is in one.
    pub model: String,
    /// Its settings.
    pub config: Map<String, Value>,
    /// Which Keras wrote it.
    pub generation: Generation,
    /// Whether it is an operation of Keras 3, such as `x / 127.5`, and no layer.
    pub is_operation: bool,
    /// What its tensors in the file are filed under.
    pub key: String,
    /// The name of the outermost model's layer that it is, or is in.
    pub outermost: String,
    /// What it was called with, in order.
    pub arguments: Vec<Argument>,
    /// What it was called with by name and that is no tensor.
    pub settings: Map<String, Value>,
}

impl Node {
    /// What its tensors may be filed under, the surest first: where layers of two models have one name, a file by name
    /// has those of the second behind the name of the outermost model.
    pub fn keys(&self) -> Vec<String> {
        if self.outermost == self.key || self.outermost.is_empty() {
            return vec![self.key.clone()];
        }
        vec![format!("{}/{}", self.outermost, self.key), self.key.clone()]
    }

    /// The values that it takes.
    pub fn inputs(&self) -> impl Iterator<Item = Link> + '_ {
        self.arguments.iter().filter_map(|argument| match argument {
            Argument::Value(link) => Some(*link),
            Argument::Constant(..) => None,
        })
    }
}

/// A model of models as one list.
#[derive(Debug)]
pub(crate) struct Flat {
    /// In topological order.
    pub nodes: Vec<Node>,
    /// Where the result comes from.
    pub output: Link,
    /// What the file says of the images' shapes: height, width, channels, each known or not.
    pub images: Vec<[Option<usize>; 3]>,
    /// What it says where it takes vectors.
    pub vectors: Vec<usize>,
    /// Where models in the model end, and how many nodes each has.
    pub ends: Vec<(Link, usize)>,
}

/// Flattens a model. `numbered` says whether the file files tensors by class and number (`conv2d_1`), as Keras 3 does, or
/// by name.
pub(crate) fn flatten(model: &Value, numbered: bool) -> Result<Flat, String> {
    let generation = generation(model, 0);
    let flat = Flat {
        nodes: Vec::new(),
        output: Link::Image,
        images: Vec::new(),
        vectors: Vec::new(),
        ends: Vec::new(),
    };
    let mut flattener = Flattener { flat, numbered, generation };
    let place =
        Place { prefix: String::new(), model: String::new(), outermost: String::new(), depth: 0 };
    let output = flattener.model(model, Link::Image, &place)?;
    Ok(Flat { output, ..flattener.flat })
}

/// Which Keras wrote the configuration, by what only one of them writes.
fn generation(value: &Value, depth: usize) -> Generation {
    fn is_old(value: &Value, depth: usize) -> bool {
        match value {
            _ if depth > 8 * DEEPEST => false,
            Value::Array(items) => items.iter().any(|item| is_old(item, depth + 1)),
            Value::Object(fields) => {
                let version = fields.get("keras_version").and_then(Value::as_str);
                version.is_some_and(|version| version.starts_with(['1', '2']))
                    || fields.contains_key("batch_input_shape")
                    || fields.values().any(|field| is_old(field, depth + 1))
            }
            _ => false,
        }
    }
    if is_old(value, depth) { Generation::Keras2 } else { Generation::Keras3 }
}

/// Where in the models a layer is.
struct Place {
    /// Before the keys of tensors, where they are filed by class and number.
    prefix: String,
    /// The innermost model's name; empty in the outermost.
    model: String,
    /// The name of the outermost model's layer; empty in that model itself.
    outermost: String,
    depth: usize,
}

struct Flattener {
    flat: Flat,
    numbered: bool,
    generation: Generation,
}

/// One entry of a model's list of layers.
struct Entry<'a> {
    class: &'a str,
    name: String,
    key: String,
    value: &'a Value,
}

impl Flattener {
    /// Adds a model's layers for this input, and gives where its output comes from.
    fn model(&mut self, model: &Value, input: Link, place: &Place) -> Result<Link, String> {
        if place.depth > DEEPEST {
            return Err(format!("the model's configuration is nested more than {DEEPEST} deep"));
        }
        let entries = self.entries(model, place)?;
        let config = &model["config"];
        let is_chain = model["class_name"] == "Sequential" || config["layers"].is_null();
        let start = self.flat.nodes.len();
        let output = if is_chain {
            for shapes in [&config["build_input_shape"], &model["build_config"]["input_shape"]] {
                self.see_images(shapes, input)?;
            }
            self.sequential(&entries, input, place)?
        } else {
            self.functional(&entries, config, input, place)?
        };
        let count = self.flat.nodes.len() - start;
        if place.depth > 0 && count > 0 {
            self.flat.ends.push((output, count));
        }
        Ok(output)
    }

    /// A model's own list of layers.
    fn entries<'a>(&self, model: &'a Value, place: &Place) -> Result<Vec<Entry<'a>>, String> {
        // Keras 2.0's Sequential is the list itself.
        let list = model["config"]["layers"].as_array().or_else(|| model["config"].as_array());
        let list = list.ok_or("the model's configuration lists no layers")?;
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let entry = |value: &'a Value| {
            let class = value["class_name"].as_str();
            let class = class.ok_or("a layer's configuration has no class")?;
            let name = value["config"]["name"].as_str().or_else(|| value["name"].as_str());
            let name = name.unwrap_or_default().to_owned();
            let snake = snake_case(class);
            let number = numbers.entry(snake.clone()).or_default();
            let key = match (self.numbered, *number) {
                (false, _) => name.clone(),
                (true, 0) => format!("{}{snake}", place.prefix),
                (true, number) => format!("{}{snake}_{number}", place.prefix),
            };
            *number += 1;
            Ok(Entry { class, name, key, value })
        };
        list.iter().map(entry).collect()
    }

    fn sequential(
        &mut self,
        entries: &[Entry<'_>],
        input: Link,
        place: &Place,
    ) -> Result<Link, String> {
        let mut x = input;
        for entry in entries {
            x = self.entry(entry, vec![Argument::Value(x)], Map::new(), place)?;
        }
        Ok(x)
    }

    fn functional(
        &mut self,
        entries: &[Entry<'_>],
        config: &Value,
        input: Link,
        place: &Place,
    ) -> Result<Link, String> {
        let of = |what: &str| {
            if place.model.is_empty() {
                what.to_owned()
            } else {
                format!("{what} of `{}`", place.model)
            }
        };
        let inputs = tensors(&config["input_layers"]);
        if inputs.len() > 1 {
            let names: Vec<&str> = inputs.iter().map(|input| input.layer.as_str()).collect();
            return Err(format!(
                "{}: found {} ({}), expected 1",
                of("the inputs"),
                inputs.len(),
                names.join(", ")
            ));
        }
        let outputs = tensors(&config["output_layers"]);
        let [output] = outputs.as_slice() else {
            let names: Vec<&str> = outputs.iter().map(|output| output.layer.as_str()).collect();
            return Err(format!(
                "{}: found {} outputs ({}), expected 1",
                of("the outputs"),
                outputs.len(),
                names.join(", ")
            ));
        };
        let mut calls_of = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut made = calls(&entry.value["inbound_nodes"]);
            if made.len() > 1 {
                return Err(format!(
                    "layer `{}` ({}) is used {} times: a layer that is shared is not supported",
                    entry.name,
                    entry.class,
                    made.len()
                ));
            }
            calls_of.push(made.pop());
        }
        let mut values: HashMap<&str, Link> = HashMap::new();
        for position in ordered(entries, &calls_of)? {
            let entry = &entries[position];
            let is_input = inputs.iter().all(|input| input.layer == entry.name);
            let (arguments, settings) = match &calls_of[position] {
                _ if entry.class == "InputLayer" && is_input => {
                    (vec![Argument::Value(input)], Map::new())
                }
                // Nothing that the output depends on, or a reader says that it is missing.
                None => continue,
                Some(Call { operands, settings }) => {
                    let argument = |operand: &Operand| match operand {
                        Operand::Constant(values, axes) => {
                            Ok(Argument::Constant(values.clone(), axes.clone()))
                        }
                        Operand::Tensor(tensor) => {
                            Ok(Argument::Value(self.value(&values, tensor, &entry.name)?))
                        }
                    };
                    let arguments = operands.iter().map(argument).collect::<Result<_, String>>()?;
                    (arguments, settings.clone())
                }
            };
            let value = self.entry(entry, arguments, settings, place)?;
            values.insert(entry.name.as_str(), value);
        }
        self.value(&values, output, "the output")
    }

    fn value(
        &self,
        values: &HashMap<&str, Link>,
        tensor: &Tensor,
        reader: &str,
    ) -> Result<Link, String> {
        let Tensor { layer, output } = tensor;
        // Whichever call it is, a layer has one: Keras 2 counts those outside of the model too.
        if *output != 0 {
            return Err(format!(
                "`{reader}` takes output {output} of `{layer}`: a layer of several outputs is not supported"
            ));
        }
        values.get(layer.as_str()).copied().ok_or_else(|| {
            format!("`{reader}` takes the output of `{layer}`, which is none of the model's layers")
        })
    }

    /// Adds what one entry of the list is.
    fn entry(
        &mut self,
        entry: &Entry<'_>,
        arguments: Vec<Argument>,
        mut settings: Map<String, Value>,
        place: &Place,
    ) -> Result<Link, String> {
        let Entry { class, name, key, value } = entry;
        let class = *class;
        let described = format!("layer {}, `{name}` ({class})", self.flat.nodes.len());
        let links: Vec<Link> = arguments
            .iter()
            .filter_map(|argument| match argument {
                Argument::Value(link) => Some(*link),
                Argument::Constant(..) => None,
            })
            .collect();
        if let [Link::Image] = links.as_slice() {
            for shapes in ["batch_shape", "batch_input_shape"] {
                self.see_images(&value["config"][shapes], Link::Image)?;
            }
        }
        // Keras 3 does as `predict` says, whatever a layer was called with.
        let training = settings.remove("training");
        if training == Some(Value::Bool(true)) && self.generation == Generation::Keras2 {
            return Err(format!(
                "{described} was called with training=True: it would be random, or take the batch's statistics, in every prediction"
            ));
        }
        if class == "InputLayer" {
            let flags = ["sparse", "ragged"];
            if let Some(flag) = flags.iter().find(|flag| value["config"][**flag] == true) {
                return Err(format!("{described}: `{flag}` is true, expected false"));
            }
            let [link] = links.as_slice() else {
                return Err(format!("{described} has {} inputs, expected 1", links.len()));
            };
            return Ok(*link);
        }
        foreign(value, &described)?;
        if matches!(class, "Sequential" | "Functional" | "Model") {
            let [Argument::Value(link)] = arguments.as_slice() else {
                return Err(format!("{described} has {} inputs, expected 1", arguments.len()));
            };
            // Files by name do not repeat the outer model's name in the layers' own.
            let prefix = if self.numbered { format!("{key}/") } else { String::new() };
            let outermost = if place.depth == 0 { name } else { &place.outermost };
            let (model, outermost) = (name.clone(), outermost.clone());
            let inner = Place { prefix, model, outermost, depth: place.depth + 1 };
            return self.model(value, *link, &inner);
        }
        if self.flat.nodes.len() >= MOST_LAYERS {
            return Err(format!("the model has more than {MOST_LAYERS} layers"));
        }
        let module = value["module"].as_str().unwrap_or_default();
        let Some(config) = value["config"].as_object().cloned() else {
            return Err(format!("{described} has no configuration"));
        };
        quantized(&config, &described)?;
        // Keras 3's whole `.h5` leaves modules out, but no layer of its own takes a constant.
        let has_constant = arguments.iter().any(|one| matches!(one, Argument::Constant(..)));
        let is_operation = module.starts_with("keras.src.ops")
            || module.starts_with("keras.ops")
            || module.is_empty()
                && has_constant
                && self.generation == Generation::Keras3
                && !OLD_OPERATIONS.contains(&class);
        self.flat.nodes.push(Node {
            class: class.to_owned(),
            name: name.clone(),
            model: place.model.clone(),
            config,
            generation: self.generation,
            is_operation,
            key: key.clone(),
            outermost: if self.numbered { String::new() } else { place.outermost.clone() },
            arguments,
            settings,
        });
        Ok(Link::Node(self.flat.nodes.len() - 1))
    }

    /// Notes a shape that is said of the images.
    fn see_images(&mut self, shape: &Value, input: Link) -> Result<(), String> {
        let (Value::Array(sizes), Link::Image) = (shape, input) else { return Ok(()) };
        let size = |value: &Value| match value {
            Value::Null => Ok(None),
            value => match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
                Some(size @ 1..) => Ok(Some(size)),
                _ => Err(format!("the model takes images with a size of {value}")),
            },
        };
        match sizes.as_slice() {
            [_, height, width, channels] => {
                self.flat.images.push([size(height)?, size(width)?, size(channels)?]);
                Ok(())
            }
            [_, count] => {
                self.flat.vectors.extend(size(count)?);
                Ok(())
            }
            other => Err(format!(
                "the model takes values of {} axes, expected images: batch, height, width, channels",
                other.len()
            )),
        }
    }
}

/// The positions of the layers so that each comes behind those that it takes the outputs of.
fn ordered(entries: &[Entry<'_>], calls: &[Option<Call>]) -> Result<Vec<usize>, String> {
    let mut positions = HashMap::new();
    for (position, entry) in entries.iter().enumerate() {
        if positions.insert(entry.name.as_str(), position).is_some() {
            return Err(format!("two layers of one model are called `{}`", entry.name));
        }
    }
    let mut order = Vec::with_capacity(entries.len());
    // Seen, and done.
    let (mut seen, mut done) = (HashSet::new(), HashSet::new());
    for start in 0..entries.len() {
        let mut path = vec![(start, false)];
        while let Some((position, is_left)) = path.pop() {
            if is_left {
                if done.insert(position) {
                    order.push(position);
                }
                continue;
            }
            if done.contains(&position) {
                continue;
            }
            if !seen.insert(position) {
                return Err(format!(
                    "layer `{}` depends on its own output",
                    entries[position].name
                ));
            }
            path.push((position, true));
            let operands = calls[position].iter().flat_map(|call| &call.operands);
            for operand in operands {
                if let Operand::Tensor(tensor) = operand
                    && let Some(&input) = positions.get(tensor.layer.as_str())
                    && !done.contains(&input)
                {
                    if seen.contains(&input) && path.contains(&(input, true)) {
                        return Err(format!("layer `{}` depends on its own output", tensor.layer));
                    }
                    if !seen.contains(&input) {
                        path.push((input, false));
                    }
                }
            }
        }
    }
    Ok(order)
}
