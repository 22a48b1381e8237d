//! Constants of a file as ONNX has them.

use prost::bytes::Bytes;

use super::super::file::{BFLOAT16, FLOAT16, FLOAT32, FLOAT64, File, INT8, INT32, INT64, Tensor};
use super::names;
use crate::onnx::proto::TensorProto;

/// Integers of a shape are few; others are left out.
const UNKNOWN: i32 = 8;

/// Every constant of a file. Weights of 8 bits become float32.
///
/// # Errors
/// When the file is damaged, or a constant is one that is not supported.
pub(in crate::tflite) fn constants(file: &File) -> Result<(Vec<TensorProto>, bool), String> {
    let mut has_bytes = false;
    let mut all = Vec::new();
    for (tensor, name) in file.tensors.iter().zip(names(file)) {
        let Some(range) = &tensor.data else { continue };
        let wrong = |reason: String| format!("`{name}`: {reason}");
        if tensor.is_sparse {
            return Err(wrong(
                "a sparse tensor, which is not supported: convert the model without it".into(),
            ));
        }
        let dims: Vec<i64> = tensor.shape.iter().map(|&extent| i64::from(extent)).collect();
        let bytes = file.bytes.slice(range.clone());
        let (data_type, raw_data) = match (tensor.kind, &tensor.quantization) {
            (FLOAT32, _) => (1, bytes),
            (FLOAT16, _) => (10, bytes),
            (FLOAT64, _) => (11, bytes),
            (BFLOAT16, _) => (16, bytes),
            (INT32, None) => (6, bytes),
            (INT64, None) => (7, bytes),
            (INT8, Some(_)) => {
                has_bytes = true;
                (1, floats(tensor, &bytes).map_err(wrong)?)
            }
            _ => (UNKNOWN, Bytes::new()),
        };
        all.push(TensorProto { dims, data_type, raw_data, name, ..TensorProto::default() });
    }
    Ok((all, has_bytes))
}

/// `scale * (q - zero)`, by the place along one axis.
fn floats(tensor: &Tensor, bytes: &[u8]) -> Result<Bytes, String> {
    let Some(quantization) = &tensor.quantization else { return Err("it has no scale".into()) };
    let axis = usize::try_from(quantization.axis).ok();
    let extents: Option<Vec<usize>> =
        tensor.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let extents = extents.ok_or("a shape with negative extents")?;
    let scales = &quantization.scale;
    let (count, inner) = match (scales.len(), axis) {
        (1, _) => (1, usize::MAX),
        (count, Some(axis)) if extents.get(axis) == Some(&count) => {
            let inner =
                extents[axis + 1..].iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
            (count, inner.ok_or("a shape of too many values")?.max(1))
        }
        (count, _) => return Err(format!("{count} scales for a shape of {extents:?}")),
    };
    let values = bytes.iter().enumerate().map(|(place, &byte)| {
        let which = place / inner % count;
        let zero = quantization.zero.get(which).or(quantization.zero.first()).copied().unwrap_or(0);
        (i64::from(byte.cast_signed()).saturating_sub(zero)) as f32 * scales[which]
    });
    Ok(Bytes::from(values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
}
