//! Keras's two HDF5 layouts. The one of Keras 3's `model.save_weights("x.weights.h5")`, also inside `.keras`
//! files, numbers layers by class; see `numbered`. The legacy one
//! (`keras/src/legacy/saving/legacy_h5_format.py`), as `model.save("x.h5")` and, up to Keras 2,
//! `model.save_weights("x.h5")` write it, names them.
//!
//! A group `model_weights` (whole models) or the root holds one group for each layer of the attribute
//! `layer_names`; the attribute `weight_names` of such a group lists its datasets. A nested model is one
//! layer here, and the layers inside it are part of the names of its weights.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use half::f16;
use hdf5_pure::{DType, Dataset, File, Group};

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::record::{self, Record};
use crate::{Dtype, TensorInfo, WeightsError};

/// Keras's own limits are far lower.
const DEEPEST: usize = 32;
const MOST_GROUPS: usize = 100_000;

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let length = std::fs::metadata(path).map_err(|error| WeightsError::io(path, error))?.len();
    let file = File::open_streaming(path).map_err(|error| damaged(path, error))?;
    let checkpoint = read(file, length, path)?;
    // A whole model's configuration says whether it has any.
    if checkpoint.tensors().is_empty() && !checkpoint.has_model() {
        return Err(WeightsError::format(path, "the file lists layers but holds no weights"));
    }
    Ok(checkpoint)
}

fn damaged(path: &Path, error: hdf5_pure::Error) -> WeightsError {
    WeightsError::format(path, format!("damaged HDF5: {error}"))
}

/// Opens one of several files that Keras 3 has put a model's layers into, which may be none of it.
pub(crate) fn open_shard(path: &Path) -> Result<Checkpoint, WeightsError> {
    let length = std::fs::metadata(path).map_err(|error| WeightsError::io(path, error))?.len();
    let file = File::open_streaming(path).map_err(|error| damaged(path, error))?;
    let mut found = Found { file_length: length, is_shard: true, ..Found::default() };
    let groups = file.root().groups().map_err(|error| damaged(path, error))?;
    if groups.iter().any(|group| group == "layers") {
        let layers = file.group("layers").map_err(|error| damaged(path, error))?;
        numbered(&layers, "", 0, &mut found)
            .map_err(|reason| WeightsError::format(path, reason))?;
    }
    let Found { tensors, datasets, .. } = found;
    let dtypes = tensors.iter().map(|tensor| tensor.dtype).collect();
    let reader = Box::new(Reader { _file: file, datasets, dtypes });
    Ok(Checkpoint::new(path, tensors, None, reader))
}

/// Reads an open file of `length` bytes; `path` is for errors.
pub(crate) fn read(file: File, length: u64, path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let damaged = |error| damaged(path, error);
    let attributes = file.root().attrs().map_err(damaged)?;
    let model = attributes.get("model_config").and_then(|value| value.as_str());
    let model = model
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| wrong(format!("the attribute `model_config` is damaged: {error}")))?;
    let record = attributes.get(record::NAME).and_then(|value| value.as_str());
    let record = record.map(|text| Record::of(text.as_bytes())).transpose().map_err(wrong)?;
    let root = match file.group("model_weights") {
        Ok(group) => group,
        Err(_) => file.root(),
    };
    let mut found = Found { file_length: length, ..Found::default() };
    let naming = match names(&root, "layer_names").map_err(damaged)? {
        Some(layers) => {
            found.known = model.as_ref().map(layer_names).unwrap_or_default();
            legacy(&root, layers, &mut found).map_err(wrong)?;
            Naming::Names
        }
        None => {
            let groups = root.groups().map_err(damaged)?;
            let Some(layers) = layers_group(&groups) else {
                return Err(wrong("neither an attribute `layer_names` nor a group `layers`: these are not Keras's weights".into()));
            };
            let layers = root.group(layers).map_err(damaged)?;
            numbered(&layers, "", 0, &mut found).map_err(wrong)?;
            Naming::Numbers
        }
    };
    let Found { tensors, datasets, .. } = found;
    let dtypes = tensors.iter().map(|tensor| tensor.dtype).collect();
    let reader = Box::new(Reader { _file: file, datasets, dtypes });
    let checkpoint = Checkpoint::new(path, tensors, None, reader).with_naming(naming);
    Ok(checkpoint.with_model(model).with_record(record))
}

#[derive(Default)]
struct Found {
    file_length: u64,
    tensors: Vec<TensorInfo>,
    datasets: Vec<Dataset>,
    seen: HashSet<String>,
    groups: usize,
    /// Whether other files have others of the layers, so that numbers are what the file says.
    is_shard: bool,
    /// The names of the layers that the file's own configuration lists.
    known: HashSet<String>,
}

impl Found {
    fn add(&mut self, layer: String, variable: String, dataset: Dataset) -> Result<(), String> {
        let wrong = |reason: String| format!("`{layer}/{variable}`: {reason}");
        let (shape, dtype) = describe(&dataset, self.file_length).map_err(wrong)?;
        if !self.seen.insert(format!("{layer}/{variable}")) {
            return Err(wrong("the file has two variables of this name".into()));
        }
        self.tensors.push(TensorInfo { layer, variable, shape, dtype });
        self.datasets.push(dataset);
        Ok(())
    }
}

