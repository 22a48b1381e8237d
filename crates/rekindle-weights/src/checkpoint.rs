use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rekindle_nn::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::beside::Beside;
use crate::keras::{self, Origin, Placed, Resolved};
use crate::record::Record;
use crate::{
    ModelCard, WeightsError, folder, foreign, hdf5, json, onnx, safetensors, tf_checkpoint, tflite,
    torch, zipped,
};

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
    /// Whole numbers of 32 bits, as Keras counts with; read as single.
    I32,
    /// Whole numbers of 64 bits, as Keras counts with; read as single.
    I64,
    /// Bytes of a quantized model of ours, with a step for each output; read as the numbers that they stand for.
    I8,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I8 => "i8",
        })
    }
}

impl Dtype {
    /// Bytes of one number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
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

/// How a file tells what its tensors are.
pub(crate) enum Naming {
    /// By Keras's names of layers and variables.
    Names,
    /// By names, sorted by them, so that their order is not that of the layers.
    Unordered,
    /// By nothing but their order, which is that of the layers and of each layer's variables.
    Sequence,
    /// By class and number: Keras 3's `.weights.h5` and `.keras`.
    Numbers,
    /// By PyTorch's names of modules.
    Modules,
    /// By what is done with them: ONNX.
    Graph(Box<onnx::Graph>),
    /// The same, TensorFlow Lite's.
    Tflite(Box<tflite::Opened>),
}

/// An open file of weights. Tensors are read one by one, when they are asked for.
///
/// Tensors have the file's own names until [`Checkpoint::resolve`] finds out what they are.
pub struct Checkpoint {
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    /// What the file calls them.
    names: Vec<String>,
    card: Option<ModelCard>,
    reader: Box<dyn ReadTensor>,
    naming: Naming,
    /// Keras's configuration of a whole model.
    model: Option<Value>,
    /// What an exported file has for Rekindle beside it.
    record: Option<Record>,
    problem: Option<String>,
    /// What of the file is not among the tensors; each is a sentence.
    left_out: Vec<String>,
    /// What other files say of the model.
    beside: Option<Box<Beside>>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .field("card", &self.card)
            .finish_non_exhaustive()
    }
}

/// Reads tensors from where they were before they were renamed.
struct Rearranged {
    reader: Box<dyn ReadTensor>,
    origins: Vec<Origin>,
}

impl ReadTensor for Rearranged {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        match self.origins[index] {
            Origin::Same(index) => self.reader.read(index),
            // softmax over (0, x) is (1 - sigmoid(x), sigmoid(x)).
            Origin::BehindZeros(index) => {
                let values = self.reader.read(index)?;
                Ok(values.into_iter().flat_map(|value| [0.0, value]).collect())
            }
        }
    }
}

const HDF5_MAGIC: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

