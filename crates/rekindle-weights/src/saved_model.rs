//! Keras 2's SavedModel folders: `saved_model.pb`, `variables/`, and Keras's own configuration, which is in
//! `keras_metadata.pb` or, up to TensorFlow 2.4, among the objects of `saved_model.pb`.
//!
//! Source: `saved_metadata.proto` of tf-keras; `saved_model.proto`, `meta_graph.proto` and `saved_object_graph.proto` of
//! TensorFlow.

use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::{WeightsError, tf_checkpoint};

/// The graph, by which such a folder is known.
pub(crate) const GRAPH: &str = "saved_model.pb";
/// Keras's configuration.
pub(crate) const METADATA: &str = "keras_metadata.pb";
/// A message's own limit.
const LONGEST: u64 = 1 << 31;

/// `keras_metadata.pb`.
#[derive(Clone, PartialEq, Message)]
struct SavedMetadata {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<SavedObject>,
}

/// What Keras says of one of its objects.
#[derive(Clone, PartialEq, Message)]
struct SavedObject {
    #[prost(int32, tag = "2")]
    node_id: i32,
    #[prost(string, tag = "4")]
    identifier: String,
    #[prost(string, tag = "5")]
    metadata: String,
}

/// `saved_model.pb`; other fields are skipped.
#[derive(Clone, PartialEq, Message)]
struct SavedModel {
    #[prost(message, repeated, tag = "2")]
    meta_graphs: Vec<MetaGraphDef>,
}

#[derive(Clone, PartialEq, Message)]
struct MetaGraphDef {
    #[prost(message, optional, tag = "7")]
    object_graph_def: Option<SavedObjectGraph>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedObjectGraph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<GraphObject>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphObject {
    #[prost(message, optional, tag = "4")]
    user_object: Option<SavedUserObject>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedUserObject {
    #[prost(string, tag = "1")]
    identifier: String,
    #[prost(string, tag = "3")]
    metadata: String,
}

/// Opens a folder with a `saved_model.pb`.
pub(crate) fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let config = configuration(folder)?;
    let checkpoint = tf_checkpoint::open(&folder.join("variables").join("variables.index"))?;
    Ok(checkpoint.with_model(Some(config)))
}

/// The outermost model's configuration.
fn configuration(folder: &Path) -> Result<Value, WeightsError> {
    let path = folder.join(METADATA);
    let metadata = read(&path)?;
    let (path, text) = match metadata {
        Some(bytes) => {
            let metadata: SavedMetadata = decoded(&path, bytes)?;
            let root = metadata.nodes.into_iter().find(|node| node.node_id == 0);
            (path, root.filter(|root| is_keras(&root.identifier)).map(|root| root.metadata))
        }
        None => {
            let path = folder.join(GRAPH);
            let Some(bytes) = read(&path)? else {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(WeightsError::io(&path, missing));
            };
            let model: SavedModel = decoded(&path, bytes)?;
            let graphs = model.meta_graphs.into_iter();
            let objects = graphs.filter_map(|graph| graph.object_graph_def);
            let root = objects.filter_map(|graph| graph.nodes.into_iter().next()?.user_object);
            let root = root.filter(|root| is_keras(&root.identifier)).map(|root| root.metadata);
            let text = root.into_iter().find(|text| !text.is_empty());
            (path, text)
        }
    };
    let wrong = |reason: String| WeightsError::format(&path, reason);
    let Some(text) = text else {
        return Err(wrong(
            "the SavedModel has no configuration of a Keras model: Keras 3's `model.export()` leaves it out, and so does TensorFlow's `tf.saved_model.save`; save the model itself with `model.save(\"name.keras\")`".into(),
        ));
    };
    let mut config: Value = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("the model's configuration is damaged: {error}")))?;
    untyped(&mut config);
    let is_layers = config["config"]["layers"].is_array() || config["config"].is_array();
    let Value::Object(fields) = &mut config else {
        return Err(wrong("the model's configuration is no object of JSON: it is damaged".into()));
    };
    if !is_layers {
        let class = fields.get("class_name").and_then(Value::as_str).unwrap_or("unknown");
        return Err(wrong(format!(
            "the model, of the class `{class}`, has no configuration of layers, as models that are classes of their own have none; expected a Sequential or functional model"
        )));
    }
    // Only Keras 2 writes such folders, and not all of them say it.
    fields.insert("keras_version".into(), "2".into());
    Ok(config)
}

/// Puts lists in the place of what Keras writes for tuples and shapes: `{"class_name": "__tuple__", "items": [...]}`.
fn untyped(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let class = fields.get("class_name").and_then(Value::as_str);
            let is_list = matches!(class, Some("__tuple__" | "TensorShape"));
            if is_list && let Some(items) = fields.get_mut("items") {
                *value = items.take();
                return untyped(value);
            }
            fields.values_mut().for_each(untyped);
        }
        Value::Array(items) => items.iter_mut().for_each(untyped),
        _ => {}
    }
}

/// Whether an object is a model of Keras's.
fn is_keras(identifier: &str) -> bool {
    identifier.starts_with("_tf_keras_")
}

/// A file's bytes; nothing where there is none.
fn read(path: &Path) -> Result<Option<Bytes>, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(io)?.len(),
    };
    if length > LONGEST {
        return Err(WeightsError::format(
            path,
            format!("{length} bytes, expected at most {LONGEST}"),
        ));
    }
    std::fs::read(path).map(|bytes| Some(bytes.into())).map_err(io)
}

fn decoded<M: Message + Default>(path: &Path, bytes: Bytes) -> Result<M, WeightsError> {
    M::decode(bytes).map_err(|error| WeightsError::format(path, format!("damaged: {error}")))
}
