use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Pixels, UnknownName};

/// Of blue, green, red, from 0 to 255.
const CAFFE_MEANS: [f64; 3] = [103.939, 116.779, 123.68];
/// Of red, green, blue, from 0 to 1.
const TORCH_MEANS: [f64; 3] = [0.485, 0.456, 0.406];
const TORCH_DEVIATIONS: [f64; 3] = [0.229, 0.224, 0.225];

/// Keras's `preprocess_input`, by its three modes (`keras/src/applications/imagenet_utils.py`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Preprocessing {
    /// `x / 127.5 - 1`: from -1 to 1.
    Tf,
    /// BGR minus 103.939, 116.779, 123.68.
    Caffe,
    /// `x / 255`, minus 0.485, 0.456, 0.406, divided by 0.229, 0.224, 0.225.
    Torch,
    /// From 0 to 255, as it is.
    None,
    /// `x * scale + offset`, as Keras's `Rescaling` layer.
    Rescale {
        /// Multiplies values from 0 to 255.
        scale: f32,
        /// Is added then.
        offset: f32,
    },
}

impl Preprocessing {
    /// The name that files and commands use; `rescale:SCALE:OFFSET` for [`Preprocessing::Rescale`].
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Tf => "tf".into(),
            Self::Caffe => "caffe".into(),
            Self::Torch => "torch".into(),
            Self::None => "none".into(),
            Self::Rescale { scale, offset } => format!("rescale:{scale}:{offset}"),
        }
    }

    /// Which channel of the photo an output channel takes.
    #[must_use]
    pub fn source(self, channel: usize) -> usize {
        if self == Self::Caffe && channel < 3 { 2 - channel } else { channel }
    }

    /// The values that the network takes: `[channels, height, width]`.
    #[must_use]
    pub fn apply(self, pixels: &Pixels) -> Vec<f32> {
        let (plane, channels) = (pixels.width * pixels.height, pixels.channels());
        let mut values = vec![0.0; plane * channels];
        for (channel, values) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            let source = pixels.values.iter().skip(self.source(channel)).step_by(channels);
            for (value, &x) in values.iter_mut().zip(source) {
                *value = self.scale(channel, x);
            }
        }
        values
    }

    /// The same as layers of a network do it, for images of `channels`.
    #[must_use]
    pub fn linear(self, channels: usize) -> Linear {
        let each = |channel: usize| match self {
            Self::Caffe | Self::Torch if channel > 2 => (1.0, 0.0),
            Self::Tf => (1.0 / 127.5, -1.0),
            Self::Caffe => (1.0, -CAFFE_MEANS[channel]),
            Self::Torch => {
                let deviation = TORCH_DEVIATIONS[channel];
                (1.0 / (255.0 * deviation), -TORCH_MEANS[channel] / deviation)
            }
            Self::None => (1.0, 0.0),
            Self::Rescale { scale, offset } => (f64::from(scale), f64::from(offset)),
        };
        let (scale, offset) = (0..channels).map(each).unzip();
        Linear {
            source: (0..channels).map(|channel| self.source(channel)).collect(),
            scale,
            offset,
        }
    }

    /// One value of an output channel. Keras's modes `caffe` and `torch` know three; a further one stays as it is.
    #[must_use]
    pub fn scale(self, channel: usize, x: f32) -> f32 {
        match self {
            Self::Caffe | Self::Torch if channel > 2 => x,
            Self::Tf => x / 127.5 - 1.0,
            Self::Caffe => x - CAFFE_MEANS[channel] as f32,
            Self::Torch => {
                (x / 255.0 - TORCH_MEANS[channel] as f32) / TORCH_DEVIATIONS[channel] as f32
            }
            Self::None => x,
            Self::Rescale { scale, offset } => x * scale + offset,
        }
    }
}

/// Preprocessing as layers of a network do it, for `[channels]` of a pixel: `x[source] * scale + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Which channel of the photo each channel takes.
    pub source: Vec<usize>,
    /// Multiplies.
    pub scale: Vec<f64>,
    /// Is added then.
    pub offset: Vec<f64>,
}

impl FromStr for Preprocessing {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let modes = [Self::Tf, Self::Caffe, Self::Torch, Self::None];
        if let Some(mode) = modes.into_iter().find(|mode| mode.name() == name) {
            return Ok(mode);
        }
        let numbers = name.strip_prefix("rescale:").and_then(|text| text.split_once(':'));
        let numbers = numbers.and_then(|(scale, offset)| {
            Some((scale.parse::<f32>().ok()?, offset.parse::<f32>().ok()?))
        });
        match numbers {
            Some((scale, offset)) if scale.is_finite() && offset.is_finite() => {
                Ok(Self::Rescale { scale, offset })
            }
            _ => {
                let expected = "tf, caffe, torch, none or rescale:SCALE:OFFSET";
                Err(UnknownName::new("preprocessing", name, expected))
            }
        }
    }
}

impl From<Preprocessing> for String {
    fn from(mode: Preprocessing) -> Self {
        mode.name()
    }
}

impl TryFrom<String> for Preprocessing {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        name.parse()
    }
}
