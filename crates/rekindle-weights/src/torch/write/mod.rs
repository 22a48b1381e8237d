//! A model as timm or torchvision has it: their names of modules, by the rules that such files are read by.
//!
//! The file holds numbers only, and the program's own network computes with them. So the model's network is compared with
//! that one, layer by layer (`compare.rs`), and what would be computed otherwise is an error that names it.

mod compare;
mod photos;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use rekindle_nn::{Graph, Layer, Op, Shape};
use serde_json::{Map, Value, json};

use self::compare::{Comparison, bare, compare, numbered};
use self::photos::{Photos, settings};
use super::adapt::adapted;
use super::dialects::{DIALECTS, Dialect, Model, Program};
use super::names::Module;
use super::values;
use crate::export::{Exported, Names, Variables};
use crate::recognise::Numbers;
use crate::record::Record;
use crate::{Dtype, ModelCard, WeightsError, safetensors};

/// The key of the metadata that has what timm writes into a folder's `config.json`.
pub(crate) const PROGRAM_CONFIG: &str = "config.json";
/// The key of the metadata that has the [`Record`].
pub(crate) const RECORD: &str = "rekindle.record";

/// A tensor as a program has it.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A program's network that computes what a model does.
struct Choice {
    dialect: &'static Dialect,
    model: &'static Model,
    /// The program's network, without what only training sees.
    graph: Graph,
    comparison: Comparison,
}

/// Writes a model with a program's names, and gives sentences that say how it is loaded there.
pub(crate) fn write(
    path: &Path,
    exported: &Exported,
    names: Names,
) -> Result<Vec<String>, WeightsError> {
    let wrong =
        |reason: String| WeightsError::format(path, format!("with {names}'s names: {reason}"));
    let Exported { card, variables } = exported;
    let photos = Photos::of(card, variables).map_err(wrong)?;
    let ours = bare(&photos.graph).map_err(wrong)?;
    let choice = chosen(&ours, names).map_err(wrong)?;
    let arguments = arguments(&choice, &ours, names).map_err(wrong)?;
    let tensors = choice.tensors(&ours, variables, &photos, names).map_err(wrong)?;
    let name = choice.name();
    let photo_settings = settings(card, &photos.scaling);
    let is_resized = photo_settings.contains_key("interpolation");
    let mut config = Map::from_iter([
        ("architecture".to_owned(), json!(name)),
        ("num_classes".to_owned(), json!(ours.classes().unwrap_or(0))),
        ("pretrained_cfg".to_owned(), Value::Object(photo_settings)),
    ]);
    if !card.classes.is_empty() {
        config.insert("label_names".into(), json!(card.classes));
    }
    let told: Map<String, Value> =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), parsed(value))).collect();
    if !told.is_empty() {
        config.insert("model_args".into(), Value::Object(told));
    }
    let record = Record::new(card, Vec::new()).and_then(|record| record.text()).map_err(wrong)?;
    let metadata = [
        (PROGRAM_CONFIG, Value::Object(config).to_string()),
        ("format", "pt".to_owned()),
        (RECORD, record),
    ];
    let listed: Vec<(String, Vec<usize>, Dtype)> =
        tensors.iter().map(|one| (one.name.clone(), one.shape.clone(), Dtype::F32)).collect();
    safetensors::write(path, metadata.into(), &listed, &mut |index| {
        Ok(tensors[index].values.clone())
    })?;
    let mut sentences = choice.sentences(&ours, &arguments, &photos, names);
    if !is_resized {
        let resize = match &card.photo_resize {
            Some(op) => op.class(),
            None => card.resize.as_deref().unwrap_or(ModelCard::RESIZE),
        };
        sentences.push(format!(
            "the model resizes photos by `{resize}`, which {names} has not: its own resize gives slightly other pixels"
        ));
    }
    Ok(sentences)
}

/// A value of an argument: a number where it is one.
fn parsed(text: &str) -> Value {
    match text {
        "False" => Value::Bool(false),
        text => match (text.parse::<u64>(), text.parse::<f64>()) {
            (Ok(number), _) => json!(number),
            (Err(_), Ok(number)) => json!(number),
            (Err(_), Err(_)) => Value::String(text.to_owned()),
        },
    }
}

