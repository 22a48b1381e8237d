//! Normalizations that an exporter has folded into the convolutions before them.
//!
//! A known network is known with its normalizations. Where they are gone, ones that do nothing but add the convolution's
//! bias are put in their place: the answer is the same, and the network trains on, but the statistics of its training are
//! lost.

use std::sync::Arc;

use rekindle_nn::ops::{BatchNorm, Rescaling};
use rekindle_nn::{Activation, Architecture, Base, FAMILIES, Layer, Op, Source};

use super::constant::{Constant, FileTensors};
use super::weight::Weight;
use super::{Found, Graph};
use crate::recognise::Recogniser;

/// How a family writes a convolution and its normalization.
#[derive(Debug, Clone, PartialEq)]
struct Style {
    norm: BatchNorm,
    /// Whether the convolution has a bias of its own.
    bias: bool,
    /// Concatenations of concatenations, which exporters merge: how many values each part has.
    nests: Vec<Vec<usize>>,
}

/// Every family's way.
fn styles() -> Vec<Style> {
    let mut styles: Vec<Style> = Vec::new();
    for family in FAMILIES {
        let Ok(graph) = Architecture::new(family).graph() else { continue };
        let nests = nests(&graph);
        for layer in graph.layers() {
            let (Op::BatchNorm(norm), [Source::Layer(before)]) =
                (&layer.op, layer.inputs.as_slice())
            else {
                continue;
            };
            let bias = match &graph.layers()[*before].op {
                Op::Conv2d(conv) => conv.bias,
                Op::DepthwiseConv2d(conv) => conv.bias,
                _ => continue,
            };
            let style = Style { norm: norm.clone(), bias, nests: nests.clone() };
            if !styles.contains(&style) {
                styles.push(style);
            }
        }
    }
    styles
}

fn nests(graph: &rekindle_nn::Graph) -> Vec<Vec<usize>> {
    let mut nests: Vec<Vec<usize>> = Vec::new();
    for layer in graph.layers().iter().filter(|layer| matches!(layer.op, Op::Concatenate(_))) {
        let parts = layer.inputs.iter().map(|input| {
            let inner = input.layer().map(|position| &graph.layers()[position]);
            match inner.filter(|inner| matches!(inner.op, Op::Concatenate(_))) {
                Some(inner) => inner.inputs.len(),
                None => 1,
            }
        });
        let parts: Vec<usize> = parts.collect();
        if parts.iter().any(|&part| part > 1) && !nests.contains(&parts) {
            nests.push(parts);
        }
    }
    nests
}

/// The network with normalizations where they were folded, if it is a known one then; else as it is.
pub(super) fn restored(found: Found, graph: &Graph) -> Found {
    let mut recogniser = Recogniser::default();
    if recogniser.recognise(&found.graph).is_ok() {
        return found;
    }
    if let Some(other) = without_ones(&found, &graph.weights)
        .filter(|other| recogniser.recognise(&other.graph).is_ok())
    {
        return other;
    }
    for style in styles() {
        let other = with_norms(&found, &style, &graph.weights);
        if let Some(other) = other.filter(|other| recogniser.recognise(&other.graph).is_ok()) {
            return other;
        }
    }
    found
}

/// The network with normalizations that have no scale where all of its values are 1.
fn without_ones(found: &Found, weights: &Arc<Vec<Weight>>) -> Option<Found> {
    let mut layers = found.graph.layers().to_vec();
    let mut values = found.values.clone();
    for (layer, made) in layers.iter_mut().zip(&mut values) {
        if let (Op::BatchNorm(norm), Some(gamma)) = (&mut layer.op, made.first())
            && norm.scale
            && is_one(gamma, weights)
        {
            norm.scale = false;
            made.remove(0);
        }
    }
    let Found { graph, folded, assumed, .. } = found;
    let graph =
        rekindle_nn::Graph::new(graph.input(), layers, graph.output(), graph.base()).ok()?;
    Some(Found { graph, values, folded: *folded, assumed: assumed.clone() })
}

