//! A model that Rekindle has exported: its configuration, and the record of what Keras's has no place for.

use std::collections::HashSet;

use rekindle_nn::{Graph, Layer, Source};
use rekindle_pixels::Preprocessing;

use super::{Model, Origin, Placed, Resolved, as_scales};
use crate::graph::without;
use crate::preprocessing::steps;
use crate::record::Record;
use crate::whole::{Known, known};

/// What a model is. `read` gives the values of the file's tensor
/// of a number.
///
/// # Errors
/// When the record is of another model than the configuration.
pub(crate) fn recorded(
    model: Model,
    record: &Record,
    read: &mut dyn FnMut(usize) -> Result<Vec<f32>, String>,
) -> Result<Resolved, String> {
    let Model { graph, mut tensors, assumed, .. } = model;
    let mode: Preprocessing = record.card(&graph)?.preprocessing.parse()?;
    let (graph, left_out) = without_front(&graph, record, mode, &mut tensors, read)?;
    let graph = renamed(&graph, record)?;
    let name = |name: &String| record.names.get(name).unwrap_or(name).clone();
    let ends: Vec<String> = record.base.iter().map(name).collect();
    let Known { graph, names, .. } = known(&graph, &ends)?;
    let tensors = tensors.into_iter().map(|(mut info, origin)| {
        info.layer = name(&info.layer);
        if let Some(name) = names.get(&info.layer) {
            info.layer.clone_from(name);
        }
        (info, origin)
    });
    let tensors = as_scales(&graph, tensors.collect());
    let mut card = record.card(&graph)?;
    // The size may be one that is given, and what else this reader assumes.
    card.assumed.extend(assumed);
    Ok(Resolved { card, tensors, left_out })
}

/// The graph without the layers that are the card's preprocessing, which are seen to be it, and the file's tensors of these
/// layers.
fn without_front(
    graph: &Graph,
    record: &Record,
    mode: Preprocessing,
    tensors: &mut Vec<Placed>,
    read: &mut dyn FnMut(usize) -> Result<Vec<f32>, String>,
) -> Result<(Graph, Vec<usize>), String> {
    let mut left_out = Vec::new();
    if record.preprocessing.is_empty() {
        return Ok((graph.clone(), left_out));
    }
    let changed = |name: &str| {
        format!(
            "layer `{name}` is the preprocessing `{}` by Rekindle's record in the file, but not by its configuration: one of both was changed",
            mode.name()
        )
    };
    let expected = steps(mode, graph.input().channels());
    let mut source = Source::Input;
    let mut gone = HashSet::new();
    if expected.len() != record.preprocessing.len() {
        return Err(changed(&record.preprocessing[0]));
    }
    for (name, step) in record.preprocessing.iter().zip(expected) {
        let position = graph.layers().iter().position(|layer| layer.name == *name);
        let position = position.ok_or_else(|| changed(name))?;
        let Layer { op, inputs, .. } = &graph.layers()[position];
        if *op != step.op || *inputs != [source] {
            return Err(changed(name));
        }
        if let Some((_, kernel)) = step.kernel {
            let own = tensors.iter().position(|(info, _)| info.layer == *name);
            let (_, Origin::Same(index) | Origin::BehindZeros(index)) =
                tensors.remove(own.ok_or_else(|| changed(name))?);
            if read(index)? != kernel {
                return Err(changed(name));
            }
            left_out.push(index);
        }
        let readers = graph.layers().iter().filter(|layer| layer.inputs.contains(&source));
        if readers.count() != 1 {
            return Err(changed(name));
        }
        gone.insert(position);
        source = Source::Layer(position);
    }
    Ok((without(graph, &gone)?, left_out))
}

/// The graph with the names that layers had before Keras's rules.
fn renamed(graph: &Graph, record: &Record) -> Result<Graph, String> {
    if record.names.is_empty() {
        return Ok(graph.clone());
    }
    let layers = graph.layers().iter().map(|layer| {
        let name = record.names.get(&layer.name).unwrap_or(&layer.name).clone();
        Layer { name, ..layer.clone() }
    });
    Graph::new(graph.input(), layers.collect(), graph.output(), graph.base())
        .map_err(|error| error.to_string())
}
