//! ONNX, as tf2onnx and Keras 3's `model.export("name.onnx", format="onnx")` write it. Weights are found by
//! walking the graph from its output (`graph.rs`, `find.rs`, `head.rs`), never by their names, which exporters make up.

mod find;
mod graph;
mod head;
mod proto;
mod recipe;

pub(crate) use find::resolve;
pub(crate) use graph::Graph;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use prost::Message;

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::safetensors::decode;
use crate::{Dtype, TensorInfo, WeightsError};
use proto::{ModelProto, TensorProto};

/// ONNX's own limit for one file.
const LONGEST: u64 = 1 << 31;

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let io = |error| WeightsError::io(path, error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LONGEST {
        return Err(wrong(format!("{length} bytes, but an ONNX file has at most {LONGEST}")));
    }
    let bytes = prost::bytes::Bytes::from(std::fs::read(path).map_err(io)?);
    let model =
        ModelProto::decode(bytes).map_err(|error| wrong(format!("damaged ONNX: {error}")))?;
    let proto = model.graph.ok_or_else(|| wrong("damaged ONNX: there is no graph".into()))?;
    let (graph, constants) = Graph::new(proto).map_err(wrong)?;
    let (mut tensors, mut weights) = (Vec::new(), Vec::new());
    let (mut numbers, mut scalars) = (HashMap::new(), HashMap::new());
    for constant in constants {
        // Shapes and axes are integers.
        let Some(dtype) = dtype(constant.data_type) else { continue };
        let name = constant.name.clone();
        let weight = Weight::new(path, constant, dtype)
            .map_err(|reason| wrong(format!("`{name}`: {reason}")))?;
        let (layer, variable) = name.rsplit_once('/').unwrap_or(("onnx", &name));
        let (layer, variable) = (layer.to_owned(), variable.to_owned());
        if weight.count == 1
            && let Some(&value) = weight.values().unwrap_or_default().first()
        {
            scalars.insert(tensors.len(), f64::from(value));
        }
        numbers.insert(name, tensors.len());
        tensors.push(TensorInfo { layer, variable, shape: weight.shape.clone(), dtype });
        weights.push(weight);
    }
    let graph = graph.with_tensors(&numbers, scalars);
    let checkpoint = Checkpoint::new(path, tensors, None, Box::new(Reader(weights)));
    Ok(checkpoint.with_naming(Naming::Graph(Box::new(graph))))
}

/// ONNX's `TensorProto.DataType`.
fn dtype(data_type: i32) -> Option<Dtype> {
    Some(match data_type {
        1 => Dtype::F32,
        10 => Dtype::F16,
        11 => Dtype::F64,
        16 => Dtype::Bf16,
        _ => return None,
    })
}

struct Weight {
    shape: Vec<usize>,
    count: usize,
    dtype: Dtype,
    tensor: TensorProto,
    /// File, offset and length, where the values are not in the ONNX file.
    external: Option<(PathBuf, u64, u64)>,
}

impl Weight {
    fn new(path: &Path, tensor: TensorProto, dtype: Dtype) -> Result<Self, String> {
        let extents: Option<Vec<usize>> =
            tensor.dims.iter().map(|&extent| usize::try_from(extent).ok()).collect();
        let count = extents
            .as_ref()
            .and_then(|shape| {
                shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent))
            })
            .filter(|count| count.checked_mul(dtype.size()).is_some());
        let (Some(shape), Some(count)) = (extents, count) else {
            return Err(format!("a shape of {:?} is more than a file can hold", tensor.dims));
        };
        let bytes = count * dtype.size();
        let external = if tensor.data_location == 1 {
            Some(external(path, &tensor, bytes as u64)?)
        } else {
            let found = match (tensor.raw_data.len(), tensor.float_data.len()) {
                (0, 0) if dtype == Dtype::F64 => tensor.double_data.len() * dtype.size(),
                (0, 0) => tensor.int32_data.len() * dtype.size(),
                (0, floats) => floats * dtype.size(),
                (raw, _) => raw,
            };
            if found != bytes {
                return Err(format!(
                    "holds {found} bytes, expected {bytes} for a shape of {shape:?}"
                ));
            }
            None
        };
        Ok(Self { shape, count, dtype, tensor, external })
    }

    fn values(&self) -> Result<Vec<f32>, String> {
        if let Some((path, offset, length)) = &self.external {
            let failed = |error: std::io::Error| format!("{}: {error}", path.display());
            let mut file = File::open(path).map_err(failed)?;
            file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
            let mut bytes = Vec::new();
            file.take(*length).read_to_end(&mut bytes).map_err(failed)?;
            return Ok(decode(&bytes, self.dtype));
        }
        if !self.tensor.raw_data.is_empty() || self.count == 0 {
            return Ok(decode(&self.tensor.raw_data, self.dtype));
        }
        Ok(match self.dtype {
            Dtype::F32 => self.tensor.float_data.clone(),
            Dtype::F64 => self.tensor.double_data.iter().map(|&value| value as f32).collect(),
            Dtype::F16 | Dtype::Bf16 => {
                let bits =
                    self.tensor.int32_data.iter().flat_map(|&bits| (bits as u16).to_le_bytes());
                decode(&bits.collect::<Vec<u8>>(), self.dtype)
            }
        })
    }
}

/// Where a tensor's values are in another file, which has to lie in the same folder or below it.
fn external(path: &Path, tensor: &TensorProto, bytes: u64) -> Result<(PathBuf, u64, u64), String> {
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let number = |key: &str, default: u64| match entry(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("external data with {key} `{text}`")),
    };
    let location = entry("location").ok_or("external data without a location")?;
    let relative = Path::new(location);
    let is_inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if location.is_empty() || !is_inside {
        return Err(format!(
            "external data in `{location}`, expected a file in the model's folder"
        ));
    }
    let file = path.with_file_name(location);
    let (offset, length) = (number("offset", 0)?, number("length", bytes)?);
    let found = std::fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    if length != bytes || offset.checked_add(length).is_none_or(|end| end > found.len()) {
        return Err(format!(
            "{}: found {} bytes, expected {bytes} from byte {offset} on",
            file.display(),
            found.len()
        ));
    }
    Ok((file, offset, length))
}

struct Reader(Vec<Weight>);

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        self.0[index].values()
    }
}