/// Layers and weights by name.
fn legacy(root: &Group, layers: Vec<String>, found: &mut Found) -> Result<(), String> {
    for layer in layers {
        let group = root
            .group(&layer)
            .map_err(|error| format!("layer `{layer}` is listed but has no group: {error}"))?;
        let weights = names(&group, "weight_names").map_err(|error| error.to_string())?;
        let weights = weights.unwrap_or_default();
        for weight in &weights {
            let (owner, variable) = owner(&layer, weight, &weights, &found.known);
            // Layers of two models may have one name: the second's is qualified by the model that it is in.
            let is_taken = found.seen.contains(&format!("{owner}/{variable}"));
            let owner = if is_taken && owner != layer { format!("{layer}/{owner}") } else { owner };
            let dataset =
                group.dataset(weight).map_err(|error| format!("`{owner}/{variable}`: {error}"))?;
            found.add(owner, variable, dataset)?;
        }
    }
    Ok(())
}

/// The names of all layers in a configuration.
pub(crate) fn layer_names(model: &serde_json::Value) -> HashSet<String> {
    let mut names = HashSet::new();
    let mut open = vec![model];
    while let Some(value) = open.pop() {
        let layers = value["config"]["layers"].as_array().or_else(|| value["config"].as_array());
        for layer in layers.into_iter().flatten() {
            let name = layer["config"]["name"].as_str().or_else(|| layer["name"].as_str());
            names.extend(name.map(str::to_owned));
            open.push(layer);
        }
    }
    names
}

/// The layer and the variable that a weight's name means, where `known` layers may have a `/` in their names; `weights`
/// are all of the layer or model `group`.
pub(crate) fn owner(
    group: &str,
    weight: &str,
    weights: &[String],
    known: &HashSet<String>,
) -> (String, String) {
    let (mut layer, mut variable) = split_name(group, weight);
    let (path, last) = match weight.rsplit_once('/') {
        Some((path, last)) => (path, last.strip_suffix(":0").unwrap_or(last)),
        None => (group, weight),
    };
    // The longest end of the path that is a layer's name.
    let starts = [0].into_iter().chain(path.match_indices('/').map(|(at, _)| at + 1));
    if let Some(name) = starts.map(|at| &path[at..]).find(|name| known.contains(*name)) {
        layer = name.to_owned();
    }
    // A separable convolution has two kernels.
    let sibling = format!("{path}/pointwise_kernel");
    if last == "depthwise_kernel"
        && weights.iter().any(|other| other.strip_suffix(":0").unwrap_or(other) == sibling)
    {
        variable = last.to_owned();
    }
    (layer, variable)
}

/// Keras 2.12 to 2.14's name for what a model's layers are grouped under.
pub(crate) const OLD_LAYERS: &str = "_layer_checkpoint_dependencies";

/// What a model's layers are grouped under.
pub(crate) fn layers_group(groups: &[String]) -> Option<&str> {
    let names = ["layers", OLD_LAYERS];
    names.into_iter().find(|name| groups.iter().any(|group| group == name))
}

/// The groups of a model's layers, and their names with each class counted 0, 1, 2: Keras 2.12 to 2.14 counted
/// layers with weights twice, so that `conv2d_2` is the second.
fn consecutive(mut groups: Vec<String>) -> Vec<(String, String)> {
    let parts = |name: &str| match name.rsplit_once('_') {
        Some((class, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            (class.to_owned(), number.parse::<u32>().unwrap_or(u32::MAX))
        }
        _ => (name.to_owned(), 0),
    };
    groups.sort_by_key(|name| parts(name));
    let mut counts: HashMap<String, u32> = HashMap::new();
    let renamed = groups.into_iter().map(|group| {
        let (class, _) = parts(&group);
        let count = counts.entry(class.clone()).or_default();
        let name = if *count == 0 { class } else { format!("{class}_{count}") };
        *count += 1;
        (group, name)
    });
    renamed.collect()
}

/// Layers by class and number, their variables by number (`keras/src/saving/saving_lib.py`): the group
/// `layers/conv2d_1/vars` is `conv2d_1` here, and `layers/functional/layers/conv2d` is `functional/conv2d`.
fn numbered(layers: &Group, prefix: &str, depth: usize, found: &mut Found) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("`{prefix}` is nested more than {DEEPEST} deep: the file is damaged"));
    }
    let text = |error: hdf5_pure::Error| error.to_string();
    let children = layers.groups().map_err(text)?;
    let children = match found.is_shard {
        true => children.into_iter().map(|name| (name.clone(), name)).collect(),
        false => consecutive(children),
    };
    for (child, name) in children {
        found.groups += 1;
        if found.groups > MOST_GROUPS {
            return Err(format!("more than {MOST_GROUPS} groups: the file is damaged"));
        }
        let group = layers.group(&child).map_err(|error| format!("`{prefix}{child}`: {error}"))?;
        let layer = format!("{prefix}{name}");
        let mut inner = group.groups().map_err(text)?;
        inner.sort();
        if inner.iter().any(|name| name == "vars") {
            let vars = group.group("vars").map_err(text)?;
            let mut variables = vars.datasets().map_err(text)?;
            variables.sort();
            for variable in variables {
                let dataset = vars
                    .dataset(&variable)
                    .map_err(|error| format!("`{layer}/{variable}`: {error}"))?;
                found.add(layer.clone(), variable, dataset)?;
            }
        }
        if let Some(layers) = layers_group(&inner) {
            numbered(&group.group(layers).map_err(text)?, &format!("{layer}/"), depth + 1, found)?;
        }
    }
    Ok(())
}

