//! Version 1 (`saved_tensor_slice.proto`): one table, which under its empty key lists the tensors, and under others holds
//! them, slice by slice. Only whole tensors are read.

use std::path::Path;

use half::{bf16, f16};
use prost::Message;
use prost::bytes::Bytes;

use super::messages::{SavedTensorSlices, TensorProto, TensorSliceProto};
use super::names::{self, Kept};
use super::table::Table;
use super::{Described, Opened, bytes, check_version};
use crate::checkpoint::ReadTensor;
use crate::safetensors::decode;
use crate::{Dtype, TensorInfo};

/// A thousand tensors take some hundred kilobytes.
const LONGEST_LIST: usize = 8 << 20;

pub(super) fn read(table: Table, list: Bytes, path: &Path) -> Result<Opened, String> {
    if list.len() > LONGEST_LIST {
        return Err(format!("a list of {} bytes, expected at most {LONGEST_LIST}", list.len()));
    }
    let list = SavedTensorSlices::decode(list)
        .map_err(|error| format!("its list of tensors is damaged: {error}"))?;
    let list = list.meta.unwrap_or_default();
    check_version(list.versions.as_ref())?;
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    let described = list.tensor.into_iter().map(|tensor| {
        let rank = tensor.shape.as_ref().map_or(0, |shape| shape.dim.len());
        let is_partitioned = !matches!(tensor.slice.as_slice(), [slice] if slice.is_whole(rank));
        let (name, r#type, shape) = (tensor.name, tensor.r#type, tensor.shape);
        Described { name, r#type, shape, is_partitioned }
    });
    let all: Vec<Described> = described.collect();
    let found = names::read(&all)?;
    let (mut tensors, mut names, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for Kept { index, layer, variable } in found.kept {
        let name = &all[index].name;
        let (shape, dtype) = all[index].checked()?;
        // Whole numbers and halves may take one byte each.
        let least = match dtype {
            Dtype::F32 | Dtype::F64 => bytes(&shape, dtype),
            Dtype::F16 | Dtype::Bf16 | Dtype::I8 | Dtype::I32 | Dtype::I64 => {
                Some(shape.iter().product())
            }
        };
        if least.is_none_or(|least| least as u64 > length) {
            return Err(format!(
                "`{name}`: a shape of {shape:?} is more than a file of {length} bytes can hold"
            ));
        }
        places.push(Place { key: key(name, shape.len()), name: name.clone(), dtype });
        tensors.push(TensorInfo { layer, variable, shape, dtype });
        names.push(name.clone());
    }
    let reader = Box::new(Reader { table, places });
    let (is_ordered, left_out) = (found.is_ordered, found.left_out);
    Ok(Opened { tensors, names, reader, is_ordered, left_out })
}

impl TensorSliceProto {
    /// Whether it is all of a tensor of so many axes.
    fn is_whole(&self, rank: usize) -> bool {
        let is_whole =
            self.extent.iter().all(|extent| extent.start == 0 && extent.length.is_none());
        is_whole && self.extent.len() == rank
    }
}

/// What a whole tensor is filed under (`EncodeTensorNameSlice`), so that all keys are in order: 0; the name, with an
/// end that no name has; how many axes; and for each 0 and -1, "from the start, all of it".
fn key(name: &str, rank: usize) -> Vec<u8> {
    let mut key = vec![0];
    for &byte in name.as_bytes() {
        key.push(byte);
        // No text has the byte 255, which is escaped too.
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 1]);
    let axes = rank.to_be_bytes();
    let significant = &axes[axes.iter().take_while(|&&byte| byte == 0).count()..];
    key.push(significant.len() as u8);
    key.extend(significant);
    key.extend([0x80, 0x7f].repeat(rank));
    key
}

struct Place {
    key: Vec<u8>,
    name: String,
    dtype: Dtype,
}

struct Reader {
    table: Table,
    places: Vec<Place>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let Place { key, name, dtype } = &self.places[index];
        let Some(value) = self.table.find(key)? else {
            return Err("is listed, but is not in the file: it is damaged".into());
        };
        let value = SavedTensorSlices::decode(value)
            .map_err(|error| format!("its values are damaged: {error}"))?;
        let slice = value.data.unwrap_or_default();
        if slice.name != *name {
            return Err(format!("under its key are the values of `{}`: damaged", slice.name));
        }
        values(slice.data.unwrap_or_default(), *dtype)
    }
}

/// A tensor's values; how many they have to be is for the caller to say.
fn values(tensor: TensorProto, dtype: Dtype) -> Result<Vec<f32>, String> {
    let content = tensor.tensor_content.len();
    if !content.is_multiple_of(dtype.size()) {
        return Err(format!(
            "has {content} bytes, which are no whole numbers: the file is damaged"
        ));
    }
    if content > 0 {
        return Ok(decode(&tensor.tensor_content, dtype));
    }
    let halves = |to_f32: fn(u16) -> f32| {
        let values = tensor.half_val.iter().map(|&bits| u16::try_from(bits).map(to_f32));
        let values: Result<Vec<f32>, _> = values.collect();
        values.map_err(|_| "a number of 16 bits has more: the file is damaged".to_owned())
    };
    match dtype {
        Dtype::F16 => halves(|bits| f16::from_bits(bits).to_f32()),
        Dtype::Bf16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        Dtype::F32 => Ok(tensor.float_val),
        Dtype::F64 => Ok(tensor.double_val.into_iter().map(|value| value as f32).collect()),
        Dtype::I8 => Err("bytes are no weights here".into()),
        Dtype::I32 => Ok(tensor.int_val.into_iter().map(|value| value as f32).collect()),
        Dtype::I64 => Ok(tensor.int64_val.into_iter().map(|value| value as f32).collect()),
    }
}
