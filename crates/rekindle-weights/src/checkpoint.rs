use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ModelCard, WeightsError, hdf5, safetensors};

/// How a file holds numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision; read as single.
    F64,
}

impl Dtype {
    /// Bytes of one number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// The Keras layer that it belongs to.
    pub layer: String,
    /// The layer's variable: `kernel`, `gamma`, ...
    pub variable: String,
    /// Keras's shape.
    pub shape: Vec<usize>,
    /// The numbers in the file.
    pub dtype: Dtype,
}

impl TensorInfo {
    /// `layer/variable`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.layer, self.variable)
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Reads one tensor of an open file by its index; the error is a reason.
pub(crate) trait ReadTensor: Send {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String>;
}

/// An open file of weights. Tensors are read one by one, when they are asked for.
pub struct Checkpoint {
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    card: Option<ModelCard>,
    reader: Box<dyn ReadTensor>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .field("card", &self.card)
            .finish_non_exhaustive()
    }
}

const HDF5_MAGIC: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

impl Checkpoint {
    /// Opens a file by its content: Keras's HDF5 (`.h5`), or safetensors.
    ///
    /// # Errors
    /// When the file cannot be read, is of neither format, or is damaged; a safetensors file of ours
    /// is checked against the hash that it carries.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let io = |error| WeightsError::io(path, error);
        let mut start = Vec::new();
        File::open(path).map_err(io)?.take(9).read_to_end(&mut start).map_err(io)?;
        match start.as_slice() {
            [] => Err(WeightsError::format(path, "the file is empty")),
            _ if start.starts_with(HDF5_MAGIC) => hdf5::open(path),
            // Eight bytes of header length, then JSON.
            [.., b'{'] if start.len() == 9 => safetensors::open(path),
            _ => Err(WeightsError::format(
                path,
                "neither Keras's HDF5 nor safetensors; save it with Keras's `model.save_weights(\"name.weights.h5\")` or `model.save(\"name.h5\")`, or convert it with weights-convert",
            )),
        }
    }

    /// A safetensors file in memory; `name` is for errors.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn from_bytes(bytes: &'static [u8], name: impl AsRef<Path>) -> Result<Self, WeightsError> {
        safetensors::open_bytes(bytes, name.as_ref())
    }

    /// Tensors in memory, in Keras's layout; `name` is for errors.
    #[must_use]
    pub fn from_tensors(name: impl AsRef<Path>, tensors: Vec<(TensorInfo, Vec<f32>)>) -> Self {
        struct Memory(Vec<Vec<f32>>);
        impl ReadTensor for Memory {
            fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
                Ok(self.0[index].clone())
            }
        }
        let (tensors, values) = tensors.into_iter().unzip();
        Self::new(name.as_ref(), tensors, None, Box::new(Memory(values)))
    }

    pub(crate) fn new(
        path: &Path,
        tensors: Vec<TensorInfo>,
        card: Option<ModelCard>,
        reader: Box<dyn ReadTensor>,
    ) -> Self {
        Self { path: path.to_owned(), tensors, card, reader }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the file says about itself, if it is one of ours.
    #[must_use]
    pub fn card(&self) -> Option<&ModelCard> {
        self.card.as_ref()
    }

    /// The values of one tensor of [`Self::tensors`], in Keras's layout.
    ///
    /// # Errors
    /// When the file cannot be read, or the values are not finite.
    pub fn read(&mut self, index: usize) -> Result<Vec<f32>, WeightsError> {
        let Some(info) = self.tensors.get(index) else {
            return Err(WeightsError::format(&self.path, format!("no tensor has number {index}")));
        };
        let wrong = |reason: String| {
            WeightsError::format(&self.path, format!("cannot read `{}`: {reason}", info.path()))
        };
        let values = self.reader.read(index).map_err(wrong)?;
        if values.len() != info.count() {
            return Err(wrong(format!("found {} values, expected {:?}", values.len(), info.shape)));
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(position) => Err(WeightsError::NotFinite {
                path: self.path.clone(),
                tensor: info.path(),
                value: values[position],
                position,
            }),
        }
    }
}
