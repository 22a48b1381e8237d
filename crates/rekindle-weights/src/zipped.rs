//! Zip archives that hold a model: Keras 3's `.keras`, what Teachable Machine exports, NumPy's `.npz`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use zip::{CompressionMethod, ZipArchive};

use crate::checkpoint::Checkpoint;
use crate::files::Bytes;
use crate::{WeightsError, keras_zip, npz, teachable};

/// Keras and NumPy store; weights that somebody has compressed do not shrink by more.
const BEST_RATIO: u64 = 20;

/// Opens an archive by what is in it.
pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let mut zip = Zip::open(path)?;
    let names = zip.names();
    if names.iter().any(|name| name == keras_zip::CONFIG) {
        return keras_zip::open(zip, path);
    }
    if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        return npz::open(zip, path);
    }
    if let Some(opened) = teachable::open_zip(&mut zip, &names, path) {
        return opened;
    }
    let first = names.first().map_or("nothing".to_owned(), |name| format!("`{name}` first"));
    Err(WeightsError::format(
        path,
        format!(
            "a zip of {} files, {first}: neither Keras's `.keras` (`{}` is missing), as `model.save(\"name.keras\")` writes it, nor a Teachable Machine export (keras_model.h5, model.json, or model_unquant.tflite), nor NumPy's .npz; unpack it and give the model's own file",
            names.len(),
            keras_zip::CONFIG
        ),
    ))
}

/// An open archive.
pub(crate) struct Zip {
    file: Arc<Mutex<File>>,
    /// Of the whole archive, in bytes.
    length: u64,
    archive: ZipArchive<File>,
    /// Of its files, sorted.
    names: Vec<String>,
}

impl Zip {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |error| WeightsError::io(path, error);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let damaged = |error| WeightsError::format(path, format!("damaged zip: {error}"));
        let archive = ZipArchive::new(file.try_clone().map_err(io)?).map_err(damaged)?;
        let mut names = Vec::new();
        for name in archive.file_names() {
            let name = name.map_err(damaged)?;
            let last = name.rsplit('/').next().unwrap_or_default();
            let is_added = name.starts_with("__MACOSX/") || last.starts_with("._");
            if !last.is_empty() && !is_added {
                names.push(name.into_owned());
            }
        }
        names.sort();
        Ok(Self { file: Arc::new(Mutex::new(file)), length, archive, names })
    }

    /// The names of the files in it, sorted; what macOS adds is none of them.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// The bytes of a file of at most `longest`; the error says the file's name.
    pub fn text(&mut self, name: &str, longest: u64) -> Result<Vec<u8>, String> {
        let entry = self.archive.by_name(name).map_err(|error| format!("`{name}`: {error}"))?;
        let mut text = Vec::new();
        entry
            .take(longest + 1)
            .read_to_end(&mut text)
            .map_err(|error| format!("`{name}`: {error}"))?;
        if text.len() as u64 > longest {
            return Err(format!("`{name}` is longer than {longest} bytes"));
        }
        Ok(text)
    }

    /// A file of weights: where it is in the archive, or if it is compressed its bytes.
    pub fn bytes(&mut self, name: &str) -> Result<Bytes, String> {
        let wrong = |error: String| format!("`{name}`: {error}");
        let mut entry = self.archive.by_name(name).map_err(|error| wrong(error.to_string()))?;
        let size = entry.size();
        if entry.compression() == CompressionMethod::Stored && !entry.encrypted() {
            let start = entry.data_start().unwrap_or(u64::MAX);
            if start.checked_add(size).is_none_or(|end| end > self.length) {
                return Err(wrong(format!("{size} bytes end behind the file's end")));
            }
            drop(entry);
            return Ok(Bytes::part(Arc::clone(&self.file), start, size));
        }
        let most = self.length.saturating_mul(BEST_RATIO);
        if size > most {
            return Err(wrong(format!(
                "claims {size} bytes, more than {BEST_RATIO} times the archive's {}",
                self.length
            )));
        }
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(error.to_string()))?;
        if bytes.len() as u64 != size {
            return Err(wrong(format!("found {} bytes, expected {size}", bytes.len())));
        }
        Ok(Bytes::Memory(bytes))
    }

    /// An HDF5 file, and its length in bytes.
    pub fn hdf5(&mut self, name: &str) -> Result<(hdf5_pure::File, u64), String> {
        let bytes = self.bytes(name)?;
        let size = bytes.length();
        let opened = match bytes {
            Bytes::Memory(bytes) => hdf5_pure::File::from_bytes(bytes),
            part => hdf5_pure::File::from_source(part),
        };
        Ok((opened.map_err(|error| format!("`{name}`: damaged HDF5: {error}"))?, size))
    }
}
