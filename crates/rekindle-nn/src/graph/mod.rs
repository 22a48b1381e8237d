//! A network as data: layers in topological order, each with its Keras name, what it does, and whose outputs it takes.

mod builder;
mod order;
mod part;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use builder::{GraphBuilder, Value};
pub use part::Part;

use crate::{Architecture, NetworkError, Op, Shape, VariableSpec};

/// Where a layer takes a value from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The image.
    Input,
    /// The output of the layer at this position.
    Layer(usize),
}

impl Source {
    /// The layer's position; nothing for the input.
    #[must_use]
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Input => None,
            Self::Layer(position) => Some(position),
        }
    }
}

/// One layer of a [`Graph`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The layer's Keras name.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Whose outputs it takes.
    pub inputs: Vec<Source>,
}

/// The part of a network that was trained before, and ends where a head begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// How many of the graph's layers are its own: the first ones.
    pub layers: usize,
    /// Its output, which the head takes.
    pub output: Source,
    /// What it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
}

/// A network as data: layers in topological order, for images of one shape. There is no backend in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graph {
    input: Shape,
    layers: Vec<Layer>,
    output: Source,
    base: Base,
    /// The shape of each layer's output.
    #[serde(skip)]
    shapes: Vec<Shape>,
}

/// As a file has it, before it is seen to be a graph.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    input: Shape,
    layers: Vec<Layer>,
    output: Source,
    base: Base,
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { input, layers, output, base } = Written::deserialize(deserializer)?;
        Self::new(input, layers, output, base).map_err(serde::de::Error::custom)
    }
}

impl Graph {
    /// A graph of these layers, once names are seen to be unique and shapes to fit.
    ///
    /// # Errors
    /// When a layer takes what does not come before it, or a shape that it cannot take; when two have one name.
    pub fn new(
        input: Shape,
        layers: Vec<Layer>,
        output: Source,
        base: Base,
    ) -> Result<Self, NetworkError> {
        let mut names = HashSet::new();
        let mut shapes: Vec<Shape> = Vec::with_capacity(layers.len());
        for layer in &layers {
            if !names.insert(layer.name.as_str()) {
                return Err(NetworkError::graph(format!("two layers are called `{}`", layer.name)));
            }
            let inputs: Option<Vec<Shape>> =
                layer.inputs.iter().map(|source| shape_of(input, &shapes, *source)).collect();
            let Some(inputs) = inputs else {
                let name = &layer.name;
                return Err(NetworkError::graph(format!(
                    "layer `{name}` takes a value that comes behind it"
                )));
            };
            shapes.push(layer.op.output_shape(&layer.name, &inputs)?);
        }
        let is_there = |source| shape_of(input, &shapes, source).is_some();
        let is_base = base.layers <= layers.len()
            && base.output.layer().is_none_or(|position| position < base.layers);
        if !is_there(output) || !is_base {
            return Err(NetworkError::graph("its output is none of its layers".into()));
        }
        Ok(Self { input, layers, output, base, shapes })
    }

