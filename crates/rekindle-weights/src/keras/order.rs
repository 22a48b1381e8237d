//! Files without a configuration: their layers are matched by order and shape, as Keras's own loader does,
//! because automatic names (`conv2d_95`) depend on what else a session had made before.

use std::collections::HashMap;

use burn::tensor::backend::Backend;
use rekindle_nn::{Architecture, Graph, Network, Shape};

use super::config::snake_case;
use super::{Filed, Origin, Placed};
use crate::TensorInfo;

/// A layer with variables: its name, class, and its variables' names and shapes.
struct Wanted {
    name: String,
    kind: &'static str,
    variables: Vec<(&'static str, Vec<usize>)>,
}

/// The network whose layers stand in the file in Keras's order with their shapes, and its tensors by the
/// network's names. One dense layer behind them is taken for the network's top.
pub(crate) fn by_order<B: Backend>(
    tensors: &[TensorInfo],
    numbered: bool,
    device: &B::Device,
) -> Option<(Architecture, Vec<Placed>)> {
    let filed = Filed::new(tensors, numbered);
    Architecture::all().into_iter().find_map(|architecture| {
        // Parameters are lazy: this makes names and shapes, no numbers.
        let network = architecture.init::<B>(device).ok()?;
        let graph = Graph::of(&network);
        let layers = graph.keras_order().into_iter().map(|layer| &graph.layers[layer]);
        let wanted: Vec<Wanted> = layers
            .filter(|layer| !layer.variables.is_empty())
            .map(|layer| Wanted {
                name: layer.name.clone(),
                kind: layer.kind,
                variables: layer.variables.iter().map(|v| (v.name, v.shape.clone())).collect(),
            })
            .collect();
        let (mut placed, rest) =
            if numbered { by_class(&filed, &wanted)? } else { in_sequence(&filed, &wanted)? };
        let features = match network.output_shape(architecture.input()).ok()? {
            Shape::Map { channels, .. } | Shape::Flat(channels) => channels,
        };
        let top = top(&filed, &rest, features);
        placed.extend(top.iter().flatten().cloned());
        let classes = top.and_then(|top| top.last().map(|(bias, _)| bias.count()));
        Some((architecture.with_top(classes), placed))
    })
}

/// The tensors of `layer` as those that are wanted, if they have their shapes.
fn fit(filed: &Filed<'_>, layer: &str, wanted: &Wanted) -> Option<Vec<Placed>> {
    if filed.of(layer).len() != wanted.variables.len() {
        return None;
    }
    let variables = wanted.variables.iter().enumerate();
    let place = |(number, (variable, shape)): (usize, &(&'static str, Vec<usize>))| {
        let index = filed.variable(layer, variable, number)?;
        let (layer, variable) = (wanted.name.clone(), (*variable).to_owned());
        let info = TensorInfo { layer, variable, ..filed.tensors[index].clone() };
        (info.shape == *shape).then_some((info, Origin::Same(index)))
    };
    variables.map(place).collect()
}

/// Layers by class and number, in any of the file's models; and the layers of that model that are left.
fn by_class(filed: &Filed<'_>, wanted: &[Wanted]) -> Option<(Vec<Placed>, Vec<String>)> {
    let names = distinct_layers(filed.tensors);
    let mut models: Vec<&str> =
        names.iter().map(|name| name.rsplit_once('/').map_or("", |(model, _)| model)).collect();
    models.sort_unstable();
    models.dedup();
    models.into_iter().find_map(|model| {
        let prefix = if model.is_empty() { String::new() } else { format!("{model}/") };
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut placed = Vec::new();
        let mut used = Vec::new();
        for layer in wanted {
            let number = numbers.entry(layer.kind).or_default();
            let class = snake_case(layer.kind);
            let filed_under = match *number {
                0 => format!("{prefix}{class}"),
                number => format!("{prefix}{class}_{number}"),
            };
            *number += 1;
            placed.extend(fit(filed, &filed_under, layer)?);
            used.push(filed_under);
        }
        let rest = names.iter().filter(|name| !used.iter().any(|used| used == *name));
        Some((placed, rest.map(|name| (*name).to_owned()).collect()))
    })
}

/// Layers one after the other, from any layer of the file on; and the layers that are left.
fn in_sequence(filed: &Filed<'_>, wanted: &[Wanted]) -> Option<(Vec<Placed>, Vec<String>)> {
    let names = distinct_layers(filed.tensors);
    (0..=names.len().checked_sub(wanted.len())?).find_map(|start| {
        let window = &names[start..start + wanted.len()];
        let fits = window.iter().zip(wanted).map(|(name, wanted)| fit(filed, name, wanted));
        let placed: Option<Vec<Vec<Placed>>> = fits.collect();
        let rest = names[..start].iter().chain(&names[start + wanted.len()..]);
        Some((placed?.concat(), rest.map(|name| (*name).to_owned()).collect()))
    })
}

/// The layers' names, each once, in the file's order.
fn distinct_layers(tensors: &[TensorInfo]) -> Vec<&str> {
    let mut seen = std::collections::HashSet::new();
    let names = tensors.iter().map(|tensor| tensor.layer.as_str());
    names.filter(|name| seen.insert(*name)).collect()
}

/// The kernel and bias of the network's classifier, if that is all that is left.
fn top(filed: &Filed<'_>, rest: &[String], features: usize) -> Option<Vec<Placed>> {
    let [layer] = rest else { return None };
    let index = filed.variable(layer, "kernel", 0)?;
    let &[_, classes] = filed.tensors[index].shape.as_slice() else { return None };
    let wanted = Wanted {
        name: "predictions".into(),
        kind: "Dense",
        variables: vec![("kernel", vec![features, classes]), ("bias", vec![classes])],
    };
    fit(filed, layer, &wanted)
}
