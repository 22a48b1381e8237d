//! JSON files that lead to weights: the index of a sharded safetensors or Keras file, and TF.js's `model.json`.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::{WeightsError, sharded, tfjs};

/// Far more than an index of the largest networks, or their configurations.
const LONGEST: u64 = 100_000_000;

/// Opens a file by what is in it.
pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LONGEST {
        return Err(wrong(format!("a JSON file of {length} bytes, expected at most {LONGEST}")));
    }
    let text = std::fs::read(path).map_err(io)?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("damaged JSON: {error}")))?;
    if tfjs::is_model(&value) {
        return tfjs::open(path, value);
    }
    if value.get("weight_map").is_some() {
        return sharded::open(path, value);
    }
    if value.get("class_name").is_some() && value.get("config").is_some() {
        return Err(wrong("describes a Keras model, as `model.to_json()` does, but holds no weights: save it with `model.save(\"name.keras\")`".into()));
    }
    Err(wrong(
        "is JSON, but neither TF.js's model.json (`modelTopology` and `weightsManifest`) nor the index of a sharded file (`weight_map`)".into(),
    ))
}
