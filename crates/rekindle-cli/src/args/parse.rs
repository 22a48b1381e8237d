//! Words of the command line that are values.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rekindle::nn::Size;
use rekindle::prelude::{Augment, Augmentation, Preprocessing, Schedule};
use rekindle::vision::UnknownName;

pub fn size(text: &str) -> Result<Size, String> {
    let pixels = |text: &str| text.trim().parse::<usize>().ok().filter(|&pixels| pixels > 0);
    let size = match text.split_once(['x', 'X']) {
        Some((height, width)) => pixels(height).zip(pixels(width)),
        None => pixels(text).map(|size| (size, size)),
    };
    match size {
        Some((height, width)) => Ok(Size::of(height, width)),
        None => Err(format!("`{text}` is no size, expected 224, or 160x224 for height and width")),
    }
}

/// Takes the name of one of these.
pub fn named<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = all.iter().map(move |&one| name(one));
    PossibleValuesParser::new(names).try_map(move |wanted| {
        let found = all.iter().copied().find(|&one| name(one) == wanted);
        found.ok_or_else(|| format!("`{wanted}` is none of them"))
    })
}

pub fn preprocessing(text: &str) -> Result<Preprocessing, UnknownName> {
    Preprocessing::from_str(text)
}

/// A name and its numbers, separated by colons.
pub fn schedule(text: &str) -> Result<Schedule, String> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let numbers: Result<Vec<f64>, _> = parts.map(str::parse).collect();
    let numbers = numbers.map_err(|error| format!("`{text}`: {error}"))?;
    let is_count = |number: f64| number >= 0.0 && number.fract() == 0.0;
    let count = |number: f64| number as usize;
    Ok(match (name, numbers.as_slice()) {
        ("constant", []) => Schedule::Constant,
        ("cosine", []) => Schedule::Cosine { warm_up: 0.0 },
        ("cosine", &[warm_up]) => Schedule::Cosine { warm_up },
        ("step", &[factor, epochs]) if is_count(epochs) => {
            Schedule::Step { factor, epochs: count(epochs) }
        }
        ("exponential", &[factor]) => Schedule::Exponential { factor },
        ("one-cycle", []) => Schedule::OneCycle,
        ("plateau", &[factor, patience]) if is_count(patience) => {
            Schedule::Plateau { factor, patience: count(patience) }
        }
        _ => {
            return Err(format!(
                "`{text}`, expected constant, cosine[:WARM_UP], step:FACTOR:EPOCHS, exponential:FACTOR, one-cycle or plateau:FACTOR:PATIENCE, epochs and patience as whole numbers"
            ));
        }
    })
}

pub fn augmentation(text: &str) -> Result<Augmentation, String> {
    if text == "standard" {
        return Ok(Augmentation::standard());
    }
    let mut augmentation = Augmentation::new();
    for part in text.split(',') {
        let (name, factor) = part.split_once('=').unwrap_or((part, ""));
        let factor = || factor.parse::<f32>().map_err(|error| format!("`{part}`: {error}"));
        augmentation = augmentation.with(match name.trim() {
            "flip" => Augment::FlipHorizontal,
            "flip-vertical" => Augment::FlipVertical,
            "rotation" => Augment::Rotation(factor()?),
            "zoom" => Augment::Zoom(factor()?),
            "translation" => Augment::Translation(factor()?),
            "crop" => Augment::Crop(factor()?),
            "contrast" => Augment::Contrast(factor()?),
            "brightness" => Augment::Brightness(factor()?),
            "saturation" => Augment::Saturation(factor()?),
            "hue" => Augment::Hue(factor()?),
            "cutout" => Augment::Cutout(factor()?),
            other => return Err(format!("unknown change `{other}`; --help lists them")),
        });
    }
    augmentation.check().map_err(|error| error.to_string())?;
    Ok(augmentation)
}
