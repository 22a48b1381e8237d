use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Pixels;

/// Keras's `preprocess_input`, by its three modes (`keras/src/applications/imagenet_utils.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preprocessing {
    /// `x / 127.5 - 1`: from -1 to 1.
    Tf,
    /// BGR minus 103.939, 116.779, 123.68.
    Caffe,
    /// `x / 255`, minus 0.485, 0.456, 0.406, divided by 0.229, 0.224, 0.225.
    Torch,
    /// From 0 to 255, as it is.
    None,
}

impl Preprocessing {
    /// The name that files and commands use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tf => "tf",
            Self::Caffe => "caffe",
            Self::Torch => "torch",
            Self::None => "none",
        }
    }

    /// The values that the network takes: `[3, height, width]`.
    #[must_use]
    pub fn apply(self, pixels: &Pixels) -> Vec<f32> {
        let plane = pixels.width * pixels.height;
        let mut values = vec![0.0; plane * 3];
        for (channel, values) in values.chunks_exact_mut(plane.max(1)).enumerate() {
            let source = if self == Self::Caffe { 2 - channel } else { channel };
            let source = pixels.values.iter().skip(source).step_by(3);
            for (value, &x) in values.iter_mut().zip(source) {
                *value = self.scale(channel, x);
            }
        }
        values
    }

    /// One value of an output channel.
    #[must_use]
    pub fn scale(self, channel: usize, x: f32) -> f32 {
        match self {
            Self::Tf => x / 127.5 - 1.0,
            Self::Caffe => x - [103.939, 116.779, 123.68][channel],
            Self::Torch => {
                (x / 255.0 - [0.485, 0.456, 0.406][channel]) / [0.229, 0.224, 0.225][channel]
            }
            Self::None => x,
        }
    }
}

impl FromStr for Preprocessing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Tf, Self::Caffe, Self::Torch, Self::None]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| {
                format!("unknown preprocessing `{name}`, expected tf, caffe, torch or none")
            })
    }
}
