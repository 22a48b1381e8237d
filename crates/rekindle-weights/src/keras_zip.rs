//! Keras 3's `.keras`: a zip of `config.json`, `metadata.json` and `model.weights.h5`.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::record::{self, Record};
use crate::zipped::Zip;
use crate::{WeightsError, hdf5};

/// The model's configuration.
pub(crate) const CONFIG: &str = "config.json";
const METADATA: &str = "metadata.json";
const WEIGHTS: &str = "model.weights.h5";
/// Configurations are some 100 kB.
const LONGEST_CONFIG: u64 = 64_000_000;

pub(crate) fn open(mut zip: Zip, path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let text = zip.text(CONFIG, LONGEST_CONFIG).map_err(wrong)?;
    let config =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("`{CONFIG}`: {error}")))?;
    // Keras does not ask for it, and so neither do we.
    let metadata: Option<Value> = match zip.names().iter().any(|name| name == METADATA) {
        true => {
            let text = zip.text(METADATA, LONGEST_CONFIG).map_err(wrong)?;
            serde_json::from_slice(&text).ok()
        }
        false => None,
    };
    let record = metadata.as_ref().and_then(|metadata| metadata.get(record::NAME));
    let record = record.map(Record::of_value).transpose().map_err(wrong)?;
    let (weights, size) = zip.hdf5(WEIGHTS).map_err(|error| {
        wrong(format!("{error}; expected what Keras's `model.save(\"name.keras\")` writes"))
    })?;
    Ok(hdf5::read(weights, size, path)?.with_model(Some(config)).with_record(record))
}
