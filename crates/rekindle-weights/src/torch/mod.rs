//! PyTorch's networks: safetensors whose tensors are called as timm's and torchvision's modules are (`layer1.0.conv1.weight`).
//!
//! Such files hold no layers. A network is one of Keras's families with what PyTorch's programs have otherwise: `dialects.rs`
//! says for each what modules are called (`names.rs`) and what is otherwise (`adapt.rs`), and `values.rs` how tensors lie.
//! A file is of the network whose variables are exactly its tensors.

mod adapt;
mod dialects;
mod names;
mod values;

use std::collections::{HashMap, HashSet};

use rekindle_nn::ops::{Fit, Interpolation, Rescaling, Resizing};
use rekindle_nn::{Architecture, Base, Graph, Layer, Op, Source};

use self::adapt::adapted;
use self::dialects::{DIALECTS, Dialect, Model};
use self::values::{Change, Reader};
use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::{ModelCard, TensorInfo};

/// What programs put in front of all names when they wrap a network.
const WRAPPERS: [&str; 3] = ["timm_model.", "module.", "model."];

/// Whether tensors of these names are PyTorch's.
pub(crate) fn is_named<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> bool {
    names.clone().any(|name| name.contains('.')) && names.all(|name| !name.contains('/'))
}

/// The module and the variable that a tensor's name means: `layer1.0.conv1` and `weight`.
pub(crate) fn split(name: &str) -> (String, String) {
    let (module, variable) = name.rsplit_once('.').unwrap_or(("", name));
    (module.to_owned(), variable.to_owned())
}

/// Means and deviations of images from 0 to 1, by their channels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scaling {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

/// The checkpoint with the variables of the network that its tensors are of, or with the reason why it has none.
pub(crate) fn resolve(
    checkpoint: Checkpoint,
    size: Option<[usize; 2]>,
    beside: &Beside,
) -> Checkpoint {
    match Search::new(&checkpoint, size, beside).and_then(Search::found) {
        Ok(found) => {
            let names =
                found.placed.iter().map(|placed| checkpoint.name_in_file(placed.index).to_owned());
            let names = names.collect();
            let path = checkpoint.path().to_owned();
            let (tensors, recipes) = found.placed.into_iter().map(Placed::split).unzip();
            let reader = Box::new(Reader::new(checkpoint.into_parts().1, recipes));
            Checkpoint::new(&path, tensors, Some(found.card), reader).with_names(names)
        }
        Err(problem) => checkpoint.with_problem(problem),
    }
}

/// A tensor under the network's name, and what its values are made of.
struct Placed {
    info: TensorInfo,
    index: usize,
    change: Change,
}

impl Placed {
    fn split(self) -> (TensorInfo, (usize, Change)) {
        (self.info, (self.index, self.change))
    }
}

/// A network that the file's tensors fill.
struct Found {
    card: ModelCard,
    placed: Vec<Placed>,
}

/// A network that they fill, before it is known that no other is.
struct Candidate {
    dialect: &'static Dialect,
    model: &'static Model,
    architecture: Architecture,
    graph: Graph,
    placed: Vec<Placed>,
    /// Tensors that only training needs.
    aside: usize,
    /// Whether its one output became two.
    two_classes: bool,
}

struct Search<'a> {
    checkpoint: &'a Checkpoint,
    /// Tensors by their names in the file.
    numbers: HashMap<&'a str, usize>,
    size: Option<[usize; 2]>,
    beside: &'a Beside,
}