/// The program's networks.
fn models(names: Names) -> impl Iterator<Item = (&'static Dialect, &'static Model)> {
    let has = move |program: Program| match program {
        Program::Timm => names == Names::Timm,
        Program::Torchvision => names == Names::Torchvision,
        Program::TimmAndTorchvision => true,
        Program::Transformers => false,
    };
    let dialects = DIALECTS.iter().filter(move |dialect| has(dialect.program));
    dialects.flat_map(|dialect| dialect.models.iter().map(move |model| (dialect, model)))
}

/// Those that may be this network: of a known one the models of its family.
fn candidates(
    ours: &Graph,
    names: Names,
) -> impl Iterator<Item = (&'static Dialect, &'static Model)> {
    let family = ours.base().architecture.map(|known| known.family.name);
    models(names).filter(move |(_, model)| family.is_none_or(|family| family == model.family))
}

/// A program's network for the images of another one, with a top of so many classes.
fn theirs(
    dialect: &Dialect,
    model: &Model,
    input: Shape,
    classes: Option<usize>,
) -> Result<Graph, String> {
    let [height, width, channels] = input.as_map().ok_or("it takes no images")?;
    let known = model.architecture()?.with_images(height, width, channels).with_top(classes);
    let graph = known.graph().map_err(|error| error.to_string())?;
    bare(&adapted(&graph, dialect.otherwise)?)
}

/// The program's network that computes what this one does.
fn chosen(ours: &Graph, names: Names) -> Result<Choice, String> {
    let mut numbers = Numbers::default();
    let own = numbered(&mut numbers, ours);
    let mut best: Option<Choice> = None;
    for (dialect, model) in candidates(ours, names) {
        // Smaller images than the family takes.
        let Ok(graph) = theirs(dialect, model, ours.input(), ours.classes()) else { continue };
        let Some(comparison) = compare(&mut numbers, ours, &own, &graph, dialect) else { continue };
        let choice = Choice { dialect, model, graph, comparison };
        if best.as_ref().is_none_or(|best| choice.distance() < best.distance()) {
            best = Some(choice);
        }
    }
    let Some(choice) = best else { return Err(unlike(&mut numbers, ours, &own, names)) };
    let differences = &choice.comparison.differences;
    let Some(first) = differences.first() else { return Ok(choice) };
    let others = match differences.len() - 1 {
        0 => String::new(),
        1 => " (and one other setting)".into(),
        others => format!(" (and {others} other settings)"),
    };
    Err(format!(
        "{names}'s `{}` has its layers, but computes otherwise with them: {first}{others}",
        choice.name()
    ))
}

/// Why no network of the program is like this one: it has another head, or is another network.
fn unlike(numbers: &mut Numbers, ours: &Graph, own: &[Option<usize>], names: Names) -> String {
    for (dialect, model) in candidates(ours, names) {
        let Ok(base) = theirs(dialect, model, ours.input(), None) else { continue };
        let known = numbered(numbers, &base);
        let Some(end) = base.output().layer().and_then(|end| known[end]) else { continue };
        let Some(end) = own.iter().position(|number| *number == Some(end)) else { continue };
        let with_weights = |graph: &Graph, from: usize| {
            let behind = from..graph.layers().len();
            let behind = behind.filter(|&at| !graph.variables(at).is_empty());
            let described = behind.map(|at| {
                let layer = &graph.layers()[at];
                format!("`{}` ({})", layer.name, layer.op.class())
            });
            let all: Vec<String> = described.collect();
            if all.is_empty() { "no layer with weights".to_owned() } else { all.join(", ") }
        };
        let top = theirs(dialect, model, ours.input(), ours.classes().or(Some(2)));
        let expected =
            top.map_or_else(|reason| reason, |top| with_weights(&top, base.layers().len()));
        return format!(
            "it is {names}'s `{}` but for its head: behind the base it has {}, where {names}'s has {expected}{}",
            model.names.first().unwrap_or(&model.family),
            with_weights(ours, end + 1),
            if ours.classes().is_some() { " on the mean of the maps" } else { "" },
        );
    }
    let mut known: Vec<&str> =
        models(names).filter_map(|(_, model)| model.names.first().copied()).collect();
    known.sort_unstable();
    known.dedup();
    let what = match ours.base().architecture {
        Some(known) => format!("{} is none of its networks", known.family.title),
        None => "it is none of its networks".into(),
    };
    format!("{what} that are known here, which are {}", known.join(", "))
}

