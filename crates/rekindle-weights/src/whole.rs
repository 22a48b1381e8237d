//! From a network as a file has it to a model card: what stands in front of it is preprocessing, what it ends in are
//! probabilities, and a known network gets its names.

use std::collections::{HashMap, HashSet};

use rekindle_nn::ops::Rescaling;
use rekindle_nn::{Activation, Architecture, Base, Graph, Layer, Op, Shape, Source};

use crate::graph::without;
use crate::recognise::{Begins, Recognised, recognise};
use crate::{ModelCard, Origin};

/// A network of a file whose layers have the file's names.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The network.
    pub graph: Graph,
    /// Layers in which a part that was a model of its own ends, the best guess at a base first.
    pub ends: Vec<String>,
    /// The preprocessing that something beside the file says, where the network has none itself; and the sentence that
    /// says so.
    pub preprocessing: Option<(String, String)>,
}

/// What a file's network is.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The network, its preprocessing, and what was assumed.
    pub card: ModelCard,
    /// What the file's layers are called in the card's graph.
    pub names: HashMap<String, String>,
    /// The file's dense layer with one output, which now has two: zeros are the first of each row of its kernel, and of
    /// its bias, so that a softmax over both is `(1 - sigmoid(x), sigmoid(x))`.
    pub two_classes: Option<String>,
}

/// Finds out what a network is; the error says why it is nothing that Rekindle can use.
pub(crate) fn settle(whole: Whole) -> Result<Settled, String> {
    let Whole { graph, ends, preprocessing: said } = whole;
    if graph.input().as_map().is_none() {
        return Err(format!(
            "the model takes values of shape {}, expected images: batch, height, width, channels",
            graph.input()
        ));
    }
    let mut assumed = Vec::new();
    let (graph, two_classes) = with_probabilities(&graph, &mut assumed)?;
    let Known { graph, names, begins } = known(&graph, &ends)?;
    let (graph, front) = without_front(&graph)?;
    let mut card = ModelCard::new(graph);
    // Keras's readers leave opacity out.
    card.transparency = Some("drop".into());
    card.origins.transparency = Origin::Assumed;
    let known = card.architecture().or(begins.map(|begins| begins.architecture));
    let known = known.or_else(|| alike(&card.graph, &mut assumed));
    match (front, said, known) {
        (Some((scale, offset)), ..) => card.preprocessing = preprocessing(scale, offset),
        // The graph itself begins with the preprocessing.
        (None, ..) if begins_with_affine(&card.graph) => card.preprocessing = "none".into(),
        (None, Some((said, why)), _) => {
            card.preprocessing = said;
            card.origins.preprocessing = Origin::Assumed;
            assumed.push(why);
        }
        (None, None, Some(known)) if known.family.preprocessing != "none" => {
            card.preprocessing = known.family.preprocessing.into();
            card.origins.preprocessing = Origin::Network;
            assumed.push(format!(
                "the file has no preprocessing: `{}`, which is {}'s, is assumed",
                card.preprocessing, known.family.title
            ));
        }
        // Families with their preprocessing inside are no help where this graph has none.
        (None, None, _) => {
            card.preprocessing = "none".into();
            card.origins.preprocessing = Origin::Assumed;
            assumed.push(
                "the file has no preprocessing: pixels are assumed to be taken as they are, from 0 to 255".into(),
            );
        }
    }
    card.assumed = assumed;
    Ok(Settled { card, names, two_classes })
}

/// A network as it is known, or with a mark where its base ends.
pub(crate) struct Known {
    /// The network.
    pub graph: Graph,
    /// What the file's layers are called in it.
    pub names: HashMap<String, String>,
    /// The known network that another one begins as.
    pub begins: Option<Begins>,
}

/// Finds out which known network a graph is, or else where its base ends; the best guess at that is the first of `ends`.
pub(crate) fn known(graph: &Graph, ends: &[String]) -> Result<Known, String> {
    match recognise(graph) {
        Ok(Recognised { graph, names }) => Ok(Known { graph, names, begins: None }),
        Err(begins) => Ok(Known { graph: marked(graph, ends)?, names: HashMap::new(), begins }),
    }
}

