//! What a program's network of some name computes otherwise than a model.

use std::collections::{HashMap, HashSet};

use rekindle_nn::ops::PoolKind;
use rekindle_nn::{Activation, Graph, Op, Padding, Source, Window};

use super::super::dialects::Dialect;
use crate::graph::without;
use crate::recognise::{Numbers, pairs, settled};

/// A model's network beside a program's.
pub(super) struct Comparison {
    /// The model's layer for each of the program's.
    pub pairs: HashMap<usize, usize>,
    /// What is computed otherwise; each is a sentence that names layer and setting.
    pub differences: Vec<String>,
    /// By normalizations of the program's network: how much larger the model's epsilon is.
    pub epsilons: HashMap<usize, f64>,
    /// By normalizations of the program's network: the model's convolution in front, whose bias the program's has not.
    pub biases: HashMap<usize, usize>,
    /// Whether zeros around maps are the same for images of this size only.
    pub is_for_this_size: bool,
}

/// The graph without what only training sees, and without the activation behind its logits.
pub(super) fn bare(graph: &Graph) -> Result<Graph, String> {
    let is_idle = |op: &Op| match op {
        Op::Dropout(_) | Op::SharedDropout(_) | Op::Noise(_) | Op::TrainingOnly(_) => true,
        Op::Identity(_) => true,
        Op::Activation(activation) => activation.function == Activation::Linear,
        _ => false,
    };
    let all = graph.layers().iter().enumerate();
    let gone: HashSet<usize> =
        all.filter(|(_, layer)| is_idle(&layer.op)).map(|(position, _)| position).collect();
    let graph = if gone.is_empty() { graph.clone() } else { without(graph, &gone)? };
    let Some(last) = graph.output().layer().filter(|_| graph.classes().is_some()) else {
        return Ok(graph);
    };
    let is_probability =
        |function: Activation| matches!(function, Activation::Softmax | Activation::Sigmoid);
    match &graph.layers()[last].op {
        Op::Activation(end) if is_probability(end.function) => {
            without(&graph, &HashSet::from([last]))
        }
        Op::Dense(end) if is_probability(end.activation) => {
            let mut layers = graph.layers().to_vec();
            if let Op::Dense(end) = &mut layers[last].op {
                end.activation = Activation::Linear;
            }
            let graph = Graph::new(graph.input(), layers, graph.output(), graph.base());
            graph.map_err(|error| error.to_string())
        }
        _ => Ok(graph),
    }
}

/// What a layer is, whatever its settings are that are compared one by one.
pub(super) fn kind(graph: &Graph, position: usize) -> String {
    match settled(graph, position) {
        Op::Conv2d(conv) => {
            let kernel = conv.window.kernel;
            format!("convolution {kernel:?} {} {}", conv.filters, conv.groups)
        }
        Op::DepthwiseConv2d(conv) => {
            let kernel = conv.window.kernel;
            format!("depthwise {kernel:?} {}", conv.depth_multiplier)
        }
        Op::SeparableConv2d(conv) => {
            let kernel = conv.window.kernel;
            format!("separable {kernel:?} {} {}", conv.filters, conv.depth_multiplier)
        }
        Op::Dense(dense) => format!("dense {}", dense.units),
        Op::BatchNorm(_) => "batch norm".into(),
        Op::LayerNorm(norm) => format!("layer norm {axes:?}", axes = norm.axes),
        Op::Activation(_) => "activation".into(),
        Op::Pool2d(pool) => {
            let kind = if pool.kind == PoolKind::Average { "average" } else { "max" };
            format!("{kind} pool {kernel:?}", kernel = pool.window.kernel)
        }
        Op::ZeroPadding2d(_) => "zeros".into(),
        op => format!("{op:?}"),
    }
}

/// Numbers of the layers, equal for those of one kind on equal ones.
pub(super) fn numbered(numbers: &mut Numbers, graph: &Graph) -> Vec<Option<usize>> {
    numbers.of(graph, Source::Input, kind)
}

/// Compares two networks, both bare; nothing, where their layers are not of the same kinds.
pub(super) fn compare(
    numbers: &mut Numbers,
    ours: &Graph,
    own: &[Option<usize>],
    theirs: &Graph,
    dialect: &Dialect,
) -> Option<Comparison> {
    let known = numbered(numbers, theirs);
    let end = ours.output().layer()?;
    if own[end] != known[theirs.output().layer()?] {
        return None;
    }
    let mut comparison = Comparison {
        pairs: pairs(ours, Source::Input, own, end, &ending(theirs)?, &known)?,
        differences: Vec::new(),
        epsilons: HashMap::new(),
        biases: HashMap::new(),
        is_for_this_size: false,
    };
    let mut places: Vec<(usize, usize)> =
        comparison.pairs.iter().map(|(theirs, ours)| (*theirs, *ours)).collect();
    places.sort_unstable();
    for (known, own) in places {
        comparison.layers(ours, own, theirs, known, dialect);
    }
    Some(comparison)
}

/// The graph with its mark at its end.
fn ending(graph: &Graph) -> Option<Graph> {
    let base = rekindle_nn::Base {
        layers: graph.layers().len(),
        output: graph.output(),
        architecture: None,
    };
    Graph::new(graph.input(), graph.layers().to_vec(), graph.output(), base).ok()
}

