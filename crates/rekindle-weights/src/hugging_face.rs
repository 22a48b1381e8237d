//! Hugging Face's folders: `model.safetensors`, what network it is of in `config.json`, and for transformers how photos are
//! prepared in `preprocessor_config.json`.
//!
//! Sources: timm's `models/_hub.py`, `save_config_for_hf`; transformers' `configuration_resnet.py`,
//! `configuration_convnext.py`, `image_processing_convnext.py`.

use std::path::Path;

use rekindle_nn::ops::Interpolation;
use serde_json::Value;

use crate::beside::Beside;
use crate::checkpoint::Checkpoint;
use crate::files::Files;
use crate::teachable::shown;
use crate::torch::Scaling;
use crate::{WeightsError, json, safetensors};

/// Says what the network is.
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
/// The weights, in one file or in several.
pub(crate) const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];
/// Weights that are Python's pickles.
pub(crate) const PICKLES: &str = "pytorch_model.bin";
/// Both are some kB.
const LONGEST: u64 = 10_000_000;
/// Larger photos are no input of any network.
const LARGEST: u64 = 1 << 14;

/// What to do about a pickle.
pub(crate) const CONVERT: &str = "pickles run code when they are read: convert it where you trust it, with two lines of Python: `import torch, safetensors.torch` and `safetensors.torch.save_file(torch.load(\"FILE\", map_location=\"cpu\", weights_only=True), \"model.safetensors\")`";

/// Opens a folder with a `config.json`.
pub(crate) fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let wrong = |reason: String| WeightsError::format(folder, reason);
    let mut files = Files::Folder(folder);
    let beside = beside(&mut files).map_err(wrong)?;
    let [whole, index] = WEIGHTS.map(|name| folder.join(name));
    let checkpoint = if whole.is_file() {
        safetensors::open(&whole)?
    } else if index.is_file() {
        json::open(&index)?
    } else if folder.join(PICKLES).is_file() {
        return Err(wrong(format!("`{PICKLES}` is a pickle: {CONVERT}")));
    } else {
        return Err(wrong(format!("has a {CONFIG}, but no {}", WEIGHTS[0])));
    };
    Ok(checkpoint.with_beside(beside))
}

fn read(files: &mut Files<'_>, name: &str) -> Result<Option<Value>, String> {
    let Some(text) = files.text(name, LONGEST)? else { return Ok(None) };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| format!("`{name}`: damaged JSON: {error}"))
}

fn beside(files: &mut Files<'_>) -> Result<Beside, String> {
    let config = read(files, CONFIG)?.unwrap_or_default();
    let mut beside = said(&config, CONFIG)?;
    if let Some(preprocessor) = read(files, PREPROCESSOR)?
        && config["architecture"].as_str().is_none()
    {
        of_photos(&preprocessor, &mut beside)
            .map_err(|reason| format!("`{PREPROCESSOR}`: {reason}"))?;
    }
    Ok(beside)
}

/// What a configuration says of a network; `file` is where it stands.
pub(crate) fn said(config: &Value, file: &str) -> Result<Beside, String> {
    let wrong = |reason: String| format!("`{file}`: {reason}");
    let mut beside = Beside { file: file.into(), ..Beside::default() };
    let architecture = config["architecture"].as_str();
    let kind = config["model_type"].as_str();
    match (architecture, kind) {
        (Some(name), _) => {
            // `resnet50.a1_in1k` says which weights, too.
            beside.model = name.split('.').next().map(str::to_owned);
            of_timm(config, &mut beside).map_err(wrong)?;
        }
        (None, Some(kind)) => {
            beside.model = Some(format!("transformers:{kind}"));
            of_transformers(kind, config, &mut beside).map_err(wrong)?;
        }
        (None, None) => {
            return Err(wrong("has neither timm's `architecture` nor transformers' `model_type`, which say what the network is".into()));
        }
    }
    beside.classes = classes(config).map_err(wrong)?;
    Ok(beside)
}

