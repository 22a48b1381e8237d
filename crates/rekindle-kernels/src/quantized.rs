//! A quantized network as other programs' engines compute it.

use std::collections::HashMap;

use burn::tensor::backend::Backend;
use rekindle_nn::ops::{
    ActivationLayer, Concatenate, Conv2d, Dense, DepthwiseConv2d, Flatten, GlobalPool, Identity,
    Merge, Pool2d, PoolKind, Rescaling, ZeroPadding2d,
};
use rekindle_nn::quantized::{self, Bytes, Product};
use rekindle_nn::{
    Activation, Base, Graph, Layer, Network, NetworkError, Op, Padding, QuantizedNetwork, Shape,
    Source, Window,
};

use crate::int8::{Scale, round_bias, round_weights};
use crate::ir::{Conv, Node, NodeOp, Pool};
use crate::lower::nodes;
use crate::passes::{self, clamp};
use crate::{Limits, PlanError, Quantization};

/// A quantized network as a graph of layers, with the bytes, steps and zero points that [`lower_quantized`](crate::lower_quantized) computes with.
///
/// Other engines compute with bytes of every value that a product takes or makes, which differs in two things: a convolution
/// and the shortcut that is added to it are rounded one by one, and so is what a function is computed of.
///
/// # Errors
/// As [`lower_quantized`](crate::lower_quantized)'s.
pub fn quantized<B: Backend>(
    network: &Network<B>,
    quantization: &Quantization,
) -> Result<QuantizedNetwork, PlanError> {
    let (mut nodes, output) = nodes(network, None, |_| false)?;
    let mut output = passes::fuse(&mut nodes, output);
    passes::pools_last(&mut nodes, output);
    output = passes::split_groups(&mut nodes, output);
    let input_scale = passes::scale_input(&mut nodes, &mut output);
    output = passes::part_shortcuts(&mut nodes, output);
    let (scales, is_product) = passes::byte_values(&nodes, output, quantization)?;
    let mut writer = Writer { network, scales, nodes, ..Writer::new(network) };
    if let Some(scale) = input_scale {
        let each = |which: usize| scale.iter().map(|channel| channel[which].into()).collect();
        let rescaling = Rescaling { scale: each(0), offset: each(1) };
        writer.add("input_scale", rescaling.into(), vec![Source::Input], None);
    }
    let keys = passes::keys(&writer.nodes);
    for (index, key) in keys.iter().enumerate() {
        writer.node(index, key, is_product[index])?;
    }
    let Writer { nodes, layers, values, variables, bytes, .. } = writer;
    let missing = || NetworkError::graph("its output is none of its layers".into());
    let end = values.get(&output).copied().ok_or_else(missing)?;
    let base = Base { layers: layers.len(), output: end, architecture: None };
    let graph = Graph::new(network.graph().input(), layers, end, base)?;
    if graph.output_shape() != nodes[output].shape {
        let (found, expected) = (graph.output_shape(), nodes[output].shape);
        return Err(NetworkError::graph(format!("it gives {found}, expected {expected}")).into());
    }
    Ok(QuantizedNetwork { graph, variables, bytes })
}

/// A graph that is being written.
struct Writer<'a, B: Backend> {
    network: &'a Network<B>,
    nodes: Vec<Node>,
    scales: Vec<Option<Scale>>,
    layers: Vec<Layer>,
    /// Where each node's value is.
    values: HashMap<usize, Source>,
    variables: HashMap<(String, String), (Vec<usize>, Vec<f32>)>,
    bytes: Bytes,
}

impl<'a, B: Backend> Writer<'a, B> {
    fn new(network: &'a Network<B>) -> Self {
        Self {
            network,
            nodes: Vec::new(),
            scales: Vec::new(),
            layers: Vec::new(),
            values: HashMap::new(),
            variables: HashMap::new(),
            bytes: Bytes::default(),
        }
    }

    /// Adds a layer, and gives its name.
    fn add(&mut self, name: &str, op: Op, inputs: Vec<Source>, scale: Option<Scale>) -> String {
        let mut free = name.to_owned();
        let mut number = 1;
        while self.layers.iter().any(|layer| layer.name == free) {
            number += 1;
            free = format!("{name}_{number}");
        }
        if let Some(Scale { step, zero }) = scale {
            self.bytes.values.insert(free.clone(), quantized::Scale { step, zero });
        }
        self.layers.push(Layer { name: free.clone(), op, inputs });
        free
    }

    /// The value of the layer that was added last.
    fn last(&self) -> Source {
        self.layers.len().checked_sub(1).map_or(Source::Input, Source::Layer)
    }

