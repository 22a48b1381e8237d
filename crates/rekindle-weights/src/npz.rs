//! NumPy's `.npz` of weights: a zip of arrays, each an `.npy`.
//!
//! Source: `numpy/lib/format.py`. Arrays that have names are Keras's variables by these; what
//! `np.savez(path, *model.get_weights())` writes, `arr_0`, `arr_1`, ..., is in the order of the model's layers.

use std::path::Path;

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::files::Bytes;
use crate::hdf5::split_name;
use crate::safetensors::decode;
use crate::zipped::Zip;
use crate::{Dtype, TensorInfo, WeightsError};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Real headers have some hundred bytes.
const LONGEST_HEADER: usize = 1 << 16;

/// Opens an archive whose files all are arrays.
pub(crate) fn open(zip: Zip, path: &Path) -> Result<Checkpoint, WeightsError> {
    read(zip, path).map_err(|reason| WeightsError::format(path, reason))
}

fn read(mut zip: Zip, path: &Path) -> Result<Checkpoint, String> {
    let mut members = zip.names();
    let numbers: Option<Vec<usize>> = members.iter().map(|member| number(member)).collect();
    let is_numbered = numbers.is_some();
    if let Some(mut numbers) = numbers {
        members.sort_by_key(|member| number(member));
        numbers.sort_unstable();
        let missing = numbers.iter().enumerate().find(|(place, number)| place != *number);
        if let Some((place, _)) = missing {
            return Err(format!(
                "`arr_{place}` is missing, or is there twice: weights in order have every number from 0 on"
            ));
        }
    }
    let (mut tensors, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for member in members {
        let name = member.strip_suffix(".npy").unwrap_or(&member).to_owned();
        let wrong = |reason: String| format!("`{name}`: {reason}");
        let bytes = zip.bytes(&member)?;
        let array = Array::open(bytes).map_err(wrong)?;
        let (layer, variable) = match is_numbered {
            true => (name.clone(), "values".to_owned()),
            false if !name.contains('/') => {
                return Err(wrong("expected `layer/variable`, as Keras's variables are called, or `arr_0`, `arr_1`, ... for all of them in order, as np.savez(path, *model.get_weights()) writes them".into()));
            }
            false => split_name("", &name),
        };
        tensors.push(TensorInfo {
            layer,
            variable,
            shape: array.shape.clone(),
            dtype: array.dtype,
        });
        arrays.push(array);
        names.push(name);
    }
    let mut paths: Vec<String> = tensors.iter().map(TensorInfo::path).collect();
    paths.sort();
    if let Some(twice) = paths.windows(2).find(|two| two[0] == two[1]) {
        return Err(format!("two of its arrays mean `{}`", twice[0]));
    }
    let naming = if is_numbered { Naming::Sequence } else { Naming::Unordered };
    let checkpoint = Checkpoint::new(path, tensors, None, Box::new(Reader(arrays)));
    Ok(checkpoint.with_names(names).with_naming(naming))
}

/// The number of an array that has no name: `arr_12.npy`.
fn number(member: &str) -> Option<usize> {
    member.strip_prefix("arr_")?.strip_suffix(".npy")?.parse().ok()
}

/// An array whose values are read when they are asked for.
struct Array {
    bytes: Bytes,
    /// Where the values begin.
    start: u64,
    shape: Vec<usize>,
    dtype: Dtype,
    /// Of all values.
    length: usize,
}

impl Array {
    fn open(bytes: Bytes) -> Result<Self, String> {
        let there = bytes.length();
        let mut prefix = [0; 12];
        let count = there.min(12);
        let count = usize::try_from(count).map_err(|error| error.to_string())?;
        bytes.read(0, &mut prefix[..count])?;
        let [magic @ .., major, _, a, b, c, d] = prefix;
        let (header, length) = match major {
            1 => (10, usize::from(u16::from_le_bytes([a, b]))),
            _ => (12, usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX)),
        };
        let end = (header as u64).saturating_add(length as u64);
        if magic != *MAGIC || !matches!(major, 1..=3) {
            return Err("no NumPy array: damaged, or another program's".into());
        }
        if length > LONGEST_HEADER || end > there {
            return Err(format!("a header of {length} bytes in {there}: the file is damaged"));
        }
        let mut text = vec![0; length];
        bytes.read(header as u64, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        let (shape, dtype) = described(&text)?;
        let counted = shape.iter().try_fold(dtype.size(), |all, &size| all.checked_mul(size));
        let expected = counted.and_then(|length| end.checked_add(length as u64));
        let (Some(length), Some(expected)) = (counted, expected) else {
            return Err(format!("a shape of {shape:?} is more than memory can hold"));
        };
        if expected != there {
            return Err(format!(
                "found {there} bytes, expected {expected} for a shape of {shape:?}: the file is truncated or altered"
            ));
        }
        Ok(Self { bytes, start: end, shape, dtype, length })
    }
}

/// The shape and type in a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }`.
fn described(header: &str) -> Result<(Vec<usize>, Dtype), String> {
    let shown = || header.trim().chars().take(80).collect::<String>();
    let value = |key: &str| {
        let rest = header.split_once(&format!("'{key}':"))?.1;
        Some(rest.trim_start())
    };
    let damaged = || format!("its header is damaged: {}", shown());
    let kind = value("descr").ok_or_else(damaged)?;
    let kind = kind.strip_prefix('\'').and_then(|kind| kind.split('\'').next());
    let dtype = match kind.unwrap_or_default() {
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        "<i4" => Dtype::I32,
        "<i8" => Dtype::I64,
        "|O" => {
            return Err("holds Python objects, which are pickled and would run code: save each array under a name of its own, np.savez(path, **{w.path: w.numpy() for w in model.weights})".into());
        }
        other => {
            return Err(format!(
                "found values of the kind `{other}`, expected <f2, <f4, <f8, <i4 or <i8"
            ));
        }
    };
    let shape = value("shape").ok_or_else(damaged)?;
    let shape = shape.strip_prefix('(').and_then(|rest| rest.split(')').next());
    let extents = shape.ok_or_else(damaged)?.split(',').map(str::trim);
    let extents = extents.filter(|extent| !extent.is_empty());
    let shape: Result<Vec<usize>, _> = extents.map(str::parse).collect();
    let shape = shape.map_err(|_| damaged())?;
    let is_fortran = value("fortran_order").ok_or_else(damaged)?.starts_with("True");
    if is_fortran && shape.len() > 1 {
        return Err("is in Fortran's order, expected C's: save np.ascontiguousarray(array)".into());
    }
    Ok((shape, dtype))
}

struct Reader(Vec<Array>);

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let array = self.0.get(index).ok_or("no such array")?;
        let mut bytes = vec![0; array.length];
        array.bytes.read(array.start, &mut bytes)?;
        Ok(decode(&bytes, array.dtype))
    }
}