impl Checkpoint {
    /// Opens a file by its content: Keras's HDF5 (`.h5`, `.weights.h5`), `.keras`, ONNX, TensorFlow Lite, safetensors, the index of a
    /// sharded safetensors or Keras file, TF.js's `model.json`, a zip of Teachable Machine's, NumPy's `.npz`, or a TensorFlow
    /// checkpoint of version 1 (one file, as TF-Slim's `inception_v1.ckpt`) or 2. The latter is an index and files of data, of
    /// which any may be named (`X.index`, `X.data-00000-of-00001`), or `X`, as TensorFlow does.
    ///
    /// A folder is opened by the files in it: Keras 2's SavedModel, TF.js's or Teachable Machine's files, Hugging Face's
    /// `config.json` and `model.safetensors`. `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`, is a model of Hugging Face's hub,
    /// whose files are downloaded once (feature `download`).
    ///
    /// # Errors
    /// When the file cannot be read, is of no such format, or is damaged; a safetensors file of ours
    /// is checked against the hash that it carries.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        if let Some(model) = path.to_str().filter(|text| text.starts_with("hf:") && !path.exists())
        {
            return Self::of_hub(model);
        }
        if let Some(index) = tf_checkpoint::index_of(path) {
            return tf_checkpoint::open(&index);
        }
        if let Some(folder) = folder::of(path) {
            return folder::open(&folder);
        }
        let io = |error| WeightsError::io(path, error);
        if let Some(reason) = foreign::refusal(path).map_err(io)? {
            return Err(WeightsError::format(path, reason));
        }
        let mut start = Vec::new();
        let mut file = File::open(path).map_err(io)?;
        file.by_ref().take(9).read_to_end(&mut start).map_err(io)?;
        let is_onnx = path.extension().is_some_and(|extension| extension == "onnx");
        match start.as_slice() {
            [] => Err(WeightsError::format(path, "the file is empty")),
            _ if start.starts_with(HDF5_MAGIC) => hdf5::open(path),
            _ if start.starts_with(b"PK\x03\x04") => zipped::open(path),
            _ if tf_checkpoint::is_table(&mut file) => tf_checkpoint::open(path),
            [_, _, _, _, mark @ ..] if mark.starts_with(tflite::MARK) => tflite::open(path),
            [b'{', ..] => json::open(path),
            // The field `ir_version` comes first.
            [0x08, ..] if start.get(8) != Some(&b'{') || is_onnx => onnx::open(path),
            _ if is_onnx => onnx::open(path),
            // Eight bytes of header length, then JSON.
            [.., b'{'] if start.len() == 9 => safetensors::open(path),
            b"model_che" => Err(WeightsError::format(
                path,
                "only says which TensorFlow checkpoints are beside it; give one of these instead, as `model.ckpt-100`",
            )),
            _ if tf_checkpoint::is_named(path) => tf_checkpoint::open(path),
            _ => Err(WeightsError::format(
                path,
                "neither Keras's HDF5 or .keras, nor ONNX, nor TensorFlow Lite, nor safetensors, nor a TensorFlow checkpoint; save it with Keras's `model.save(\"name.keras\")` or `model.save_weights(\"name.weights.h5\")`",
            )),
        }
    }

    /// A model of Hugging Face's hub.
    #[cfg(feature = "download")]
    fn of_hub(model: &str) -> Result<Self, WeightsError> {
        folder::open(&crate::Hub::default().model(model)?)
    }

    /// A model of Hugging Face's hub.
    #[cfg(not(feature = "download"))]
    fn of_hub(model: &str) -> Result<Self, WeightsError> {
        Err(WeightsError::format(
            Path::new(model),
            "this program was built without downloads (the feature `download`): download the model, and give its folder",
        ))
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
        Self {
            path: path.to_owned(),
            names: tensors.iter().map(TensorInfo::path).collect(),
            tensors,
            card,
            reader,
            naming: Naming::Names,
            model: None,
            record: None,
            problem: None,
            left_out: Vec::new(),
            beside: None,
        }
    }

    pub(crate) fn with_naming(self, naming: Naming) -> Self {
        Self { naming, ..self }
    }

    pub(crate) fn with_model(self, model: Option<Value>) -> Self {
        Self { model, ..self }
    }

    pub(crate) fn has_model(&self) -> bool {
        self.model.is_some()
    }

    pub(crate) fn with_record(self, record: Option<Record>) -> Self {
        Self { record, ..self }
    }

    /// Finds out which network the file holds: by the model's configuration or graph where the file has one, or else the
    /// known network whose variables are exactly these, by name or by order and shape, as Keras does. The tensors get
    /// the names of that network's layers.
    ///
    /// The result has a [`Checkpoint::card`], unless the file holds nothing that Rekindle can use;
    /// [`Checkpoint::problem`] then says why. Tensors of no known layer keep their names.
    ///
    /// # Errors
    /// When an ONNX file's tensors cannot be read.
    pub fn resolve(self) -> Result<Self, WeightsError> {
        self.resolve_for(None)
    }

    /// The same with the height and width of the images, for files that do not say them.
    ///
    /// # Errors
    /// As [`Checkpoint::resolve`].
    pub fn resolve_for(self, size: Option<[usize; 2]>) -> Result<Self, WeightsError> {
        self.resolve_as(size, None)
    }

    /// The same where `wanted` decides between networks whose variables are alike.
    pub(crate) fn resolve_as(
        mut self,
        size: Option<[usize; 2]>,
        wanted: Option<&Architecture>,
    ) -> Result<Self, WeightsError> {
        if self.card.is_some() {
            return Ok(self);
        }
        let naming = match std::mem::replace(&mut self.naming, Naming::Names) {
            Naming::Graph(graph) => return onnx::resolve(self, *graph, size),
            Naming::Tflite(opened) => {
                let beside = self.beside.take().unwrap_or_default();
                return tflite::resolve(self, &opened, size, &beside);
            }
            Naming::Modules => {
                let beside = self.beside.take().unwrap_or_default();
                return Ok(torch::resolve(self, size, &beside));
            }
            naming => naming,
        };
        if let Some(model) = self.model.take() {
            let numbered = matches!(naming, Naming::Numbers);
            let beside = self.beside.take().map(|beside| *beside).unwrap_or_default();
            let read = keras::read(&model, &self.tensors, numbered, size.or(beside.size));
            let reader = &mut self.reader;
            let resolved = match self.record.take() {
                None => read.and_then(|model| keras::resolve(model, &beside)),
                Some(record) => read.and_then(|model| {
                    keras::recorded(model, &record, &mut |index| reader.read(index))
                }),
            };
            return Ok(match resolved {
                Ok(Resolved { card, tensors, left_out }) => {
                    self.rearranged(card, tensors, &left_out)
                }
                Err(problem) => self.with_problem(problem),
            });
        }
        Ok(match keras::weights_only(&self.tensors, &naming, wanted) {
            Ok(Some((card, tensors))) => self.rearranged(card, tensors, &[]),
            Ok(None) => self,
            Err(problem) => self.with_problem(problem),
        })
    }

    /// The same file with these tensors first, and behind them those that they are not made of, but for `left_out`.
    fn rearranged(self, mut card: ModelCard, mut placed: Vec<Placed>, left_out: &[usize]) -> Self {
        card.assumed.extend(self.left_out.iter().cloned());
        let source = |origin: &Origin| match *origin {
            Origin::Same(index) | Origin::BehindZeros(index) => index,
        };
        let used = placed.iter().map(|(_, origin)| source(origin));
        let used: HashSet<usize> = used.chain(left_out.iter().copied()).collect();
        let rest = self.tensors.iter().cloned().enumerate();
        let rest = rest.filter(|(index, _)| !used.contains(index));
        placed.extend(rest.map(|(index, info)| (info, Origin::Same(index))));
        let names = placed.iter().map(|(_, origin)| self.names[source(origin)].clone()).collect();
        let (tensors, origins): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let reader = Box::new(Rearranged { reader: self.reader, origins });
        Self { tensors, names, reader, card: Some(card), ..self }
    }

    pub(crate) fn with_names(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }

    /// What of the file is not among the tensors, as the card will say.
    pub(crate) fn with_left_out(self, left_out: Vec<String>) -> Self {
        Self { left_out, ..self }
    }

    /// What other files say of the model.
    pub(crate) fn with_beside(self, beside: Beside) -> Self {
        Self { beside: Some(Box::new(beside)), ..self }
    }

    pub(crate) fn with_problem(self, problem: String) -> Self {
        Self { problem: Some(problem), ..self }
    }

    pub(crate) fn into_parts(self) -> (Vec<TensorInfo>, Box<dyn ReadTensor>) {
        (self.tensors, self.reader)
    }

    /// What the file calls a tensor of [`Self::tensors`].
    #[must_use]
    pub fn name_in_file(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Why a whole model in the file is not one that Rekindle can be given, once it is resolved.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What of the file is not among the tensors, as an optimizer's state; each is a sentence. A card has them too.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
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

    /// What the file says about itself, if it is one of ours, or what [`Checkpoint::resolve`] found.
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
            return Err(wrong(format!("found {} values, expected {}", values.len(), info.count())));
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
