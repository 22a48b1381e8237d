//! From nodes to a plan: the passes, and what is left as steps, their weights packed.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use half::bf16;
use rekindle_nn::Shape;
use rekindle_nn::ops::PoolKind;

use super::{
    AnyGemm, Depthwise, Gemm, GemmShape, MOST_PIXELS, MOST_WORKSPACES, Plan, PlanError, Step,
    Strip, Window, Winograd, Work, int8, winograd::is_large,
};
use crate::gemm::{Tile, pack};
use crate::int8::Scale;
use crate::ir::{Conv, Element, Node, NodeOp, Stage};
use crate::isa::{Kernels, Precision};
use crate::passes::{self, Place, Places};
use crate::plain::Plain;
use crate::simd::bf16::pair_rows;
use crate::simd::{CHANNEL_BLOCK, aligned, zeros};
use crate::{PlanConfig, Quantization};

/// How products of bytes come into a plan.
#[derive(Clone, Copy)]
pub(crate) enum Int8<'a> {
    /// Not at all.
    None,
    /// As they were found out.
    Of(&'a Quantization),
    /// Not yet: each value is to be looked at.
    Observed,
}

/// Compiles the nodes that lead to `output`.
pub(crate) fn compile(
    mut nodes: Vec<Node>,
    output: usize,
    config: PlanConfig,
    int8: Int8<'_>,
) -> Result<Plan, PlanError> {
    let config = config.checked()?;
    let PlanConfig { isa, precision } = config;
    let mut output = passes::fuse(&mut nodes, output);
    passes::pools_last(&mut nodes, output);
    output = passes::split_groups(&mut nodes, output);
    let input_shape = nodes[0].shape;
    let input_scale = passes::scale_input(&mut nodes, &mut output);
    if matches!(int8, Int8::Observed) {
        output = passes::part_shortcuts(&mut nodes, output);
    }
    let (mut scales, mut kept) = (Vec::new(), Vec::new());
    if let Int8::Of(quantization) = int8 {
        let quantized = passes::quantize(&mut nodes, output, quantization)?;
        (output, scales, kept) = (quantized.output, quantized.scales, quantized.kept);
    }
    let input_at = passes::pad_input(&mut nodes, output);
    if !matches!(int8, Int8::Observed) {
        passes::join_strips(&mut nodes, output);
    }
    if precision == Precision::Bf16 {
        let is_direct = |conv: &Conv, shape| winograd(conv, Element::F32, shape, config).is_none();
        output = passes::round_to_bf16(&mut nodes, output, is_direct);
    }
    // What is known of bytes is known by the nodes' numbers.
    if matches!(int8, Int8::None) {
        output =
            passes::split_points(&mut nodes, output, |node, input| in_stages(node, input, config));
    }
    let Places { places, arena, output_shape } = passes::place(&nodes, output);
    let keys = if matches!(int8, Int8::Observed) { passes::keys(&nodes) } else { Vec::new() };
    let steps = steps(nodes, &places, &scales, config)?;
    let widest = steps.iter().flat_map(|step| &step.inputs).map(|place| place.channels).max();
    let is_large = |step: &Step| step.out.pixels() > MOST_PIXELS && !is_between(&step.work);
    let last_large = steps.iter().rposition(is_large);
    Ok(Plan {
        input: places[0],
        input_at,
        input_shape,
        input_scale,
        output: places[output],
        output_shape,
        kernels: isa.kernels(),
        isa,
        precision,
        kept,
        keys,
        arena,
        zeros: zeros(
            widest.unwrap_or(0).next_multiple_of(CHANNEL_BLOCK).max(isa.kernels().columns),
        ),
        free: ArrayQueue::new(MOST_WORKSPACES),
        alone: last_large.map_or(0, |last| last + 1),
        steps,
    })
}

