//! Numbers of a graph's values: equal ones are made in the same way.

use std::collections::HashMap;

use rekindle_nn::ops::{ActivationLayer, MergeKind};
use rekindle_nn::{Activation, Graph, Op, Padding, Shape, Source};

/// Gives equal numbers to what is made in the same way.
#[derive(Default)]
pub(crate) struct Numbers {
    known: HashMap<(String, Vec<usize>), usize>,
}

impl Numbers {
    /// The numbers of a graph's layers; nothing for those that take anything else than what comes from `root`. `described` gives
    /// equal texts for layers that do the same. A layer that changes nothing outside of training has its input's number.
    pub fn of(
        &mut self,
        graph: &Graph,
        root: Source,
        described: impl Fn(&Graph, usize) -> String,
    ) -> Vec<Option<usize>> {
        let start = self.number("root".into(), Vec::new());
        let mut numbers: Vec<Option<usize>> = Vec::with_capacity(graph.layers().len());
        for (position, layer) in graph.layers().iter().enumerate() {
            let inputs = behind_zeros(graph, position);
            let of = |source: &Source| match source {
                source if *source == root => Some(start),
                Source::Input => None,
                Source::Layer(input) => numbers[*input],
            };
            if let (true, [input]) = (is_idle(&layer.op), inputs.as_slice()) {
                numbers.push(of(input));
                continue;
            }
            let inputs: Option<Vec<usize>> = inputs.iter().map(of).collect();
            // A pad is also numbered for readers that are no convolutions.
            numbers.push(inputs.map(|mut inputs| {
                if is_commutative(&layer.op) {
                    inputs.sort_unstable();
                }
                self.number(described(graph, position), inputs)
            }));
        }
        numbers
    }

    fn number(&mut self, what: String, inputs: Vec<usize>) -> usize {
        let next = self.known.len();
        *self.known.entry((what, inputs)).or_insert(next)
    }
}

/// Whether values pass unchanged outside of training.
pub(super) fn is_idle(op: &Op) -> bool {
    match op {
        Op::Identity(_) => true,
        Op::Activation(activation) => activation.function == Activation::Linear,
        other => is_dropout(other),
    }
}

/// Whether values are dropped while the network trains.
pub(super) fn is_dropout(op: &Op) -> bool {
    matches!(op, Op::Dropout(_) | Op::SharedDropout(_))
}

/// What a value is before layers that change nothing outside of training, and these layers, the last one first.
pub(super) fn behind_idle(graph: &Graph, root: Source, mut source: Source) -> (Source, Vec<usize>) {
    let mut idle = Vec::new();
    while source != root
        && let Source::Layer(position) = source
        && let layer = &graph.layers()[position]
        && let (true, &[input]) = (is_idle(&layer.op), layer.inputs.as_slice())
    {
        idle.push(position);
        source = input;
    }
    (source, idle)
}

/// Whether zeros in front of an operation are its own padding.
pub(super) fn pads_with_zeros(op: &Op) -> bool {
    matches!(op, Op::Conv2d(_) | Op::DepthwiseConv2d(_))
}

/// What a layer takes: a convolution's input before the zeros that a layer of its own puts around it.
pub(super) fn behind_zeros(graph: &Graph, position: usize) -> Vec<Source> {
    let layer = &graph.layers()[position];
    if pads_with_zeros(&layer.op)
        && let [Source::Layer(pad)] = layer.inputs.as_slice()
        && matches!(graph.layers()[*pad].op, Op::ZeroPadding2d(_))
    {
        return graph.layers()[*pad].inputs.clone();
    }
    layer.inputs.clone()
}

pub(super) fn is_commutative(op: &Op) -> bool {
    match op {
        Op::Merge(merge) => match merge.kind {
            MergeKind::Add
            | MergeKind::Multiply
            | MergeKind::Average
            | MergeKind::Maximum
            | MergeKind::Minimum => true,
            MergeKind::Subtract => false,
        },
        _ => false,
    }
}

/// A layer's settings as text, where those that no answer depends on are all the same.
pub(super) fn described(graph: &Graph, position: usize) -> String {
    let op = settled(graph, position);
    format!("{op:?}")
}

/// A layer's operation, where settings that no answer depends on are all the same, and zeros around maps are numbers.
pub(crate) fn settled(graph: &Graph, position: usize) -> Op {
    let input = graph.input_shapes(position).first().copied();
    // Both ways to write zeros come to the same rows and columns.
    let zeros = match graph.layers()[position].inputs.as_slice() {
        [Source::Layer(pad)] => match &graph.layers()[*pad].op {
            Op::ZeroPadding2d(zeros) => zeros.padding,
            _ => [[0; 2]; 2],
        },
        _ => [[0; 2]; 2],
    };
    let explicit = |window: &mut rekindle_nn::Window, zeros: [[usize; 2]; 2]| {
        if let Some(Shape::Map { height, width, .. }) = input {
            let own = window.edges(height, width);
            let sum = |axis: usize, side: usize| own[axis][side] + zeros[axis][side];
            window.padding = Padding::Explicit([[sum(0, 0), sum(0, 1)], [sum(1, 0), sum(1, 1)]]);
        }
    };
    match graph.layers()[position].op.clone() {
        Op::Conv2d(mut conv) => {
            explicit(&mut conv.window, zeros);
            Op::Conv2d(conv)
        }
        Op::DepthwiseConv2d(mut conv) => {
            explicit(&mut conv.window, zeros);
            Op::DepthwiseConv2d(conv)
        }
        Op::SeparableConv2d(mut conv) => {
            explicit(&mut conv.window, [[0; 2]; 2]);
            Op::SeparableConv2d(conv)
        }
        Op::Pool2d(mut pool) => {
            explicit(&mut pool.window, [[0; 2]; 2]);
            Op::Pool2d(pool)
        }
        Op::BatchNorm(mut norm) => {
            norm.momentum = 0.0;
            norm.axis = -1;
            // ONNX has it as f32.
            norm.epsilon = f64::from(norm.epsilon as f32);
            Op::BatchNorm(norm)
        }
        Op::Rescaling(mut affine) => {
            let numbers = affine.scale.iter_mut().chain(&mut affine.offset);
            numbers.for_each(|number| *number = f64::from(*number as f32));
            Op::Rescaling(affine)
        }
        Op::LayerNorm(mut norm) => {
            norm.epsilon = f64::from(norm.epsilon as f32);
            Op::LayerNorm(norm)
        }
        Op::LayerScale(mut scale) => {
            scale.initial = 0.0;
            Op::LayerScale(scale)
        }
        Op::Dense(mut dense) => {
            dense.l2 = 0.0;
            Op::Dense(dense)
        }
        Op::Activation(activation) => {
            let function = match activation.function {
                Activation::ReluOf { max_value, negative_slope, threshold } => {
                    Activation::relu_of(max_value, negative_slope, threshold)
                }
                Activation::Clip { low: 0.0, high: 6.0 } => Activation::Relu6,
                other => other,
            };
            Op::Activation(ActivationLayer::named(function))
        }
        Op::Concatenate(mut join) => {
            join.axis = -1;
            Op::Concatenate(join)
        }
        // All other settings have to be the same.
        other => other,
    }
}
