//! Models as other programs read them. What is written is the graph, by its operations' own configurations.

mod front;
mod keras;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

pub(crate) use front::put_in;

use rekindle_nn::QuantizedNetwork;
use rekindle_nn::quantized::Bytes;

use crate::record::Record;
use crate::{ModelCard, TensorInfo, WeightsError, onnx, save, tflite, torch};

/// A file's format, by the ending of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportFormat {
    /// Keras 3's archive: `.keras`.
    Keras,
    /// Keras's HDF5, a whole model or with `weights_only` its weights: `.h5`.
    Hdf5,
    /// ONNX: `.onnx`.
    Onnx,
    /// TensorFlow Lite, with the metadata that Android's task library reads: `.tflite`.
    Tflite,
    /// Rekindle's own file, with Keras's names of variables: `.safetensors`.
    Safetensors,
}

impl ExportFormat {
    /// The formats and the endings of their files.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("keras", Self::Keras),
        ("h5", Self::Hdf5),
        ("onnx", Self::Onnx),
        ("tflite", Self::Tflite),
        ("safetensors", Self::Safetensors),
    ];

    /// The format that a path's ending says.
    ///
    /// # Errors
    /// When it says none.
    pub fn of(path: &Path) -> Result<Self, WeightsError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        let found = Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(ending));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|(name, _)| format!(".{name}")).collect();
            WeightsError::format(
                path,
                format!("nothing is exported as `.{ending}`, expected {}", known.join(", ")),
            )
        })
    }
}

/// Whose names variables have in a safetensors file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Names {
    /// Keras's, with the model card: a file of Rekindle's.
    #[default]
    Keras,
    /// Those of timm's modules, for timm's own network, which has to compute the same.
    Timm,
    /// Those of torchvision's modules, likewise.
    Torchvision,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keras => "Keras",
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
        })
    }
}

/// What an exported file is to hold. A setting that its format has no place for is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Weights without the network: HDF5 only, in Keras 2's layout, or in Keras 3's where the name ends in `.weights.h5`,
    /// which says it too.
    pub weights_only: bool,
    /// Whether preprocessing is a part of the network, which then takes RGB from 0 to 255; true by default.
    pub preprocessing: bool,
    /// Images as `[batch, channels, height, width]`; ONNX only.
    pub channels_first: bool,
    /// Weights as 16-bit floats: ONNX, which then computes with them, and TensorFlow Lite, which computes in float32.
    pub half: bool,
    /// Of a quantized model the numbers that its bytes stand for, where the format has bytes too: ONNX and TensorFlow Lite.
    pub dequantized: bool,
    /// Whose names variables have; other ones than Keras's in safetensors only.
    pub names: Names,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            weights_only: false,
            preprocessing: true,
            channels_first: false,
            half: false,
            dequantized: false,
            names: Names::Keras,
        }
    }
}

/// What to do with an int8 file that Rekindle wrote, which it does not read.
pub(crate) const OWN_INTEGERS: &str = ", Rekindle's own quantized `.rekindle`, or what `rekindle export --precision f32` makes of that";

/// Shape and values in Keras's layout, by layer and variable.
pub(crate) type Variables = HashMap<(String, String), (Vec<usize>, Vec<f32>)>;

/// A model on its way out.
pub(crate) struct Exported {
    /// With the graph that is written; its preprocessing says what is left to do to RGB from 0 to 255.
    pub card: ModelCard,
    /// Those of the graph.
    pub variables: Variables,
}

