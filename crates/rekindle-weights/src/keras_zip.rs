//! Keras 3's `.keras`: a zip of `config.json`, `metadata.json` and `model.weights.h5`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use zip::{CompressionMethod, ZipArchive};

use crate::checkpoint::Checkpoint;
use crate::{WeightsError, hdf5};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";
/// Configurations are some 100 kB.
const LONGEST_CONFIG: u64 = 64_000_000;
/// Keras stores; weights that somebody has compressed do not shrink by more.
const BEST_RATIO: u64 = 20;

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut archive = ZipArchive::new(file.try_clone().map_err(io)?)
        .map_err(|error| wrong(format!("damaged zip: {error}")))?;
    let member = |error, name: &str| {
        wrong(format!(
            "`{name}`: {error}; expected what Keras's `model.save(\"name.keras\")` writes"
        ))
    };
    let config = {
        let entry = archive.by_name(CONFIG).map_err(|error| member(error, CONFIG))?;
        let mut text = Vec::new();
        entry
            .take(LONGEST_CONFIG + 1)
            .read_to_end(&mut text)
            .map_err(|error| wrong(format!("`{CONFIG}`: {error}")))?;
        if text.len() as u64 > LONGEST_CONFIG {
            return Err(wrong(format!("`{CONFIG}` is longer than {LONGEST_CONFIG} bytes")));
        }
        serde_json::from_slice(&text).map_err(|error| wrong(format!("`{CONFIG}`: {error}")))?
    };
    let mut entry = archive.by_name(WEIGHTS).map_err(|error| member(error, WEIGHTS))?;
    let size = entry.size();
    let damaged = |error| wrong(format!("`{WEIGHTS}`: damaged HDF5: {error}"));
    let weights = if entry.compression() == CompressionMethod::Stored {
        let start = entry.data_start().unwrap_or(u64::MAX);
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(wrong(format!("`{WEIGHTS}` of {size} bytes ends behind the file's end")));
        }
        let slice = Slice { file: Mutex::new(file), start, length: size };
        hdf5_pure::File::from_source(slice).map_err(damaged)?
    } else {
        let most = length.saturating_mul(BEST_RATIO);
        if size > most {
            return Err(wrong(format!(
                "`{WEIGHTS}` claims {size} bytes, more than {BEST_RATIO} times the file's {length}"
            )));
        }
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(format!("`{WEIGHTS}`: {error}")))?;
        hdf5_pure::File::from_bytes(bytes).map_err(damaged)?
    };
    drop(entry);
    Ok(hdf5::read(weights, size, path)?.with_model(Some(config)))
}

/// A part of a file: a zip's member that is not compressed.
struct Slice {
    file: Mutex<File>,
    start: u64,
    length: u64,
}

impl hdf5_pure::Source for Slice {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), hdf5_pure::FormatError> {
        use std::io::{Seek, SeekFrom};

        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(hdf5_pure::FormatError::UnexpectedEof {
                expected: buffer.len(),
                available: self.length.saturating_sub(offset) as usize,
            });
        }
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + offset))
            .and_then(|_| file.read_exact(buffer))
            .map_err(|error| hdf5_pure::FormatError::Source(error.to_string()))
    }
}
