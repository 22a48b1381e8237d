//! A file's tensors of numbers, in the ONNX file or beside it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::proto::TensorProto;
use crate::Dtype;
use crate::safetensors::decode;

/// ONNX's `TensorProto.DataType`, where it is one of numbers with a fraction.
pub(crate) fn dtype(data_type: i32) -> Option<Dtype> {
    Some(match data_type {
        1 => Dtype::F32,
        10 => Dtype::F16,
        11 => Dtype::F64,
        16 => Dtype::Bf16,
        _ => return None,
    })
}

/// The name of a type, for messages.
pub(super) fn type_name(data_type: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    usize::try_from(data_type)
        .ok()
        .and_then(|number| NAMES.get(number))
        .unwrap_or(&"a type of few bits")
}

/// One tensor.
pub(crate) struct Weight {
    pub shape: Vec<usize>,
    pub count: usize,
    pub dtype: Dtype,
    tensor: TensorProto,
    /// File, offset and length, where the values are not in the ONNX file.
    external: Option<(PathBuf, u64, u64)>,
}

/// A tensor's extents and how many values they make, where a file can hold those of `size` bytes.
fn extents(tensor: &TensorProto, size: usize) -> Result<(Vec<usize>, usize), String> {
    let shape: Option<Vec<usize>> =
        tensor.dims.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let count = shape.as_ref().and_then(|shape| {
        // Extents beside a zero count too: whoever multiplies them later has to be able to.
        let all = |most: usize, &extent: &usize| most.checked_mul(extent.max(1));
        let most = shape.iter().try_fold(size, all)?;
        isize::try_from(most).ok()?;
        Some(shape.iter().product())
    });
    match (shape, count) {
        (Some(shape), Some(count)) => Ok((shape, count)),
        _ => Err(format!("a shape of {dims:?} is more than a file can hold", dims = tensor.dims)),
    }
}

impl Weight {
    pub fn new(path: &Path, tensor: TensorProto, dtype: Dtype) -> Result<Self, String> {
        let (shape, count) = extents(&tensor, dtype.size())?;
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

    pub fn values(&self) -> Result<Vec<f32>, String> {
        if let Some(part) = &self.external {
            return Ok(decode(&read_external(part)?, self.dtype));
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
            Dtype::I8 | Dtype::I32 | Dtype::I64 => {
                return Err("whole numbers are no weights".into());
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

/// The longest list of integers that says a shape, axes or the like.
const MOST_INTEGERS: usize = 1 << 12;

/// Shape and values.
type Listed = (Vec<usize>, Vec<i64>);

/// Puts integers that are in another file where those of the model are: they say shapes, which have to be known at once.
pub(super) fn fetch_integers(path: &Path, tensor: &mut TensorProto) -> Result<(), String> {
    let size = match tensor.data_type {
        7 => 8,
        6 => 4,
        9 => 1,
        _ => return Ok(()),
    };
    let (_, count) = extents(tensor, size)?;
    if tensor.data_location != 1 || count > MOST_INTEGERS {
        return Ok(());
    }
    tensor.raw_data = read_external(&external(path, tensor, (count * size) as u64)?)?.into();
    tensor.data_location = 0;
    Ok(())
}

/// The bytes of a part of a file.
fn read_external((path, offset, length): &(PathBuf, u64, u64)) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(*length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Shape and values of a tensor of integers; nothing where it is of another type or too long to say a shape.
pub(super) fn integers(tensor: &TensorProto) -> Result<Option<Listed>, String> {
    let size = match tensor.data_type {
        7 => 8,
        6 => 4,
        9 => 1,
        _ => return Ok(None),
    };
    let (shape, count) = extents(tensor, size)?;
    if count > MOST_INTEGERS || tensor.data_location == 1 {
        return Ok(None);
    }
    let raw = &tensor.raw_data[..];
    let values: Vec<i64> = match (size, raw.len()) {
        (8, 0) => tensor.int64_data.clone(),
        (_, 0) => tensor.int32_data.iter().map(|&value| i64::from(value)).collect(),
        (8, _) => raw.as_chunks::<8>().0.iter().map(|&word| i64::from_le_bytes(word)).collect(),
        (4, _) => {
            let words = raw.as_chunks::<4>().0.iter();
            words.map(|&word| i64::from(i32::from_le_bytes(word))).collect()
        }
        _ => raw.iter().map(|&byte| i64::from(byte)).collect(),
    };
    if values.len() != count {
        let found = values.len();
        return Err(format!("holds {found} integers, expected {count} for a shape of {shape:?}"));
    }
    Ok(Some((shape, values)))
}