impl<'a> Search<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        size: Option<[usize; 2]>,
        beside: &'a Beside,
    ) -> Result<Self, String> {
        let all = 0..checkpoint.tensors().len();
        let names: Vec<&str> = all.map(|index| checkpoint.name_in_file(index)).collect();
        let wrapper =
            WRAPPERS.iter().find(|wrapper| names.iter().all(|n| n.starts_with(**wrapper)));
        let wrapper = wrapper.map_or(0, |wrapper| wrapper.len());
        let numbers: HashMap<&str, usize> =
            names.into_iter().enumerate().map(|(index, name)| (&name[wrapper..], index)).collect();
        Ok(Self { checkpoint, numbers, size: size.or(beside.size), beside })
    }

    fn found(self) -> Result<Found, String> {
        let said = self.beside.model.as_deref();
        let models = DIALECTS
            .iter()
            .flat_map(|dialect| dialect.models.iter().map(move |model| (dialect, model)));
        let models: Vec<(&Dialect, &Model)> = models
            .filter(|(_, model)| said.is_none_or(|said| model.names.contains(&said)))
            .collect();
        if let (Some(said), true) = (said, models.is_empty()) {
            return Err(format!(
                "`{}` says that the network is `{said}`, which is not supported; PyTorch's networks that are: {}",
                self.beside.file,
                known().join(", ")
            ));
        }
        let mut candidates = Vec::new();
        let mut closest: Option<(usize, String)> = None;
        for (dialect, model) in models {
            match self.candidate(dialect, model) {
                Ok(candidate) => candidates.push(candidate),
                Err((matched, reason)) => {
                    if matched > 0 && closest.as_ref().is_none_or(|(most, _)| matched > *most) {
                        closest = Some((matched, reason));
                    }
                }
            }
        }
        let Some(candidate) = self.only(candidates)? else {
            return Err(match closest {
                Some((matched, reason)) => format!(
                    "its tensors are named as PyTorch's, but are of no network that is supported; {matched} of them fit the closest: {reason}"
                ),
                None => format!(
                    "its tensors are named as PyTorch's modules are, but as those of no network that is supported ({}); the first is `{}`",
                    known().join(", "),
                    self.checkpoint.name_in_file(0)
                ),
            });
        };
        self.settled(candidate)
    }

    /// The one that fits; of several the one that the file is called after.
    fn only(&self, mut candidates: Vec<Candidate>) -> Result<Option<Candidate>, String> {
        if candidates.len() > 1 {
            let stem = self.checkpoint.path().file_name().map(|name| name.to_string_lossy());
            let stem = stem.unwrap_or_default().to_string();
            let is_called = |name: &&&str| {
                let rest = stem.strip_prefix(**name);
                rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
            };
            let is_named =
                |candidate: &Candidate| candidate.model.names.iter().any(|name| is_called(&name));
            if candidates.iter().filter(|candidate| is_named(candidate)).count() != 1 {
                let names: Vec<&str> =
                    candidates.iter().filter_map(|one| one.model.names.first().copied()).collect();
                return Err(format!(
                    "these weights may be of {}, which pad and normalize differently: call the file after the network (`{}.safetensors`), or give a folder with its config.json",
                    names.join(" or of "),
                    names.first().unwrap_or(&"NAME")
                ));
            }
            candidates.retain(is_named);
        }
        Ok(candidates.pop())
    }

    /// The network, if its variables are the file's tensors; else how many are, and what is not.
    fn candidate(
        &self,
        dialect: &'static Dialect,
        model: &'static Model,
    ) -> Result<Candidate, (usize, String)> {
        let none = |reason: String| (0, reason);
        let Some(plain) = Architecture::by_name(model.family) else {
            return Err(none(format!("no family is called `{}`", model.family)));
        };
        let alpha = model.alpha.or(plain.settings.alpha);
        let plain = alpha.map_or(plain, |alpha| plain.with_alpha(alpha));
        let plain = plain.with_minimalistic(model.minimalistic);
        let text = |error: rekindle_nn::NetworkError| none(error.to_string());
        let topped = plain.with_top(Some(2)).graph().map_err(text)?;
        let with_variables = |position: &usize| !topped.variables(*position).is_empty();
        let mut positions = (0..topped.layers().len()).filter(with_variables);
        // Normalizations in front are none of PyTorch's.
        let first = positions.find(|&at| matches!(topped.layers()[at].op, Op::Conv2d(_)));
        let channels = first.and_then(|at| self.weight(dialect, &topped.layers()[at]));
        let Some(&[_, channels, ..]) = channels else {
            return Err(none(format!("{} begins otherwise", plain.family.title)));
        };
        let outputs =
            positions.next_back().and_then(|at| self.weight(dialect, &topped.layers()[at]));
        let outputs = outputs.and_then(|shape| shape.first().copied());
        let [height, width] = self.size.unwrap_or(plain.size().pixels());
        let architecture = plain
            .with_images(height, width, channels)
            .with_top(outputs.map(|outputs| outputs.max(2)));
        let family = architecture.graph().map_err(text)?;
        let graph = adapted(&family, dialect.otherwise).map_err(none)?;
        let graph = match self.beside.last_epsilon {
            Some(epsilon) => adapt::with_last_epsilon(&graph, epsilon).map_err(none)?,
            None => graph,
        };
        let two_classes = outputs == Some(1);
        let (placed, aside) = self.placed(dialect, &graph, two_classes)?;
        Ok(Candidate { dialect, model, architecture, graph, placed, aside, two_classes })
    }

    /// The shape of a layer's `weight`.
    fn weight(&self, dialect: &Dialect, layer: &Layer) -> Option<&'a [usize]> {
        let mut modules = dialect.modules(layer).into_iter();
        let index =
            modules.find_map(|module| self.numbers.get(format!("{module}.weight").as_str()))?;
        Some(&self.checkpoint.tensors()[*index].shape)
    }

    /// Every variable's tensor, and how many tensors only training needs.
    fn placed(
        &self,
        dialect: &Dialect,
        graph: &Graph,
        two_classes: bool,
    ) -> Result<(Vec<Placed>, usize), (usize, String)> {
        let mut placed: Vec<Placed> = Vec::new();
        let mut used = HashSet::new();
        let last = (0..graph.layers().len()).rfind(|&at| !graph.variables(at).is_empty());
        for (position, layer) in graph.layers().iter().enumerate() {
            let modules = dialect.modules(layer);
            for mut spec in graph.variables(position) {
                let wanted = spec.shape.clone();
                let is_doubled = two_classes && last == Some(position);
                if let (true, Some(outputs)) = (is_doubled, spec.shape.last_mut()) {
                    *outputs = 1;
                }
                let candidates =
                    modules.iter().map(|module| values::tensor(module, layer, spec.name));
                let candidates: Vec<String> = candidates.collect();
                let index = candidates.iter().find_map(|name| self.numbers.get(name.as_str()));
                let Some(&index) = index else {
                    let name = candidates.first().map_or(layer.name.as_str(), String::as_str);
                    return Err((
                        placed.len(),
                        format!("`{name}` is missing, the {} of `{}`", spec.name, layer.name),
                    ));
                };
                let tensor = &self.checkpoint.tensors()[index];
                let change = Change::of(graph, position, &spec, &tensor.shape);
                let Some(change) = change else {
                    let name = self.checkpoint.name_in_file(index);
                    return Err((
                        placed.len(),
                        format!(
                            "`{name}` has the shape {found:?}, which is not that of `{}`'s {}, {expected:?}",
                            layer.name,
                            spec.name,
                            found = tensor.shape,
                            expected = spec.shape
                        ),
                    ));
                };
                used.insert(index);
                let info = TensorInfo {
                    layer: layer.name.clone(),
                    variable: spec.name.to_owned(),
                    shape: wanted,
                    dtype: tensor.dtype,
                };
                let change = if is_doubled { change.behind_zeros() } else { change };
                placed.push(Placed { info, index, change });
            }
        }
        let mut aside = 0;
        for (name, index) in &self.numbers {
            if used.contains(index) || name.ends_with("num_batches_tracked") {
                continue;
            }
            if !dialect.aside.iter().any(|prefix| name.starts_with(prefix)) {
                return Err((placed.len(), format!("`{name}` is none of its variables")));
            }
            aside += 1;
        }
        Ok((placed, aside))
    }

    /// The card of the network.
    fn settled(&self, candidate: Candidate) -> Result<Found, String> {
        let Candidate { dialect, model, architecture, graph, placed, aside, two_classes } =
            candidate;
        let name = model.names.first().copied().unwrap_or(model.family);
        let mut assumed = Vec::new();
        if self.beside.model.is_none() {
            assumed.push(format!(
                "the file holds weights only: by their names and shapes {}'s `{name}` is assumed, with its layers' settings",
                dialect.program
            ));
        }
        if self.size.is_none() {
            let [height, width] = architecture.size().pixels();
            assumed.push(format!(
                "the file does not say the images' size: {height} x {width}, which is Keras's for {}, is assumed",
                architecture.family.title
            ));
        }
        if two_classes {
            assumed.push(
                "the network has one output: it is taken as a logit, and a sigmoid was added"
                    .into(),
            );
        }
        if aside > 0 {
            assumed.push(format!(
                "left out: {aside} tensors of an auxiliary classifier, which only training needs"
            ));
        }
        let graph = Graph::new(
            graph.input(),
            graph.layers().to_vec(),
            graph.output(),
            Base { architecture: None, ..graph.base() },
        );
        let mut card = ModelCard::new(graph.map_err(|error| error.to_string())?);
        card.transparency = Some("drop".into());
        card.description = format!("{name}, as {} has it", dialect.program);
        match &self.beside.scaling {
            Some(scaling) => scale(&mut card, scaling)?,
            None => {
                card.preprocessing = dialect.preprocessing.into();
                assumed.push(format!(
                    "the file has no preprocessing: `{}`, which is {}'s for this network, is assumed",
                    dialect.preprocessing, dialect.program
                ));
            }
        }
        let interpolation = self.beside.interpolation.unwrap_or_else(|| {
            let name = if dialect.bicubic { "bicubic" } else { "bilinear" };
            assumed.push(format!(
                "the file does not say how photos are resized: {name}, of their middle, is assumed"
            ));
            if dialect.bicubic { Interpolation::Bicubic } else { Interpolation::Bilinear }
        });
        if let Some([height, width, _]) = card.graph.input().as_map() {
            let resizing = Resizing { antialias: true, ..Resizing::new(height, width) };
            card.photo_resize = Some(resizing.interpolation(interpolation).fit(Fit::Crop).into());
        }
        card.assumed = assumed;
        // Such networks take images of any size, and a user may have asked for another.
        Beside { size: None, ..self.beside.clone() }.apply(&mut card)?;
        Ok(Found { card, placed })
    }
}