/// The known network whose convolutions have the same kernels: another exporter pads otherwise, or somebody has changed
/// the activations, but it was trained on images as the family's are. Nothing, and a sentence, where families fit that are
/// not preprocessed alike.
fn alike(graph: &Graph, assumed: &mut Vec<String>) -> Option<Architecture> {
    // Fewer are what any convolutional network has.
    const LEAST: usize = 9;
    let kernels = |graph: &Graph| {
        let variables = (0..graph.layers().len()).flat_map(|position| graph.variables(position));
        let shapes = variables.map(|variable| variable.shape).filter(|shape| shape.len() == 4);
        let mut shapes: Vec<Vec<usize>> = shapes.collect();
        shapes.sort_unstable();
        shapes
    };
    let [height, width, channels] = graph.input().as_map()?;
    let own = kernels(graph);
    let pools = |graph: &Graph| {
        graph.layers().iter().filter(|layer| matches!(layer.op, Op::Pool2d(_))).count()
    };
    let is_alike = |family: &Graph| {
        let base = family.without_head();
        kernels(&base) == own && pools(&base) == pools(graph)
    };
    let all = Architecture::all().into_iter().filter(|_| own.len() >= LEAST);
    let found: Vec<Architecture> = all
        .map(|known| known.with_images(height, width, channels))
        .filter(|known| known.graph().is_ok_and(|family| is_alike(&family)))
        .collect();
    let first = found.first()?;
    if found.iter().any(|other| other.family.preprocessing != first.family.preprocessing) {
        let names: Vec<&str> = found.iter().map(|known| known.family.title).collect();
        assumed.push(format!(
            "its kernels are those of {}, which take differently preprocessed images: it is not known which is meant",
            names.join(" and of ")
        ));
        return None;
    }
    Some(*first)
}

/// The preprocessing of this scale and offset, as a card has it.
fn preprocessing(scale: f64, offset: f64) -> String {
    let is_tf = (scale * 127.5 - 1.0).abs() < 1e-6 && (offset + 1.0).abs() < 1e-6;
    let is_none = scale == 1.0 && offset == 0.0;
    match (is_tf, is_none) {
        (true, _) => "tf".into(),
        (_, true) => "none".into(),
        _ => format!("rescale:{scale}:{offset}"),
    }
}

/// Whether the image's values are scaled before the first weights.
fn begins_with_affine(graph: &Graph) -> bool {
    let mut source = Source::Input;
    loop {
        let mut readers = graph.layers().iter().enumerate();
        let reader = readers.find(|(_, layer)| layer.inputs.contains(&source));
        let Some((position, layer)) = reader else { return false };
        if matches!(layer.op, Op::Rescaling(_)) || layer.op.class() == "Normalization" {
            return true;
        }
        // Channels in another order, as exported models have it in front of the scale; an offset may be in it.
        let mut is_order = false;
        if let Op::Conv2d(conv) = &layer.op {
            is_order = conv.window.kernel == [1, 1]
                && conv.filters == graph.input().channels()
                && conv.activation == Activation::Linear;
            if is_order && conv.bias {
                return true;
            }
        }
        if layer.inputs.len() != 1 || !is_order && !graph.variables(position).is_empty() {
            return false;
        }
        source = Source::Layer(position);
    }
}