/// A layer's module in a program.
fn module(dialect: &Dialect, graph: &Graph, layer: &Layer, names: Names) -> Result<Module, String> {
    let mut modules = dialect.modules(graph, layer);
    if names == Names::Torchvision && modules.len() > 1 {
        modules.swap_remove(0);
    }
    let module = modules.into_iter().next();
    module.ok_or_else(|| format!("`{}` is none of its modules", layer.name))
}

/// What the program has to be told.
fn arguments(
    choice: &Choice,
    ours: &Graph,
    names: Names,
) -> Result<Vec<(&'static str, String)>, String> {
    let mut told: Vec<(&str, String)> = Vec::new();
    match (ours.classes(), names) {
        (Some(classes), _) => told.push(("num_classes", classes.to_string())),
        (None, Names::Timm) => {
            told.push(("num_classes", "0".into()));
            told.push(("global_pool", String::new()));
        }
        (None, _) => {}
    }
    let channels = ours.input().channels();
    if channels != 3 {
        if names != Names::Timm {
            return Err(format!("its images have {channels} channels, {names}'s networks take 3"));
        }
        told.push(("in_chans", channels.to_string()));
    }
    if let (Names::Torchvision, Some(alpha)) = (names, choice.model.alpha.filter(|a| *a != 1.0)) {
        told.push(("width_mult", alpha.to_string()));
    }
    let own = choice.dialect.arguments.iter();
    let torchvision = choice.dialect.torchvision.iter().filter(|_| names == Names::Torchvision);
    told.extend(own.chain(torchvision).map(|(name, value)| (*name, (*value).to_owned())));
    Ok(told)
}