/// What to do for the values of nodes, which lie in these places.
fn steps(
    nodes: Vec<Node>,
    places: &[Place],
    scales: &[Option<Scale>],
    config: PlanConfig,
) -> Result<Vec<Step>, PlanError> {
    let kernels = config.isa.kernels();
    let (mut steps, mut in_stages) = (Vec::new(), None);
    for (index, node) in nodes.into_iter().enumerate() {
        let out = places[index];
        let mut inputs: Vec<Place> = node.inputs.iter().map(|&input| places[input]).collect();
        let mut push = |inputs: Vec<Place>, out: Place, work: Work| {
            steps.push(Step { node: index, name: node.name.clone(), inputs, out, work });
        };
        let is_bytes = |place: &Place| place.element == Element::U8;
        let is_of_bytes = is_bytes(&out) || inputs.iter().any(is_bytes);
        let is_work =
            !matches!(node.op, NodeOp::Concat | NodeOp::Flatten | NodeOp::Input | NodeOp::Fused);
        if is_of_bytes && is_work {
            let scale = |node: usize| scales.get(node).copied().flatten();
            let of_inputs: Vec<_> = node.inputs.iter().map(|&input| scale(input)).collect();
            let work = int8::work(node.op, &mut inputs, &of_inputs, scale(index), &kernels);
            let missing = || PlanError::Quantization {
                layer: node.name.clone(),
                what: "has bytes without a scale".into(),
            };
            let work = work.ok_or_else(missing)?;
            push(inputs, out, work);
            continue;
        }
        match node.op {
            NodeOp::Conv(conv) => {
                if let (Some(first), Some(input)) = (conv.slice, inputs.first_mut()) {
                    *input = input.slice(first, conv.channels[0]);
                }
                let factors = inputs[0].element;
                let work = if conv.depthwise {
                    Work::Depthwise(depthwise(conv))
                } else if let Some(points) =
                    winograd(&conv, factors, node.shape, config).filter(|_| !is_large(&conv))
                {
                    Work::Winograd(Winograd::new(&conv, node.shape, points, &kernels))
                } else {
                    Work::Gemm(any_gemm(conv, [factors, out.element], &kernels))
                };
                push(inputs, out, work);
            }
            NodeOp::Points(stage, conv, shape) => {
                if let (Stage::Image, Some(first), Some(input)) =
                    (stage, conv.slice, inputs.first_mut())
                {
                    *input = input.slice(first, conv.channels[0]);
                }
                // The three are neighbours.
                if stage == Stage::Image {
                    in_stages = None;
                }
                let new = || Arc::new(Winograd::new(&conv, shape, out.element, &kernels));
                let shared = Arc::clone(in_stages.get_or_insert_with(new));
                push(inputs, out, Work::Points(stage, shared));
            }
            NodeOp::Strip(convs, shape) => {
                let [expand, depthwise, project] = *convs;
                let Shape::Map { height, width, channels } = shape else {
                    unreachable!("a depthwise convolution reads it");
                };
                let expanded = [height, width, channels.next_multiple_of(CHANNEL_BLOCK)];
                let strip = Strip {
                    expand: gemm(expand, &kernels),
                    expanded,
                    depthwise: self::depthwise(depthwise),
                    project: gemm(project, &kernels),
                };
                push(inputs, out, Work::Strip(Box::new(strip)));
            }
            NodeOp::Dense { weights, bias, limits } => {
                let channels = [weights.len() / bias.len(), bias.len()];
                let conv = Conv { limits, ..Conv::new(channels, weights, bias) };
                push(inputs, out, Work::Gemm(AnyGemm::F32(gemm(conv, &kernels))));
            }
            NodeOp::Pool(pool) => push(inputs, out, Work::Pool(pool)),
            NodeOp::Global(kind) => {
                push(inputs, out, Work::Global { is_max: kind == PoolKind::Max });
            }
            NodeOp::Activation(activation) => {
                push(inputs, out, Work::Plain(Plain::Activate(activation)));
            }
            NodeOp::Merge(kind) => push(inputs, out, Work::Plain(Plain::Merge(kind))),
            NodeOp::Pad([rows, columns]) => {
                push(inputs, out, Work::Plain(Plain::Pad([rows[0], columns[0]])));
            }
            NodeOp::Plain(plain) => push(inputs, out, Work::Plain(plain)),
            NodeOp::Flatten => push(inputs, out, Work::Flatten),
            NodeOp::Narrow => push(inputs, out, Work::Narrow),
            NodeOp::Concat => {
                let mut channel = 0;
                for input in inputs {
                    let there = out.slice(channel, input.channels);
                    channel += input.channels;
                    // Most are there already.
                    if input.offset != there.offset {
                        push(vec![input], there, Work::Copy);
                    }
                }
            }
            NodeOp::Input | NodeOp::Fused => {}
            NodeOp::Quantize(_) | NodeOp::Dequantize => unreachable!("they are of bytes"),
            NodeOp::Affine(_) => unreachable!("`fuse` leaves none"),
            NodeOp::Layer(_) => unreachable!("`lower` makes none"),
        }
    }
    Ok(steps)
}

