//! MobileNetV2 (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>), as in Keras's
//! `keras/src/applications/mobilenet_v2.py`, with its layer names.

use burn::module::Module;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::layers::{
    Activation, BatchNormConfig, Conv2dConfig, ConvNorm, Dense, DenseConfig, Padding,
};
use crate::{Interpreter, Network, NetworkError};

/// `[expansion, filters, stride]` of each block (table 2 of the paper).
const BLOCKS: [[usize; 3]; 17] = [
    [1, 16, 1],
    [6, 24, 2],
    [6, 24, 1],
    [6, 32, 2],
    [6, 32, 1],
    [6, 32, 1],
    [6, 64, 2],
    [6, 64, 1],
    [6, 64, 1],
    [6, 64, 1],
    [6, 96, 1],
    [6, 96, 1],
    [6, 96, 1],
    [6, 160, 2],
    [6, 160, 1],
    [6, 160, 1],
    [6, 320, 1],
];

/// The width multipliers for which Keras has ImageNet weights.
pub const ALPHAS: [f64; 6] = [0.35, 0.5, 0.75, 1.0, 1.3, 1.4];

/// The settings of [`MobileNetV2`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// Width multiplier, one of [`ALPHAS`].
    pub alpha: f64,
    /// Height and width of the images in pixels, from 32.
    pub size: usize,
    /// Classes of the top; none leaves the top off.
    pub classes: Option<usize>,
}

impl Default for MobileNetV2Config {
    fn default() -> Self {
        Self { alpha: 1.0, size: 224, classes: None }
    }
}

impl MobileNetV2Config {
    /// Alpha 1.0, 224 pixels, no top.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Width multiplier, one of [`ALPHAS`].
    #[must_use]
    pub fn with_alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// Height and width of the images in pixels, from 32.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// With a top of this many classes (1000 for ImageNet).
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self { classes: Some(classes), ..self }
    }

    /// The network, with random weights until others are loaded.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn init<B: Backend>(self, device: &B::Device) -> Result<MobileNetV2<B>, NetworkError> {
        let wrong = |setting, found, expected: &str| {
            let (architecture, expected) = ("mobilenet-v2", expected.to_owned());
            Err(NetworkError::Setting { architecture, setting, found, expected })
        };
        if !ALPHAS.contains(&self.alpha) {
            return wrong("alpha", self.alpha.to_string(), "one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4");
        }
        if self.size < 32 {
            return wrong("size", self.size.to_string(), "at least 32");
        }
        if self.classes == Some(0) {
            return wrong("classes", "0".into(), "at least 1");
        }
        let first = make_divisible(32.0 * self.alpha);
        let mut channels = first;
        let blocks = BLOCKS.iter().enumerate().map(|(index, &[expansion, filters, stride])| {
            // Keras truncates before it rounds to a multiple of 8.
            let filters = make_divisible((filters as f64 * self.alpha).floor());
            let block =
                InvertedResidual::new(index, [channels, filters], expansion, stride, device);
            channels = filters;
            block
        });
        let blocks = blocks.collect();
        let last = if self.alpha > 1.0 { make_divisible(1280.0 * self.alpha) } else { 1280 };
        let stem = Conv2dConfig::new("Conv1", [3, first], [3, 3]).with_stride(2);
        Ok(MobileNetV2 {
            stem: conv_norm(stem, "bn_Conv1", first, device),
            blocks,
            last: conv_norm(
                Conv2dConfig::new("Conv_1", [channels, last], [1, 1]),
                "Conv_1_bn",
                last,
                device,
            ),
            top: self.classes.map(|classes| {
                DenseConfig::new("predictions", last, classes)
                    .classifier(Activation::Softmax)
                    .init(device)
            }),
            config: self,
        })
    }
}

/// MobileNetV2.
#[derive(Module, Debug)]
pub struct MobileNetV2<B: Backend> {
    stem: ConvNorm<B>,
    blocks: Vec<InvertedResidual<B>>,
    last: ConvNorm<B>,
    top: Option<Dense<B>>,
    #[module(skip)]
    config: MobileNetV2Config,
}

impl<B: Backend> MobileNetV2<B> {
    /// The settings that it was made with.
    #[must_use]
    pub fn config(&self) -> MobileNetV2Config {
        self.config
    }

