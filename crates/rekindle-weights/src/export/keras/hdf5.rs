//! Keras's two layouts of weights in HDF5.

use std::collections::BTreeMap;
use std::io::Write;

use hdf5_pure::{AttrValue, FileBuilder, FinishedGroup, GroupBuilder, LibVer, make_f32_type};
use rekindle_nn::Graph;

use super::plain::Variables;
use crate::keras::snake_case;

/// The longest list of names in one attribute: `HDF5_OBJECT_HEADER_LIMIT` of Keras's `legacy_h5_format.py`.
const LONGEST_LIST: usize = 64_512;

/// A layer of Keras's model, or a model in the model.
pub(super) struct Entry {
    pub name: String,
    /// Keras's class.
    pub class: &'static str,
    /// In Keras's order.
    pub variables: Vec<Variable>,
    /// The layers of a model in the model.
    pub inner: Vec<Entry>,
}

/// One variable and its values.
pub(super) struct Variable {
    /// Keras 2's name within its layer.
    name: String,
    shape: Vec<u64>,
    values: Vec<f32>,
    /// Whether Keras counts with it.
    is_whole: bool,
    /// Whether gradients reach it.
    trainable: bool,
}

/// The layers of a model in Keras's order, with their values, which are taken out of `variables`; `input` is the name of
/// Keras's InputLayer.
///
/// # Errors
/// When a variable has no values, or more or fewer than its shape says.
pub(super) fn entries(
    graph: &Graph,
    input: &str,
    written: &[String],
    mut variables: Variables,
) -> Result<Vec<Entry>, String> {
    let entry =
        |name: String, class| Entry { name, class, variables: Vec::new(), inner: Vec::new() };
    let mut entries = vec![entry(input.to_owned(), "InputLayer")];
    for position in graph.keras_order() {
        let layer = &graph.layers()[position];
        let mut entry = entry(written[position].clone(), layer.op.class());
        for spec in graph.variables(position) {
            let described = || format!("layer `{}` ({})", layer.name, layer.op.class());
            let key = (layer.name.clone(), spec.name.to_owned());
            let Some((shape, values)) = variables.remove(&key) else {
                return Err(format!("{} has no values for its {}", described(), spec.name));
            };
            if shape != spec.shape || values.len() != spec.count() {
                return Err(format!(
                    "{} has a {} of shape {shape:?} and {} values, expected {expected:?}",
                    described(),
                    spec.name,
                    values.len(),
                    expected = spec.shape
                ));
            }
            let is_depthwise = layer.op.class() == "DepthwiseConv2D" && spec.name == "kernel";
            entry.variables.push(Variable {
                name: if is_depthwise { "depthwise_kernel" } else { spec.name }.to_owned(),
                shape: spec.shape.iter().map(|&size| size as u64).collect(),
                values,
                is_whole: spec.name == "count",
                trainable: spec.trainable,
            });
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The groups and datasets of a file, so that names may be paths.
#[derive(Default)]
struct Tree {
    groups: BTreeMap<String, Tree>,
    datasets: BTreeMap<String, Variable>,
    attributes: Vec<(String, AttrValue)>,
}

impl Tree {
    /// The group at a path, which is made where it is not there.
    fn at(&mut self, path: &str) -> &mut Self {
        path.split('/').fold(self, |tree, part| tree.groups.entry(part.to_owned()).or_default())
    }

    fn text(&mut self, name: &str, text: String) {
        self.attributes.push((name.to_owned(), AttrValue::VarLenString(text)));
    }

    /// A list of names, in parts where it is too long for one attribute, as Keras reads it.
    fn names(&mut self, attribute: &str, names: Vec<String>) {
        if names.is_empty() {
            // As h5py writes an empty list.
            self.attributes.push((attribute.to_owned(), AttrValue::F64Array(Vec::new())));
            return;
        }
        let longest = names.iter().map(String::len).max().unwrap_or(0).max(1);
        let most = (LONGEST_LIST / longest).max(1);
        if names.len() <= most {
            self.attributes.push((attribute.to_owned(), AttrValue::AsciiStringArray(names)));
            return;
        }
        for (part, names) in names.chunks(most).enumerate() {
            let attribute = format!("{attribute}{part}");
            self.attributes.push((attribute, AttrValue::AsciiStringArray(names.to_vec())));
        }
    }

    fn finish(self, group: &mut GroupBuilder) {
        for (name, value) in self.attributes {
            group.set_attr(&name, value);
        }
        for (name, variable) in self.datasets {
            let count = variable.values.len() as u64;
            let dataset = group.create_dataset(&name);
            if variable.is_whole {
                let whole: Vec<i64> = variable.values.iter().map(|&value| value as i64).collect();
                dataset.with_i64_data(&whole);
            } else {
                let bytes = variable.values.iter().flat_map(|value| value.to_le_bytes()).collect();
                dataset.with_raw_data(make_f32_type(), bytes, count);
            }
            dataset.with_shape(&variable.shape);
        }
        for (name, tree) in self.groups {
            let inner = tree.built(group, &name);
            group.add_group(inner);
        }
    }

    fn built(self, parent: &mut GroupBuilder, name: &str) -> FinishedGroup {
        let mut group = parent.create_group(name);
        self.finish(&mut group);
        group.finish()
    }

    fn write(self, to: &mut dyn Write) -> Result<(), hdf5_pure::Error> {
        let mut file = FileBuilder::new();
        // What every program of the last ten years reads.
        file.with_libver_bounds(LibVer::Earliest, LibVer::V18);
        for (name, value) in self.attributes {
            file.set_attr(&name, value);
        }
        for (name, tree) in self.groups {
            let mut group = file.create_group(&name);
            tree.finish(&mut group);
            file.add_group(group.finish());
        }
        file.finish_to(to)
    }
}

/// Layers by class and number (`keras/src/saving/saving_lib.py`): a `.weights.h5`, also the one in a `.keras`.
///
/// # Errors
/// When it cannot be written.
pub(super) fn numbered(
    model: &str,
    entries: Vec<Entry>,
    to: &mut dyn Write,
) -> Result<(), hdf5_pure::Error> {
    fn add(tree: &mut Tree, entries: Vec<Entry>) {
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries {
            let class = snake_case(entry.class);
            let number = numbers.entry(class.clone()).or_default();
            let name = if *number == 0 { class } else { format!("{class}_{number}") };
            *number += 1;
            let group = tree.at(&name);
            let own = group.at("vars");
            own.text("name", entry.name);
            let variables = entry.variables.into_iter().enumerate();
            own.datasets.extend(variables.map(|(number, variable)| (number.to_string(), variable)));
            if !entry.inner.is_empty() {
                add(group.at("layers"), entry.inner);
            }
        }
    }
    let mut root = Tree::default();
    root.at("vars").text("name", model.to_owned());
    add(root.at("layers"), entries);
    root.write(to)
}

/// Layers by name (`keras/src/legacy/saving/legacy_h5_format.py`): what Keras 2 wrote, and Keras's published weights are;
/// with a configuration a whole model. `texts` are further attributes of the file.
///
/// # Errors
/// When it cannot be written.
pub(super) fn legacy(
    entries: Vec<Entry>,
    model: Option<String>,
    texts: Vec<(&str, String)>,
    to: &mut dyn Write,
) -> Result<(), hdf5_pure::Error> {
    let mut root = Tree::default();
    for (name, text) in texts {
        root.text(name, text);
    }
    let is_whole = model.is_some();
    if let Some(model) = model {
        root.text("model_config", model);
        writer(&mut root);
    }
    let weights = if is_whole { root.at("model_weights") } else { &mut root };
    writer(weights);
    weights.names("layer_names", entries.iter().map(|entry| entry.name.clone()).collect());
    for entry in entries {
        let group = weights.at(&entry.name);
        let mut all: Vec<(String, Variable)> = Vec::new();
        let own = |entry: &mut Entry| {
            let variables = std::mem::take(&mut entry.variables).into_iter();
            let name = entry.name.clone();
            let named = move |variable: Variable| (format!("{name}/{}:0", variable.name), variable);
            variables.map(named).collect::<Vec<_>>()
        };
        let mut entry = entry;
        all.extend(own(&mut entry));
        for mut inner in entry.inner {
            all.extend(own(&mut inner));
        }
        // Keras's legacy order: those that train first.
        all.sort_by_key(|(_, variable)| !variable.trainable);
        group.names("weight_names", all.iter().map(|(name, _)| name.clone()).collect());
        for (name, variable) in all {
            if let Some((path, last)) = name.rsplit_once('/') {
                group.at(path).datasets.insert(last.to_owned(), variable);
            }
        }
    }
    root.write(to)
}

/// Whose layout it is.
fn writer(tree: &mut Tree) {
    tree.text("keras_version", super::OLD_KERAS.to_owned());
    tree.text("backend", "tensorflow".to_owned());
}
