//! Checkpoints of `tf.train.Checkpoint`, `save_weights` and SavedModels: tensors are filed under one of the ways to them
//! through Python's objects, which is as often by an optimizer as by a layer. So the objects' graph is walked, from the
//! root through models and their layers, in Keras's order, to the variables.

use std::collections::{HashMap, HashSet};

use super::Described;
use super::messages::{ObjectReference, SerializedTensor, TrackableObject, TrackableObjectGraph};
use super::names::{Found, Kept, keras};
use crate::Dtype;

/// Keras's own models are far less deep.
const DEEPEST: usize = 64;
/// Likewise; ways are kept for each variable.
const LONGEST_WAY: usize = 1024;
/// What is no layer of a model, or a second way to one.
const ASIDE: [&str; 13] = [
    "variables",
    "trainable_variables",
    "non_trainable_variables",
    "_all_variables",
    "regularization_losses",
    "keras_api",
    "signatures",
    "metrics",
    "compiled_metrics",
    "_random_generator",
    "seed_generator",
    "save_counter",
    "_index_dict",
];
/// States of random numbers.
const SEEDS: [&str; 3] = ["_state_var", "StateVar", "seed_generator_state"];

/// A variable of a layer.
struct Variable<'a> {
    /// The way to the layer.
    layer: String,
    /// What the layer calls it.
    local: &'a str,
    tensor: &'a SerializedTensor,
}

struct Walk<'a> {
    nodes: &'a [TrackableObject],
    visited: HashSet<i32>,
    found: Vec<Variable<'a>>,
}

pub(super) fn read(graph: &TrackableObjectGraph, all: &[Described]) -> Result<Found, String> {
    let mut walk = Walk { nodes: &graph.nodes, visited: HashSet::new(), found: Vec::new() };
    walk.visit(0, "", 0)?;
    if walk.found.is_empty() {
        walk.list()?;
    }
    let numbers: HashMap<&str, usize> =
        all.iter().enumerate().map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
    let known: HashSet<&str> =
        walk.found.iter().map(|variable| variable.tensor.full_name.as_str()).collect();
    // What layers are called, by the way to them.
    let mut called: HashMap<String, String> = HashMap::new();
    let (mut layers, mut taken) = (HashSet::new(), HashSet::new());
    let mut kept = Vec::new();
    for Variable { layer: way, local, tensor } in walk.found {
        let SerializedTensor { full_name, checkpoint_key, .. } = tensor;
        let Some(&index) = numbers.get(checkpoint_key.as_str()) else {
            return Err(format!(
                "the object `{way}` has a variable `{checkpoint_key}`, but the index has none: the files are of two checkpoints, or damaged"
            ));
        };
        let is_whole = matches!(all[index].dtype(), Some(Dtype::I32 | Dtype::I64));
        let is_counter = way.is_empty()
            && is_whole
            && all[index].shape.as_ref().is_none_or(|shape| shape.dim.is_empty());
        if is_counter {
            continue;
        }
        let (own, variable) = if full_name.contains('/') {
            keras("", full_name, &known)
        } else {
            (way.clone(), local.trim_start_matches('_').to_owned())
        };
        let layer = called.entry(way.clone()).or_insert_with(|| {
            // Layers of two models may have one name: the second's is the way to it.
            let name = if layers.contains(&own) { way.clone() } else { own };
            let name = if name.is_empty() { "variable".into() } else { name };
            layers.insert(name.clone());
            name
        });
        let candidates = [variable, local.to_owned()].map(|variable| (layer.clone(), variable));
        let free = candidates.into_iter().find(|candidate| !taken.contains(candidate));
        let Some((layer, variable)) = free else {
            return Err(format!("`{checkpoint_key}`: another tensor means the same variable"));
        };
        taken.insert((layer.clone(), variable.clone()));
        kept.push(Kept { index, layer, variable });
    }
    let left_out = left_out(all, &kept);
    Ok(Found { kept, is_ordered: true, left_out })
}

/// What no layer has: the optimizer's state, counters, seeds, and the graph itself.
fn left_out(all: &[Described], kept: &[Kept]) -> Vec<String> {
    let used: HashSet<usize> = kept.iter().map(|kept| kept.index).collect();
    let others = all.iter().enumerate().filter(|(index, tensor)| {
        let is_aside =
            tensor.name.starts_with("_CHECKPOINTABLE") || tensor.name.starts_with("save_counter/");
        !used.contains(index) && !is_aside
    });
    let others: Vec<&str> = others.map(|(_, tensor)| tensor.name.as_str()).collect();
    let line = others.first().map(|first| {
        let first = first.strip_suffix("/.ATTRIBUTES/VARIABLE_VALUE").unwrap_or(first);
        format!(
            "left out of the TensorFlow checkpoint: {} tensors that are of no layer, as an optimizer's state (the first is `{first}`)",
            others.len()
        )
    });
    line.into_iter().collect()
}

