//! A known network as its family writes it, where an exporter writes it otherwise.
//!
//! Normalizations are folded into the convolutions before them, an activation is a node of its own, layers in front become
//! one scale and one offset. A network is known as its family has it. What is gone is put in its place so that it does
//! nothing (a normalization adds the convolution's bias): the answer is the same, and the network trains on, but the
//! statistics of its training are lost.

mod front;
mod style;

use std::sync::Arc;

use rekindle_nn::ops::{
    BatchNorm, Conv2d, DepthwiseConv2d, GlobalPool, LayerScale, Reshape, SeparableConv2d,
};
use rekindle_nn::{Activation, Base, Layer, Op, Source};

use self::front::last_scale;
use self::style::{Style, View, styles};
use super::constant::{Constant, FileTensors};
use super::tidy::ended;
use super::weight::Weight;
use super::{Found, Graph};
use crate::recognise::Recogniser;

/// The network as its family writes it, if it is a known one then; else as it is.
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
    for style in styles(found.graph.input().channels()) {
        let other = with_style(&found, &style, &graph.weights);
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

fn with_style(found: &Found, style: &Style, weights: &Arc<Vec<Weight>>) -> Option<Found> {
    let mut writer = Writer {
        found,
        style,
        weights,
        view: View::new(&found.graph),
        front: last_scale(&found.graph).filter(|_| !style.front.is_empty()),
        layers: Vec::with_capacity(found.values.len() * 2),
        values: Vec::with_capacity(found.values.len() * 2),
        places: Vec::with_capacity(found.values.len()),
        has_weights: false,
        is_folded: false,
        is_changed: false,
    };
    for position in 0..found.graph.layers().len() {
        let place = writer.layer(position)?;
        writer.places.push(place);
        writer.has_weights |= !found.values[position].is_empty();
    }
    if !writer.is_changed {
        return None;
    }
    let output = writer.now(found.graph.output());
    let Writer { layers, values, is_folded, .. } = writer;
    let base = Base { layers: layers.len(), output, architecture: None };
    let graph = rekindle_nn::Graph::new(found.graph.input(), layers, output, base).ok()?;
    let folded = found.folded || is_folded;
    Some(Found { graph, values, folded, assumed: found.assumed.clone() })
}

/// Writes a network as a family writes its own.
struct Writer<'a> {
    found: &'a Found,
    style: &'a Style,
    weights: &'a Arc<Vec<Weight>>,
    view: View<'a>,
    /// The layer that stands for the family's front.
    front: Option<usize>,
    layers: Vec<Layer>,
    values: Vec<Vec<Constant>>,
    /// The layer written last for each of the network's.
    places: Vec<usize>,
    has_weights: bool,
    is_folded: bool,
    is_changed: bool,
}

