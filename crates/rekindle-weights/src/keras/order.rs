//! Files of weights only: the network whose variables are exactly the file's, by their names, or else by order and shape,
//! as Keras's own loader has it, because automatic names (`conv2d_95`) depend on what else a session had made before.

use std::collections::{BTreeMap, HashMap, HashSet};

use rekindle_nn::ops::Dense;
use rekindle_nn::{Activation, Architecture, Graph, GraphBuilder, Op, VariableSpec};

use super::class::snake_case;
use super::place::Filed;
use super::{Origin, Placed};
use crate::checkpoint::Naming;
use crate::{ModelCard, TensorInfo};

/// A network that a file's tensors fill.
struct Fit {
    architecture: Architecture,
    card: ModelCard,
    placed: Vec<Placed>,
    /// Whether the tensors have the network's own names.
    by_name: bool,
    /// How many of them have.
    named: usize,
    /// Tensors that are none of the network's.
    extra: usize,
}

/// The network whose variables these tensors are; nothing where there is none. `wanted` decides where several are the
/// same but for their names. Only by name where the tensors are in no order.
///
/// # Errors
/// When several networks fit; the message lists them.
pub(crate) fn weights_only(
    tensors: &[TensorInfo],
    naming: &Naming,
    wanted: Option<&Architecture>,
) -> Result<Option<(ModelCard, Vec<Placed>)>, String> {
    let filed = Filed::new(tensors, matches!(naming, Naming::Numbers));
    let mut fits = Vec::new();
    // How many tensors any network has by name: one that has more than a whole other is what was meant.
    let mut most_named = 0;
    for architecture in Architecture::all() {
        for top in tops(tensors) {
            let architecture = architecture.with_top(top);
            let Ok(graph) = architecture.graph() else { continue };
            let layers = variables(&graph, architecture);
            let count: usize = layers.iter().map(|layer| layer.variables.len()).sum();
            let placed = by_name(&filed, &layers);
            let named = placed.len();
            most_named = most_named.max(named);
            if count > tensors.len() {
                continue;
            }
            if named == count {
                let extra = tensors.len() - count;
                let mut card = card_of(graph.clone());
                card.assumed.extend(top.and_then(of_the_top));
                card.assumed.extend(of_imagenet(&graph));
                fits.push(Fit { architecture, card, placed, by_name: true, named, extra });
            }
            if matches!(naming, Naming::Sequence) {
                fits.extend(one_by_one(&filed, architecture, &graph, &layers));
            } else if !matches!(naming, Naming::Unordered) {
                let in_order = in_order(&filed, architecture, &graph, &layers);
                fits.extend(in_order.map(|fit| Fit { named, ..fit }));
            }
        }
    }
    // Exact ones first, by name before by order.
    for (by_name, is_exact) in [(true, true), (false, true), (true, false)] {
        let is_fit = |fit: &&Fit| {
            fit.by_name == by_name
                && (fit.extra == 0) == is_exact
                && (is_exact || fit.placed.len() == most_named)
        };
        let mut found: Vec<&Fit> = fits.iter().filter(is_fit).collect();
        // With extra tensors: whoever takes most of them.
        let least = found.iter().map(|fit| fit.extra).min().unwrap_or_default();
        found.retain(|fit| fit.extra == least);
        // Where a network ends otherwise without its top, names say which of the two it is.
        let plain = |fit: &Fit| fit.architecture.with_top(None);
        let all = found.clone();
        found.retain(|fit| {
            !all.iter().any(|other| plain(other) == plain(fit) && other.named > fit.named)
        });
        // A top of the network's own is no other network than one with a dense layer behind it.
        let topped: Vec<Architecture> = found
            .iter()
            .filter(|fit| fit.architecture.classes().is_some())
            .map(|fit| plain(fit))
            .collect();
        found.retain(|fit| fit.architecture.classes().is_some() || !topped.contains(&plain(fit)));
        let mut names: Vec<String> = found.iter().map(|fit| fit.architecture.to_string()).collect();
        names.dedup();
        if names.len() > 1 {
            let is_wanted =
                |fit: &&Fit| wanted.is_some_and(|wanted| wanted.name() == fit.architecture.name());
            found.retain(is_wanted);
            if found.len() != 1 {
                return Err(format!(
                    "these weights are of several networks ({}), and the file does not say which",
                    names.join("; ")
                ));
            }
        }
        if let Some(fit) = found.first() {
            return Ok(Some((fit.card.clone(), fit.placed.clone())));
        }
    }
    Ok(None)
}

