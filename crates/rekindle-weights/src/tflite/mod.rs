//! TensorFlow Lite: a file's graph becomes nodes as ONNX has them, which `onnx/` reads as a network.
//!
//! `tables.rs` reads flatbuffers, `file.rs` has a file's tensors and operators, `nodes/` says which of ONNX's nodes each
//! operator is, and `patterns.rs` what TensorFlow's converter has taken apart. `own.rs` knows files that Rekindle wrote
//! (`write.rs`), `metadata.rs` what Android's task library reads.

mod file;
mod metadata;
mod names;
mod nodes;
mod own;
mod patterns;
mod resolve;
mod tables;
#[cfg(test)]
mod tests;
mod write;
#[cfg(test)]
pub(crate) mod written;

use std::path::Path;

use file::File;
use prost::bytes::Bytes;
pub(crate) use resolve::{Opened, resolve};
pub(crate) use write::write;

use crate::WeightsError;
use crate::checkpoint::{Checkpoint, Naming};
use crate::onnx::FileTensors;

/// A flatbuffer's own limit.
const LONGEST: u64 = 1 << 31;
/// Files with values behind the tables are larger; more than this is no network of images.
const LARGEST: u64 = 1 << 33;
/// The mark behind the root's place.
pub(crate) const MARK: &[u8; 4] = b"TFL3";
/// Where a file of ours has its model card, as JSON.
const CARD: &str = "rekindle";
/// Where a file of ours has what it was written with: `preprocessing`, `half`.
const SETTINGS: &str = "rekindle.export";
/// Where a file of ours has the variables that its graph does not hold as they are, as safetensors.
const VARIABLES: &str = "rekindle.variables";

/// Opens a file; its tensors have the file's names until the network is known.
pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LARGEST {
        return Err(wrong(format!(
            "{length} bytes, but a TensorFlow Lite file has at most {LARGEST}"
        )));
    }
    of_bytes(path, std::fs::read(path).map_err(io)?).map_err(wrong)
}

/// Opens a file whose bytes these are.
pub(crate) fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<Checkpoint, String> {
    let file =
        File::new(Bytes::from(bytes)).map_err(|reason| format!("TensorFlow Lite: {reason}"))?;
    let (opened, tensors) = Opened::new(path, file)?;
    let reader = Box::new(FileTensors(opened.weights()));
    let checkpoint = Checkpoint::new(path, tensors, None, reader);
    Ok(checkpoint.with_naming(Naming::Tflite(Box::new(opened))))
}
