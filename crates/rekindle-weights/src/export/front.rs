//! Preprocessing as layers in front of a network.

use rekindle_nn::{Base, Graph, Layer, Op, Source};
use rekindle_pixels::Preprocessing;

use super::Exported;
use crate::preprocessing::steps;

/// Puts a model's preprocessing in front of its network, and gives the names of its layers.
pub(crate) fn put_in(model: &mut Exported) -> Result<Vec<String>, String> {
    let mode: Preprocessing = model.card.preprocessing.parse()?;
    let graph = &model.card.graph;
    let free = |name: &str| {
        let is_taken = |name: &String| graph.layers().iter().any(|layer| layer.name == *name);
        let mut names = (0..).map(|number| match number {
            0 => name.to_owned(),
            number => format!("{name}_{number}"),
        });
        names.find(|name| !is_taken(name)).ok_or_else(|| format!("no name is left for `{name}`"))
    };
    let mut front: Vec<(String, Op)> = Vec::new();
    for step in steps(mode, graph.input().channels()) {
        let name = free(step.name)?;
        if let Some(kernel) = step.kernel {
            model.variables.insert((name.clone(), "kernel".into()), kernel);
        }
        front.push((name, step.op));
    }
    let names = front.iter().map(|(name, _)| name.clone()).collect();
    model.card.graph = behind(front, graph).map_err(|error| error.to_string())?;
    model.card.preprocessing = Preprocessing::None.name();
    Ok(names)
}

/// A graph behind other layers, each of which takes what the one before it makes.
fn behind(front: Vec<(String, Op)>, graph: &Graph) -> Result<Graph, rekindle_nn::NetworkError> {
    let count = front.len();
    let moved = |source: Source| match (source, count) {
        (Source::Input, 0) => Source::Input,
        (Source::Input, count) => Source::Layer(count - 1),
        (Source::Layer(position), count) => Source::Layer(position + count),
    };
    let mut layers: Vec<Layer> = Vec::new();
    for (position, (name, op)) in front.into_iter().enumerate() {
        let input = position.checked_sub(1).map_or(Source::Input, Source::Layer);
        layers.push(Layer { name, op, inputs: vec![input] });
    }
    layers.extend(graph.layers().iter().map(|layer| Layer {
        inputs: layer.inputs.iter().map(|source| moved(*source)).collect(),
        ..layer.clone()
    }));
    let base = graph.base();
    let base = Base { layers: base.layers + count, output: moved(base.output), ..base };
    Graph::new(graph.input(), layers, moved(graph.output()), base)
}