/// What Keras builds only for ImageNet's weights, and no tensor tells.
fn of_imagenet(graph: &Graph) -> Option<String> {
    let mut front = graph
        .layers()
        .iter()
        .take_while(|layer| matches!(layer.op, Op::Rescaling(_) | Op::Normalization(_)));
    front.find(|layer| matches!(layer.op, Op::Normalization(_)))?;
    let rescaling = front.next()?;
    Some(format!(
        "weights only: `{}` is assumed, which Keras adds to networks with ImageNet's weights, and to no others",
        rescaling.name
    ))
}

/// The tops that the tensors may have: none, or one of as many classes as a matrix has columns, or as the last convolution
/// of a pixel with a bias makes.
fn tops(tensors: &[TensorInfo]) -> Vec<Option<usize>> {
    let mut uses = BTreeMap::<usize, usize>::new();
    for tensor in tensors {
        if let &[_, columns] = tensor.shape.as_slice()
            && columns > 0
        {
            *uses.entry(columns).or_default() += 1;
        }
    }
    // The matrices of blocks, such as ConvNeXt's, are of few sizes; that of the top is one of a kind, and has few columns.
    let mut classes: Vec<usize> = uses.keys().copied().collect();
    classes.sort_by_key(|columns| uses[columns]);
    classes.truncate(4);
    let has_bias = |tensor: &TensorInfo| {
        let is_bias = |other: &&TensorInfo| other.layer == tensor.layer && other.shape.len() == 1;
        tensors.iter().any(|other| is_bias(&other))
    };
    let pixels = tensors.iter().rev().filter_map(|tensor| match *tensor.shape.as_slice() {
        [1, 1, _, columns] if has_bias(tensor) => Some(columns),
        _ => None,
    });
    let pixels: Vec<usize> = pixels.collect();
    // Files are not always in the order of layers; ImageNet's classes are known.
    let usual = pixels.iter().copied().filter(|columns| [1000, 1001].contains(columns));
    let candidates = usual.chain(pixels.first().copied()).filter(|columns| *columns > 0);
    for columns in candidates {
        if !classes.contains(&columns) {
            classes.push(columns);
        }
    }
    [None].into_iter().chain(classes.into_iter().map(Some)).collect()
}

/// A layer with variables.
struct Wanted {
    name: String,
    class: &'static str,
    /// The model in the model that Keras has it in.
    model: Option<String>,
    variables: Vec<VariableSpec>,
}

/// The layers with variables, in Keras's order.
fn variables(graph: &Graph, architecture: Architecture) -> Vec<Wanted> {
    let layers = graph.keras_order().into_iter().map(|position| Wanted {
        name: graph.layers()[position].name.clone(),
        class: graph.layers()[position].op.class(),
        model: architecture.family.model_of(&graph.layers()[position].name),
        variables: graph.variables(position),
    });
    layers.filter(|layer| !layer.variables.is_empty()).collect()
}

/// The variables that are in the file under their own names, with their shapes.
fn by_name(filed: &Filed<'_>, layers: &[Wanted]) -> Vec<Placed> {
    let all = layers.iter().flat_map(|layer| {
        layer.variables.iter().filter_map(|variable| {
            let mut tensors = filed.of(&layer.name).iter().copied();
            let index = tensors.find(|&index| filed.tensors[index].variable == variable.name)?;
            placed(filed, layer, variable, index)
        })
    });
    all.collect()
}

fn placed(
    filed: &Filed<'_>,
    layer: &Wanted,
    variable: &VariableSpec,
    index: usize,
) -> Option<Placed> {
    let info = &filed.tensors[index];
    let (layer, name) = (layer.name.clone(), variable.name.to_owned());
    let found = TensorInfo { layer, variable: name, ..info.clone() };
    (info.shape == variable.shape).then_some((found, Origin::Same(index)))
}

