//! How a family writes what exporters write otherwise.

use rekindle_nn::ops::BatchNorm;
use rekindle_nn::{Activation, Architecture, FAMILIES, Graph, Op, Source};

use super::front::front;

/// Where a product is in a network: what can be seen of it when its normalization is gone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    op: &'static str,
    /// Whether it is behind a global pool: in a squeeze-excite block or the head.
    pub pooled: bool,
    /// Whether an activation comes next.
    activated: bool,
}

/// A graph, and which layers are where in it.
pub(super) struct View<'a> {
    graph: &'a Graph,
    reader: Vec<Option<usize>>,
    pub pooled: Vec<bool>,
}

impl<'a> View<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        let uses = graph.uses();
        let mut reader = vec![None; uses.len()];
        let mut pooled: Vec<bool> = Vec::with_capacity(uses.len());
        for (position, layer) in graph.layers().iter().enumerate() {
            let inputs = layer.inputs.iter().filter_map(|input| input.layer());
            for input in inputs.filter(|&input| uses[input] == 1) {
                reader[input] = Some(position);
            }
            pooled.push(match (&layer.op, layer.inputs.as_slice()) {
                (Op::GlobalPool(_), _) => true,
                (_, [Source::Layer(input)]) => pooled[*input],
                _ => false,
            });
        }
        Self { graph, reader, pooled }
    }

    /// The only layer that takes a layer's values.
    pub fn next(&self, position: usize) -> Option<(usize, &'a Op)> {
        let next = self.reader[position]?;
        Some((next, &self.graph.layers()[next].op))
    }

    /// Where a product is; nothing for other layers.
    pub fn place(&self, position: usize) -> Option<Place> {
        let op = &self.graph.layers()[position].op;
        if !matches!(
            op,
            Op::Conv2d(_) | Op::DepthwiseConv2d(_) | Op::SeparableConv2d(_) | Op::Dense(_)
        ) {
            return None;
        }
        let mut next = self.next(position);
        if let Some((norm, Op::BatchNorm(_))) = next {
            next = self.next(norm);
        }
        let is_next = matches!(next, Some((_, Op::Activation(next)))
            if next.function != Activation::Linear);
        let activated = op.activation() != Activation::Linear || is_next;
        Some(Place { op: op.name(), pooled: self.pooled[position], activated })
    }
}

/// How a family writes convolutions and normalizations.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Style {
    /// The normalization behind convolutions, and whether these have a bias of their own.
    pub norm: Option<(BatchNorm, bool)>,
    /// Where products have that normalization.
    pub normed: Vec<Place>,
    /// Where products end in their activation themselves.
    pub fused: Vec<Place>,
    /// Concatenations of concatenations, which exporters merge: how many values each part has.
    pub nests: Vec<Vec<usize>>,
    /// The layers in front that scale values and move them, where they are more than one number for all.
    pub front: Vec<Op>,
    /// Whether a depthwise convolution is one of as many groups as there are channels.
    pub is_grouped: bool,
    /// Whether the means of maps become maps of one pixel by a layer of its own.
    pub reshapes: bool,
    /// Whether dense layers over maps have scales behind them.
    pub scales: bool,
}

/// Every family's way to write a network of images of this number of channels.
pub(super) fn styles(channels: usize) -> Vec<Style> {
    let mut styles: Vec<Style> = Vec::new();
    for family in FAMILIES {
        let size = family.default_size;
        let known = Architecture::new(family).with_images(size, size, channels);
        let Ok(bases) = known.bases() else { continue };
        for style in bases.iter().flat_map(of) {
            if !styles.contains(&style) {
                styles.push(style);
            }
        }
    }
    styles
}

/// The family's ways: one for each normalization that differs from others.
fn of(graph: &Graph) -> Vec<Style> {
    let view = View::new(graph);
    let ops = || graph.layers().iter().map(|layer| &layer.op);
    let is_pooled = |position: usize| {
        let layer = &graph.layers()[position];
        let pool = layer.inputs.first().and_then(|input| input.layer());
        matches!(layer.op, Op::Reshape(_))
            && graph.shape(Source::Layer(position)).as_map().is_some()
            && pool.is_some_and(|pool| matches!(graph.layers()[pool].op, Op::GlobalPool(_)))
    };
    let front = front(graph);
    let says_more = |op: &Op| matches!(op, Op::Normalization(_));
    let mut plain = Style {
        norm: None,
        normed: Vec::new(),
        fused: Vec::new(),
        nests: nests(graph),
        front: if front.iter().any(says_more) { front } else { Vec::new() },
        is_grouped: ops().any(|op| matches!(op, Op::Conv2d(conv) if conv.groups > 1)),
        reshapes: (0..graph.layers().len()).any(is_pooled),
        scales: ops().any(|op| matches!(op, Op::LayerScale(_))),
    };
    let mut norms: Vec<(BatchNorm, bool)> = Vec::new();
    let mut normed: Vec<(BatchNorm, Place)> = Vec::new();
    for (position, op) in ops().enumerate() {
        let Some(place) = view.place(position) else { continue };
        if op.activation() != Activation::Linear && !plain.fused.contains(&place) {
            plain.fused.push(place.clone());
        }
        let Some((_, Op::BatchNorm(norm))) = view.next(position) else { continue };
        normed.push((norm.clone(), place));
        let bias = match op {
            Op::Conv2d(conv) => conv.bias,
            Op::DepthwiseConv2d(conv) => conv.bias,
            _ => continue,
        };
        if !norms.contains(&(norm.clone(), bias)) {
            norms.push((norm.clone(), bias));
        }
    }
    if norms.is_empty() {
        return vec![plain];
    }
    let styles = norms.into_iter().map(|(norm, bias)| {
        let mut places = Vec::new();
        for (_, place) in normed.iter().filter(|(other, _)| *other == norm) {
            if !places.contains(place) {
                places.push(place.clone());
            }
        }
        Style { norm: Some((norm, bias)), normed: places, ..plain.clone() }
    });
    styles.collect()
}

fn nests(graph: &Graph) -> Vec<Vec<usize>> {
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
