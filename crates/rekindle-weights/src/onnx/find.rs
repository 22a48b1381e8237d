//! Finds a network that we know in a graph, from its output backwards: a value is compared with a layer, then
//! the values that it is made of with the layers before. So branches are told apart by where they end.

use std::collections::HashMap;

use burn::tensor::backend::Backend;
use rekindle_nn::{Architecture, Graph as Network, Layout, Pool};

use super::graph::{Graph, Node, Value};
use super::head::{Base, finish, head};
use super::recipe::{Affine, Kitchen, Recipe, Step};
use crate::checkpoint::Checkpoint;
use crate::{ModelCard, TensorInfo, WeightsError};

/// Comparisons of one network with a graph; a real one takes some hundreds.
const MOST_STEPS: usize = 200_000;
/// Concatenations in one.
const MOST_JOINED: usize = 64;

/// The checkpoint with the variables of the network that its graph computes.
pub(crate) fn resolve<B: Backend>(
    checkpoint: Checkpoint,
    graph: Graph,
    device: &B::Device,
) -> Result<Checkpoint, WeightsError> {
    match find::<B>(&checkpoint, &graph, device) {
        Ok(found) => {
            let named =
                |recipe: &Recipe| recipe.source().map(|index| checkpoint.name_in_file(index));
            let names =
                found.recipes.iter().map(|recipe| named(recipe).unwrap_or("(made)").to_owned());
            let names = names.collect();
            let (path, card, tensors) = (checkpoint.path().to_owned(), found.card, found.tensors);
            let (_, reader) = checkpoint.into_parts();
            let kitchen = Box::new(Kitchen { reader, recipes: found.recipes });
            Ok(Checkpoint::new(&path, tensors, Some(card), kitchen).with_names(names))
        }
        Err(problem) => Ok(checkpoint.with_problem(problem)),
    }
}

pub(super) struct Found {
    pub card: ModelCard,
    pub tensors: Vec<TensorInfo>,
    pub recipes: Vec<Recipe>,
}

fn find<B: Backend>(
    checkpoint: &Checkpoint,
    graph: &Graph,
    device: &B::Device,
) -> Result<Found, String> {
    let (features, layers, channels_last) = head(checkpoint, graph);
    let text = |error: rekindle_nn::NetworkError| error.to_string();
    let mut closest: Option<(usize, String)> = None;
    for architecture in Architecture::all() {
        let network = architecture.init::<B>(device).map_err(text)?;
        let layers_of = Network::of(&network);
        let Some(output) = layers_of.output else { continue };
        let mut search = Search::new(checkpoint, graph, &layers_of);
        match search.layer(output, features) {
            Ok(()) => {
                let front = search.front.take().unwrap_or_default();
                let found = Base {
                    architecture: architecture
                        .with_size(size(graph)?.unwrap_or(architecture.size())),
                    found: search.finish(),
                    front,
                    channels_last,
                };
                return finish::<B>(found, layers, checkpoint, graph, device);
            }
            Err(problem) => {
                // The network that agrees for longest is the one that was meant.
                if closest.as_ref().is_none_or(|(agreed, _)| *agreed < search.bound.len()) {
                    let problem = format!("{}: {problem}", architecture.name());
                    closest = Some((search.bound.len(), problem));
                }
            }
        }
    }
    Err(closest.map_or_else(|| "no network is known".into(), |(_, problem)| problem))
}

/// Height and width of the images, where the graph says; channels stand second or last.
fn size(graph: &Graph) -> Result<Option<usize>, String> {
    let (height, width) = match *graph.input.1.as_slice() {
        [_, 3, height, width] | [_, height, width, 3] => (height, width),
        _ => return Ok(None),
    };
    match (usize::try_from(height), usize::try_from(width)) {
        (Ok(0) | Err(_), _) | (_, Ok(0) | Err(_)) => Ok(None),
        (Ok(height), Ok(width)) if height == width => Ok(Some(height)),
        _ => Err(format!("the graph takes images of {height} x {width}, expected squares")),
    }
}