/// The network whose variables, one behind the other, have the shapes of the file's tensors.
fn one_by_one(
    filed: &Filed<'_>,
    architecture: Architecture,
    graph: &Graph,
    layers: &[Wanted],
) -> Option<Fit> {
    let wanted = layers
        .iter()
        .flat_map(|layer| layer.variables.iter().map(move |variable| (layer, variable)));
    let placed: Option<Vec<Placed>> = wanted
        .enumerate()
        .map(|(index, (layer, variable))| {
            (index < filed.tensors.len()).then(|| placed(filed, layer, variable, index))?
        })
        .collect();
    let placed = placed.filter(|placed| placed.len() == filed.tensors.len())?;
    let mut card = ModelCard::new(graph.clone());
    card.assumed.push("the weights have no names: they are taken in the order of the layers, which their shapes fit".into());
    card.assumed.extend(architecture.classes().and_then(of_the_top));
    card.assumed.extend(of_imagenet(graph));
    Some(Fit { architecture, card, placed, by_name: false, named: 0, extra: 0 })
}

/// The network by order and shape, with nothing else in the file, or one dense layer behind it.
fn in_order(
    filed: &Filed<'_>,
    architecture: Architecture,
    graph: &Graph,
    layers: &[Wanted],
) -> Option<Fit> {
    let (placed, rest) =
        if filed.numbered() { by_class(filed, layers)? } else { in_sequence(filed, layers)? };
    let mut card = card_of(graph.clone());
    card.assumed.extend(of_imagenet(graph));
    let fit =
        |card, placed| Some(Fit { architecture, card, placed, by_name: false, named: 0, extra: 0 });
    match (rest.as_slice(), architecture.classes()) {
        ([], None) => fit(card, placed),
        ([], Some(classes)) => {
            card.assumed.extend(of_the_top(classes));
            // One output is a class that is there or not, which a softmax over one is not.
            (classes > 1).then(|| fit(card, placed)).flatten()
        }
        ([layer], None) => {
            let (graph, head, activation) = with_dense(filed, graph, layer)?;
            let mut card = card_of(graph);
            card.assumed.push(assumption(activation));
            fit(card, placed.into_iter().chain(head).collect())
        }
        _ => None,
    }
}

/// A card of a file that says nothing of photos: they are as the network's family takes them.
fn card_of(graph: Graph) -> ModelCard {
    let mut card = ModelCard::new(graph);
    let own = crate::Origin::Network;
    (card.origins.size, card.origins.preprocessing) = (own, own);
    card
}

/// What is assumed of a network's own top of so many classes; ImageNet's are as Keras made it.
fn of_the_top(classes: usize) -> Option<String> {
    (classes != 1000)
        .then(|| "weights only: the network's own top, with softmax, is assumed".into())
}

fn assumption(activation: &str) -> String {
    format!(
        "weights only: GlobalAveragePooling2D and {activation} are assumed between network and classifier"
    )
}

/// The network with one dense layer of the file behind it.
fn with_dense(
    filed: &Filed<'_>,
    base: &Graph,
    layer: &str,
) -> Option<(Graph, Vec<Placed>, &'static str)> {
    let kernel = filed.variable(layer, "kernel", 0)?;
    let &[rows, units] = filed.tensors[kernel].shape.as_slice() else { return None };
    let bias = filed.variable(layer, "bias", 1);
    let is_bias = bias.is_none_or(|bias| filed.tensors[bias].shape == [units]);
    let count = 1 + usize::from(bias.is_some());
    if rows != base.output_shape().channels()
        || !is_bias
        || filed.of(layer).len() != count
        || units == 0
    {
        return None;
    }
    let (mut net, features) = GraphBuilder::on(base);
    net.mark_base(features, base.base().architecture);
    let pooled = net.global_average_pool("head_average_pooling", features).ok()?;
    let settings = Dense { bias: bias.is_some(), ..Dense::new(units.max(2), Activation::Softmax) };
    let output = net.dense("head_dense", pooled, settings).ok()?;
    let graph = net.finish(output).ok()?;
    let place = |(variable, index): (&str, usize)| {
        let mut info = TensorInfo {
            layer: "head_dense".into(),
            variable: variable.into(),
            ..filed.tensors[index].clone()
        };
        if units > 1 {
            return (info, Origin::Same(index));
        }
        if let Some(last) = info.shape.last_mut() {
            *last = 2;
        }
        (info, Origin::BehindZeros(index))
    };
    let tensors = [("kernel", kernel)].into_iter().chain(bias.map(|bias| ("bias", bias)));
    let activation = if units == 1 { "sigmoid" } else { "softmax" };
    Some((graph, tensors.map(place).collect(), activation))
}