impl Writer<'_> {
    /// Where a value of the network is made now.
    fn now(&self, source: Source) -> Source {
        match source {
            Source::Input => Source::Input,
            Source::Layer(position) => Source::Layer(self.places[position]),
        }
    }

    fn push(&mut self, layer: Layer, values: Vec<Constant>) -> usize {
        self.layers.push(layer);
        self.values.push(values);
        self.layers.len() - 1
    }

    /// Adds a layer that the network does not have, behind the last one.
    fn behind(&mut self, name: String, op: Op, values: Vec<Constant>) -> usize {
        self.is_changed = true;
        let inputs = vec![Source::Layer(self.layers.len() - 1)];
        self.push(Layer { name, op, inputs }, values)
    }

    /// A normalization that does nothing but multiply with gamma and add beta.
    fn norm(
        &mut self,
        name: String,
        norm: &BatchNorm,
        gamma: Option<Constant>,
        beta: Constant,
    ) -> usize {
        let channels = beta.count();
        let vector = |value: f32| Constant::full(value, vec![channels]);
        let gamma = norm.scale.then(|| gamma.unwrap_or_else(|| vector(1.0)));
        let beta = norm.center.then_some(beta);
        // With epsilon it is 1.
        let variance = vector((1.0 - norm.epsilon) as f32);
        let values = gamma.into_iter().chain(beta).chain([vector(0.0), variance]);
        self.is_folded = true;
        self.behind(name, norm.clone().into(), values.collect())
    }

    /// Writes a layer, and gives the last one that it became; nothing, where the network is none of the family's.
    fn layer(&mut self, position: usize) -> Option<usize> {
        let layer = &self.found.graph.layers()[position];
        let made = self.found.values[position].clone();
        let inputs: Vec<Source> = layer.inputs.iter().map(|input| self.now(*input)).collect();
        let channels = self.found.graph.shape(Source::Layer(position)).channels();
        let layer = Layer { inputs, ..layer.clone() };
        let place = self.view.place(position);
        let is_bare = layer.op.activation() == Activation::Linear
            && !matches!(self.view.next(position), Some((_, Op::BatchNorm(_))));
        let normed = self.style.norm.clone().filter(|(norm, _)| norm.center);
        match (&layer.op, made.as_slice()) {
            (Op::Rescaling(found), _) if self.front == Some(position) => {
                let values = front::values(&self.style.front, found, channels)?;
                let all = self.style.front.iter().zip(values).enumerate();
                for (number, (op, values)) in all {
                    match number {
                        0 => self.push(Layer { op: op.clone(), ..layer.clone() }, values),
                        _ => self.behind(format!("{}_{number}", layer.name), op.clone(), values),
                    };
                }
                self.is_changed = true;
                Some(self.layers.len() - 1)
            }
            // A normalization that nothing could take in.
            (Op::Rescaling(affine), _)
                if let Some((norm, _)) = &normed
                    && self.has_weights
                    && !self.view.pooled[position]
                    && affine.scale.len() == channels
                    && affine.offset.len() == channels
                    && norm.scale
                    && matches!(layer.inputs.as_slice(), [Source::Layer(_)]) =>
            {
                let vector = |values: &[f64]| {
                    Constant::given(values.iter().map(|&value| value as f32).collect())
                };
                let (gamma, beta) = (vector(&affine.scale), vector(&affine.offset));
                let place = self.norm(layer.name.clone(), norm, Some(gamma), beta);
                self.layers[place].inputs = layer.inputs;
                Some(place)
            }
            // A convolution with nothing behind it, as it was before a normalization was folded into it.
            (op, [kernels @ .., bias])
                if let Some((norm, has_bias)) = &normed
                    && is_bare
                    && takes_norm(op)
                    && place.as_ref().is_some_and(|place| {
                        !place.pooled && self.style.normed.contains(place)
                    }) =>
            {
                let is_separable = matches!(op, Op::SeparableConv2d(_));
                // None of Keras's separable ones has a bias in front of its normalization.
                let has_bias = *has_bias && !is_separable;
                let zeros = has_bias.then(|| Constant::full(0.0, vec![channels]));
                let op = self.grouped(with_bias(op, has_bias), position);
                self.push(
                    Layer { op, ..layer.clone() },
                    kernels.iter().cloned().chain(zeros).collect(),
                );
                Some(self.norm(format!("{}_bn", layer.name), norm, None, bias.clone()))
            }
            (Op::Activation(activation), _) if self.ends(position) => {
                let product = layer.inputs.first()?.layer()?;
                ended(&mut self.layers[product].op, activation.function)?;
                self.is_changed = true;
                Some(product)
            }
            (Op::GlobalPool(pool), _) if pool.keep_dims && self.style.reshapes => {
                let pool = GlobalPool { keep_dims: false, ..pool.clone() };
                self.push(Layer { op: pool.into(), ..layer.clone() }, made);
                let target = vec![1, 1, i64::try_from(channels).ok()?];
                Some(self.behind(
                    format!("{}_reshape", layer.name),
                    Reshape { target }.into(),
                    Vec::new(),
                ))
            }
            (Op::Dense(_), _) if self.style.scales && self.is_unscaled(position) => {
                let name = format!("{}_scale", layer.name);
                self.push(layer, made);
                let ones = Constant::full(1.0, vec![channels]);
                self.is_folded = true;
                Some(self.behind(name, LayerScale { initial: 1.0, channels }.into(), vec![ones]))
            }
            (Op::Concatenate(join), _) => {
                let nest = self.style.nests.iter();
                let nest =
                    nest.clone().find(|nest| nest.iter().sum::<usize>() == layer.inputs.len());
                let Some(nest) = nest else { return Some(self.push(layer, made)) };
                let mut own = layer.inputs.as_slice();
                let mut outer = Vec::new();
                for (number, &part) in nest.iter().enumerate() {
                    let (inner, rest) = own.split_at(part);
                    own = rest;
                    match inner {
                        [one] => outer.push(*one),
                        inner => {
                            let name = format!("{}_part_{number}", layer.name);
                            let op = join.clone().into();
                            let inner = Layer { name, op, inputs: inner.to_vec() };
                            outer.push(Source::Layer(self.push(inner, Vec::new())));
                        }
                    }
                }
                self.is_changed = true;
                Some(self.push(Layer { inputs: outer, ..layer.clone() }, Vec::new()))
            }
            // A scale of 1 is one that the layer has not.
            (Op::BatchNorm(norm), [gamma, rest @ ..])
                if norm.scale
                    && self.style.norm.as_ref().is_some_and(|(norm, _)| !norm.scale)
                    && is_one(gamma, self.weights) =>
            {
                let op = BatchNorm { scale: false, ..norm.clone() };
                self.is_changed = true;
                Some(self.push(Layer { op: op.into(), ..layer.clone() }, rest.to_vec()))
            }
            _ => {
                let op = self.grouped(layer.op.clone(), position);
                Some(self.push(Layer { op, ..layer }, made))
            }
        }
    }

    /// A depthwise convolution as the family has it.
    fn grouped(&mut self, op: Op, position: usize) -> Op {
        let input = self.found.graph.input_shapes(position).first().map(|input| input.channels());
        match (op, input) {
            (Op::DepthwiseConv2d(conv), Some(groups)) if self.style.is_grouped => {
                self.is_changed = true;
                let DepthwiseConv2d { window, depth_multiplier, bias, activation } = conv;
                let filters = groups * depth_multiplier;
                Conv2d { filters, window, groups, bias, activation }.into()
            }
            (op, _) => op,
        }
    }

    /// Whether an activation is the end of the product before it in the family's way.
    fn ends(&self, position: usize) -> bool {
        let [Source::Layer(product)] = self.found.graph.layers()[position].inputs[..] else {
            return false;
        };
        let is_only = self.view.next(product).is_some_and(|(next, _)| next == position);
        let place = self.view.place(product);
        is_only
            && place.is_some_and(|place| {
                self.style.fused.contains(&place) && !self.style.normed.contains(&place)
            })
    }

    /// Whether a dense layer over maps has neither an activation nor scales behind it.
    fn is_unscaled(&self, position: usize) -> bool {
        let layer = &self.found.graph.layers()[position];
        let is_next =
            matches!(self.view.next(position), Some((_, Op::Activation(_) | Op::LayerScale(_))));
        layer.op.activation() == Activation::Linear
            && self.found.graph.shape(Source::Layer(position)).as_map().is_some()
            && !is_next
    }
}

/// Whether it is a convolution with a bias, in which a normalization may have gone.
fn takes_norm(op: &Op) -> bool {
    match op {
        Op::Conv2d(conv) => conv.bias,
        Op::DepthwiseConv2d(conv) => conv.bias,
        Op::SeparableConv2d(conv) => conv.bias,
        _ => false,
    }
}

/// The same convolution with a bias or without.
fn with_bias(op: &Op, bias: bool) -> Op {
    match op {
        Op::Conv2d(conv) => Conv2d { bias, ..conv.clone() }.into(),
        Op::DepthwiseConv2d(conv) => DepthwiseConv2d { bias, ..conv.clone() }.into(),
        Op::SeparableConv2d(conv) => SeparableConv2d { bias, ..conv.clone() }.into(),
        other => other.clone(),
    }
}

/// Whether all values are 1.
fn is_one(constant: &Constant, weights: &Arc<Vec<Weight>>) -> bool {
    let values = constant.read(&mut FileTensors(Arc::clone(weights)));
    values.is_ok_and(|values| values.iter().all(|&value| value == 1.0))
}
