//! Preprocessing as layers in front of a network.

use rekindle_nn::ops::{Conv2d, Rescaling};
use rekindle_nn::{Base, Graph, Layer, Op, Source};
use rekindle_pixels::{Linear, Preprocessing};

use super::Exported;

/// Puts a model's preprocessing in front of its network.
pub(crate) fn put_in(model: &mut Exported) -> Result<(), String> {
    let mode: Preprocessing = model.card.preprocessing.parse()?;
    let graph = &model.card.graph;
    let channels = graph.input().channels();
    let Linear { source, scale, offset } = mode.linear(channels);
    let free = |name: &str| {
        let is_taken = |name: &String| graph.layers().iter().any(|layer| layer.name == *name);
        let mut names = (0..).map(|number| match number {
            0 => name.to_owned(),
            number => format!("{name}_{number}"),
        });
        names.find(|name| !is_taken(name)).ok_or_else(|| format!("no name is left for `{name}`"))
    };
    let mut front: Vec<(String, Op)> = Vec::new();
    if !source.iter().copied().eq(0..channels) {
        // No layer of Keras's puts channels in another order: a convolution of single pixels does.
        let name = free("rgb_to_bgr")?;
        let order = Conv2d::new(channels, [1, 1]).valid();
        let mut kernel = vec![0.0; channels * channels];
        for (output, &input) in source.iter().enumerate() {
            kernel[input * channels + output] = 1.0;
        }
        let shape = vec![1, 1, channels, channels];
        model.variables.insert((name.clone(), "kernel".into()), (shape, kernel));
        front.push((name, order.into()));
    }
    if scale.iter().any(|&scale| scale != 1.0) || offset.iter().any(|&offset| offset != 0.0) {
        front.push((
            free("rescaling")?,
            Rescaling { scale: one(scale), offset: one(offset) }.into(),
        ));
    }
    model.card.graph = behind(front, graph).map_err(|error| error.to_string())?;
    model.card.preprocessing = Preprocessing::None.name();
    Ok(())
}

/// One number where all are the same.
fn one(values: Vec<f64>) -> Vec<f64> {
    match values.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => vec![*first],
        _ => values,
    }
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