impl Comparison {
    fn layers(
        &mut self,
        ours: &Graph,
        own: usize,
        theirs: &Graph,
        known: usize,
        dialect: &Dialect,
    ) {
        let mut found: Vec<(&str, String, String)> = Vec::new();
        let mut setting = |name: &'static str, ours: String, theirs: String| {
            if ours != theirs {
                found.push((name, ours, theirs));
            }
        };
        let flag = |is: bool| if is { "there".to_owned() } else { "absent".to_owned() };
        // One that the other has not is 0 or 1 there.
        let mut extra = |name: &'static str, ours: bool, theirs: bool| {
            setting(name, flag(ours && !theirs), flag(false));
        };
        match (settled(ours, own), settled(theirs, known)) {
            (Op::Conv2d(a), Op::Conv2d(b)) => {
                match normalized(theirs, known) {
                    Some(norm) if a.bias && !b.bias => {
                        self.biases.insert(norm, own);
                    }
                    _ => extra("a bias", a.bias, b.bias),
                }
                windows(a.window, b.window, &mut setting);
                setting("activation", of(a.activation), of(b.activation));
            }
            (Op::DepthwiseConv2d(a), Op::DepthwiseConv2d(b)) => {
                match normalized(theirs, known) {
                    Some(norm) if a.bias && !b.bias => {
                        self.biases.insert(norm, own);
                    }
                    _ => extra("a bias", a.bias, b.bias),
                }
                windows(a.window, b.window, &mut setting);
                setting("activation", of(a.activation), of(b.activation));
            }
            (Op::SeparableConv2d(a), Op::SeparableConv2d(b)) => {
                extra("a bias", a.bias, b.bias);
                windows(a.window, b.window, &mut setting);
                setting("activation", of(a.activation), of(b.activation));
            }
            (Op::Dense(a), Op::Dense(b)) => {
                extra("a bias", a.bias, b.bias);
                setting("activation", of(a.activation), of(b.activation));
                if let (Some(maps), Some(flat)) = (dialect.maps, flattened(theirs, known)) {
                    let size = |[height, width]: [usize; 2]| format!("{height} x {width}");
                    setting("the size of the maps in front", size(flat), size(maps));
                }
            }
            (Op::BatchNorm(a), Op::BatchNorm(b)) => {
                extra("a gamma", a.scale, b.scale);
                extra("a beta", a.center, b.center);
                if a.epsilon as f32 != b.epsilon as f32 {
                    self.epsilons.insert(known, a.epsilon - b.epsilon);
                }
            }
            (Op::LayerNorm(a), Op::LayerNorm(b)) => {
                extra("a gamma", a.scale, b.scale);
                extra("a beta", a.center, b.center);
                let epsilon = |epsilon: f64| (epsilon as f32).to_string();
                setting("epsilon", epsilon(a.epsilon), epsilon(b.epsilon));
            }
            (Op::Activation(a), Op::Activation(b)) => {
                setting("the function", of(a.function), of(b.function));
            }
            (Op::Pool2d(a), Op::Pool2d(b)) => {
                windows(a.window, b.window, &mut setting);
                let is_mean = a.kind == PoolKind::Average;
                if is_mean && b.window.padding != Padding::Explicit([[0; 2]; 2]) {
                    let counts = |counts: bool| if counts { "count" } else { "do not count" };
                    setting(
                        "zeros around the maps",
                        counts(a.counts_padding).into(),
                        counts(b.counts_padding).into(),
                    );
                }
            }
            (Op::ZeroPadding2d(a), Op::ZeroPadding2d(b)) => {
                let edges = |padding: [[usize; 2]; 2]| format!("{padding:?}");
                setting("padding", edges(a.padding), edges(b.padding));
            }
            // Their kinds have all settings.
            (_, _) => {}
        }
        let name = &ours.layers()[own].name;
        self.differences.extend(found.into_iter().map(|(setting, ours, theirs)| {
            format!("`{name}`: {setting}: {ours} here, {theirs} there")
        }));
        self.is_for_this_size |= pads_by_size(ours, own) != pads_by_size(theirs, known);
    }
}

/// The settings of a window, one by one.
fn windows(a: Window, b: Window, setting: &mut impl FnMut(&'static str, String, String)) {
    let edges = |window: Window| match window.padding {
        Padding::Explicit(padding) => format!("{padding:?}"),
        Padding::Same => "same".into(),
        Padding::Valid => "valid".into(),
    };
    let both = |extents: [usize; 2]| format!("{extents:?}");
    setting("stride", both(a.stride), both(b.stride));
    setting("dilation", both(a.dilation), both(b.dilation));
    setting("padding", edges(a), edges(b));
}

fn of(function: Activation) -> String {
    function.to_string()
}

/// Whether a layer's zeros depend on the images' size.
fn pads_by_size(graph: &Graph, position: usize) -> bool {
    let window = match &graph.layers()[position].op {
        Op::Conv2d(conv) => conv.window,
        Op::DepthwiseConv2d(conv) => conv.window,
        Op::SeparableConv2d(conv) => conv.window,
        Op::Pool2d(pool) => pool.window,
        _ => return false,
    };
    window.padding == Padding::Same && window.stride != [1, 1] && window.kernel != [1, 1]
}

/// The batch normalization that takes a layer's values.
fn normalized(graph: &Graph, position: usize) -> Option<usize> {
    let takes = |layer: &rekindle_nn::Layer| {
        matches!(layer.op, Op::BatchNorm(_)) && layer.inputs == [Source::Layer(position)]
    };
    graph.layers().iter().position(takes)
}

/// Height and width of the maps that a dense layer takes as a vector.
fn flattened(graph: &Graph, position: usize) -> Option<[usize; 2]> {
    let input = graph.layers()[position].inputs.first()?.layer()?;
    let Op::Flatten(_) = graph.layers()[input].op else { return None };
    let [height, width, _] = graph.input_shapes(input).first()?.as_map()?;
    Some([height, width])
}