fn with_norms(found: &Found, style: &Style, weights: &Arc<Vec<Weight>>) -> Option<Found> {
    let own = found.graph.layers();
    let mut layers: Vec<Layer> = Vec::with_capacity(own.len() * 2);
    let mut values: Vec<Vec<Constant>> = Vec::with_capacity(own.len() * 2);
    let mut places: Vec<usize> = Vec::with_capacity(own.len());
    // Behind a global pool is a squeeze-excite block or the head: these have no normalizations.
    let mut is_pooled: Vec<bool> = Vec::with_capacity(own.len());
    let mut has_weights = false;
    let mut is_folded = false;
    for (position, layer) in own.iter().enumerate() {
        let inputs = layer.inputs.iter().map(|source| match source {
            Source::Input => Source::Input,
            Source::Layer(input) => Source::Layer(places[*input]),
        });
        let inputs: Vec<Source> = inputs.collect();
        let pooled = match (&layer.op, layer.inputs.as_slice()) {
            (Op::GlobalPool(_), _) => true,
            (_, [Source::Layer(input)]) => is_pooled[*input],
            _ => false,
        };
        is_pooled.push(pooled);
        let channels = found.graph.shape(Source::Layer(position)).channels();
        let made = &found.values[position];
        let mut push = |layer: Layer, made: Vec<Constant>| {
            layers.push(layer);
            values.push(made);
            layers.len() - 1
        };
        let norm_name = format!("{}_bn", layer.name);
        let norm = |input: usize, gamma: Option<Constant>, beta: Constant| {
            let vector = |value: f32| Constant::full(value, vec![channels]);
            let gamma = style.norm.scale.then(|| gamma.unwrap_or_else(|| vector(1.0)));
            let beta = style.norm.center.then_some(beta);
            // With epsilon it is 1: the normalization then does nothing but add beta.
            let variance = vector((1.0 - style.norm.epsilon) as f32);
            let values = gamma.into_iter().chain(beta).chain([vector(0.0), variance]);
            let inputs = vec![Source::Layer(input)];
            (
                Layer { name: norm_name.clone(), op: style.norm.clone().into(), inputs },
                values.collect(),
            )
        };
        // A convolution with nothing behind it, as it was before a normalization was folded into it.
        let bare: Option<Op> = match &layer.op {
            Op::Conv2d(conv) if conv.activation == Activation::Linear => {
                Some(rekindle_nn::ops::Conv2d { bias: style.bias, ..conv.clone() }.into())
            }
            Op::DepthwiseConv2d(conv) if conv.activation == Activation::Linear => {
                Some(rekindle_nn::ops::DepthwiseConv2d { bias: style.bias, ..conv.clone() }.into())
            }
            // None of Keras's has a bias in front of its normalization.
            Op::SeparableConv2d(conv) if conv.activation == Activation::Linear && conv.bias => {
                Some(rekindle_nn::ops::SeparableConv2d { bias: false, ..conv.clone() }.into())
            }
            _ => None,
        };
        let place = match (&layer.op, bare, made.as_slice()) {
            (_, Some(op), [kernels @ .., bias])
                if !pooled && style.norm.center && has_bias(&layer.op) =>
            {
                let is_separable = matches!(op, Op::SeparableConv2d(_));
                let zeros =
                    (style.bias && !is_separable).then(|| Constant::full(0.0, vec![channels]));
                let values = kernels.iter().cloned().chain(zeros).collect();
                let conv = push(Layer { op, inputs, ..layer.clone() }, values);
                let (layer, values) = norm(conv, None, bias.clone());
                is_folded = true;
                push(layer, values)
            }
            // A normalization that nothing could take in.
            (Op::Rescaling(affine), ..)
                if has_weights
                    && !pooled
                    && affine.scale.len() == channels
                    && affine.offset.len() == channels
                    && style.norm.scale
                    && style.norm.center
                    && matches!(inputs.as_slice(), [Source::Layer(_)]) =>
            {
                let Rescaling { scale, offset } = affine;
                let vector = |values: &[f64]| {
                    Constant::given(values.iter().map(|&value| value as f32).collect())
                };
                let [Source::Layer(input)] = inputs[..] else { return None };
                let (mut layer, values) = norm(input, Some(vector(scale)), vector(offset));
                layer.name = own[position].name.clone();
                is_folded = true;
                push(layer, values)
            }
            (Op::Concatenate(join), ..) => {
                let nest =
                    style.nests.iter().find(|nest| nest.iter().sum::<usize>() == inputs.len());
                let mut own = inputs.as_slice();
                let mut outer = Vec::new();
                for (number, &part) in nest.into_iter().flatten().enumerate() {
                    let (inner, rest) = own.split_at(part);
                    own = rest;
                    match inner {
                        [one] => outer.push(*one),
                        inner => {
                            let name = format!("{}_part_{number}", layer.name);
                            let inner =
                                Layer { name, op: join.clone().into(), inputs: inner.to_vec() };
                            outer.push(Source::Layer(push(inner, Vec::new())));
                        }
                    }
                }
                let inputs = if outer.is_empty() { inputs } else { outer };
                push(Layer { inputs, ..layer.clone() }, Vec::new())
            }
            // A scale of 1 is one that the layer has not.
            (Op::BatchNorm(norm), _, [gamma, rest @ ..])
                if norm.scale && !style.norm.scale && is_one(gamma, weights) =>
            {
                let op = BatchNorm { scale: false, ..norm.clone() };
                push(Layer { op: op.into(), inputs, ..layer.clone() }, rest.to_vec())
            }
            _ => push(Layer { inputs, ..layer.clone() }, made.clone()),
        };
        has_weights |= !made.is_empty();
        places.push(place);
    }
    let output = match found.graph.output() {
        Source::Input => Source::Input,
        Source::Layer(position) => Source::Layer(places[position]),
    };
    let base = Base { layers: layers.len(), output, architecture: None };
    let graph = rekindle_nn::Graph::new(found.graph.input(), layers, output, base).ok()?;
    Some(Found { graph, values, folded: is_folded, assumed: found.assumed.clone() })
}

/// Whether a convolution's last variable is its bias.
fn has_bias(op: &Op) -> bool {
    match op {
        Op::Conv2d(conv) => conv.bias,
        Op::DepthwiseConv2d(conv) => conv.bias,
        Op::SeparableConv2d(conv) => conv.bias,
        _ => false,
    }
}

/// Whether all values are 1.
fn is_one(constant: &Constant, weights: &Arc<Vec<Weight>>) -> bool {
    let values = constant.read(&mut FileTensors(Arc::clone(weights)));
    values.is_ok_and(|values| values.iter().all(|&value| value == 1.0))
}
