//! What PyTorch's networks have otherwise than Keras's of the same family, as passes over the family's graph.

use std::collections::HashSet;

use rekindle_nn::ops::PoolKind;
use rekindle_nn::{Graph, Layer, Op, Padding, Source, Window};

use crate::graph::without;

/// What is otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Otherwise {
    /// The normalizations' epsilon, where it is not the family's.
    pub epsilon: Option<f64>,
    /// Whether zeros are as many on both sides.
    pub symmetric: bool,
    /// Whether all normalizations have a gamma.
    pub gamma: bool,
    /// Whether convolutions in front of normalizations have no bias.
    pub unbiased: bool,
    /// Whether means count the zeros around maps.
    pub counts_padding: bool,
    /// Whether blocks have their stride in the 3 x 3 convolution instead of the one in front of it: ResNet V1.5.
    pub late_strides: bool,
}

impl Otherwise {
    /// Nothing.
    pub const NOTHING: Self = Self {
        epsilon: None,
        symmetric: false,
        gamma: false,
        unbiased: false,
        counts_padding: false,
        late_strides: false,
    };
    /// What PyTorch's own layers do.
    pub const TORCH: Self = Self { epsilon: Some(1e-5), symmetric: true, ..Self::NOTHING };
}

/// The family's graph with all that is otherwise, and without the preprocessing that Keras builds into some.
pub(super) fn adapted(graph: &Graph, otherwise: Otherwise) -> Result<Graph, String> {
    let graph = without_front(graph)?;
    let mut layers = graph.layers().to_vec();
    if otherwise.late_strides {
        late_strides(&mut layers);
    }
    let uses = graph.uses();
    for position in 0..layers.len() {
        let is_normalized = layers.iter().any(|layer| {
            matches!(layer.op, Op::BatchNorm(_)) && layer.inputs == [Source::Layer(position)]
        });
        match &mut layers[position].op {
            Op::BatchNorm(norm) => {
                norm.epsilon = otherwise.epsilon.unwrap_or(norm.epsilon);
                norm.scale |= otherwise.gamma;
            }
            Op::Conv2d(conv) if otherwise.unbiased && is_normalized => conv.bias = false,
            Op::Pool2d(pool) if pool.kind == PoolKind::Average => {
                pool.counts_padding |= otherwise.counts_padding;
            }
            _ => {}
        }
        if otherwise.symmetric {
            symmetric(&mut layers, position, &uses);
        }
    }
    Graph::new(graph.input(), layers, graph.output(), graph.base())
        .map_err(|error| error.to_string())
}

/// The graph with another epsilon in its last LayerNormalization.
pub(super) fn with_last_epsilon(graph: &Graph, epsilon: f64) -> Result<Graph, String> {
    let mut layers = graph.layers().to_vec();
    let mut norms = layers.iter_mut().rev().filter_map(|layer| match &mut layer.op {
        Op::LayerNorm(norm) => Some(norm),
        _ => None,
    });
    if let Some(norm) = norms.next() {
        norm.epsilon = epsilon;
    }
    Graph::new(graph.input(), layers, graph.output(), graph.base())
        .map_err(|error| error.to_string())
}

/// The graph with the zeros of transformers' EfficientNet in front of strides: one more behind than before whatever the maps'
/// size, but as many on both sides in these blocks.
pub(super) fn with_pads(graph: &Graph, symmetric: &[usize]) -> Result<Graph, String> {
    let mut layers = graph.layers().to_vec();
    let mut blocks = 0..;
    for position in 0..layers.len() {
        let (window, is_symmetric) = match &layers[position].op {
            Op::Conv2d(conv) => (conv.window, false),
            Op::DepthwiseConv2d(conv) => {
                let block = blocks.next().unwrap_or_default();
                (conv.window, symmetric.contains(&block))
            }
            _ => continue,
        };
        let pad = layers[position].inputs.first().and_then(|input| input.layer());
        let Some(pad) = pad.filter(|_| window.stride != [1, 1]) else { continue };
        if let Op::ZeroPadding2d(zeros) = &mut layers[pad].op {
            let half = window.kernel.map(|extent| extent / 2);
            let before = if is_symmetric { half } else { half.map(|half| half.saturating_sub(1)) };
            zeros.padding = [[before[0], half[0]], [before[1], half[1]]];
        }
    }
    Graph::new(graph.input(), layers, graph.output(), graph.base())
        .map_err(|error| error.to_string())
}

/// The graph without the layers in front of the first convolution that only scale.
fn without_front(graph: &Graph) -> Result<Graph, String> {
    let mut gone = HashSet::new();
    let mut source = Source::Input;
    while let Some(position) = graph.layers().iter().position(|layer| layer.inputs == [source])
        && matches!(graph.layers()[position].op, Op::Rescaling(_) | Op::Normalization(_))
    {
        gone.insert(position);
        source = Source::Layer(position);
    }
    without(graph, &gone)
}

/// Puts as many zeros on both sides of a layer's maps, its own or those of a layer in front of it.
fn symmetric(layers: &mut [Layer], position: usize, uses: &[usize]) {
    let input = layers[position].inputs.first().and_then(|input| input.layer());
    let window = match &mut layers[position].op {
        Op::Conv2d(conv) => &mut conv.window,
        Op::DepthwiseConv2d(conv) => &mut conv.window,
        Op::Pool2d(pool) => &mut pool.window,
        _ => return,
    };
    let both = both_sides(window);
    if window.padding == Padding::Same && window.stride != [1, 1] {
        window.padding = Padding::Explicit(both);
    }
    // Keras has the zeros of strides in a layer of their own, PyTorch in the convolution.
    if let Some(input) = input
        && uses.get(input) == Some(&1)
        && let Op::ZeroPadding2d(pad) = &mut layers[input].op
    {
        pad.padding = both;
    }
}

/// Zeros so that the middle of the kernel meets each border.
fn both_sides(window: &Window) -> [[usize; 2]; 2] {
    [0, 1].map(|axis| [window.extent(axis).saturating_sub(1) / 2; 2])
}

/// Moves strides of 2 from a convolution of one pixel to the convolution of 3 x 3 behind its normalization and activation.
fn late_strides(layers: &mut [Layer]) {
    for position in 0..layers.len() {
        let Op::Conv2d(conv) = &layers[position].op else { continue };
        if conv.window.kernel != [3, 3] {
            continue;
        }
        let mut source = layers[position].inputs.first().copied();
        while let Some(before) = source.and_then(Source::layer) {
            match &mut layers[before].op {
                Op::BatchNorm(_) | Op::Activation(_) => {
                    source = layers[before].inputs.first().copied();
                }
                Op::Conv2d(first) if first.window.kernel == [1, 1] => {
                    let stride = std::mem::replace(&mut first.window.stride, [1, 1]);
                    if let Op::Conv2d(conv) = &mut layers[position].op {
                        conv.window.stride = stride;
                    }
                    break;
                }
                _ => break,
            }
        }
    }
}