/// The layer and the variable that a weight's name means: `block_1/Conv1/kernel:0` is `Conv1`'s `kernel`.
pub(crate) fn split_name(group: &str, weight: &str) -> (String, String) {
    let weight = weight.strip_suffix(":0").unwrap_or(weight);
    let (path, variable) = weight.rsplit_once('/').unwrap_or((group, weight));
    let layer = path.rsplit_once('/').map_or(path, |(_, layer)| layer);
    // Keras 2 called it so.
    let variable = if variable == "depthwise_kernel" { "kernel" } else { variable };
    (layer.to_owned(), variable.to_owned())
}

/// An attribute of strings, also where Keras had to split it (`weight_names0`, `weight_names1`, ...).
fn names(group: &Group, attribute: &str) -> Result<Option<Vec<String>>, hdf5_pure::Error> {
    let attributes = group.attrs()?;
    let strings = |name: &str| attributes.get(name).and_then(|value| value.as_strings());
    if let Some(names) = strings(attribute) {
        return Ok(Some(names.to_vec()));
    }
    if attributes.contains_key(attribute) {
        // h5py writes an empty list as an empty array of numbers.
        return Ok(Some(Vec::new()));
    }
    let parts = (0..).map_while(|part| strings(&format!("{attribute}{part}")));
    let joined: Vec<String> = parts.flat_map(<[String]>::to_vec).collect();
    Ok((!joined.is_empty()).then_some(joined))
}

fn describe(dataset: &Dataset, file_length: u64) -> Result<(Vec<usize>, Dtype), String> {
    let text = |error: hdf5_pure::Error| error.to_string();
    let extents = dataset.shape().map_err(text)?;
    let dtype = match (dataset.dtype().map_err(text)?, dataset.element_size().map_err(text)?) {
        (DType::F32, _) => Dtype::F32,
        (DType::F64, _) => Dtype::F64,
        (DType::I32, _) => Dtype::I32,
        (DType::I64, _) => Dtype::I64,
        (DType::Other(kind), 2) if format!("{kind:?}").starts_with("FloatingPoint") => Dtype::F16,
        (other, _) => {
            return Err(format!("found {other} values, expected f16, f32, f64, i32 or i64"));
        }
    };
    let shape: Option<Vec<usize>> = extents.iter().map(|&extent| extent.try_into().ok()).collect();
    let bytes =
        extents.iter().try_fold(dtype.size() as u64, |all, &extent| all.checked_mul(extent));
    // Deflate reaches 1032:1 at the very best.
    match (shape, bytes) {
        (Some(shape), Some(bytes)) if bytes <= file_length.saturating_mul(1032) => {
            Ok((shape, dtype))
        }
        _ => Err(format!(
            "a shape of {extents:?} is more than a file of {file_length} bytes can hold"
        )),
    }
}

struct Reader {
    _file: File,
    datasets: Vec<Dataset>,
    dtypes: Vec<Dtype>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let dataset = &self.datasets[index];
        match self.dtypes[index] {
            Dtype::F16 => {
                let bytes = dataset.read_raw().map_err(|error| error.to_string())?;
                let half = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                Ok(bytes.chunks_exact(2).map(half).collect())
            }
            Dtype::I32 => {
                let values = dataset.read_i32().map_err(|error| error.to_string())?;
                Ok(values.into_iter().map(|value| value as f32).collect())
            }
            Dtype::I64 => {
                let values = dataset.read_i64().map_err(|error| error.to_string())?;
                Ok(values.into_iter().map(|value| value as f32).collect())
            }
            Dtype::I8 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => {
                dataset.read_f32().map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names_of_every_keras() {
        for (group, weight, layer, variable) in [
            ("Conv1", "Conv1/kernel:0", "Conv1", "kernel"),
            ("Conv1", "Conv1/Conv1/kernel:0", "Conv1", "kernel"),
            ("Conv1", "Conv1/kernel", "Conv1", "kernel"),
            (
                "expanded_conv_depthwise",
                "expanded_conv_depthwise/depthwise_kernel:0",
                "expanded_conv_depthwise",
                "kernel",
            ),
            ("mobilenetv2_1.00_160", "bn_Conv1/moving_mean", "bn_Conv1", "moving_mean"),
            ("dense", "kernel", "dense", "kernel"),
        ] {
            assert_eq!(split_name(group, weight), (layer.into(), variable.into()));
        }
    }
}