/// timm's settings.
fn of_timm(config: &Value, beside: &mut Beside) -> Result<(), String> {
    // What no answer depends on, and what the weights say.
    const FREE: [&str; 9] = [
        "num_classes",
        "in_chans",
        "pretrained",
        "drop_rate",
        "drop_path_rate",
        "scriptable",
        "width_mult",
        "aux_logits",
        "init_weights",
    ];
    let arguments = config["model_args"].as_object();
    let told = &config["model_args"];
    // Keras's arithmetic, where timm has no network of its own for it.
    let is_keras = told["pad_type"] == "same" && told["bn_eps"].as_f64() == Some(1e-3);
    let has_none =
        config["architecture"].as_str().is_some_and(|name| name.starts_with("mobilenetv2_"));
    beside.arguments = is_keras && has_none;
    for (name, value) in arguments.into_iter().flatten() {
        let is_usual = name == "global_pool" && value == "avg"
            || beside.arguments && matches!(name.as_str(), "pad_type" | "bn_eps");
        if !FREE.contains(&name.as_str()) && !is_usual && !value.is_null() {
            return Err(format!(
                "`model_args` has `{name}` {}, which is not supported: it would not be honoured",
                shown(value)
            ));
        }
    }
    expect(config, "global_pool", &["avg"])?;
    let photos = &config["pretrained_cfg"];
    if photos.is_null() {
        return Ok(());
    }
    beside.scaling = scaling(&photos["mean"], &photos["std"])?;
    beside.interpolation = match &photos["interpolation"] {
        Value::Null => None,
        value => Some(match value.as_str() {
            Some("bicubic") => Interpolation::Bicubic,
            Some("bilinear") => Interpolation::Bilinear,
            Some("nearest") => Interpolation::Nearest,
            Some("lanczos") => Interpolation::Lanczos3,
            _ => {
                return Err(format!(
                    "`interpolation` is {}, expected bicubic, bilinear, nearest or lanczos",
                    shown(value)
                ));
            }
        }),
    };
    match &photos["input_size"] {
        Value::Null => {}
        Value::Array(sizes) => {
            let [_, height, width] = sizes.as_slice() else {
                return Err(format!(
                    "`input_size` is {}, expected channels, height, width",
                    shown(&photos["input_size"])
                ));
            };
            beside.size = Some([side(height)?, side(width)?]);
        }
        other => return Err(format!("`input_size` is {}, expected a list", shown(other))),
    }
    cropped(&photos["crop_pct"], beside);
    Ok(())
}

/// transformers' settings, where they are not those that the network has here.
fn of_transformers(kind: &str, config: &Value, beside: &mut Beside) -> Result<(), String> {
    match kind {
        "resnet" => {
            expect(config, "layer_type", &["bottleneck"])?;
            expect(config, "hidden_act", &["relu"])?;
            for flag in ["downsample_in_first_stage", "downsample_in_bottleneck"] {
                if config[flag] == true {
                    return Err(format!("`{flag}` is true, expected false"));
                }
            }
        }
        "convnext" => {
            expect(config, "hidden_act", &["gelu"])?;
            let epsilon = config.get("layer_norm_eps").filter(|value| !value.is_null());
            // transformers' own default.
            let epsilon = epsilon.map_or(Some(1e-12), Value::as_f64);
            let is_small = |epsilon: &f64| (0.0..1.0).contains(epsilon);
            beside.last_epsilon = Some(epsilon.filter(is_small).ok_or_else(|| {
                format!(
                    "`layer_norm_eps` is {}, expected a small number",
                    shown(&config["layer_norm_eps"])
                )
            })?);
        }
        // Any other is refused by its name.
        _ => {}
    }
    Ok(())
}

/// The setting, where there is one, has to be one of these.
fn expect(config: &Value, setting: &str, expected: &[&str]) -> Result<(), String> {
    let value = &config[setting];
    let is_expected = value.is_null() || value.as_str().is_some_and(|own| expected.contains(&own));
    match is_expected {
        true => Ok(()),
        false => {
            Err(format!("`{setting}` is {}, expected {}", shown(value), expected.join(" or ")))
        }
    }
}