/// The graph without the layers that scale all of the image's values alike, and that scale and offset.
fn without_front(graph: &Graph) -> Result<(Graph, Option<(f64, f64)>), String> {
    let mut affine: Option<(f64, f64)> = None;
    let mut gone = HashSet::new();
    let mut source = Source::Input;
    // A family that scales its images itself keeps that.
    let own = graph.base().architecture.is_some_and(|known| known.family.preprocessing == "none");
    loop {
        if own {
            break;
        }
        let mut readers = graph.layers().iter().enumerate();
        let is_reader = |(_, layer): &(usize, &Layer)| layer.inputs.contains(&source);
        let Some((position, layer)) = readers.find(is_reader) else { break };
        if readers.any(|other| is_reader(&other)) {
            break;
        }
        match &layer.op {
            Op::Rescaling(Rescaling { scale, offset }) => {
                let (&[by], &[plus]) = (scale.as_slice(), offset.as_slice()) else { break };
                let (scale, offset) = affine.unwrap_or((1.0, 0.0));
                affine = Some((scale * by, offset * by + plus));
            }
            Op::Identity(_) | Op::Dropout(_) => {}
            _ => break,
        }
        gone.insert(position);
        source = Source::Layer(position);
    }
    // Nothing would be left of a network that only scales.
    if gone.is_empty() || gone.len() == graph.layers().len() || affine.is_none() {
        return Ok((graph.clone(), None));
    }
    Ok((without(graph, &gone)?, affine))
}

/// The graph with probabilities at its end, if it is a classifier, and its dense layer that got a second output.
fn with_probabilities(
    graph: &Graph,
    assumed: &mut Vec<String>,
) -> Result<(Graph, Option<String>), String> {
    let text = |error: rekindle_nn::NetworkError| error.to_string();
    // Dropout behind the classifier does nothing outside of training.
    let mut gone = HashSet::new();
    let mut end = graph.output();
    while let Some(position) = end.layer() {
        match &graph.layers()[position].op {
            Op::Dropout(_) | Op::Identity(_) => {}
            Op::Activation(last) if last.function == Activation::Linear => {}
            _ => break,
        }
        gone.insert(position);
        end = graph.layers()[position].inputs[0];
    }
    let graph = if gone.is_empty() { graph.clone() } else { without(graph, &gone)? };
    let (Some(last), Shape::Flat(outputs)) = (graph.output().layer(), graph.output_shape()) else {
        return Ok((graph, None));
    };
    let mut layers = graph.layers().to_vec();
    let name = layers[last].name.clone();
    let dense = match (&layers[last].op, layers[last].inputs.as_slice()) {
        (Op::Dense(_), _) => last,
        (Op::Activation(_), [Source::Layer(input)])
            if matches!(&layers[*input].op, Op::Dense(dense) if dense.activation == Activation::Linear)
                && graph.uses()[*input] == 1 =>
        {
            *input
        }
        // An activation of something else: it may be a classifier, but nothing about it is changed.
        _ => return Ok((graph, None)),
    };
    let function = layers[last].op.activation();
    let two_classes = (outputs == 1).then(|| layers[dense].name.clone());
    match (outputs, function) {
        (1, Activation::Sigmoid) | (2.., Activation::Softmax | Activation::Sigmoid) => {}
        (1, Activation::Linear) => assumed.push(format!(
            "`{name}` has one output and no activation: it is taken as a logit, and a sigmoid was added"
        )),
        (2.., Activation::Linear) => assumed.push(format!(
            "`{name}` has no activation: its outputs are taken as logits, and a softmax was added"
        )),
        (2.., Activation::LogSoftmax) => assumed.push(format!(
            "`{name}` gives logarithms of probabilities: their softmax is taken"
        )),
        (_, other) => {
            return Err(format!(
                "the last layer, `{name}`, has {outputs} outputs and {other}, expected softmax, sigmoid or no activation"
            ));
        }
    }
    let probabilities = match (outputs, function) {
        (2.., Activation::Sigmoid) => Activation::Sigmoid,
        _ => Activation::Softmax,
    };
    if let Op::Dense(settings) = &mut layers[dense].op {
        settings.units = outputs.max(2);
    }
    match &mut layers[last].op {
        Op::Dense(settings) => settings.activation = probabilities,
        Op::Activation(settings) => settings.function = probabilities,
        _ => {}
    }
    let graph = Graph::new(graph.input(), layers, graph.output(), graph.base()).map_err(text)?;
    Ok((graph, two_classes))
}

