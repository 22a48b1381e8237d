//! Changes of graphs.

use std::collections::{HashMap, HashSet};

use rekindle_nn::{Graph, Layer, Source};

/// The graph without these layers, each of which has one input, which takes its place.
pub(crate) fn without(graph: &Graph, gone: &HashSet<usize>) -> Result<Graph, String> {
    let mut places: HashMap<Source, Source> = HashMap::from([(Source::Input, Source::Input)]);
    let mut layers = Vec::new();
    let place = |places: &HashMap<Source, Source>, source: &Source| {
        places.get(source).copied().unwrap_or(Source::Input)
    };
    let mut base = graph.base();
    for (position, layer) in graph.layers().iter().enumerate() {
        if gone.contains(&position) {
            let input = layer.inputs.first().copied().unwrap_or(Source::Input);
            places.insert(Source::Layer(position), place(&places, &input));
            if position < graph.base().layers {
                base.layers -= 1;
            }
            continue;
        }
        places.insert(Source::Layer(position), Source::Layer(layers.len()));
        let inputs = layer.inputs.iter().map(|input| place(&places, input)).collect();
        layers.push(Layer { inputs, ..layer.clone() });
    }
    base.output = place(&places, &base.output);
    let output = place(&places, &graph.output());
    Graph::new(graph.input(), layers, output, base).map_err(|error| error.to_string())
}
