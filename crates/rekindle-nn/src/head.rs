use serde::{Deserialize, Serialize};

use crate::ops::{
    ActivationLayer, BatchNorm, Dense, GlobalPool, Pool2d, PoolKind, Rescaling, Window,
};
use crate::{Activation, Graph, GraphBuilder, Network, NetworkError, Op, Shape};
use burn::tensor::backend::Backend;

/// One layer of a head, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum HeadLayerConfig {
    /// The mean of each channel.
    GlobalAveragePooling2d,
    /// The maximum of each channel.
    GlobalMaxPooling2d,
    /// All values in Keras's order: height, width, channels.
    Flatten,
    /// The mean of windows.
    AveragePooling2d(Window),
    /// The maximum of windows.
    MaxPooling2d(Window),
    /// `BatchNormalization`, with Keras's default momentum of 0.99.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f64,
        /// Whether there is a gamma.
        scale: bool,
    },
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * scale + offset`.
    Rescaling {
        /// Multiplies.
        scale: f64,
        /// Is added then.
        offset: f64,
    },
    /// Drops values with this rate while training.
    Dropout(f64),
    /// A fully connected layer.
    Dense {
        /// Features out.
        units: usize,
        /// Applied to the output.
        activation: Activation,
        /// While training, `l2` times the sum of the kernel's squares is added to the loss (Keras's
        /// `kernel_regularizer=L2(l2)`).
        #[serde(default, skip_serializing_if = "is_zero")]
        l2: f64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl HeadLayerConfig {
    /// The name of the first such layer; those after it are numbered.
    fn layer_name(&self) -> &'static str {
        match self {
            Self::GlobalAveragePooling2d => "head_average_pooling",
            Self::GlobalMaxPooling2d => "head_max_pooling",
            Self::Flatten => "head_flatten",
            Self::Dropout(_) => "head_dropout",
            Self::Dense { .. } => "head_dense",
            Self::AveragePooling2d(_) => "head_average_pooling2d",
            Self::MaxPooling2d(_) => "head_max_pooling2d",
            Self::BatchNormalization { .. } => "head_batch_normalization",
            Self::Relu | Self::Relu6 => "head_relu",
            Self::Rescaling { .. } => "head_rescaling",
        }
    }
}

/// What stands on a backbone: a chain of layers that ends in one probability for each class.
///
/// ```
/// use rekindle_nn::{Activation, HeadConfig};
///
/// // Flatten, Dense(512, relu), Dropout(0.5), and the Dense(classes, softmax) that every head ends with.
/// let head = HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// In order, without the classifier.
    pub layers: Vec<HeadLayerConfig>,
    /// Whether each class is there or not, by a sigmoid of its own, instead of one of them by a softmax.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_label: bool,
    /// A penalty that was asked for where no dense layer takes it.
    #[serde(skip)]
    stray_l2: Option<f64>,
}

impl Default for HeadConfig {
    /// Global average pooling and Dropout(0.2), as in Keras's guide to transfer learning.
    fn default() -> Self {
        Self::global_average_pooling().dropout(0.2)
    }
}

impl HeadConfig {
    /// These layers.
    #[must_use]
    pub fn of(layers: Vec<HeadLayerConfig>) -> Self {
        Self { layers, multi_label: false, stray_l2: None }
    }

    /// Starts with global average pooling.
    #[must_use]
    pub fn global_average_pooling() -> Self {
        Self::of(vec![HeadLayerConfig::GlobalAveragePooling2d])
    }

    /// Starts with global max pooling.
    #[must_use]
    pub fn global_max_pooling() -> Self {
        Self::of(vec![HeadLayerConfig::GlobalMaxPooling2d])
    }

    /// Starts with all features of all positions.
    #[must_use]
    pub fn flatten() -> Self {
        Self::of(vec![HeadLayerConfig::Flatten])
    }

    /// Adds a fully connected layer.
    #[must_use]
    pub fn dense(self, units: usize, activation: Activation) -> Self {
        self.with(HeadLayerConfig::Dense { units, activation, l2: 0.0 })
    }

    /// Adds a penalty to the dense layer that was added last: `l2` times the sum of its kernel's squares. Behind another layer,
    /// [`graph`](Self::graph) and [`on`](Self::on) give an error.
    #[must_use]
    pub fn l2(mut self, factor: f64) -> Self {
        match self.layers.last_mut() {
            Some(HeadLayerConfig::Dense { l2, .. }) => *l2 = factor,
            _ => self.stray_l2 = Some(factor),
        }
        self
    }

    /// Adds batch normalization with Keras's settings.
    #[must_use]
    pub fn batch_normalization(self) -> Self {
        self.with(HeadLayerConfig::BatchNormalization { epsilon: 1e-3, scale: true })
    }