    fn node(&mut self, index: usize, key: &str, is_product: bool) -> Result<(), PlanError> {
        let inputs = self.nodes[index].inputs.iter().map(|input| self.values.get(input).copied());
        let inputs: Option<Vec<Source>> = inputs.collect();
        let scale = self.scales[index];
        let Some(inputs) = inputs else {
            // What reads what nothing makes has itself become a part of something.
            return Ok(());
        };
        let shape = self.nodes[index].shape;
        let from = self.nodes[index].inputs.first().map_or(shape, |&input| self.nodes[input].shape);
        let input_scale = self.nodes[index].inputs.first().and_then(|&input| self.scales[input]);
        let op: Op = match std::mem::replace(&mut self.nodes[index].op, NodeOp::Fused) {
            NodeOp::Fused => return Ok(()),
            NodeOp::Input => {
                if scale.is_some() {
                    let input = self.last();
                    self.add("input_bytes", Identity {}.into(), vec![input], scale);
                }
                self.values.insert(index, self.last());
                return Ok(());
            }
            // A vector's scale and shift are no convolution elsewhere.
            NodeOp::Conv(conv) if conv.depthwise && from.as_map().is_none() => {
                let wide = |values: &[f32]| values.iter().map(|&value| value.into()).collect();
                let op = Rescaling { scale: wide(&conv.weights), offset: wide(&conv.bias) };
                self.add(key, op.into(), inputs, scale);
                self.clamped(key, conv.limits, scale);
                self.values.insert(index, self.last());
                return Ok(());
            }
            NodeOp::Conv(conv) => {
                let op = convolution(&conv, from, shape)?;
                return self.product(index, key, op, &whole(conv, from), is_product);
            }
            NodeOp::Dense { weights, bias, limits } => {
                let channels = [weights.len() / bias.len().max(1), bias.len()];
                let op = Dense::new(bias.len(), Activation::Linear).into();
                let conv = Conv { limits, ..Conv::new(channels, weights, bias) };
                return self.product(index, key, op, &conv, is_product);
            }
            NodeOp::Activation(function) => {
                let limits = Limits::of(function);
                // What is clamped as its bytes are is what comes in. A vector may come as numbers.
                if from.as_map().is_some()
                    && input_scale.is_some_and(|own| scale == Some(own) && !binds(limits, own))
                {
                    self.values.insert(index, inputs[0]);
                    return Ok(());
                }
                ActivationLayer::named(function).into()
            }
            NodeOp::Pad(padding) => ZeroPadding2d { padding }.into(),
            NodeOp::Pool(pool) => {
                let op = Op::from(pooled(pool, from, shape)?);
                self.add(key, op, inputs, scale);
                self.clamped(key, pool.limits, scale);
                self.values.insert(index, self.last());
                return Ok(());
            }
            NodeOp::Global(kind) => GlobalPool { kind, keep_dims: shape.as_map().is_some() }.into(),
            NodeOp::Flatten => Flatten {}.into(),
            NodeOp::Merge(kind) => Merge { kind }.into(),
            NodeOp::Concat => Concatenate::new().into(),
            NodeOp::Plain(_) => {
                // These are the layers that they began as.
                let name = self.nodes[index].name.clone();
                let (graph, position) =
                    (self.network.graph(), self.network.graph().position(&name)?);
                let view = self.network.view(position);
                let op = graph.layers()[position].op.clone();
                let own = self.add(key, op, inputs, scale);
                for spec in graph.variables(position) {
                    if let Some(values) = view.host(spec.name) {
                        let place = (own.clone(), spec.name.to_owned());
                        self.variables.insert(place, (spec.shape, values));
                    }
                }
                self.values.insert(index, self.last());
                return Ok(());
            }
            NodeOp::Strip(..)
            | NodeOp::Affine(_)
            | NodeOp::Layer(_)
            | NodeOp::Points(..)
            | NodeOp::Narrow
            | NodeOp::Quantize(_)
            | NodeOp::Dequantize => {
                let what = format!("layer `{key}` has become a part of a plan");
                return Err(NetworkError::graph(what).into());
            }
        };
        self.add(key, op, inputs, scale);
        self.values.insert(index, self.last());
        Ok(())
    }

    /// A clamp of what came last, where it is one that bytes do not do by themselves.
    fn clamped(&mut self, key: &str, limits: Limits, scale: Option<Scale>) {
        let does = scale.map_or(limits != Limits::NONE, |scale| binds(limits, scale));
        if does {
            let input = self.last();
            let op = ActivationLayer::named(clamp(limits)).into();
            self.add(&format!("{key}:clamp"), op, vec![input], scale);
        }
    }