/// Whether a `Clip` goes from 0 to 6. Its limits are constants, or attributes in old files.
pub(super) fn is_relu6(graph: &Graph, node: &Node) -> bool {
    match (node.input(1), node.input(2)) {
        (Some(low), Some(high)) => {
            let scalar = |value: Value| graph.scalar(graph.tensor(graph.behind(value).0)?);
            scalar(low) == Some(0.0) && scalar(high) == Some(6.0)
        }
        _ => node.float("min") == Some(0.0) && node.float("max") == Some(6.0),
    }
}

/// One network's comparison with a graph.
struct Search<'a> {
    checkpoint: &'a Checkpoint,
    graph: &'a Graph,
    network: &'a Network,
    /// The value that a layer was found to make.
    bound: HashMap<usize, Value>,
    recipes: HashMap<usize, Vec<Recipe>>,
    folded: bool,
    /// What is done to the input before the first layer.
    front: Option<Affine>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(checkpoint: &'a Checkpoint, graph: &'a Graph, network: &'a Network) -> Self {
        let (bound, recipes) = (HashMap::new(), HashMap::new());
        Self { checkpoint, graph, network, bound, recipes, folded: false, front: None, steps: 0 }
    }

    /// Compares what makes `value` with a layer and all before it.
    fn layer(&mut self, layer: usize, value: Value) -> Result<(), String> {
        let value = self.graph.behind(value).0;
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err("the graph takes too long to compare".into());
        }
        if let Some(&bound) = self.bound.get(&layer) {
            return match bound == value {
                true => Ok(()),
                false => Err(self.wrong(layer, value, "another value")),
            };
        }
        let ours = &self.network.layers[layer];
        let inputs = ours.inputs.clone();
        let made =
            |op: &[&str]| self.graph.maker(value).filter(|node| op.contains(&node.op.as_str()));
        match ours.kind {
            // The graph's own padding is part of its Conv, or a Pad that is looked through.
            "ZeroPadding2D" | "Dropout" | "Flatten" => self.input(inputs[0], value)?,
            "ReLU" | "Activation" => {
                let limited = made(&["Clip"])
                    .filter(|node| is_relu6(self.graph, node))
                    .filter(|_| ours.kind == "ReLU");
                let node =
                    limited.or_else(|| made(&["Relu"]).filter(|_| ours.kind == "Activation"));
                let from = node.and_then(|node| node.input(0));
                let from = from.ok_or_else(|| self.wrong(layer, value, "an activation"))?;
                self.input(inputs[0], from)?;
            }
            "MaxPooling2D" | "AveragePooling2D" => {
                let op = if ours.kind == "MaxPooling2D" { "MaxPool" } else { "AveragePool" };
                let node = made(&[op]).filter(|node| window_fits(node, ours.window));
                let from = node.and_then(|node| node.input(0));
                let from = from.ok_or_else(|| self.wrong(layer, value, op))?;
                self.input(inputs[0], from)?;
            }
            "Add" => {
                let node = made(&["Add"]);
                let operands = node.and_then(|node| Some([node.input(0)?, node.input(1)?]));
                let [a, b] = operands.ok_or_else(|| self.wrong(layer, value, "an Add"))?;
                let before = (self.bound.clone(), self.recipes.clone(), self.folded);
                let straight = self.input(inputs[1], b).and_then(|()| self.input(inputs[0], a));
                if let Err(problem) = straight {
                    (self.bound, self.recipes, self.folded) = before;
                    let swapped = self.input(inputs[1], a).and_then(|()| self.input(inputs[0], b));
                    // Keras's own order is the likelier one.
                    swapped.map_err(|_| problem)?;
                }
            }
            "Concatenate" => {
                let ours = self.our_parts(layer);
                let theirs = self.their_parts(value);
                if ours.len() != theirs.len() || theirs.len() < 2 {
                    return Err(self.wrong(layer, value, &format!("a Concat of {}", ours.len())));
                }
                for (ours, theirs) in ours.into_iter().zip(theirs) {
                    self.input(ours, theirs)?;
                }
            }
            "BatchNormalization" => self.normalization(layer, value)?,
            _ => return Err(self.wrong(layer, value, "a layer with a normalization behind it")),
        }
        self.bound.insert(layer, value);
        Ok(())
    }

    /// Compares a value with a layer, or with the network's input.
    fn input(&mut self, layer: Option<usize>, value: Value) -> Result<(), String> {
        if let Some(layer) = layer {
            return self.layer(layer, value);
        }
        let (steps, value) = self.affine(value);
        if value != self.graph.input.0 {
            let name = self.graph.name(value);
            return Err(format!("the network's input is `{name}`, which is not the graph's"));
        }
        self.front = Some(steps);
        Ok(())
    }

    /// A convolution with its normalization, in whatever is left of it.
    fn normalization(&mut self, layer: usize, value: Value) -> Result<(), String> {
        let ours = &self.network.layers[layer];
        let Some(conv) = ours.inputs[0] else {
            return Err(self.wrong(layer, value, "a convolution before it"));
        };
        let conv_layer = &self.network.layers[conv];
        let (mut affine, product) = self.affine(value);
        let node = self.graph.maker(product).filter(|node| node.op == "Conv");
        let node = node.ok_or_else(|| self.wrong(conv, product, "a Conv"))?;
        let weight = node.input(1).and_then(|weight| self.graph.tensor(weight));
        let (Some(from), Some(weight)) = (node.input(0), weight) else {
            return Err(self.wrong(conv, product, "a Conv with constant weights"));
        };
        let kernel = &conv_layer.variables[0];
        let depthwise = kernel.layout == Layout::Depthwise;
        let &[height, width, input, output] = kernel.shape.as_slice() else {
            return Err(self.wrong(conv, product, "a kernel of four extents"));
        };
        let (outputs, filters) = if depthwise { (input, 1) } else { (output, input) };
        let expected = [outputs, filters, height, width];
        let found = &self.checkpoint.tensors()[weight].shape;
        if found[..] != expected {
            let what = format!("weights of shape {expected:?} (found {found:?})");
            return Err(self.wrong(conv, product, &what));
        }
        let groups = node.int("group").unwrap_or(1);
        let is_grouped = if depthwise { groups == outputs as i64 } else { groups == 1 };
        if !is_grouped || !window_fits(node, conv_layer.window) {
            let what = format!("groups, strides and kernel as {:?}", conv_layer.window);
            return Err(self.wrong(conv, product, &what));
        }
        let names: Vec<&str> = ours.variables.iter().map(|variable| variable.name).collect();
        let extents = [outputs, filters, height * width];
        let scale = |scale| Recipe::Kernel { weight, extents, depthwise, scale };
        let bias = node.input(2).map(|bias| self.graph.tensor(bias));
        let recipes = match (affine.0.as_slice(), bias) {
            // The file still has the normalization as it was trained.
            ([Step::Normalize([gamma, beta, mean, variance], epsilon)], None)
                if names.contains(&"gamma") && (epsilon - ours.epsilon).abs() < 1e-6 =>
            {
                self.recipes.insert(conv, vec![scale(Affine::default())]);
                [gamma, beta, mean, variance].into_iter().map(|&t| Recipe::Same(t)).collect()
            }
            _ => {
                if let Some(bias) = bias {
                    let bias = bias.ok_or_else(|| self.wrong(conv, product, "a constant bias"))?;
                    affine.0.insert(0, Step::Add(bias));
                }
                self.folded = true;
                self.recipes.insert(conv, vec![scale(affine.clone())]);
                let recipe = |name: &&str| match *name {
                    "beta" => Recipe::Shift { affine: affine.clone(), channels: outputs },
                    "gamma" => Recipe::Constant(1.0, outputs),
                    "moving_mean" => Recipe::Constant(0.0, outputs),
                    // With epsilon it is 1: the normalization then does nothing but add beta.
                    _ => Recipe::Constant((1.0 - ours.epsilon) as f32, outputs),
                };
                names.iter().map(recipe).collect()
            }
        };
        self.recipes.insert(layer, recipes);
        self.bound.insert(conv, product);
        self.input(conv_layer.inputs[0], from)
    }

    /// What is done to each channel on the way from another value to this one.
    fn affine(&self, value: Value) -> (Affine, Value) {
        let mut steps = Vec::new();
        let mut value = self.graph.behind(value).0;
        // A damaged file may go in circles.
        while steps.len() < 16 {
            let Some(node) = self.graph.maker(value) else { break };
            let constant = self.graph.with_constant(node);
            let step = match (node.op.as_str(), constant) {
                ("Mul", Some((input, constant, _))) => Some((input, Step::Multiply(constant))),
                ("Add", Some((input, constant, _))) => Some((input, Step::Add(constant))),
                ("Sub", Some((input, constant, false))) => Some((input, Step::Subtract(constant))),
                ("Div", Some((input, constant, false))) => Some((input, Step::Divide(constant))),
                ("BatchNormalization", _) => {
                    let tensor = |number| self.graph.tensor(node.input(number)?);
                    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
                    match (node.input(0), tensor(1), tensor(2), tensor(3), tensor(4)) {
                        (Some(input), Some(gamma), Some(beta), Some(mean), Some(variance)) => {
                            Some((input, Step::Normalize([gamma, beta, mean, variance], epsilon)))
                        }
                        _ => None,
                    }
                }
                _ => None,
            };
            let Some((input, step)) = step else { break };
            steps.push(step);
            value = self.graph.behind(input).0;
        }
        steps.reverse();
        (Affine(steps), value)
    }

    /// What a concatenation and those inside it join; exporters merge them.
    fn our_parts(&self, layer: usize) -> Vec<Option<usize>> {
        let inputs = self.network.layers[layer].inputs.iter();
        let parts = inputs.map(|&input| match input {
            Some(input) if self.network.layers[input].kind == "Concatenate" => {
                self.our_parts(input)
            }
            input => vec![input],
        });
        parts.flatten().collect()
    }

    fn their_parts(&self, value: Value) -> Vec<Value> {
        let (mut parts, mut open, mut joined) = (Vec::new(), vec![value], 0);
        while let Some(value) = open.pop() {
            let value = self.graph.behind(value).0;
            match self.graph.maker(value) {
                // Far more than any network has: a damaged file may go in circles.
                Some(node) if node.op == "Concat" && joined < MOST_JOINED => {
                    joined += 1;
                    open.extend(node.inputs.iter().rev().flatten());
                }
                _ => parts.push(value),
            }
        }
        parts
    }

    fn wrong(&self, layer: usize, value: Value, expected: &str) -> String {
        let found = self.graph.maker(value).map_or("no node", |node| node.op.as_str());
        let (layer, name) = (&self.network.layers[layer].name, self.graph.name(value));
        format!("`{name}` is made by {found}, expected {expected} for `{layer}`")
    }

    /// The network's tensors, in the order of its layers.
    fn finish(mut self) -> (Vec<TensorInfo>, Vec<Recipe>, bool) {
        let (mut tensors, mut recipes) = (Vec::new(), Vec::new());
        for (number, layer) in self.network.layers.iter().enumerate() {
            let made = self.recipes.remove(&number).unwrap_or_default();
            for (variable, recipe) in layer.variables.iter().zip(made) {
                tensors.push(described(self.checkpoint, &layer.name, variable, &recipe));
                recipes.push(recipe);
            }
        }
        (tensors, recipes, self.folded)
    }
}

/// A variable as a tensor, in the numbers of what it is made of.
pub(super) fn described(
    checkpoint: &Checkpoint,
    layer: &str,
    variable: &rekindle_nn::VariableSpec,
    recipe: &Recipe,
) -> TensorInfo {
    let dtype = recipe.source().map(|index| checkpoint.tensors()[index].dtype);
    TensorInfo {
        layer: layer.to_owned(),
        variable: variable.name.to_owned(),
        shape: variable.shape.clone(),
        dtype: dtype.unwrap_or(crate::Dtype::F32),
    }
}

fn window_fits(node: &Node, window: Option<Pool>) -> bool {
    window.is_some_and(|window| {
        node.pair("strides").unwrap_or([1, 1]) == window.stride
            && node.pair("kernel_shape").is_none_or(|kernel| kernel == window.kernel)
            && node.pair("dilations").is_none_or(|dilations| dilations == [1, 1])
    })
}
