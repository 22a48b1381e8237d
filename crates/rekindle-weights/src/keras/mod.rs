//! What Keras's files mean.
//!
//! A file that holds a model's configuration is read: `config.rs` makes one list of its layers, `build.rs` a graph of that,
//! and `place.rs` finds the tensors of each layer. Other files hold names only, and Keras's own loader goes by order and
//! shape, so `order.rs` does too.

#[cfg(test)]
mod applications;
mod build;
mod calls;
mod class;
mod config;
mod front;
mod operators;
mod order;
mod place;
mod recorded;
#[cfg(test)]
mod tests;

pub(crate) use class::snake_case;
pub(crate) use order::weights_only;
pub(crate) use recorded::recorded;

use std::collections::HashMap;

use rekindle_nn::{Graph, Op, Shape};
use serde_json::Value;

use self::build::{Built, build};
use self::config::flatten;
use self::front::{images, plain};
use self::place::{Filed, place};
use crate::beside::Beside;
use crate::recognise::{Recognised, recognise};
use crate::whole::{Settled, Whole, settle};
use crate::{ModelCard, TensorInfo};

/// Where a tensor's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file's tensor with this number.
    Same(usize),
    /// The kernel or bias of a dense layer with one output, which has two here: zeros for the first.
    BehindZeros(usize),
}

/// A tensor under the name that the network has for it.
pub(crate) type Placed = (TensorInfo, Origin);

/// A model as the file has it.
#[derive(Debug)]
pub(crate) struct Model {
    /// The network, whose layers have the file's names.
    pub graph: Graph,
    /// Its tensors, by the same names.
    pub tensors: Vec<Placed>,
    /// Layers in which a model in the model ends.
    ends: Vec<String>,
    /// How the model resizes photos, where that is not a layer of the graph.
    resizing: Option<rekindle_nn::ops::Resizing>,
    /// What was assumed.
    assumed: Vec<String>,
    /// Whether the images' size is among that.
    is_size_assumed: bool,
}

/// Reads a model's configuration, and finds its tensors; the error says what in it is not supported. `size` is for files
/// that do not say how large their images are.
pub(crate) fn read(
    config: &Value,
    tensors: &[TensorInfo],
    numbered: bool,
    size: Option<[usize; 2]>,
) -> Result<Model, String> {
    let flat = flatten(config, numbered)?;
    let images = images(&flat, size)?;
    let mut assumed = Vec::new();
    let skipped = images.resizing.as_ref().map(|(position, _)| *position);
    let Built { graph, nodes, ends } = match images.shape {
        Some(shape) => build(&flat, shape, skipped)?,
        None => sized(&flat, images.channels, &mut assumed)?,
    };
    let rounds = |node: &config::Node| {
        let types = [class::precision(&node.config), class::precision(&node.settings)];
        types.into_iter().flatten().any(|name| name.contains("float16"))
    };
    if flat.nodes.iter().any(rounds) {
        assumed.push(
            "the model computes in 16 bits: 32 are used, and answers differ by the rounding".into(),
        );
    }
    let keys: Vec<Vec<String>> = nodes.iter().map(|&node| flat.nodes[node].keys()).collect();
    let tensors = place(&graph, &keys, &Filed::new(tensors, numbered))?;
    let resizing = images.resizing.map(|(_, resizing)| resizing);
    let is_size_assumed = images.shape.is_none();
    Ok(Model { graph, tensors, ends, resizing, assumed, is_size_assumed })
}

/// Builds a model that takes images of any size for those of the family that it turns out to be.
fn sized(flat: &config::Flat, channels: usize, assumed: &mut Vec<String>) -> Result<Built, String> {
    // Any will do to recognise the layers.
    const FIRST: usize = 224;
    let unknown = || {
        "the model takes images of any size, and does not say which it was trained on: give a size"
            .to_owned()
    };
    let first = build(flat, Shape::map(FIRST, FIRST, channels), None)?;
    let known = match recognise(&first.graph) {
        Ok(Recognised { graph, .. }) => graph.base().architecture,
        Err(begins) => begins.map(|begins| begins.architecture),
    };
    let family = known.ok_or_else(unknown)?.family;
    let size = family.default_size;
    assumed.push(format!(
        "the file does not say the images' size: {size} x {size}, which is {}'s, is assumed",
        family.title
    ));
    if size == FIRST { Ok(first) } else { build(flat, Shape::map(size, size, channels), None) }
}

/// What a model is.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Its card.
    pub card: ModelCard,
    /// Its tensors, by the names of the card's graph.
    pub tensors: Vec<Placed>,
    /// The file's tensors that are no variables of it, but what the card says otherwise.
    pub left_out: Vec<usize>,
}

/// What a model is; `beside` is what other files say of it.
pub(crate) fn resolve(model: Model, beside: &Beside) -> Result<Resolved, String> {
    let Model { graph, tensors, ends, resizing, assumed, is_size_assumed } = model;
    let preprocessing = beside.preprocessing.clone();
    let settled = settle(Whole { graph, ends, preprocessing })?;
    let Settled { mut card, names, two_classes } = settled;
    if is_size_assumed {
        card.origins.size = crate::Origin::Network;
    }
    if let Some(resizing) = resizing {
        match plain(&resizing) {
            Some(name) => card.resize = Some(name.to_owned()),
            None => card.photo_resize = Some(Op::Resizing(resizing)),
        }
    }
    card.assumed = assumed.into_iter().chain(card.assumed).collect();
    beside.apply(&mut card)?;
    let tensors = tensors.into_iter().map(|(mut info, origin)| {
        let origin = match origin {
            Origin::Same(index) if two_classes.as_ref() == Some(&info.layer) => {
                if let Some(last) = info.shape.last_mut() {
                    *last = 2;
                }
                Origin::BehindZeros(index)
            }
            other => other,
        };
        if let Some(name) = names.get(&info.layer) {
            info.layer.clone_from(name);
        }
        (info, origin)
    });
    let tensors = tensors.collect();
    let tensors = as_scales(&card.graph, tensors);
    Ok(Resolved { card, tensors, left_out: Vec::new() })
}

/// Kernels of one pixel under the name and in the shape that they have where the network knows them for the numbers of a
/// layer scale.
fn as_scales(graph: &Graph, mut tensors: Vec<Placed>) -> Vec<Placed> {
    let scales: HashMap<&str, usize> = graph
        .layers()
        .iter()
        .filter_map(|layer| match &layer.op {
            Op::LayerScale(scale) => Some((layer.name.as_str(), scale.channels)),
            _ => None,
        })
        .collect();
    for (info, _) in &mut tensors {
        if let Some(&channels) = scales.get(info.layer.as_str())
            && info.variable == "kernel"
        {
            info.variable = "gamma".into();
            info.shape = vec![channels];
        }
    }
    tensors
}
