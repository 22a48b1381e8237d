//! Keras's legacy HDF5 layout (`keras/src/legacy/saving/legacy_h5_format.py`), as `model.save("x.h5")`
//! and, up to Keras 2, `model.save_weights("x.h5")` write it.
//!
//! A group `model_weights` (whole models) or the root holds one group for each layer of the attribute
//! `layer_names`; the attribute `weight_names` of such a group lists its datasets. A nested model is one
//! layer here, and the layers inside it are part of the names of its weights.

use std::collections::HashSet;
use std::path::Path;

use half::f16;
use hdf5_pure::{DType, Dataset, File, Group};

use crate::checkpoint::{Checkpoint, ReadTensor};
use crate::{Dtype, TensorInfo, WeightsError};

pub(crate) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let damaged = |error: hdf5_pure::Error| wrong(format!("damaged HDF5: {error}"));
    let file = File::open_streaming(path).map_err(damaged)?;
    let length = std::fs::metadata(path).map_err(|error| WeightsError::io(path, error))?.len();
    let root = match file.group("model_weights") {
        Ok(group) => group,
        Err(_) => file.root(),
    };
    let Some(layers) = names(&root, "layer_names").map_err(damaged)? else {
        let reason = "no attribute `layer_names`: not Keras's legacy HDF5 layout. A Keras 3 `.weights.h5` numbers its layers instead of naming them: save the model with `model.save(\"name.h5\")`";
        return Err(wrong(reason.into()));
    };
    let (mut tensors, mut datasets, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for layer in layers {
        let group = root.group(&layer).map_err(|error| {
            wrong(format!("layer `{layer}` is listed but has no group: {error}"))
        })?;
        for weight in names(&group, "weight_names").map_err(damaged)?.unwrap_or_default() {
            let (owner, variable) = split_name(&layer, &weight);
            let tensor = |reason: String| wrong(format!("`{owner}/{variable}`: {reason}"));
            let dataset = group.dataset(&weight).map_err(|error| tensor(error.to_string()))?;
            let (shape, dtype) = describe(&dataset, length).map_err(tensor)?;
            if !seen.insert(format!("{owner}/{variable}")) {
                return Err(tensor("the file has two variables of this name".into()));
            }
            tensors.push(TensorInfo { layer: owner, variable, shape, dtype });
            datasets.push(dataset);
        }
    }
    if tensors.is_empty() {
        return Err(wrong("the file lists layers but holds no weights".into()));
    }
    let dtypes = tensors.iter().map(|tensor| tensor.dtype).collect();
    Ok(Checkpoint::new(path, tensors, None, Box::new(Reader { _file: file, datasets, dtypes })))
}

/// The layer and the variable that a weight's name means: `block_1/Conv1/kernel:0` is `Conv1`'s `kernel`.
fn split_name(group: &str, weight: &str) -> (String, String) {
    let weight = weight.strip_suffix(":0").unwrap_or(weight);
    let (path, variable) = weight.rsplit_once('/').unwrap_or((group, weight));
    let layer = path.rsplit_once('/').map_or(path, |(_, layer)| layer);
    // Keras 2 called it so.
    let variable = if variable == "depthwise_kernel" { "kernel" } else { variable };
    (layer.to_owned(), variable.to_owned())
}

/// An attribute of strings, also where Keras had to split it (`weight_names0`, `weight_names1`, ...).
fn names(group: &Group, attribute: &str) -> Result<Option<Vec<String>>, hdf5_pure::Error> {
    let attributes = group.attrs()?;
    let strings = |name: &str| attributes.get(name).and_then(|value| value.as_strings());
    if let Some(names) = strings(attribute) {
        return Ok(Some(names.to_vec()));
    }
    if attributes.contains_key(attribute) {
        // h5py writes an empty list as an empty array of numbers.
        return Ok(Some(Vec::new()));
    }
    let parts = (0..).map_while(|part| strings(&format!("{attribute}{part}")));
    let joined: Vec<String> = parts.flat_map(<[String]>::to_vec).collect();
    Ok((!joined.is_empty()).then_some(joined))
}

fn describe(dataset: &Dataset, file_length: u64) -> Result<(Vec<usize>, Dtype), String> {
    let text = |error: hdf5_pure::Error| error.to_string();
    let extents = dataset.shape().map_err(text)?;
    let dtype = match (dataset.dtype().map_err(text)?, dataset.element_size().map_err(text)?) {
        (DType::F32, _) => Dtype::F32,
        (DType::F64, _) => Dtype::F64,
        (DType::Other(kind), 2) if format!("{kind:?}").starts_with("FloatingPoint") => Dtype::F16,
        (other, _) => return Err(format!("found {other} values, expected f16, f32 or f64")),
    };
    let shape: Option<Vec<usize>> = extents.iter().map(|&extent| extent.try_into().ok()).collect();
    let bytes =
        extents.iter().try_fold(dtype.size() as u64, |all, &extent| all.checked_mul(extent));
    // Deflate reaches 1032:1 at the very best.
    match (shape, bytes) {
        (Some(shape), Some(bytes)) if bytes <= file_length.saturating_mul(1032) => {
            Ok((shape, dtype))
        }
        _ => Err(format!(
            "a shape of {extents:?} is more than a file of {file_length} bytes can hold"
        )),
    }
}

struct Reader {
    _file: File,
    datasets: Vec<Dataset>,
    dtypes: Vec<Dtype>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let dataset = &self.datasets[index];
        match self.dtypes[index] {
            Dtype::F16 => {
                let bytes = dataset.read_raw().map_err(|error| error.to_string())?;
                let half = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                Ok(bytes.chunks_exact(2).map(half).collect())
            }
            _ => dataset.read_f32().map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names_of_every_keras() {
        for (group, weight, layer, variable) in [
            ("Conv1", "Conv1/kernel:0", "Conv1", "kernel"),
            ("Conv1", "Conv1/Conv1/kernel:0", "Conv1", "kernel"),
            ("Conv1", "Conv1/kernel", "Conv1", "kernel"),
            (
                "expanded_conv_depthwise",
                "expanded_conv_depthwise/depthwise_kernel:0",
                "expanded_conv_depthwise",
                "kernel",
            ),
            ("mobilenetv2_1.00_160", "bn_Conv1/moving_mean", "bn_Conv1", "moving_mean"),
            ("dense", "kernel", "dense", "kernel"),
        ] {
            assert_eq!(split_name(group, weight), (layer.into(), variable.into()));
        }
    }
}
