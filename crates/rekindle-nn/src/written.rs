//! What writing a graph for another program takes, whatever the program's format is.

use std::collections::{HashMap, HashSet};

use crate::{Graph, Layer, NetworkError, Shape, Source};

/// Names that are taken. Values of layers have the layers' names: nothing else may.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<String>);

impl Names {
    /// With those of a graph's layers taken.
    pub fn of(graph: &Graph) -> Self {
        Self(graph.layers().iter().map(|layer| layer.name.clone()).collect())
    }

    /// A name that nothing has, which is then taken: the one that is wanted, or that with a number.
    pub fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 0;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted}_{number}");
        }
        name
    }
}

/// Height, width and channels of the images that a network takes.
pub(crate) fn images(graph: &Graph, format: &str) -> Result<[usize; 3], NetworkError> {
    graph.input().as_map().ok_or_else(|| {
        NetworkError::graph(format!(
            "it takes vectors, {}, and only networks of images are written as {format}",
            graph.input()
        ))
    })
}

/// What a network's output is called.
pub(crate) fn output_name(graph: &Graph) -> &'static str {
    let is_probability = graph.last().is_some_and(|last| last.op.activation().is_probability());
    if is_probability { "probabilities" } else { "output" }
}

/// The values that a layer takes, of those that are there, with their shapes.
pub(crate) fn taken<T: Clone>(
    graph: &Graph,
    layer: &Layer,
    values: &HashMap<Source, T>,
) -> Result<Vec<(T, Shape)>, NetworkError> {
    let found = layer.inputs.iter().map(|source| {
        let value = values.get(source).cloned();
        Some((value?, graph.shape(*source)))
    });
    found.collect::<Option<_>>().ok_or_else(|| {
        NetworkError::graph(format!("layer `{}` takes what is not there", layer.name))
    })
}

/// The value that is the network's output.
pub(crate) fn output<T>(graph: &Graph, values: &mut HashMap<Source, T>) -> Result<T, NetworkError> {
    let end = values.remove(&graph.output());
    end.ok_or_else(|| NetworkError::graph("its output is none of its layers".into()))
}