/// How transformers' processors prepare photos.
fn of_photos(settings: &Value, beside: &mut Beside) -> Result<(), String> {
    let is = |setting: &str| settings[setting] != false;
    if is("do_rescale") {
        let factor = settings.get("rescale_factor").filter(|value| !value.is_null());
        let factor = factor.map_or(Some(1.0 / 255.0), Value::as_f64).unwrap_or_default();
        if (factor * 255.0 - 1.0).abs() > 1e-6 {
            return Err(format!(
                "`rescale_factor` is {}, expected 1/255",
                shown(&settings["rescale_factor"])
            ));
        }
    } else {
        return Err("`do_rescale` is false, expected true: images from 0 to 1".into());
    }
    beside.scaling = if is("do_normalize") {
        scaling(&settings["image_mean"], &settings["image_std"])?
    } else {
        Some(Scaling { mean: vec![0.0; 3], deviation: vec![1.0; 3] })
    };
    beside.interpolation = match &settings["resample"] {
        Value::Null => None,
        value => Some(match value.as_u64() {
            Some(0) => Interpolation::Nearest,
            Some(1) => Interpolation::Lanczos3,
            Some(2) => Interpolation::Bilinear,
            Some(3) => Interpolation::Bicubic,
            _ => {
                return Err(format!(
                    "`resample` is {}, expected 0 to 3: Pillow's number of nearest, lanczos, bilinear or bicubic",
                    shown(value)
                ));
            }
        }),
    };
    let sizes = [&settings["crop_size"], &settings["size"]];
    let size = sizes.into_iter().find(|size| !size.is_null());
    match size {
        None => {}
        Some(Value::Object(size)) if size.contains_key("height") && size.contains_key("width") => {
            beside.size = Some([side(&size["height"])?, side(&size["width"])?]);
        }
        Some(Value::Object(size)) if size.contains_key("shortest_edge") => {
            beside.size = Some([side(&size["shortest_edge"])?; 2]);
        }
        Some(number @ Value::Number(_)) => beside.size = Some([side(number)?; 2]),
        Some(other) => {
            return Err(format!(
                "`size` is {}, expected height and width, or shortest_edge",
                shown(other)
            ));
        }
    }
    cropped(&settings["crop_pct"], beside);
    Ok(())
}

/// Says what becomes of photos' edges.
fn cropped(share: &Value, beside: &mut Beside) {
    if let Some(share) = share.as_f64().filter(|share| *share < 1.0) {
        beside.assumed.push(format!(
            "`crop_pct` is {share}: the program takes that share of a photo's middle square, here it is all of the square"
        ));
    }
}

/// Means and deviations of the channels.
fn scaling(mean: &Value, deviation: &Value) -> Result<Option<Scaling>, String> {
    if mean.is_null() && deviation.is_null() {
        return Ok(None);
    }
    let numbers = |value: &Value, least: f64, what: &str| {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
        let numbers = numbers.filter(|numbers| {
            !numbers.is_empty()
                && numbers.iter().all(|number| number.is_finite() && *number >= least)
        });
        numbers.ok_or_else(|| {
            format!("{what} is {}, expected a number for each channel", shown(value))
        })
    };
    Ok(Some(Scaling {
        mean: numbers(mean, f64::MIN, "the mean")?,
        deviation: numbers(deviation, 1e-6, "the deviation (std)")?,
    }))
}

fn side(value: &Value) -> Result<usize, String> {
    let size = value.as_u64().filter(|size| (1..=LARGEST).contains(size));
    size.and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| format!("a size of {}, expected 1 to {LARGEST} pixels", shown(value)))
}

/// The classes' names: a list of timm's, or transformers' by number.
fn classes(config: &Value) -> Result<Vec<String>, String> {
    if let Some(names) = config["label_names"].as_array() {
        let names: Option<Vec<String>> =
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        return names.ok_or_else(|| "`label_names` are not all texts".into());
    }
    let Some(labels) = config["id2label"].as_object() else { return Ok(Vec::new()) };
    let name = |number: usize| {
        let name = labels.get(&number.to_string()).and_then(Value::as_str);
        let missing = || format!("`id2label` has {} entries, but none for {number}", labels.len());
        name.map(str::to_owned).ok_or_else(missing)
    };
    (0..labels.len()).map(name).collect()
}
