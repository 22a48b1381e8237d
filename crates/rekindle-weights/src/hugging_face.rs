//! Hugging Face's folders: `model.safetensors`, what network it is of in `config.json`, and for transformers how photos are
//! prepared in `preprocessor_config.json`.
//!
//! Sources: timm's `models/_hub.py`, `save_config_for_hf`; transformers' `configuration_resnet.py`,
//! `configuration_convnext.py`, `configuration_efficientnet.py`, `configuration_mobilenet_v2.py`, and their `image_processing_*.py`.

use std::path::Path;

use rekindle_pixels::Middle;
use serde_json::{Value, json};

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
/// Pillow's filters, by its numbers.
const FILTERS: [&str; 6] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];
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
            // Without a classifier the maps are the answer.
            || name == "global_pool" && value == "" && told["num_classes"] == 0
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
        value => {
            let name = FILTERS.into_iter().find(|name| value == *name);
            Some(name.ok_or_else(|| {
                format!(
                    "`interpolation` is {}, expected one of {}",
                    shown(value),
                    FILTERS.join(", ")
                )
            })?)
        }
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
    let share = share(&photos["crop_pct"])?;
    let mode = photos["crop_mode"].as_str().unwrap_or("center");
    match (mode, beside.size, share) {
        // Without a size it is Keras's for the family.
        ("center", Some([height, width]), Some(share)) if height == width => {
            let shorter = (height as f64 / share).floor() as usize;
            beside.middle = Some(Middle { shorter, kept: height });
        }
        ("center", _, None) => {}
        ("squash", _, None | Some(1.0)) => beside.stretched = true,
        (_, _, share) => beside.assumed.push(format!(
            "`crop_pct` {} with `crop_mode` {mode} is not supported: the photo's middle square is taken",
            share.unwrap_or(1.0)
        )),
    }
    Ok(())
}

/// The share of a photo that is kept.
fn share(value: &Value) -> Result<Option<f64>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let share = value.as_f64().filter(|share| (0.05..=1.0).contains(share));
    let wrong = || format!("`crop_pct` is {}, expected 0.05 to 1", shown(value));
    share.map(Some).ok_or_else(wrong)
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
            // transformers' own default.
            beside.last_epsilon = Some(small(config, "layer_norm_eps", 1e-12)?);
        }
        "mobilenet_v2" => {
            expect(config, "hidden_act", &["relu6"])?;
            usual(
                config,
                &[
                    ("output_stride", 32.0),
                    ("expand_ratio", 6.0),
                    ("depth_divisible_by", 8.0),
                    ("min_depth", 8.0),
                ],
            )?;
            if config["first_layer_is_expansion"] == false {
                return Err("`first_layer_is_expansion` is false, expected true".into());
            }
            beside.epsilon = Some(small(config, "layer_norm_eps", 1e-3)?);
            beside.symmetric = Some(config["tf_padding"] == false);
        }
        "efficientnet" => {
            expect(config, "hidden_act", &["swish", "silu"])?;
            expect(config, "pooling_type", &["mean"])?;
            usual(config, &[("squeeze_expansion_ratio", 0.25)])?;
            for (setting, expected) in [
                ("kernel_sizes", json!([3, 3, 5, 3, 5, 5, 3])),
                ("strides", json!([1, 2, 2, 2, 1, 2, 1])),
                ("expand_ratios", json!([1, 6, 6, 6, 6, 6, 6])),
            ] {
                if !config[setting].is_null() && config[setting] != expected {
                    let found = shown(&config[setting]);
                    return Err(format!("`{setting}` is {found}, expected {expected}"));
                }
            }
            beside.epsilon = Some(small(config, "batch_norm_eps", 1e-3)?);
            let blocks = config["depthwise_padding"].as_array().map(Vec::as_slice);
            let number = |block: &Value| block.as_u64().and_then(|at| usize::try_from(at).ok());
            let blocks: Option<Vec<usize>> =
                blocks.unwrap_or_default().iter().map(number).collect();
            let wrong =
                || format!("`depthwise_padding` is {}", shown(&config["depthwise_padding"]));
            beside.symmetric_blocks = Some(blocks.ok_or_else(wrong)?);
        }
        // Any other is refused by its name.
        _ => {}
    }
    Ok(())
}

/// A small number of a configuration.
fn small(config: &Value, setting: &str, default: f64) -> Result<f64, String> {
    let value = config.get(setting).filter(|value| !value.is_null());
    let number = value.map_or(Some(default), Value::as_f64).filter(|n| (0.0..1.0).contains(n));
    number.ok_or_else(|| {
        format!("`{setting}` is {}, expected a small number", shown(&config[setting]))
    })
}