/// The names of all supported networks.
fn known() -> Vec<&'static str> {
    let models = DIALECTS.iter().flat_map(|dialect| dialect.models);
    let mut names: Vec<&str> = models.flat_map(|model| model.names).copied().collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Scales a network's images: by a card's own word for it, or else in a layer in front.
fn scale(card: &mut ModelCard, scaling: &Scaling) -> Result<(), String> {
    let Scaling { mean, deviation } = scaling;
    let is = |means: [f64; 3], deviations: [f64; 3]| {
        let near = |a: &[f64], b: [f64; 3]| {
            a.len() == 3 && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        };
        near(mean, means) && near(deviation, deviations)
    };
    card.preprocessing = if is([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) {
        "torch".into()
    } else if is([0.5; 3], [0.5; 3]) {
        "tf".into()
    } else {
        let channels = card.graph.input().channels();
        if mean.len() != channels || deviation.len() != channels {
            return Err(format!(
                "found {} means and {} deviations, expected {channels}, one for each channel",
                mean.len(),
                deviation.len()
            ));
        }
        let scale: Vec<f64> = deviation.iter().map(|deviation| 1.0 / (255.0 * deviation)).collect();
        let offset =
            mean.iter().zip(deviation).map(|(mean, deviation)| -mean / deviation).collect();
        card.graph = behind(&card.graph, Rescaling { scale, offset })?;
        "none".into()
    };
    Ok(())
}

/// The graph with a layer in front that scales its images.
fn behind(graph: &Graph, rescaling: Rescaling) -> Result<Graph, String> {
    let moved = |source: &Source| match source {
        Source::Input => Source::Layer(0),
        Source::Layer(position) => Source::Layer(position + 1),
    };
    let mut layers =
        vec![Layer { name: "rescaling".into(), op: rescaling.into(), inputs: vec![Source::Input] }];
    layers.extend(
        graph.layers().iter().map(|layer| Layer {
            inputs: layer.inputs.iter().map(moved).collect(),
            ..layer.clone()
        }),
    );
    let base = graph.base();
    let base = Base { layers: base.layers + 1, output: moved(&base.output), ..base };
    Graph::new(graph.input(), layers, moved(&graph.output()), base)
        .map_err(|error| error.to_string())
}

impl Dialect {
    /// What a layer may be called.
    fn modules(&self, layer: &Layer) -> Vec<String> {
        let Some([conv, norm]) = self.units else {
            return names::renamed(self.rules, self.list, &layer.name);
        };
        // The rules have one name for a convolution and its normalization.
        let is_norm = matches!(layer.op, Op::BatchNorm(_));
        let name = layer.name.strip_suffix("/BatchNorm").unwrap_or(&layer.name);
        let name = name.replacen("batch_normalization", "conv2d", 1);
        let suffix = match &layer.op {
            _ if is_norm => norm,
            Op::Conv2d(_) => conv,
            _ => "",
        };
        let modules = names::renamed(self.rules, self.list, &name).into_iter();
        modules.map(|module| format!("{module}{suffix}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every variable of every network of every dialect has a tensor's name of its own.
    #[test]
    fn rules_name_every_layer_once() {
        let mut networks = 0;
        for (dialect, model) in DIALECTS
            .iter()
            .flat_map(|dialect| dialect.models.iter().map(move |model| (dialect, model)))
        {
            let plain =
                Architecture::by_name(model.family).unwrap_or_else(|| panic!("{}", model.family));
            let plain = model.alpha.map_or(plain, |alpha| plain.with_alpha(alpha));
            let known = plain.with_minimalistic(model.minimalistic).with_top(Some(7));
            let graph = known.graph().unwrap_or_else(|error| panic!("{:?}: {error}", model.names));
            let graph = adapted(&graph, dialect.otherwise).expect("adapts");
            let mut seen = HashSet::new();
            for (position, layer) in graph.layers().iter().enumerate() {
                for variable in graph.variables(position) {
                    let modules = dialect.modules(layer);
                    let names: Vec<String> = modules
                        .iter()
                        .map(|module| values::tensor(module, layer, variable.name))
                        .collect();
                    assert!(!names.is_empty(), "{:?}: `{}`", model.names, layer.name);
                    assert!(seen.insert(names.clone()), "{:?}: {names:?} twice", model.names);
                }
            }
            networks += 1;
        }
        assert!(networks > 60, "{networks}");
    }

    #[test]
    fn channels_of_other_means_are_scaled_in_front() {
        let known = Architecture::by_name("resnet-50").expect("known").with_size(32);
        let mut card = ModelCard::new(known.graph().expect("valid"));
        let before = card.graph.layers().len();
        let scaling = Scaling { mean: vec![0.1, 0.2, 0.3], deviation: vec![1.0, 0.5, 0.25] };
        scale(&mut card, &scaling).expect("scales");
        assert_eq!((card.preprocessing.as_str(), card.graph.layers().len()), ("none", before + 1));
        let Op::Rescaling(rescaling) = &card.graph.layers()[0].op else {
            panic!("a layer in front")
        };
        assert!(
            (rescaling.scale[2] * 255.0 - 4.0).abs() < 1e-9
                && (rescaling.offset[1] + 0.4).abs() < 1e-9
        );
        let wrong = Scaling { mean: vec![0.1], deviation: vec![1.0] };
        assert!(scale(&mut card, &wrong).expect_err("one channel").contains("expected 3"));
    }
}
