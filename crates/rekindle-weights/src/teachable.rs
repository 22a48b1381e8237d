//! What Google's Teachable Machine exports: a zip of a model, Keras's, TF.js's or TensorFlow Lite's, and of its labels.
//!
//! Its programs feed a model `x / 127.5 - 1` of the middle square of a photo, which no file says. Source: the snippets
//! beside each export at <https://teachablemachine.withgoogle.com>, and `@teachablemachine/image`'s `metadata.json`.

use std::path::Path;

use rekindle_nn::ops::{Fit, Interpolation, Resizing};
use serde_json::Value;

use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::files::Files;
use crate::zipped::Zip;
use crate::{WeightsError, hdf5, tfjs, tflite};

/// What it says of an export for TF.js.
pub(crate) const METADATA: &str = "metadata.json";
/// The classes of an export for Keras: `0 Class 1`.
const LABELS: &str = "labels.txt";
/// The model of an export for Keras.
pub(crate) const KERAS: &str = "keras_model.h5";
/// The model of an export for TensorFlow Lite, in float32; its other one, `model.tflite`, is quantised.
pub(crate) const LITE: &str = "model_unquant.tflite";
/// Both are some kB.
const LONGEST: u64 = 10_000_000;
/// Larger photos are no input of any network.
const LARGEST: u64 = 1 << 14;

/// Opens an export; nothing where the zip is none.
pub(crate) fn open_zip(
    zip: &mut Zip,
    names: &[String],
    path: &Path,
) -> Option<Result<Checkpoint, WeightsError>> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    // Somebody may have packed the folder.
    let find = |wanted: &str| {
        names.iter().find_map(|name| match name.strip_suffix(wanted)? {
            prefix if prefix.is_empty() || prefix.ends_with('/') => Some(prefix.to_owned()),
            _ => None,
        })
    };
    if let Some(prefix) = find(KERAS) {
        return Some(open_keras(zip, &prefix, path).map_err(wrong));
    }
    if let Some(prefix) = find(tfjs::MODEL) {
        let name = format!("{prefix}{}", tfjs::MODEL);
        let model = zip.text(&name, LONGEST.saturating_mul(10)).and_then(|text| {
            serde_json::from_slice(&text)
                .map_err(|error| format!("`{name}`: damaged JSON: {error}"))
        });
        return Some(
            model
                .and_then(|model| tfjs::read(path, model, &mut Files::Zip(zip, &prefix)))
                .map_err(wrong),
        );
    }
    if let Some(prefix) = find("saved_model.pb") {
        return Some(Err(wrong(format!(
            "holds a SavedModel, `{prefix}`: unpack the zip, and give that folder"
        ))));
    }
    // Of several, the one in float32.
    let is_lite = |name: &&String| name.ends_with(".tflite");
    let float = names.iter().filter(is_lite).find(|name| name.ends_with(LITE));
    let lite = float.or_else(|| names.iter().find(is_lite))?;
    Some(open_lite(zip, lite, path).map_err(wrong))
}

fn open_lite(zip: &mut Zip, name: &str, path: &Path) -> Result<Checkpoint, String> {
    let checkpoint = zip.bytes(name).and_then(|bytes| bytes.all());
    let checkpoint = checkpoint.and_then(|bytes| tflite::of_bytes(path, bytes));
    let checkpoint = checkpoint.map_err(|reason| format!("`{name}`: {reason}"))?;
    let prefix = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let beside = of_keras(&mut Files::Zip(zip, &prefix))?;
    Ok(checkpoint.with_beside(beside.unwrap_or_default()))
}

fn open_keras(zip: &mut Zip, prefix: &str, path: &Path) -> Result<Checkpoint, String> {
    let (file, size) = zip.hdf5(&format!("{prefix}{KERAS}"))?;
    let checkpoint = hdf5::read(file, size, path).map_err(|error| crate::with_causes(&error))?;
    let beside = of_keras(&mut Files::Zip(zip, prefix))?;
    Ok(checkpoint.with_beside(beside.unwrap_or_default()))
}