    /// The shape of one image.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.input
    }

    /// In topological order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Where the result comes from.
    #[must_use]
    pub fn output(&self) -> Source {
        self.output
    }

    /// The part that was trained before.
    #[must_use]
    pub fn base(&self) -> Base {
        self.base
    }

    /// The layers of a head on the base.
    #[must_use]
    pub fn head(&self) -> &[Layer] {
        &self.layers[self.base.layers..]
    }

    /// The shape of a value.
    #[must_use]
    pub fn shape(&self, source: Source) -> Shape {
        match source {
            Source::Input => self.input,
            Source::Layer(position) => self.shapes[position],
        }
    }

    /// The shape of the result.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.shape(self.output)
    }

    /// The shapes of what a layer takes.
    #[must_use]
    pub fn input_shapes(&self, position: usize) -> Vec<Shape> {
        self.layers[position].inputs.iter().map(|source| self.shape(*source)).collect()
    }

    /// A layer's variables, in Keras's order.
    #[must_use]
    pub fn variables(&self, position: usize) -> Vec<VariableSpec> {
        self.layers[position].op.variables(&self.input_shapes(position))
    }

    /// The position of the layer of this name.
    ///
    /// # Errors
    /// When there is none; the message has the names most like it.
    pub fn position(&self, name: &str) -> Result<usize, NetworkError> {
        let position = self.layers.iter().position(|layer| layer.name == name);
        position.ok_or_else(|| {
            let mut near: Vec<(usize, &str)> = self
                .layers
                .iter()
                .map(|layer| (edit_distance(&layer.name, name), layer.name.as_str()))
                .collect();
            near.sort_unstable();
            let near = near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect();
            NetworkError::UnknownLayer { name: name.to_owned(), near }
        })
    }

    /// How many layers take the output of each; the result counts as one more.
    #[must_use]
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.layers.len()];
        let sources = self.layers.iter().flat_map(|layer| &layer.inputs).chain([&self.output]);
        sources.filter_map(|source| source.layer()).for_each(|position| uses[position] += 1);
        uses
    }

    /// The layer that ends the network, where only its output is the result.
    #[must_use]
    pub fn last(&self) -> Option<&Layer> {
        Some(&self.layers[self.output.layer()?])
    }

    /// How many classes the network tells apart: the length of its output, where that is a vector that a dense layer or a
    /// convolution makes, and functions of single values behind it.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        let Shape::Flat(classes) = self.output_shape() else { return None };
        let mut source = self.output;
        loop {
            let layer = &self.layers[source.layer()?];
            match (&layer.op, &layer.inputs[..]) {
                (Op::Dense(_) | Op::Conv2d(_), _) => return Some(classes),
                (
                    Op::Activation(_)
                    | Op::Rescaling(_)
                    | Op::Reshape(_)
                    | Op::Flatten(_)
                    | Op::Dropout(_)
                    | Op::SharedDropout(_)
                    | Op::Noise(_)
                    | Op::TrainingOnly(_)
                    | Op::Identity(_),
                    &[input],
                ) => source = input,
                _ => return None,
            }
        }
    }

    /// The same layers for images of another shape: known networks are built for it, others get their shapes anew.
    ///
    /// # Errors
    /// When a layer cannot take it, or a variable would have another shape.
    pub fn with_input(&self, input: Shape) -> Result<Self, NetworkError> {
        let mut layers = self.layers.clone();
        let mut base = self.base;
        if let (Some(architecture), Some([height, width, channels])) =
            (base.architecture, input.as_map())
        {
            let architecture = architecture.with_images(height, width, channels);
            let is_whole = |built: &Self| {
                built.layers.len() == base.layers
                    && built.layers.iter().zip(&layers).all(|(a, b)| a.name == b.name)
            };
            if let Some(built) = architecture.bases()?.into_iter().find(is_whole) {
                layers.splice(..base.layers, built.layers);
                base.architecture = Some(architecture);
            }
        }
        let other = Self::new(input, layers, self.output, base)?;
        for position in 0..self.layers.len() {
            for (new, old) in other.variables(position).iter().zip(self.variables(position)) {
                if new.shape != old.shape {
                    return Err(NetworkError::Size {
                        layer: self.layers[position].name.clone(),
                        variable: old.name,
                        expected: old.shape,
                        found: new.shape.clone(),
                        input: input.to_string(),
                    });
                }
            }
        }
        Ok(other)
    }

    /// Says what the base is.
    pub(crate) fn set_architecture(&mut self, architecture: Architecture) {
        self.base.architecture = Some(architecture);
    }

    /// The base alone, without the head.
    #[must_use]
    pub fn without_head(&self) -> Self {
        let count = self.base.layers;
        Self {
            input: self.input,
            layers: self.layers[..count].to_vec(),
            output: self.base.output,
            base: self.base,
            shapes: self.shapes[..count].to_vec(),
        }
    }

    /// The last layer behind which the network can be cut so that nothing before the cut trains or is random, where
    /// `trains` says which layers do, by their Keras names: up to here a sample's values never change. Nothing, where
    /// only the input is before all that trains.
    #[must_use]
    pub fn cut(&self, trains: &dyn Fn(&str) -> bool) -> Option<String> {
        let changes = |position: usize| {
            let layer = &self.layers[position];
            layer.op.is_random() || (!self.variables(position).is_empty() && trains(&layer.name))
        };
        let count = self.layers.len();
        let first = (0..count).find(|&position| changes(position)).unwrap_or(count);
        // The earliest value that any layer from a position on takes; 0 is the input here.
        let mut earliest = vec![usize::MAX; count + 1];
        earliest[count] = self.output.layer().map_or(0, |position| position + 1);
        for (position, layer) in self.layers.iter().enumerate().rev() {
            let own = layer.inputs.iter().map(|input| input.layer().map_or(0, |input| input + 1));
            earliest[position] = earliest[position + 1].min(own.min().unwrap_or_default());
        }
        let is_cut = |&position: &usize| earliest[position + 1] > position;
        let cut = (0..first).rev().find(is_cut)?;
        Some(self.layers[cut].name.clone())
    }
}

fn shape_of(input: Shape, shapes: &[Shape], source: Source) -> Option<Shape> {
    match source {
        Source::Input => Some(input),
        Source::Layer(position) => shapes.get(position).copied(),
    }
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
