//! PyTorch's networks: safetensors whose tensors are called as timm's and torchvision's modules are (`layer1.0.conv1.weight`).
//!
//! Such files hold no layers. A network is one of Keras's families with what PyTorch's programs have otherwise: `dialects.rs`
//! says for each what modules are called (`names.rs`) and what is otherwise (`adapt.rs`), and `values.rs` how tensors lie.
//! A file is of the network whose variables are exactly its tensors.

mod adapt;
mod dialects;
mod names;
mod scaling;
mod values;
mod write;

use std::collections::{HashMap, HashSet};

use rekindle_nn::{Architecture, Base, Graph, Layer, Op};
use rekindle_pixels::Middle;

use self::adapt::{Otherwise, adapted};
use self::dialects::{DIALECTS, Dialect, Model};
use self::names::Module;
pub(crate) use self::scaling::Scaling;
use self::scaling::scale;
use self::values::{Change, Reader};
pub(crate) use self::write::{PROGRAM_CONFIG, RECORD, write};
use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::record::Record;
use crate::{ModelCard, TensorInfo, hugging_face};

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

/// What a file's own metadata says of its network: timm's configuration, and a [`Record`] of an exported file.
pub(crate) fn beside(config: &str, record: Option<&String>) -> Result<Beside, String> {
    let config = serde_json::from_str(config)
        .map_err(|error| format!("`{PROGRAM_CONFIG}` in its metadata: damaged JSON: {error}"))?;
    let record = record.map(|text| Record::of(text.as_bytes())).transpose()?;
    Ok(Beside { record, ..hugging_face::said(&config, PROGRAM_CONFIG)? })
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
            .filter(|(dialect, _)| dialect.arguments.is_empty() != self.beside.arguments)
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
        let plain = model.architecture().map_err(none)?;
        let text = |error: rekindle_nn::NetworkError| none(error.to_string());
        let topped = plain.with_top(Some(2)).graph().map_err(text)?;
        let with_variables = |position: &usize| !topped.variables(*position).is_empty();
        let mut positions = (0..topped.layers().len()).filter(with_variables);
        // Normalizations in front are none of PyTorch's.
        let first = positions.find(|&at| matches!(topped.layers()[at].op, Op::Conv2d(_)));
        let channels = first.and_then(|at| self.weight(dialect, &topped, at));
        let Some(&[_, channels, ..]) = channels else {
            return Err(none(format!("{} begins otherwise", plain.family.title)));
        };
        let outputs = positions.next_back().and_then(|at| self.weight(dialect, &topped, at));
        let outputs = outputs.and_then(|shape| shape.first().copied());
        let [height, width] = self.size.unwrap_or(plain.size().pixels());
        let architecture = plain
            .with_images(height, width, channels)
            .with_top(outputs.map(|outputs| outputs.max(2)));
        let family = architecture.graph().map_err(text)?;
        let otherwise = dialect.otherwise;
        let otherwise = Otherwise {
            epsilon: self.beside.epsilon.or(otherwise.epsilon),
            symmetric: self.beside.symmetric.unwrap_or(otherwise.symmetric),
            ..otherwise
        };
        let graph = adapted(&family, otherwise).map_err(none)?;
        let graph = match &self.beside.symmetric_blocks {
            Some(blocks) => adapt::with_pads(&graph, blocks).map_err(none)?,
            None => graph,
        };
        let graph = match self.beside.last_epsilon {
            Some(epsilon) => adapt::with_last_epsilon(&graph, epsilon).map_err(none)?,
            None => graph,
        };
        let two_classes = outputs == Some(1);
        let (placed, aside) = self.placed(dialect, &graph, two_classes)?;
        Ok(Candidate { dialect, model, architecture, graph, placed, aside, two_classes })
    }

    /// The shape of a layer's `weight`.
    fn weight(&self, dialect: &Dialect, graph: &Graph, position: usize) -> Option<&'a [usize]> {
        let mut modules = dialect.modules(graph, &graph.layers()[position]).into_iter();
        let weight = |module: Module| self.numbers.get(format!("{}.weight", module.path).as_str());
        let index = modules.find_map(weight)?;
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
            let modules = dialect.modules(graph, layer);
            for mut spec in graph.variables(position) {
                let wanted = spec.shape.clone();
                let is_doubled = two_classes && last == Some(position);
                if let (true, Some(outputs)) = (is_doubled, spec.shape.last_mut()) {
                    *outputs = 1;
                }
                let candidates =
                    modules.iter().map(|module| values::tensor(&module.path, layer, spec.name));
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
                "the file does not say how photos are resized: {name}, of their middle square, is assumed"
            ));
            name
        });
        card.resize = Some(interpolation.into());
        if let (Some([height, width, _]), false) =
            (card.graph.input().as_map(), self.beside.stretched)
        {
            card.photo_middle = self.beside.middle.or(Some(Middle::whole(height.min(width))));
        }
        card.published_as = Some(name.to_owned());
        card.assumed = assumed;
        // Such networks take images of any size, and a user may have asked for another.
        Beside { size: None, ..self.beside.clone() }.apply(&mut card)?;
        if let Some(record) = &self.beside.record {
            let (preprocessing, published_as) = (card.preprocessing, card.published_as);
            card = ModelCard { preprocessing, published_as, ..record.card(&card.graph)? };
        }
        Ok(Found { card, placed })
    }
}

impl Model {
    /// The family's network, for images of its own size; without its top.
    fn architecture(&self) -> Result<Architecture, String> {
        let plain = Architecture::by_name(self.family);
        let plain = plain.ok_or_else(|| format!("no family is called `{}`", self.family))?;
        let alpha = self.alpha.or(plain.settings.alpha);
        let plain = alpha.map_or(plain, |alpha| plain.with_alpha(alpha));
        Ok(plain.with_minimalistic(self.minimalistic))
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

impl Dialect {
    /// What a layer of a network is called: timm's module and torchvision's, or one of both.
    fn modules(&self, graph: &Graph, layer: &Layer) -> Vec<Module> {
        let layers: Vec<&str> = graph.layers().iter().map(|layer| layer.name.as_str()).collect();
        let Some([conv, norm]) = self.units else {
            return names::renamed(self.rules, self.list, &layer.name, &layers);
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
        let modules = names::renamed(self.rules, self.list, &name, &layers).into_iter();
        let whole = |module: Module| Module { path: format!("{}{suffix}", module.path), ..module };
        modules.map(whole).collect()
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
            let known = model.architecture().expect("known").with_top(Some(7));
            let graph = known.graph().unwrap_or_else(|error| panic!("{:?}: {error}", model.names));
            let graph = adapted(&graph, dialect.otherwise).expect("adapts");
            let mut seen = HashSet::new();
            for (position, layer) in graph.layers().iter().enumerate() {
                for variable in graph.variables(position) {
                    let modules = dialect.modules(&graph, layer);
                    let names: Vec<String> = modules
                        .iter()
                        .map(|module| values::tensor(&module.path, layer, variable.name))
                        .collect();
                    assert!(!names.is_empty(), "{:?}: `{}`", model.names, layer.name);
                    assert!(seen.insert(names.clone()), "{:?}: {names:?} twice", model.names);
                }
            }
            networks += 1;
        }
        assert!(networks > 60, "{networks}");
    }
}