/// Opens an export for TensorFlow Lite that was unpacked.
pub(crate) fn open_lite_folder(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let checkpoint = tflite::open(&folder.join(LITE))?;
    let beside = of_keras(&mut Files::Folder(folder))
        .map_err(|reason| WeightsError::format(folder, reason))?;
    Ok(checkpoint.with_beside(beside.unwrap_or_default()))
}

/// Opens an export for Keras that was unpacked.
pub(crate) fn open_folder(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let checkpoint = hdf5::open(&folder.join(KERAS))?;
    let beside = of_keras(&mut Files::Folder(folder))
        .map_err(|reason| WeightsError::format(folder, reason))?;
    Ok(checkpoint.with_beside(beside.unwrap_or_default()))
}

/// What the labels beside a `keras_model.h5` or a `model_unquant.tflite` say; nothing without labels.
fn of_keras(files: &mut Files<'_>) -> Result<Option<Beside>, String> {
    let Some(text) = files.text(LABELS, LONGEST)? else { return Ok(None) };
    let text = String::from_utf8(text).map_err(|error| format!("`{LABELS}`: {error}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let label = |(number, line): (usize, &str)| {
        let number = number.to_string();
        let named = line.strip_prefix(&number).and_then(|rest| rest.strip_prefix(' '));
        named.unwrap_or(line).to_owned()
    };
    let classes = lines.enumerate().map(label).collect();
    Ok(Some(Beside {
        file: LABELS.into(),
        classes,
        preprocessing: Some(preprocessing()),
        ..Beside::default()
    }))
}

/// What its programs do to pixels.
fn preprocessing() -> (String, String) {
    let why = "the file has no preprocessing: `tf`, x / 127.5 - 1, is assumed, since that is what Teachable Machine's programs do";
    ("tf".into(), why.into())
}

/// What a `metadata.json` beside a model says; nothing where there is none.
pub(crate) fn metadata(files: &mut Files<'_>) -> Result<Option<Beside>, String> {
    let Some(text) = files.text(METADATA, LONGEST)? else { return Ok(None) };
    let wrong = |reason: String| format!("`{METADATA}`: {reason}");
    let metadata: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("damaged JSON: {error}")))?;
    let package = metadata["packageName"].as_str().unwrap_or_default();
    if package.starts_with("@teachablemachine/") && package != "@teachablemachine/image" {
        return Err(wrong(format!(
            "`packageName` is `{package}`, expected `@teachablemachine/image`: a project of images"
        )));
    }
    let is_its_own = !package.is_empty() || metadata.get("tmVersion").is_some();
    let mut beside = Beside { file: METADATA.into(), ..Beside::default() };
    match metadata.get("labels") {
        None | Some(Value::Null) => {}
        Some(Value::Array(labels)) => {
            let names: Option<Vec<String>> =
                labels.iter().map(|label| label.as_str().map(str::to_owned)).collect();
            beside.classes = names
                .ok_or_else(|| wrong("`labels` are not all texts, as class names are".into()))?;
        }
        Some(other) => {
            return Err(wrong(format!("`labels` is {}, expected a list of texts", shown(other))));
        }
    }
    match metadata.get("imageSize") {
        None | Some(Value::Null) => {}
        Some(size) => match size.as_u64() {
            Some(size @ 1..=LARGEST) => {
                let size = usize::try_from(size).map_err(|error| wrong(error.to_string()))?;
                beside.size = Some([size, size]);
            }
            _ => {
                return Err(wrong(format!(
                    "`imageSize` is {}, expected 1 to {LARGEST} pixels",
                    shown(size)
                )));
            }
        },
    }
    if is_its_own {
        beside.preprocessing = Some(preprocessing());
        beside.photo_resize = beside.size.map(cropped);
    }
    Ok(Some(beside))
}

/// The middle square of a photo, as its Python snippet takes it: `ImageOps.fit` with Lanczos.
fn cropped([height, width]: [usize; 2]) -> (rekindle_nn::Op, String) {
    let resizing = Resizing {
        antialias: true,
        ..Resizing::new(height, width).interpolation(Interpolation::Lanczos3).fit(Fit::Crop)
    };
    let why = "the file does not say how photos are resized: their middle square, by Lanczos's filter, is assumed, as Teachable Machine's programs take it";
    (resizing.into(), why.into())
}

/// A value in a message, short.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