/// Writes a model as its path's ending says, atomically, and gives what has to be known to load it, in sentences. `values` has the values of each of `tensors`, in Keras's layout, as
/// [`variables_to_save`](crate::variables_to_save) gives them.
///
/// # Errors
/// When the format has no place for a layer, a setting of it, or an option; when a value is not finite, or the file cannot be
/// written.
pub fn export(
    path: &Path,
    card: &ModelCard,
    tensors: &[TensorInfo],
    values: Vec<Vec<f32>>,
    options: ExportOptions,
) -> Result<Vec<String>, WeightsError> {
    let format = ExportFormat::of(path)?;
    let refused = [
        (
            options.weights_only && format != ExportFormat::Hdf5,
            "weights alone are HDF5: name it .h5",
        ),
        (
            options.channels_first && format != ExportFormat::Onnx,
            "channels first is for ONNX: name it .onnx",
        ),
        (
            options.half && !matches!(format, ExportFormat::Onnx | ExportFormat::Tflite),
            "16-bit weights are for ONNX and TensorFlow Lite: name it .onnx or .tflite",
        ),
        (
            options.names != Names::Keras && format != ExportFormat::Safetensors,
            "names of other programs' modules are for safetensors: name it .safetensors",
        ),
    ];
    if let Some((_, reason)) = refused.iter().find(|(is_refused, _)| *is_refused) {
        return Err(WeightsError::format(path, (*reason).to_owned()));
    }
    let has_bytes = matches!(format, ExportFormat::Onnx | ExportFormat::Tflite);
    if card.quantization.is_some() && has_bytes && !options.dequantized && !options.half {
        let reason = "the model is quantized, and its bytes are written with what the engine makes of it (`rekindle export`, \
                      `TrainedModel::export`): ask there, or for the numbers that they stand for";
        return Err(WeightsError::format(path, reason));
    }
    // Other formats have the numbers that bytes stand for.
    let plain = (format != ExportFormat::Safetensors && card.quantization.is_some())
        .then(|| ModelCard { quantization: None, ..card.clone() });
    let card = plain.as_ref().unwrap_or(card);
    let wrong = |reason: String| WeightsError::format(path, reason);
    let weights_only =
        options.weights_only || (format == ExportFormat::Hdf5 && keras::is_numbered(path));
    // Weights are loaded into a network that somebody else builds.
    let model = |values| -> Result<(Exported, Vec<String>), WeightsError> {
        let mut model =
            Exported { card: card.clone(), variables: variables(path, tensors, values)? };
        let front = match options.preprocessing && !weights_only {
            true => put_in(&mut model).map_err(wrong)?,
            false => Vec::new(),
        };
        Ok((model, front))
    };
    match format {
        ExportFormat::Keras => {
            let (model, front) = model(values)?;
            keras::archive(path, model, Record::new(card, front).map_err(wrong)?)
        }
        ExportFormat::Hdf5 if weights_only => keras::weights(path, model(values)?.0),
        ExportFormat::Hdf5 => {
            let (model, front) = model(values)?;
            keras::whole_hdf5(path, model, Record::new(card, front).map_err(wrong)?)
        }
        ExportFormat::Onnx => onnx::write(path, card, model(values)?.0, options, &Bytes::default()),
        ExportFormat::Tflite => {
            tflite::write(path, card, model(values)?.0, options, &Bytes::default())
        }
        ExportFormat::Safetensors if options.names != Names::Keras => {
            let variables = variables(path, tensors, values)?;
            let model = Exported { card: card.clone(), variables };
            return torch::write(path, &model, options.names);
        }
        // The card says how photos are preprocessed: no layer has to.
        ExportFormat::Safetensors => {
            save(path, card, tensors, &mut |index| match values.get(index) {
                Some(values) => Ok(values.clone()),
                None => Err(WeightsError::format(path, format!("tensor {index} has no values"))),
            })
        }
    }?;
    Ok(Vec::new())
}

/// Writes a quantized model as other engines compute it, ONNX or TensorFlow Lite by the path's ending, atomically. `network` is what
/// rekindle-kernels' `quantized` makes of the card's.
///
/// # Errors
/// As [`export`]'s, and when the options ask for other numbers or another format.
pub fn export_quantized(
    path: &Path,
    card: &ModelCard,
    network: QuantizedNetwork,
    options: ExportOptions,
) -> Result<(), WeightsError> {
    let format = ExportFormat::of(path)?;
    let wrong = |reason: String| WeightsError::format(path, reason);
    let plain = ExportOptions {
        preprocessing: options.preprocessing,
        channels_first: options.channels_first && format == ExportFormat::Onnx,
        ..ExportOptions::default()
    };
    if options != plain {
        return Err(wrong(
            "an int8 file has bytes and the whole network, and only ONNX takes images with their channels first: leave the other options out"
                .into(),
        ));
    }
    let QuantizedNetwork { graph, variables, bytes } = network;
    let card = &ModelCard { quantization: None, ..card.clone() };
    let mut model = Exported { card: ModelCard { graph, ..card.clone() }, variables };
    if options.preprocessing {
        put_in(&mut model).map_err(wrong)?;
    }
    match format {
        ExportFormat::Onnx => onnx::write(path, card, model, options, &bytes),
        ExportFormat::Tflite => tflite::write(path, card, model, options, &bytes),
        ExportFormat::Keras | ExportFormat::Hdf5 | ExportFormat::Safetensors => {
            Err(wrong("int8 is for ONNX and TensorFlow Lite: name it .onnx or .tflite".into()))
        }
    }
}

/// Shape and values of every variable, seen to be numbers.
fn variables(
    path: &Path,
    tensors: &[TensorInfo],
    values: Vec<Vec<f32>>,
) -> Result<Variables, WeightsError> {
    let mut variables = HashMap::new();
    for (info, values) in tensors.iter().zip(values) {
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let (path, tensor, value) = (path.to_owned(), info.path(), values[position]);
            return Err(WeightsError::NotFinite { path, tensor, value, position });
        }
        let name = (info.layer.clone(), info.variable.clone());
        variables.insert(name, (info.shape.clone(), values));
    }
    Ok(variables)
}
