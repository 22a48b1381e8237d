//! From a flat list of Keras's layers to a graph.

use std::collections::{HashMap, HashSet};

use rekindle_nn::keras::LayerConfig;
use rekindle_nn::{Graph, GraphBuilder, Op, Shape, graph};

use super::config::{Argument, Flat, Link, Node};
use super::operators::{Made, is_operation, operation};

/// A graph, and which node of the file each of its layers is.
#[derive(Debug)]
pub(super) struct Built {
    /// The network, whose layers have the file's names.
    pub graph: Graph,
    /// For each layer of the graph, the position of its node.
    pub nodes: Vec<usize>,
    /// Layers in which a model in the model ends, the largest first.
    pub ends: Vec<String>,
}

/// Builds the graph for images of this shape; the node `skipped` is none of its layers.
pub(super) fn build(flat: &Flat, images: Shape, skipped: Option<usize>) -> Result<Built, String> {
    let (mut net, image) = GraphBuilder::new(images);
    let needed = needed(flat);
    let mut used = HashSet::new();
    let mut values: HashMap<Link, graph::Value> = HashMap::from([(Link::Image, image)]);
    let (mut nodes, mut names) = (Vec::new(), HashMap::new());
    for (position, node) in flat.nodes.iter().enumerate().filter(|(position, _)| needed[*position])
    {
        let place = Link::Node(position);
        let value = |link: Link| {
            let missing = || format!("layer `{}` takes a value that comes behind it", node.name);
            values.get(&link).copied().ok_or_else(missing)
        };
        let inputs: Vec<graph::Value> = node.inputs().map(value).collect::<Result<_, _>>()?;
        let made = if Some(position) == skipped {
            Made::Same(first(node)?)
        } else if is_operation(node) {
            let shape = |link: Link| values.get(&link).map_or(images, |value| value.shape());
            operation(node, &shape)?
        } else {
            layer(node, position, &inputs)?
        };
        let (op, links) = match made {
            Made::Same(link) => {
                let same = value(link)?;
                values.insert(place, same);
                continue;
            }
            Made::Layer(op, links) => (op, links),
        };
        let inputs: Vec<graph::Value> = links.into_iter().map(value).collect::<Result<_, _>>()?;
        let name = name(node, &mut used);
        let added = net.layer(name.clone(), op, &inputs).map_err(|error| error.to_string())?;
        values.insert(place, added);
        names.insert(added.source(), name);
        nodes.push(position);
    }
    let Some(output) = values.get(&flat.output) else {
        return Err("the model's output is none of its layers".into());
    };
    let graph = net.finish(*output).map_err(|error| error.to_string())?;
    let total = flat.nodes.len();
    // A small model in the model is a block, or what augments.
    let mut ends: Vec<&(Link, usize)> =
        flat.ends.iter().filter(|(_, count)| 2 * count > total).collect();
    ends.sort_by_key(|(_, count)| usize::MAX - count);
    let ends =
        ends.into_iter().filter_map(|(link, _)| names.get(&values.get(link)?.source()).cloned());
    Ok(Built { ends: ends.collect(), graph, nodes })
}

/// Which nodes the output depends on.
fn needed(flat: &Flat) -> Vec<bool> {
    let mut needed = vec![false; flat.nodes.len()];
    let mut open = vec![flat.output];
    while let Some(link) = open.pop() {
        if let Link::Node(position) = link
            && !std::mem::replace(&mut needed[position], true)
        {
            open.extend(flat.nodes[position].inputs());
        }
    }
    needed
}

fn first(node: &Node) -> Result<Link, String> {
    node.inputs().next().ok_or_else(|| format!("layer `{}` has no input", node.name))
}

/// The layer's own name, with the name of its model in front where another layer has it.
fn name(node: &Node, used: &mut HashSet<String>) -> String {
    let own = if node.name.is_empty() {
        super::class::snake_case(&node.class)
    } else {
        node.name.clone()
    };
    if !used.contains(&own) {
        used.insert(own.clone());
        return own;
    }
    let qualified = if node.model.is_empty() { own } else { format!("{}/{own}", node.model) };
    crate::recognise::unique(&qualified, used)
}

fn layer(node: &Node, position: usize, inputs: &[graph::Value]) -> Result<Made, String> {
    let described = format!("layer {position}, `{}` ({})", node.name, node.class);
    // Nothing but a mask, which image models have not, could change an answer.
    if let Some((name, value)) = node.settings.iter().find(|(_, value)| !value.is_null()) {
        return Err(format!(
            "{described} was called with `{name}` {value}, which is not supported: it would not be honoured"
        ));
    }
    if node.arguments.iter().any(|argument| matches!(argument, Argument::Constant(..))) {
        return Err(format!(
            "{described} was called with a constant, expected values of the network"
        ));
    }
    let config = LayerConfig::new(&node.name, &node.class, node.generation, &node.config);
    let op = Op::from_keras(config).map_err(|error| error.to_string())?;
    let Some(op) = op else {
        return Err(format!("{described} is not supported; {}", near(&node.class)));
    };
    if matches!(op, Op::TrainingOnly(_)) && inputs.len() == 1 {
        return Ok(Made::Same(first(node)?));
    }
    Ok(Made::Layer(op, node.inputs().collect()))
}

/// What a user can do about a class that is not supported.
fn near(class: &str) -> String {
    if class == "Lambda" {
        return "it holds Python code: put Keras's own layers in its place, such as Rescaling"
            .into();
    }
    let pieces = |text: &str| {
        let letters: Vec<char> = text.to_lowercase().chars().collect();
        letters.windows(3).map(|piece| piece.iter().collect()).collect::<HashSet<String>>()
    };
    let own = pieces(class);
    let mut known: Vec<(usize, &str)> = Op::keras_classes()
        .into_iter()
        .map(|known| (pieces(known).intersection(&own).count(), known))
        .collect();
    known.sort_by_key(|(common, name)| (usize::MAX - common, *name));
    known.dedup();
    let names: Vec<&str> = known.into_iter().take(4).map(|(_, name)| name).collect();
    format!("layers like it that are: {}", names.join(", "))
}