impl<'a> Walk<'a> {
    /// Collects the variables of an object and of those below.
    fn visit(&mut self, id: i32, way: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST || way.len() > LONGEST_WAY {
            let shown = way.chars().take(80).collect::<String>();
            return Err(format!(
                "`{shown}...` is nested more than {DEEPEST} deep, or has a name of more than {LONGEST_WAY} bytes: the graph of objects is damaged"
            ));
        }
        let node = self.node(id)?;
        if !self.visited.insert(id) {
            return Ok(());
        }
        // An optimizer, whatever it is called: it counts.
        if node
            .children
            .iter()
            .any(|child| ["iter", "_iterations"].contains(&child.local_name.as_str()))
        {
            return Ok(());
        }
        self.variables(node, way)?;
        for child in self.layers(node)? {
            let name = child.local_name.as_str();
            // Keras 3 keeps a model's layers in these.
            let is_list = ["_functional", "_operations"].contains(&name);
            let below = match (is_list, way) {
                (true, way) => way.to_owned(),
                (false, "") => name.to_owned(),
                (false, way) => format!("{way}/{name}"),
            };
            self.visit(child.node_id, &below, depth + 1)?;
        }
        Ok(())
    }

    fn node(&self, id: i32) -> Result<&'a TrackableObject, String> {
        let node = usize::try_from(id).ok().and_then(|id| self.nodes.get(id));
        node.ok_or_else(|| {
            format!("names object {id} of {}: the graph of objects is damaged", self.nodes.len())
        })
    }

    /// The children that are not variables: of a model its layers, in Keras's order.
    fn layers(&self, node: &'a TrackableObject) -> Result<Vec<&'a ObjectReference>, String> {
        let number = |child: &&ObjectReference| {
            child.local_name.strip_prefix("layer_with_weights-")?.parse::<u32>().ok()
        };
        let mut layers: Vec<_> =
            node.children.iter().filter(|child| number(child).is_some()).collect();
        layers.sort_by_key(number);
        if !layers.is_empty() {
            return Ok(layers);
        }
        for list in ["_functional", "_operations"] {
            let list: Vec<_> =
                node.children.iter().filter(|child| child.local_name == list).collect();
            if !list.is_empty() {
                return Ok(list);
            }
        }
        let is_aside = |name: &str| ASIDE.contains(&name) || name.contains("optimizer");
        let mut others: Vec<_> =
            node.children.iter().filter(|child| !is_aside(&child.local_name)).collect();
        // The elements of a list.
        others.sort_by_key(|child| child.local_name.parse::<u32>().unwrap_or_default());
        Ok(others)
    }

    fn variables(&mut self, node: &'a TrackableObject, way: &str) -> Result<(), String> {
        for child in &node.children {
            let tensor = value(self.node(child.node_id)?);
            let Some(tensor) = tensor else { continue };
            let local = child.local_name.as_str();
            let full = tensor.full_name.rsplit('/').next().unwrap_or_default();
            if ASIDE.contains(&local) || SEEDS.contains(&local) || SEEDS.contains(&full) {
                continue;
            }
            if self.visited.insert(child.node_id) {
                self.found.push(Variable { layer: way.to_owned(), local, tensor });
            }
        }
        Ok(())
    }

    /// What Keras 3 exports has no layers, but lists a model's variables in their order.
    fn list(&mut self) -> Result<(), String> {
        let root = self.node(0)?;
        let Some(list) = root.children.iter().find(|child| child.local_name == "variables") else {
            return Ok(());
        };
        let list = self.node(list.node_id)?;
        let mut elements: Vec<_> = list.children.iter().collect();
        elements.sort_by_key(|child| child.local_name.parse::<u32>().unwrap_or(u32::MAX));
        for child in elements {
            let Some(tensor) = value(self.node(child.node_id)?) else { continue };
            let (layer, local) =
                tensor.full_name.rsplit_once('/').unwrap_or(("variables", &child.local_name));
            if !SEEDS.contains(&local) && self.visited.insert(child.node_id) {
                self.found.push(Variable { layer: layer.to_owned(), local, tensor });
            }
        }
        Ok(())
    }
}

/// The tensor of an object that is a variable.
fn value(node: &TrackableObject) -> Option<&SerializedTensor> {
    node.attributes.iter().find(|tensor| tensor.name == "VARIABLE_VALUE")
}
