//! TF.js's layers models: a `model.json` that holds a Keras configuration and says where in which files of bytes the
//! weights are.
//!
//! Source: `tensorflowjs/converters/keras_h5_conversion.py`, `write_weights.py` and `quantization.py` of the package
//! `tensorflowjs` 4.22, and `tfjs-core/src/io/types.ts`. Its converter writes Keras 2's names (`Conv1/kernel`), or of a
//! Keras 3 file the places in it (`layers/conv2d/vars/0`); TF.js itself writes names like Keras 2's.

mod manifest;

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use self::manifest::{Groups, Kind};
use crate::checkpoint::{Checkpoint, Naming};
use crate::files::Files;
use crate::{Dtype, TensorInfo, WeightsError, hdf5, teachable};

/// What the file is called.
pub(crate) const MODEL: &str = "model.json";
const TOPOLOGY: &str = "modelTopology";
const MANIFEST: &str = "weightsManifest";

/// Whether this is such a file.
pub(crate) fn is_model(value: &Value) -> bool {
    value.get(TOPOLOGY).is_some() || value.get(MANIFEST).is_some()
}

/// Opens a model whose files are beside it.
pub(crate) fn open(path: &Path, model: Value) -> Result<Checkpoint, WeightsError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut files = Files::Folder(folder.unwrap_or(Path::new(".")));
    read(path, model, &mut files).map_err(|reason| WeightsError::format(path, reason))
}

/// Reads a model; `path` is for errors, `files` has what belongs to it.
pub(crate) fn read(
    path: &Path,
    mut model: Value,
    files: &mut Files<'_>,
) -> Result<Checkpoint, String> {
    if model["format"] == "graph-model" {
        return Err("is a TF.js graph model, whose layers are gone: convert the Keras model that it was made of with `tensorflowjs_converter --output_format=tfjs_layers_model`, or give that model itself".into());
    }
    let manifest = taken(&mut model, MANIFEST);
    if manifest.is_null() {
        return Err(format!("has no `{MANIFEST}`: it holds a model's layers, but no weights"));
    }
    let groups = Groups::read(manifest, files)?;
    let topology = taken(&mut model, TOPOLOGY);
    let config = configuration(topology)?;
    let known = config.as_ref().map(hdf5::layer_names).unwrap_or_default();
    let names: Vec<String> = groups.weights().iter().map(|weight| weight.name.clone()).collect();
    let is_numbered = !names.is_empty() && names.iter().all(|name| name.contains("vars/"));
    let (mut tensors, mut seen) = (Vec::new(), HashSet::new());
    let (mut kept, mut kept_names) = (Vec::new(), Vec::new());
    for (index, weight) in groups.weights().iter().enumerate() {
        let (layer, variable) = match is_numbered {
            true => match numbered(&weight.name)? {
                Some(place) => place,
                // An optimizer's state, or a metric's.
                None => continue,
            },
            false if !weight.name.contains('/') => {
                return Err(format!(
                    "`{}` is not named `layer/variable`, as Keras's variables are",
                    weight.name
                ));
            }
            false => hdf5::owner("", &weight.name, &names, &known),
        };
        if !seen.insert(format!("{layer}/{variable}")) {
            return Err(format!("`{}`: another weight means the same variable", weight.name));
        }
        let dtype = match weight.kind {
            Kind::Half => Dtype::F16,
            Kind::Integer => Dtype::I32,
            Kind::Float | Kind::Codes { .. } => Dtype::F32,
        };
        tensors.push(TensorInfo { layer, variable, shape: weight.shape.clone(), dtype });
        kept.push(index);
        kept_names.push(weight.name.clone());
    }
    if tensors.is_empty() {
        return Err(format!("`{MANIFEST}` lists no weights of layers"));
    }
    let naming = if is_numbered { Naming::Numbers } else { Naming::Names };
    let reader = Box::new(manifest::Reader { groups, kept });
    let checkpoint = Checkpoint::new(path, tensors, None, reader)
        .with_names(kept_names)
        .with_naming(naming)
        .with_model(config);
    let beside = teachable::metadata(files)?;
    Ok(checkpoint.with_beside(beside.unwrap_or_default()))
}

/// What an object has under a key; null where it is none, or has none.
fn taken(value: &mut Value, key: &str) -> Value {
    value.get_mut(key).map_or(Value::Null, Value::take)
}

/// The model's configuration; nothing in a file of weights.
fn configuration(mut topology: Value) -> Result<Option<Value>, String> {
    if topology.is_null() {
        return Ok(None);
    }
    if topology.get("node").is_some() {
        return Err(format!(
            "`{TOPOLOGY}` is a TensorFlow graph, expected Keras's layers: give the Keras model that it was made of"
        ));
    }
    let version = taken(&mut topology, "keras_version");
    let mut config = match topology.get_mut("model_config") {
        Some(config) => config.take(),
        None => topology,
    };
    // Old converters wrote it as text.
    if let Value::String(text) = &config {
        config = serde_json::from_str(text)
            .map_err(|error| format!("`{TOPOLOGY}`: `model_config` is damaged: {error}"))?;
    }
    let Value::Object(fields) = &mut config else {
        return Err(format!(
            "`{TOPOLOGY}` is no Keras configuration, expected `class_name` and `config`"
        ));
    };
    // It tells Keras 2 and 3 apart.
    if version.is_string() {
        fields.insert("keras_version".into(), version);
    }
    Ok(Some(config))
}

/// The layer and the variable's number that a place in a Keras 3 file means: `layers/functional/layers/conv2d/vars/0` is
/// variable 0 of `functional/conv2d`. Nothing for what is of no layer.
fn numbered(name: &str) -> Result<Option<(String, String)>, String> {
    let damaged =
        || format!("`{name}`: expected `layers/LAYER/vars/NUMBER`, as Keras 3's files have it");
    if name.starts_with(hdf5::OLD_LAYERS) {
        return Err(format!(
            "`{name}` was saved by a Keras of 2.12 to 2.14, which numbers layers otherwise: save the model as `.h5`, and convert that"
        ));
    }
    let Some(rest) = name.strip_prefix("layers/") else { return Ok(None) };
    let (layer, variable) = rest.rsplit_once("/vars/").ok_or_else(damaged)?;
    if variable.is_empty() || !variable.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(damaged());
    }
    Ok(Some((layer.replace("/layers/", "/"), variable.to_owned())))
}