/// The element of the points where Winograd's method computes a convolution.
fn winograd(conv: &Conv, factors: Element, out: Shape, config: PlanConfig) -> Option<Element> {
    match out {
        Shape::Map { height, width, .. } if factors == Element::F32 => {
            Winograd::choose(conv, [height, width], &config.isa.kernels(), config.precision)
        }
        _ => None,
    }
}

/// The points of a convolution that Winograd's method computes in three steps, since its weights' points do not stay in the
/// cache between some tiles and the next.
fn in_stages(node: &Node, element: Element, config: PlanConfig) -> Option<passes::Points> {
    let NodeOp::Conv(conv) = &node.op else { return None };
    let element = winograd(conv, element, node.shape, config)?;
    Winograd::in_stages(conv, node.shape, element, &config.isa.kernels())
}

/// Whether a step is one of three of which the last makes a value of the network's.
fn is_between(work: &Work) -> bool {
    matches!(work, Work::Points(Stage::Image | Stage::Product, _))
}

fn depthwise(conv: Conv) -> Depthwise {
    let [_, channels] = conv.channels;
    let padded = channels.next_multiple_of(CHANNEL_BLOCK);
    let taps = conv.weights.len() / channels;
    let weights = aligned(&pack(&conv.weights, taps, channels, padded, padded));
    Depthwise { weights, window: Window::of(&conv, padded), ends: () }
}

/// A product of factors of one element to outputs of another.
fn any_gemm(conv: Conv, elements: [Element; 2], kernels: &Kernels) -> AnyGemm {
    match (elements, kernels.bf16) {
        ([Element::F32, Element::F32], _) => AnyGemm::F32(gemm(conv, kernels)),
        ([Element::Bf16, Element::F32], Some(bf16)) => {
            AnyGemm::Bf16(gemm_bf16(conv, kernels, bf16.tile))
        }
        ([Element::Bf16, Element::Bf16], Some(bf16)) => {
            AnyGemm::Bf16ToBf16(gemm_bf16(conv, kernels, bf16.tile_to_bf16))
        }
        (elements, _) => unreachable!("no kernel has {elements:?}"),
    }
}

fn gemm(conv: Conv, kernels: &Kernels) -> Gemm {
    let (depth, [_, outputs], panel) =
        (conv.channels[0] * conv.run, conv.channels, kernels.columns);
    let padded = kernels.padded(outputs, Element::F32);
    let rows = conv.weights.len() / outputs;
    let weights = aligned(&pack(&conv.weights, rows, outputs, padded, panel));
    let window = Window::of(&conv, padded);
    Gemm { shape: GemmShape { window, panel, depth }, weights, tile: kernels.tile, ends: () }
}

fn gemm_bf16<O>(conv: Conv, kernels: &Kernels, tile: Tile<bf16, O>) -> Gemm<bf16, O> {
    let ([inputs, outputs], panel) = (conv.channels, kernels.columns);
    let padded = kernels.padded(outputs, Element::Bf16);
    let pairs = pair_rows(&conv.weights, inputs, outputs);
    let rows = pairs.len() / outputs;
    let weights = aligned(pack(&pairs, rows, outputs, padded, panel).as_flattened());
    let (window, depth) = (Window::of(&conv, padded), inputs.next_multiple_of(2));
    Gemm { shape: GemmShape { window, panel, depth }, weights, tile, ends: () }
}