/// A network of a user's own with a mark where its base ends: at the end of a model in the model, or else where maps
/// become the vector that the classifier takes.
fn marked(graph: &Graph, ends: &[String]) -> Result<Graph, String> {
    let named = |name: &String| graph.layers().iter().position(|layer| layer.name == *name);
    let nested = ends.iter().filter_map(named).map(Source::Layer);
    let is_maps = |source: &Source| graph.shape(*source).as_map().is_some();
    let candidates = nested
        .filter(is_maps)
        .filter(|end| has_weights(graph, *end))
        .chain(last_maps(graph))
        .chain(classifier_input(graph));
    for end in candidates {
        if let Some(marked) = marked_at(graph, end)? {
            return Ok(marked);
        }
    }
    let whole = Base { layers: graph.layers().len(), output: graph.output(), architecture: None };
    Graph::new(graph.input(), graph.layers().to_vec(), graph.output(), whole)
        .map_err(|error| error.to_string())
}

/// Whether a value depends on any weights.
fn has_weights(graph: &Graph, end: Source) -> bool {
    let before = ancestors(graph, end);
    (0..before.len()).any(|position| before[position] && !graph.variables(position).is_empty())
}

/// The layers that a value depends on.
fn ancestors(graph: &Graph, end: Source) -> Vec<bool> {
    let mut before = vec![false; graph.layers().len()];
    let mut open = vec![end];
    while let Some(source) = open.pop() {
        if let Some(position) = source.layer()
            && !std::mem::replace(&mut before[position], true)
        {
            open.extend(&graph.layers()[position].inputs);
        }
    }
    before
}

/// Goes back from the output over layers with one input, and gives the maps that are pooled or become a vector there.
fn last_maps(graph: &Graph) -> Option<Source> {
    let mut source = graph.output();
    loop {
        let layer = &graph.layers()[source.layer()?];
        let [input] = layer.inputs.as_slice() else { return None };
        let becomes_vector =
            graph.shape(source).as_map().is_none() && graph.shape(*input).as_map().is_some();
        // Pooled maps of one pixel are made a vector only then.
        let is_pooled = |source: Source| {
            source.layer().is_some_and(|position| {
                matches!(graph.layers()[position].op, Op::GlobalPool(_) | Op::Dropout(_))
            })
        };
        if matches!(layer.op, Op::GlobalPool(_)) || becomes_vector && !is_pooled(*input) {
            return input.layer().map(Source::Layer);
        }
        source = *input;
    }
}

/// What the last dense layer takes.
fn classifier_input(graph: &Graph) -> Option<Source> {
    let mut source = graph.output();
    loop {
        let layer = &graph.layers()[source.layer()?];
        let [input] = layer.inputs.as_slice() else { return None };
        if matches!(layer.op, Op::Dense(_)) {
            return input.layer().map(Source::Layer);
        }
        source = *input;
    }
}

/// The graph with its base's layers first; nothing where another value than `end` crosses, or nothing is behind it.
fn marked_at(graph: &Graph, end: Source) -> Result<Option<Graph>, String> {
    if end == graph.output() {
        return Ok(None);
    }
    let layers = graph.layers();
    let before = ancestors(graph, end);
    let crosses = |position: usize| {
        !before[position]
            && layers[position].inputs.iter().any(|input| match input {
                Source::Input => true,
                Source::Layer(own) => *input != end && before[*own],
            })
    };
    if (0..layers.len()).any(crosses) {
        return Ok(None);
    }
    let (mut order, head): (Vec<usize>, Vec<usize>) =
        (0..layers.len()).partition(|&position| before[position]);
    let count = order.len();
    order.extend(head);
    let mut places = vec![0; layers.len()];
    order.iter().enumerate().for_each(|(place, &position)| places[position] = place);
    let moved = |source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(position) => Source::Layer(places[position]),
    };
    let reordered = order.iter().map(|&position| Layer {
        inputs: layers[position].inputs.iter().map(|input| moved(*input)).collect(),
        ..layers[position].clone()
    });
    let base = Base { layers: count, output: moved(end), architecture: None };
    Graph::new(graph.input(), reordered.collect(), moved(graph.output()), base)
        .map(Some)
        .map_err(|error| error.to_string())
}