/// Numbers of a configuration that have to be these, where they are there.
fn usual(config: &Value, settings: &[(&str, f64)]) -> Result<(), String> {
    for (setting, expected) in settings {
        let value = &config[*setting];
        if !value.is_null() && value.as_f64() != Some(*expected) {
            return Err(format!("`{setting}` is {}, expected {expected}", shown(value)));
        }
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
        value => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            let name = number.and_then(|number| FILTERS.get(number).copied());
            Some(name.ok_or_else(|| {
                format!(
                    "`resample` is {}, expected 0 to 5: Pillow's number of {}",
                    shown(value),
                    FILTERS.join(", ")
                )
            })?)
        }
    };
    let processor = ["image_processor_type", "feature_extractor_type"];
    let processor = processor.iter().find_map(|key| settings[*key].as_str()).unwrap_or_default();
    if processor.starts_with("EfficientNet") {
        twice(settings, beside)?;
    }
    sized(settings, processor, beside)
}

/// transformers' EfficientNet divides by the deviation again, and may take images from -1.
fn twice(settings: &Value, beside: &mut Beside) -> Result<(), String> {
    if settings["rescale_offset"] == true {
        return Err("`rescale_offset` is true, expected false: images from 0 to 1".into());
    }
    if let Some(Scaling { deviation, .. }) = &mut beside.scaling
        && settings["include_top"] != false
    {
        deviation.iter_mut().for_each(|deviation| *deviation *= *deviation);
    }
    Ok(())
}

/// How photos get their size.
fn sized(settings: &Value, processor: &str, beside: &mut Beside) -> Result<(), String> {
    if settings["do_resize"] == false {
        return Err("`do_resize` is false, expected true: photos have any size".into());
    }
    let wanted = Wanted::of("size", &settings["size"])?;
    let is_convnext = processor.starts_with("ConvNext") || !settings["crop_pct"].is_null();
    if is_convnext {
        // Its own rule: larger images are stretched.
        const STRETCHED_FROM: usize = 384;
        let share = share(&settings["crop_pct"])?.unwrap_or(224.0 / 256.0);
        let Some(Wanted::Shorter(edge) | Wanted::Square(edge)) = wanted else {
            beside.size = wanted.map(Wanted::pixels);
            beside.stretched = wanted.is_some();
            return Ok(());
        };
        beside.size = Some([edge; 2]);
        beside.stretched = edge >= STRETCHED_FROM;
        beside.middle = Some(Middle { shorter: (edge as f64 / share) as usize, kept: edge });
        return Ok(());
    }
    let is_cropped = match &settings["do_center_crop"] {
        Value::Null => processor.starts_with("MobileNet"),
        value => *value == true,
    };
    let Some(crop) = Wanted::of("crop_size", &settings["crop_size"])?.filter(|_| is_cropped) else {
        beside.size = wanted.map(Wanted::pixels);
        beside.stretched = matches!(wanted, Some(Wanted::Square(_) | Wanted::Both(_)));
        return Ok(());
    };
    let [height, width] = crop.pixels();
    beside.size = Some([height, width]);
    match wanted {
        Some(Wanted::Shorter(shorter)) if height == width && shorter >= height => {
            beside.middle = Some(Middle { shorter, kept: height });
        }
        _ => beside.assumed.push(format!(
            "`size` {} with `crop_size` {} is not supported: the photo's middle square is taken",
            shown(&settings["size"]),
            shown(&settings["crop_size"])
        )),
    }
    Ok(())
}

/// A size of transformers' settings.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// The shorter side.
    Shorter(usize),
    /// One number.
    Square(usize),
    /// Height and width.
    Both([usize; 2]),
}

impl Wanted {
    fn of(name: &str, value: &Value) -> Result<Option<Self>, String> {
        Ok(match value {
            Value::Null => None,
            Value::Object(size) if size.contains_key("height") && size.contains_key("width") => {
                Some(Self::Both([side(&size["height"])?, side(&size["width"])?]))
            }
            Value::Object(size) if size.contains_key("shortest_edge") => {
                Some(Self::Shorter(side(&size["shortest_edge"])?))
            }
            Value::Number(_) => Some(Self::Square(side(value)?)),
            other => {
                return Err(format!(
                    "`{name}` is {}, expected height and width, or shortest_edge",
                    shown(other)
                ));
            }
        })
    }

    fn pixels(self) -> [usize; 2] {
        match self {
            Self::Shorter(side) | Self::Square(side) => [side; 2],
            Self::Both(sides) => sides,
        }
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