    /// The same for other images: no weight depends on their size.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        Self { config: self.config.with_size(size), ..self }
    }
}

impl<B: Backend> Network<B> for MobileNetV2<B> {
    fn walk<I: Interpreter<B>>(&self, it: &mut I, x: I::Value) -> Result<I::Value, NetworkError> {
        let x = it.conv2d(&self.stem.conv, x)?;
        let x = it.batch_norm(&self.stem.norm, x)?;
        let mut x = it.relu6("Conv1_relu", x)?;
        for block in &self.blocks {
            x = block.walk(it, x)?;
        }
        let x = it.conv2d(&self.last.conv, x)?;
        let x = it.batch_norm(&self.last.norm, x)?;
        let x = it.relu6("out_relu", x)?;
        match &self.top {
            Some(top) => {
                let x = it.global_avg_pool("global_average_pooling2d", x)?;
                it.dense(top, x)
            }
            None => Ok(x),
        }
    }
}

/// A 1x1 expansion, a 3x3 depthwise convolution and a linear 1x1 projection, with a shortcut where
/// the shapes allow it.
#[derive(Module, Debug)]
struct InvertedResidual<B: Backend> {
    expand: Option<ConvNorm<B>>,
    depthwise: ConvNorm<B>,
    project: ConvNorm<B>,
    #[module(skip)]
    prefix: String,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    shortcut: bool,
}

impl<B: Backend> InvertedResidual<B> {
    fn new(
        index: usize,
        [input, output]: [usize; 2],
        expansion: usize,
        stride: usize,
        device: &B::Device,
    ) -> Self {
        let prefix = if index == 0 { "expanded_conv".into() } else { format!("block_{index}") };
        let hidden = input * expansion;
        let unit = |name: &str, conv: Conv2dConfig, channels| {
            conv_norm(conv, &format!("{prefix}_{name}_BN"), channels, device)
        };
        let expand = Conv2dConfig::new(format!("{prefix}_expand"), [input, hidden], [1, 1]);
        let padding = if stride == 2 { Padding::Valid } else { Padding::Same };
        let depthwise = Conv2dConfig::depthwise(format!("{prefix}_depthwise"), hidden, [3, 3])
            .with_stride(stride)
            .with_padding(padding);
        let project = Conv2dConfig::new(format!("{prefix}_project"), [hidden, output], [1, 1]);
        Self {
            expand: (index > 0).then(|| unit("expand", expand, hidden)),
            depthwise: unit("depthwise", depthwise, hidden),
            project: unit("project", project, output),
            shortcut: stride == 1 && input == output,
            stride,
            prefix,
        }
    }

    fn walk<I: Interpreter<B>>(
        &self,
        it: &mut I,
        input: I::Value,
    ) -> Result<I::Value, NetworkError> {
        let prefix = &self.prefix;
        let mut x = input.clone();
        if let Some(expand) = &self.expand {
            x = it.conv2d(&expand.conv, x)?;
            x = it.batch_norm(&expand.norm, x)?;
            x = it.relu6(&format!("{prefix}_expand_relu"), x)?;
        }
        if self.stride == 2 {
            x = it.correct_pad(&format!("{prefix}_pad"), 3, x)?;
        }
        x = it.conv2d(&self.depthwise.conv, x)?;
        x = it.batch_norm(&self.depthwise.norm, x)?;
        x = it.relu6(&format!("{prefix}_depthwise_relu"), x)?;
        x = it.conv2d(&self.project.conv, x)?;
        x = it.batch_norm(&self.project.norm, x)?;
        if self.shortcut { it.add(&format!("{prefix}_add"), input, x) } else { Ok(x) }
    }
}

fn conv_norm<B: Backend>(
    conv: Conv2dConfig,
    norm: &str,
    channels: usize,
    device: &B::Device,
) -> ConvNorm<B> {
    let norm = BatchNormConfig::new(norm, channels).with_momentum(0.999);
    ConvNorm { conv: conv.init(device), norm: norm.init(device) }
}

/// Keras's `_make_divisible`: the nearest multiple of 8, never below 90 % of `value`.
fn make_divisible(value: f64) -> usize {
    let rounded = ((value + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * value { rounded + 8 } else { rounded }
}