    /// A layer with weights, and what its values are clamped to.
    fn product(
        &mut self,
        index: usize,
        key: &str,
        op: Op,
        conv: &Conv,
        is_product: bool,
    ) -> Result<(), PlanError> {
        let node = &self.nodes[index];
        let scale = self.scales[index];
        let first = node.inputs.first().copied();
        let input = first.and_then(|input| self.values.get(&input).copied());
        let input_scale = first.and_then(|input| self.scales[input]);
        let missing =
            |what: &str| PlanError::Quantization { layer: key.to_owned(), what: what.to_owned() };
        let input = input.ok_or_else(|| missing("takes what nothing makes"))?;
        let name = self.add(key, op, vec![input], scale);
        if is_product {
            let scale = input_scale.ok_or_else(|| missing("takes bytes without a scale"))?;
            let rounded = round_weights(&conv.weights, &conv.bias, scale);
            let steps: Vec<f32> = rounded.steps.iter().map(|&step| step as f32).collect();
            let product = Product {
                bias: round_bias(&rounded, &conv.bias, scale),
                bias_steps: steps.iter().map(|step| scale.step * step).collect(),
                steps,
                weights: rounded.weights,
                is_clamped: conv.limits != Limits::NONE,
            };
            self.bytes.products.insert(name, product);
        } else {
            let mut insert = |variable: &str, shape: Vec<usize>, values: &[f32]| {
                let place = (name.clone(), variable.to_owned());
                self.variables.insert(place, (shape, values.to_vec()));
            };
            let [height, width] = conv.kernel;
            let [inputs, outputs] = conv.channels;
            let shape = match (first.map(|first| self.nodes[first].shape), conv.depthwise) {
                (Some(Shape::Flat(_)), _) => vec![inputs, outputs],
                (_, true) => vec![height, width, outputs, 1],
                (_, false) => vec![height, width, inputs, outputs],
            };
            insert("kernel", shape, &conv.weights);
            insert("bias", vec![outputs], &conv.bias);
        }
        self.clamped(key, conv.limits, scale);
        self.values.insert(index, self.last());
        Ok(())
    }
}

/// Whether limits are not those that bytes have anyway.
fn binds(limits: Limits, scale: Scale) -> bool {
    let (least, most) = (-f32::from(scale.zero), 255.0 - f32::from(scale.zero));
    (limits.low / scale.step).round() > least || (limits.high / scale.step).round() < most
}

/// A window's padding, from what lies before the maps and how many places it has.
fn padding(
    window: Window,
    before: [usize; 2],
    from: Shape,
    to: Shape,
) -> Result<Window, NetworkError> {
    let (Some(from), Some(to)) = (from.as_map(), to.as_map()) else {
        return Err(NetworkError::graph(format!("a window moves over {from}")));
    };
    let edges = [0, 1].map(|axis| {
        let reach = (to[axis].saturating_sub(1)) * window.stride[axis] + window.extent(axis);
        [before[axis], reach.saturating_sub(before[axis] + from[axis])]
    });
    let named = [Padding::Valid, Padding::Same]
        .into_iter()
        .find(|&padding| Window { padding, ..window }.edges(from[0], from[1]) == edges);
    Ok(Window { padding: named.unwrap_or(Padding::Explicit(edges)), ..window })
}

fn convolution(conv: &Conv, from: Shape, to: Shape) -> Result<Op, NetworkError> {
    let Conv { kernel, stride, dilation, .. } = *conv;
    let window = Window { kernel, stride, padding: Padding::Valid, dilation };
    let window = padding(window, conv.before, from, to)?;
    let activation = Activation::Linear;
    Ok(if conv.depthwise {
        DepthwiseConv2d { window, depth_multiplier: 1, bias: true, activation }.into()
    } else {
        let filters = conv.channels[1];
        Conv2d { filters, window, groups: 1, bias: true, activation }.into()
    })
}

fn pooled(pool: Pool, from: Shape, to: Shape) -> Result<Pool2d, NetworkError> {
    let Pool { is_max, kernel, stride, before, .. } = pool;
    let window = Window { kernel, stride, padding: Padding::Valid, dilation: [1, 1] };
    let window = padding(window, before, from, to)?;
    let kind = if is_max { PoolKind::Max } else { PoolKind::Average };
    Ok(Pool2d { kind, window, counts_padding: false })
}

/// A convolution that reads a part of the channels as one of all, with zeros for those that it does not read.
fn whole(conv: Conv, from: Shape) -> Conv {
    let Some(first) = conv.slice else { return conv };
    let ([inputs, outputs], all) = (conv.channels, from.channels());
    let taps: usize = conv.kernel.iter().product();
    let mut weights = vec![0.0; taps * all * outputs];
    for (tap, own) in conv.weights.chunks_exact(inputs * outputs).enumerate() {
        let at = (tap * all + first) * outputs;
        weights[at..at + own.len()].copy_from_slice(own);
    }
    Conv { weights, channels: [all, outputs], slice: None, ..conv }
}
