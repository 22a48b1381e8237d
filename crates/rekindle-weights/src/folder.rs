//! Folders that are a model.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::{WeightsError, hugging_face, json, saved_model, teachable, tfjs};

/// The folder that a path means: a folder, or a file of a SavedModel that is none without the others.
pub(crate) fn of(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let name = path.file_name()?;
    let is_part = name == saved_model::GRAPH || name == saved_model::METADATA;
    let folder = path.parent().filter(|_| is_part && path.is_file())?;
    let is_here = folder.as_os_str().is_empty();
    Some(if is_here { PathBuf::from(".") } else { folder.to_owned() })
}

/// Opens a folder by the files in it.
pub(crate) fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let has = |name: &str| folder.join(name).is_file();
    if has(saved_model::GRAPH) {
        return saved_model::open(folder);
    }
    if has(tfjs::MODEL) {
        return json::open(&folder.join(tfjs::MODEL));
    }
    if has(teachable::KERAS) {
        return teachable::open_folder(folder);
    }
    if has(teachable::LITE) {
        return teachable::open_lite_folder(folder);
    }
    if has(hugging_face::CONFIG) && has("model.weights.h5") {
        return Err(WeightsError::format(
            folder,
            "holds what was in a `.keras` file: zip its files again, without the folder, and call that `model.keras`",
        ));
    }
    if has(hugging_face::CONFIG) {
        return hugging_face::open(folder);
    }
    Err(WeightsError::format(
        folder,
        "is a folder of no known kind: expected a SavedModel (saved_model.pb), a TF.js model (model.json), a Teachable Machine export (keras_model.h5, model_unquant.tflite), or Hugging Face's config.json and model.safetensors; give the file of weights itself",
    ))
}