impl Choice {
    fn name(&self) -> &'static str {
        self.model.names.first().copied().unwrap_or(self.model.family)
    }

    /// How far it is from the model: what it computes otherwise, and what has to be put into its numbers.
    fn distance(&self) -> [usize; 3] {
        let Comparison { differences, epsilons, biases, .. } = &self.comparison;
        let is_told = usize::from(!self.dialect.arguments.is_empty());
        [differences.len(), epsilons.len() + biases.len(), is_told]
    }

    /// Names, shapes and values of all tensors.
    fn tensors(
        &self,
        ours: &Graph,
        variables: &Variables,
        photos: &Photos,
        names: Names,
    ) -> Result<Vec<Tensor>, String> {
        let variable = |layer: usize, name: &str| {
            let key = (ours.layers()[layer].name.clone(), name.to_owned());
            variables.get(&key).map(|(_, values)| values.clone())
        };
        let is_turned = !photos.order.iter().copied().eq(0..photos.order.len());
        let mut is_first = true;
        let mut tensors = Vec::new();
        for (position, layer) in self.graph.layers().iter().enumerate() {
            let specs = self.graph.variables(position);
            if specs.is_empty() {
                continue;
            }
            let module = module(self.dialect, &self.graph, layer, names)?;
            let Some(&own) = self.comparison.pairs.get(&position) else {
                return Err(format!("`{}` is none of the model's layers", layer.name));
            };
            for spec in specs {
                let mut values = match (variable(own, spec.name), spec.name) {
                    (Some(values), _) => values,
                    (None, "gamma") => vec![1.0; spec.count()],
                    (None, "bias" | "beta") => vec![0.0; spec.count()],
                    (None, name) => {
                        let layer = &ours.layers()[own].name;
                        return Err(format!("the model has no `{layer}/{name}`"));
                    }
                };
                match spec.name {
                    "kernel" if is_first && is_turned => {
                        if !matches!(layer.op, Op::Conv2d(_)) {
                            return Err(format!(
                                "its images are not RGB, and `{}`, its first layer, is no convolution",
                                layer.name
                            ));
                        }
                        values = turned(&values, &photos.order, &spec.shape);
                    }
                    "moving_mean" => {
                        let conv = self.comparison.biases.get(&position);
                        let bias = conv.and_then(|conv| variable(*conv, "bias"));
                        for (mean, bias) in values.iter_mut().zip(bias.into_iter().flatten()) {
                            *mean -= bias;
                        }
                    }
                    "moving_variance" => {
                        let more = self.comparison.epsilons.get(&position).copied().unwrap_or(0.0);
                        for variance in &mut values {
                            *variance = (f64::from(*variance) + more) as f32;
                        }
                        if more < 0.0 && values.iter().any(|variance| *variance < 0.0) {
                            return Err(format!(
                                "`{}`: its epsilon is less than {names}'s by {}, which is more than a variance of it",
                                ours.layers()[own].name,
                                -more
                            ));
                        }
                    }
                    _ => {}
                }
                let name = values::tensor(&module.path, layer, spec.name);
                let named = |reason: String| format!("`{name}`: {reason}");
                let shape =
                    values::shape(&self.graph, position, &spec, module.axes).map_err(named)?;
                let values =
                    values::written(&self.graph, position, &spec, values).map_err(named)?;
                tensors.push(Tensor { name, shape, values });
            }
            is_first = false;
        }
        Ok(tensors)
    }

    /// What a user has to know.
    fn sentences(
        &self,
        ours: &Graph,
        arguments: &[(&str, String)],
        photos: &Photos,
        names: Names,
    ) -> Vec<String> {
        let quoted = |value: &String| match parsed(value) {
            Value::String(text) => format!("\"{text}\""),
            _ => value.clone(),
        };
        let mut all: Vec<String> =
            arguments.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        let call = match names {
            Names::Torchvision => format!("torchvision.models.{}", self.name()),
            Names::Timm | Names::Keras => {
                all.insert(0, format!("\"{}\"", self.name()));
                "timm.create_model".into()
            }
        };
        let mut sentences = vec![format!(
            "its network is `{call}({})`, whose `load_state_dict` takes the file's tensors",
            all.join(", ")
        )];
        let numbers = |numbers: &[f64]| {
            let short = |number: &f64| (number * 1e6).round() / 1e6;
            let all: Vec<String> = numbers.iter().map(|one| short(one).to_string()).collect();
            format!("({})", all.join(", "))
        };
        sentences.push(format!(
            "it takes RGB from 0 to 1 with mean={} and std={}{}",
            numbers(&photos.scaling.mean),
            numbers(&photos.scaling.deviation),
            if ours.classes().is_some() {
                ", and gives logits, without the last activation"
            } else {
                ""
            }
        ));
        if ours.classes().is_none() {
            sentences.push(format!(
                "it has no classifier: what of {names}'s network is behind the maps is not in the file (`strict=False`)"
            ));
        }
        let named = |places: &HashMap<usize, f64>| {
            let first = places.keys().min().and_then(|first| self.comparison.pairs.get(first));
            first.map_or("", |own| ours.layers()[*own].name.as_str())
        };
        let Comparison { epsilons, biases, is_for_this_size, .. } = &self.comparison;
        if !epsilons.is_empty() {
            sentences.push(format!(
                "{names} adds another epsilon to variances than `{}` and {} more normalizations: the difference is in their variances",
                named(epsilons),
                epsilons.len() - 1
            ));
        }
        if !biases.is_empty() {
            sentences.push(format!(
                "{names}'s convolutions have no bias: those of {} are in the means of the normalizations behind them",
                biases.len()
            ));
        }
        if let (true, Some([height, width, _])) = (is_for_this_size, ours.input().as_map()) {
            sentences.push(format!(
                "{names} pads as the model does for images of {height} x {width}, and otherwise for other sizes"
            ));
        }
        sentences
    }
}

/// A kernel for images whose channels are in RGB's order: `order` says which of these each of its inputs is.
fn turned(values: &[f32], order: &[usize], shape: &[usize]) -> Vec<f32> {
    let outputs = shape.last().copied().unwrap_or(1).max(1);
    let inputs = order.len();
    let mut result = values.to_vec();
    for (row, values) in values.chunks(outputs).enumerate() {
        let (pixel, input) = (row / inputs, row % inputs);
        let start = (pixel * inputs + order[input]) * outputs;
        result[start..start + values.len()].copy_from_slice(values);
    }
    result
}
