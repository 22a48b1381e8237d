//! TensorFlow's checkpoints, of both versions; no TensorFlow is needed.
//!
//! Both are tables of keys and values (`table.rs`), which hold messages (`messages.rs`). Version 2 (`bundle.rs`) has an
//! index, `X.index`, that says where in `X.data-00000-of-00001` each tensor is; it is what `tf.train.Checkpoint`, Keras's
//! `save_weights("X")` and a SavedModel's folder `variables` are. Version 1 (`slices.rs`) is one file that holds the
//! tensors too; TF-Slim's networks of 2016 are published so.
//!
//! What tensors are called depends on who saved them: `tf.train.Saver` has the variables' own names (`names.rs`), objects
//! are saved with a graph of which belongs to which (`objects.rs`).

mod bundle;
#[cfg(test)]
mod called;
#[cfg(test)]
mod lies;
mod messages;
mod names;
mod objects;
mod slices;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(crate) use table::is_table;

use crate::checkpoint::{Checkpoint, Naming, ReadTensor};
use crate::{Dtype, TensorInfo, WeightsError};
use messages::{TensorShapeProto, VersionDef};
use table::Table;

/// What TensorFlow calls the only layout of messages that there has been.
const LAYOUT: i32 = 1;

/// The index of a checkpoint of which the path names the beginning, as TensorFlow's functions take it, or a file of
/// data.
pub(crate) fn index_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    if let Some((prefix, part)) = name.to_str().and_then(|name| name.rsplit_once(".data-")) {
        let is_number =
            |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_part =
            part.split_once("-of-").is_some_and(|(of, all)| is_number(of) && is_number(all));
        if is_part {
            return Some(path.with_file_name(format!("{prefix}.index")));
        }
    }
    let index = with_ending(path, ".index");
    (!path.is_file() && index.is_file()).then_some(index)
}

/// Whether a file that does not end as a table is called as if it were one.
pub(crate) fn is_named(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.ends_with(".index") || name.contains(".ckpt"))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let mut table = Table::open(path)?;
    let Some(first) = table.find(b"").map_err(wrong)? else {
        return Err(wrong("a table that does not say what it holds, as TensorFlow's checkpoints do: another program's, or damaged".into()));
    };
    // The first field: what version 1 holds is a message, and a header's are numbers.
    let opened = match first.first() {
        Some(0x0a) => slices::read(table, first, path),
        _ => bundle::read(table, first, path),
    };
    let Opened { tensors, names, reader, is_ordered, left_out } = opened.map_err(wrong)?;
    if tensors.is_empty() {
        return Err(wrong(format!(
            "holds no weights of a network{}",
            left_out.first().map_or(String::new(), |line| format!(": {line}"))
        )));
    }
    let naming = if is_ordered { Naming::Names } else { Naming::Unordered };
    let checkpoint = Checkpoint::new(path, tensors, None, reader).with_names(names);
    Ok(checkpoint.with_naming(naming).with_left_out(left_out))
}

/// A checkpoint of either version.
struct Opened {
    tensors: Vec<TensorInfo>,
    names: Vec<String>,
    reader: Box<dyn ReadTensor>,
    /// Whether tensors are in the order of the network's layers.
    is_ordered: bool,
    /// What of the file is not among the tensors; each is a sentence.
    left_out: Vec<String>,
}

/// What is known of a tensor before its values are read.
struct Described {
    name: String,
    /// TensorFlow's number of the type.
    r#type: i32,
    shape: Option<TensorShapeProto>,
    is_partitioned: bool,
}

impl Described {
    fn dtype(&self) -> Option<Dtype> {
        Some(match self.r#type {
            1 => Dtype::F32,
            2 => Dtype::F64,
            3 => Dtype::I32,
            9 => Dtype::I64,
            14 => Dtype::Bf16,
            19 => Dtype::F16,
            _ => return None,
        })
    }

    /// The shape and type of a network's weights.
    fn checked(&self) -> Result<(Vec<usize>, Dtype), String> {
        let wrong = |reason: String| format!("`{}`: {reason}", self.name);
        if self.is_partitioned {
            return Err(wrong("is a partitioned variable, saved in several slices, expected one; restore it in TensorFlow without a partitioner and save it again".into()));
        }
        let Some(dtype) = self.dtype() else {
            return Err(wrong(format!(
                "found {} values, expected half, bfloat16, float, double, int32 or int64",
                type_name(self.r#type)
            )));
        };
        let shape = self.shape.clone().unwrap_or_default();
        let extents: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
        let known = extents.iter().map(|&extent| usize::try_from(extent).ok());
        let known: Option<Vec<usize>> = known.collect();
        match known {
            Some(extents) if !shape.unknown_rank && bytes(&extents, dtype).is_some() => {
                Ok((extents, dtype))
            }
            _ => Err(wrong(format!(
                "found the shape {extents:?}, expected one that is known and that memory can hold"
            ))),
        }
    }
}

/// How many bytes the values take, where that is a number.
fn bytes(shape: &[usize], dtype: Dtype) -> Option<usize> {
    let all = shape.iter().try_fold(1_usize, |all, &extent| all.checked_mul(extent))?;
    all.checked_mul(dtype.size())
}

/// TensorFlow's name of a type, for messages.
fn type_name(number: i32) -> String {
    let names = [
        (4, "uint8"),
        (5, "int16"),
        (6, "int8"),
        (7, "string"),
        (8, "complex64"),
        (10, "bool"),
        (17, "uint16"),
        (18, "complex128"),
        (21, "variant"),
        (22, "uint32"),
        (23, "uint64"),
    ];
    let name = names.iter().find(|(own, _)| *own == number);
    name.map_or_else(|| format!("values of type {number}, which are no"), |(_, n)| (*n).into())
}

fn check_version(version: Option<&VersionDef>) -> Result<(), String> {
    match version.map_or(0, |version| version.min_consumer) {
        ..=LAYOUT => Ok(()),
        newer => Err(format!(
            "asks for a reader of version {newer}, this one is of {LAYOUT}: update rekindle"
        )),
    }
}