/// The tensors of the file's `layer` as those that are wanted, if they have their shapes.
fn fit(filed: &Filed<'_>, layer: &str, wanted: &Wanted) -> Option<Vec<Placed>> {
    if filed.of(layer).len() != wanted.variables.len() {
        return None;
    }
    let variables = wanted.variables.iter().enumerate();
    let place = |(number, variable): (usize, &VariableSpec)| {
        placed(filed, wanted, variable, filed.variable(layer, variable.name, number)?)
    };
    variables.map(place).collect()
}

/// Layers by class and number, in any of the file's models; and the layers that are left.
fn by_class(filed: &Filed<'_>, wanted: &[Wanted]) -> Option<(Vec<Placed>, Vec<String>)> {
    let names = distinct_layers(filed.tensors);
    let mut models: Vec<&str> =
        names.iter().map(|name| name.rsplit_once('/').map_or("", |(model, _)| model)).collect();
    models.sort_unstable();
    models.dedup();
    models.into_iter().find_map(|model| {
        let prefix = if model.is_empty() { String::new() } else { format!("{model}/") };
        // Each model in the model counts its own layers.
        let mut inner: Vec<&String> = Vec::new();
        let mut numbers: HashMap<(Option<&String>, &str), usize> = HashMap::new();
        let mut placed = Vec::new();
        let mut used = HashSet::new();
        let numbered = |name: &str, number: usize| match number {
            0 => name.to_owned(),
            number => format!("{name}_{number}"),
        };
        for layer in wanted {
            let mut prefix = prefix.clone();
            if let Some(model) = &layer.model {
                let known = inner.iter().position(|other| *other == model);
                let number = known.unwrap_or(inner.len());
                if known.is_none() {
                    inner.push(model);
                }
                prefix += &format!("{}/", numbered("sequential", number));
            }
            let number = numbers.entry((layer.model.as_ref(), layer.class)).or_default();
            let filed_under = prefix + &numbered(&snake_case(layer.class), *number);
            *number += 1;
            placed.extend(fit(filed, &filed_under, layer)?);
            used.insert(filed_under);
        }
        let rest = names.iter().filter(|name| !used.contains(**name));
        Some((placed, rest.map(|name| (*name).to_owned()).collect()))
    })
}

/// Layers one after the other, from any layer of the file on; and the layers that are left.
fn in_sequence(filed: &Filed<'_>, wanted: &[Wanted]) -> Option<(Vec<Placed>, Vec<String>)> {
    let names = distinct_layers(filed.tensors);
    (0..=names.len().checked_sub(wanted.len())?).find_map(|start| {
        let window = &names[start..start + wanted.len()];
        let fits = window.iter().zip(wanted).map(|(name, wanted)| fit(filed, name, wanted));
        let placed: Option<Vec<Vec<Placed>>> = fits.collect();
        let rest = names[..start].iter().chain(&names[start + wanted.len()..]);
        Some((placed?.concat(), rest.map(|name| (*name).to_owned()).collect()))
    })
}

/// The layers' names, each once, in the file's order.
fn distinct_layers(tensors: &[TensorInfo]) -> Vec<&str> {
    let mut seen = HashSet::new();
    let names = tensors.iter().map(|tensor| tensor.layer.as_str());
    names.filter(|name| seen.insert(*name)).collect()
}