    /// Ends in a sigmoid for each class, for photos that may be of several.
    #[must_use]
    pub fn multi_label(self) -> Self {
        Self { multi_label: true, ..self }
    }

    /// Adds dropout.
    #[must_use]
    pub fn dropout(self, rate: f64) -> Self {
        self.with(HeadLayerConfig::Dropout(rate))
    }

    /// Adds a layer.
    #[must_use]
    pub fn with(mut self, layer: HeadLayerConfig) -> Self {
        self.layers.push(layer);
        self
    }

    /// A network with this head on it, ending in `Dense(classes, softmax)`, or in sigmoids.
    ///
    /// # Errors
    /// When a layer's settings are out of range, or it cannot take what the one before it gives.
    pub fn graph(&self, base: &Graph, classes: usize) -> Result<Graph, NetworkError> {
        if let Some(factor) = self.stray_l2 {
            return Err(NetworkError::Setting {
                architecture: "head",
                setting: "L2 penalty",
                found: factor.to_string(),
                expected: "directly behind a dense layer".to_owned(),
            });
        }
        let activation = if self.multi_label { Activation::Sigmoid } else { Activation::Softmax };
        let classifier = HeadLayerConfig::Dense { units: classes, activation, l2: 0.0 };
        let (mut net, mut x) = GraphBuilder::on(base);
        net.mark_base(x, base.base().architecture);
        for config in self.layers.iter().chain([&classifier]) {
            config.check()?;
            let mut name = net.numbered(config.layer_name());
            while base.layers().iter().any(|layer| layer.name == name) {
                name = net.numbered(config.layer_name());
            }
            if let (HeadLayerConfig::Dense { .. }, Shape::Map { .. }) = (config, x.shape()) {
                let expected = "flat features: pool or flatten them first";
                return Err(NetworkError::shape(&name, expected, &[x.shape()]));
            }
            x = net.layer(name, config.op(), &[x])?;
        }
        net.finish(x)
    }

    /// A network with this head on it; the head's weights start at random, by `seed`.
    ///
    /// # Errors
    /// When a layer's settings are out of range, or it cannot take what the one before it gives.
    pub fn on<B: Backend>(
        &self,
        base: Network<B>,
        classes: usize,
        seed: u64,
        device: &B::Device,
    ) -> Result<Network<B>, NetworkError> {
        let graph = self.graph(base.graph(), classes)?;
        base.extend(graph, seed, device)
    }
}

impl HeadLayerConfig {
    fn check(&self) -> Result<(), NetworkError> {
        let setting = |setting, found: String, expected: &str| {
            let (architecture, expected) = ("head", expected.to_owned());
            Err(NetworkError::Setting { architecture, setting, found, expected })
        };
        match self {
            Self::Dropout(rate) if !(0.0..1.0).contains(rate) => {
                setting("dropout rate", rate.to_string(), "from 0 to less than 1")
            }
            Self::Dense { units: 0, .. } => {
                setting("units of a dense layer", "0".into(), "at least 1")
            }
            Self::Dense { l2, .. } if !(l2.is_finite() && *l2 >= 0.0) => {
                setting("L2 penalty", l2.to_string(), "a number from 0")
            }
            Self::AveragePooling2d(pool) | Self::MaxPooling2d(pool)
                if pool.kernel.contains(&0) || pool.stride.contains(&0) =>
            {
                setting(
                    "pooling window",
                    {
                        let ([height, width], [down, across]) = (pool.kernel, pool.stride);
                        format!("{height} x {width}, moved by {down} and {across}")
                    },
                    "at least 1",
                )
            }
            _ => Ok(()),
        }
    }

    fn op(&self) -> Op {
        let pool = |kind, window| Pool2d { kind, window, counts_padding: false };
        match *self {
            Self::GlobalAveragePooling2d => GlobalPool::average().into(),
            Self::GlobalMaxPooling2d => GlobalPool::max().into(),
            Self::Flatten => Op::Flatten(crate::ops::Flatten {}),
            Self::AveragePooling2d(window) => pool(PoolKind::Average, window).into(),
            Self::MaxPooling2d(window) => pool(PoolKind::Max, window).into(),
            Self::BatchNormalization { epsilon, scale } => {
                BatchNorm::new().epsilon(epsilon).scale(scale).into()
            }
            Self::Relu => ActivationLayer::named(Activation::Relu).into(),
            Self::Relu6 => ActivationLayer::layer(Activation::Relu6).into(),
            Self::Rescaling { scale, offset } => Rescaling::new(scale, offset).into(),
            Self::Dropout(rate) => Op::Dropout(crate::ops::Dropout { rate }),
            Self::Dense { units, activation, l2 } => {
                Dense { l2, ..Dense::new(units, activation) }.into()
            }
        }
    }
}
