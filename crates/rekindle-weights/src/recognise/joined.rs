//! Layers of families that are classes of Keras's applications' own, and are other layers in a file that anybody's Keras
//! reads, and functions that Keras 2 does not have.

use std::collections::HashSet;

use rekindle_nn::ops::{ActivationLayer, DepthwiseConv2d, LayerScale, MergeKind, ScaledAdd};
use rekindle_nn::{Activation, Graph, Op, Padding, Source};

use crate::graph::without;

/// The graph with a layer of a family's own in the place of those that compute it; nothing, where there are none. Layers
/// keep their names, and a kernel of one pixel is then the numbers of a layer scale.
pub(super) fn joined(graph: &Graph) -> Option<Graph> {
    let mut layers = graph.layers().to_vec();
    let uses = graph.uses();
    let mut gone = HashSet::new();
    let mut is_changed = false;
    for (position, layer) in graph.layers().iter().enumerate() {
        match &layer.op {
            Op::Merge(merge) if merge.kind == MergeKind::Add => {
                let &[x, Source::Layer(branch)] = layer.inputs.as_slice() else { continue };
                // The sum of a value and another, times a number.
                if let Op::Rescaling(by) = &graph.layers()[branch].op
                    && let ([scale], [0.0]) = (by.scale.as_slice(), by.offset.as_slice())
                    && uses[branch] == 1
                {
                    layers[position].op = ScaledAdd { scale: *scale }.into();
                    layers[position].inputs = vec![x, Source::Layer(branch)];
                    gone.insert(branch);
                }
            }
            Op::Merge(merge) if merge.kind == MergeKind::Multiply => {
                let Some((x, gate)) = hard_silu(graph, &uses, position) else { continue };
                layers[position].op = ActivationLayer::named(Activation::HardSilu).into();
                layers[position].inputs = vec![x];
                gone.extend(gate);
            }
            Op::DepthwiseConv2d(conv) if is_scale(conv) => {
                let channels = graph.shape(Source::Layer(position)).channels();
                layers[position].op = LayerScale { initial: 1.0, channels }.into();
                is_changed = true;
            }
            _ => {}
        }
    }
    if gone.is_empty() && !is_changed {
        return None;
    }
    let graph = Graph::new(graph.input(), layers, graph.output(), graph.base()).ok()?;
    without(&graph, &gone).ok()
}

/// What a product of a value and its hard sigmoid takes, and the layers of that sigmoid, `relu6(x + 3) / 6`.
fn hard_silu(graph: &Graph, uses: &[usize], product: usize) -> Option<(Source, [usize; 3])> {
    let &[x, Source::Layer(sixth)] = graph.layers()[product].inputs.as_slice() else { return None };
    let before = |position: usize| match graph.layers()[position].inputs.as_slice() {
        &[Source::Layer(input)] if uses[position] == 1 => Some(input),
        _ => None,
    };
    let clamp = before(sixth)?;
    let sum = before(clamp)?;
    let is_rescaling = |position: usize, scale: f64, offset: f64| {
        matches!(&graph.layers()[position].op, Op::Rescaling(by)
            if by.scale == [scale] && by.offset == [offset])
    };
    let is_clamp = matches!(&graph.layers()[clamp].op, Op::Activation(clamp)
        if clamp.function == Activation::Relu6);
    let is_sigmoid = is_rescaling(sixth, 1.0 / 6.0, 0.0)
        && is_clamp
        && is_rescaling(sum, 1.0, 3.0)
        && uses[sum] == 1
        && graph.layers()[sum].inputs == [x];
    is_sigmoid.then_some((x, [sixth, clamp, sum]))
}

/// Whether filters are each channel times a number.
fn is_scale(conv: &DepthwiseConv2d) -> bool {
    let is_unpadded = match conv.window.padding {
        Padding::Same | Padding::Valid => true,
        Padding::Explicit(edges) => edges == [[0; 2]; 2],
    };
    is_unpadded
        && conv.window.kernel == [1, 1]
        && conv.window.stride == [1, 1]
        && conv.depth_multiplier == 1
        && !conv.bias
        && conv.activation == Activation::Linear
}
