//! What a layer can be. Each operation is one file with all that is known of it: its settings, the shape of its output,
//! its variables, Keras's configuration in and out, its ONNX and TensorFlow Lite forms, and how it runs on Burn's tensors.
//!
//! To add one: a file with a type that implements [`Operation`], and a line in `operations!` below.

mod activations;
mod axes;
mod batch_norm;
mod conv2d;
mod crop;
mod dense;
mod dropout;
mod elementwise;
mod global_pool;
mod group_norm;
mod layer_norm;
mod layer_scale;
mod lrn;
mod merge;
mod noise;
mod normalization;
mod padding;
mod pool;
mod prelu;
mod rescaling;
mod reshape;
mod resizing;
mod scaled_add;
mod separable;
mod training_only;
mod window;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use activations::{ActivationLayer, SoftmaxOver, activation_as_layer, activation_layer};
pub use batch_norm::BatchNorm;
pub use conv2d::{Conv2d, DepthwiseConv2d};
pub use crop::{CenterCrop, Cropping2d, RandomCrop};
pub use dense::Dense;
pub use dropout::Dropout;
pub use elementwise::Identity;
pub use global_pool::GlobalPool;
pub use group_norm::GroupNorm;
pub use layer_norm::{LayerNorm, UnitNorm};
pub use layer_scale::LayerScale;
pub use lrn::Lrn;
pub use merge::{Concatenate, Merge, MergeKind};
pub use noise::{Noise, NoiseKind, SharedDropout};
pub use normalization::{Normalization, Statistics};
pub use padding::ZeroPadding2d;
pub use pool::{Pool2d, PoolKind};
pub use prelu::Prelu;
pub use rekindle_pixels::Interpolation;
pub use rescaling::Rescaling;
pub use reshape::{Flatten, Permute, Reshape};
pub use resizing::{Fit, Resizing};
pub use scaled_add::ScaledAdd;
pub use separable::SeparableConv2d;
pub use training_only::TrainingOnly;
pub use window::{Padding, Window};

use crate::keras::LayerConfig;
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Activation, Features, NetworkError, Shape, VariableSpec};

/// The most values that one sample may have between two layers: more is a mistake of a file, and no memory is asked for.
pub(crate) const MOST_VALUES: usize = 1 << 31;

/// What is known of an operation.
pub trait Operation: Sized {
    /// The classes of Keras's layers that are this operation.
    const CLASSES: &'static [&'static str];

    /// Whether a layer of Keras is this operation.
    fn is_keras(config: &LayerConfig) -> bool {
        Self::CLASSES.contains(&config.class.as_str())
    }

    /// Reads the settings of Keras's layer; the caller sees that none is left.
    ///
    /// # Errors
    /// When a setting cannot be honoured.
    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError>;

    /// The class of Keras's layer.
    fn class(&self) -> &'static str {
        Self::CLASSES[0]
    }

    /// The settings of Keras's layer, without what every layer has (`name`, `trainable`, `dtype`).
    fn to_keras(&self) -> Map<String, Value>;

    /// The shape of what comes out; the error says what the operation takes.
    ///
    /// # Errors
    /// When it cannot take `inputs`.
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String>;

    /// Gives what has several names one of them, now that [`Operation::output`] has taken `inputs`: the last axis is -1.
    fn settle(&mut self, _inputs: &[Shape]) {}

    /// The variables, in Keras's order, of a layer with inputs that [`Operation::output`] takes.
    fn variables(&self, _inputs: &[Shape]) -> Vec<VariableSpec> {
        Vec::new()
    }

    /// Whether it does something random while the network trains.
    fn is_random(&self) -> bool {
        false
    }

    /// Whether training does with it what Keras's does; layers that Keras augments images with do nothing here.
    fn trains_as_keras(&self) -> bool {
        true
    }

    /// The activation that it ends with, or all that it is.
    fn activation(&self) -> Activation {
        Activation::Linear
    }

    /// Writes its ONNX form, and gives the name of the value that it makes. The shapes of the inputs have been checked by
    /// [`Operation::output`].
    ///
    /// # Errors
    /// Why it has no such form.
    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String>;

    /// Writes its TensorFlow Lite form, and gives the value that it makes. The shapes of the inputs have been checked by
    /// [`Operation::output`].
    ///
    /// # Errors
    /// Why it has no such form.
    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String>;

    /// Computes the output. The shapes of the inputs have been checked by [`Operation::output`].
    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B>;
}

/// The one input of most operations.
pub(crate) fn one(inputs: &[Shape]) -> Result<Shape, String> {
    match inputs {
        [input] => Ok(*input),
        _ => Err("one input".into()),
    }
}

/// The first of the inputs, which [`Operation::output`] has seen to be there.
pub(crate) fn first<B: Backend>(inputs: Vec<Features<B>>) -> Features<B> {
    let Some(first) = inputs.into_iter().next() else {
        unreachable!("an operation's output refuses layers without inputs")
    };
    first
}

macro_rules! operations {
    ($($(#[$doc:meta])* $op:ident($settings:ty),)*) => {
        /// What one layer does, with every setting that its answer depends on.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op", rename_all = "snake_case")]
        pub enum Op {
            $($(#[$doc])* $op($settings),)*
        }

        $(impl From<$settings> for Op {
            fn from(settings: $settings) -> Self {
                Self::$op(settings)
            }
        })*

        impl Op {
            /// The names of all operations, as in this enum.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($op)),*];

            /// Its name in [`Op::NAMES`].
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$op(_) => stringify!($op),)* }
            }

            /// Every class of Keras's layers that [`Op::from_keras`] reads.
            #[must_use]
            pub fn keras_classes() -> Vec<&'static str> {
                let classes: &[&[&'static str]] = &[$(<$settings>::CLASSES),*];
                classes.concat()
            }

            /// Reads the configuration of a Keras layer; nothing where its class is not supported.
            ///
            /// # Errors
            /// When a setting cannot be honoured; the message names layer, setting, found and expected.
            pub fn from_keras(mut config: LayerConfig) -> Result<Option<Self>, NetworkError> {
                $(if <$settings>::is_keras(&config) {
                    let op = <$settings>::from_keras(&mut config)?;
                    config.finish()?;
                    return Ok(Some(Self::$op(op)));
                })*
                Ok(None)
            }

            /// The class of Keras's layer.
            #[must_use]
            pub fn class(&self) -> &'static str {
                match self { $(Self::$op(op) => op.class(),)* }
            }

            /// The settings of Keras's layer, without what every layer has (`name`, `trainable`, `dtype`).
            #[must_use]
            pub fn to_keras(&self) -> Map<String, Value> {
                match self { $(Self::$op(op) => op.to_keras(),)* }
            }

            /// The shape of what comes out.
            ///
            /// # Errors
            /// When the layer cannot take `inputs`; the message names `layer`.
            pub fn output_shape(&self, layer: &str, inputs: &[Shape]) -> Result<Shape, NetworkError> {
                let output = match self { $(Self::$op(op) => op.output(inputs),)* };
                let output = output.map_err(|expected| NetworkError::shape(layer, expected, inputs))?;
                match output.checked_count() {
                    Some(1..=MOST_VALUES) => Ok(output),
                    _ => Err(NetworkError::shape(
                        layer,
                        format!("inputs with an output of 1 to 2^31 values, not {output}"),
                        inputs,
                    )),
                }
            }

            /// The variables, in Keras's order, of a layer with inputs that [`Op::output_shape`] takes.
            #[must_use]
            pub fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
                match self { $(Self::$op(op) => op.variables(inputs),)* }
            }

            /// The same with one name for what has several, so that equal layers are equal: the last axis is -1. The inputs
            /// are some that [`Op::output_shape`] takes.
            #[must_use]
            pub fn settled(mut self, inputs: &[Shape]) -> Self {
                match &mut self { $(Self::$op(op) => op.settle(inputs),)* }
                match self {
                    Self::SoftmaxOver(softmax) if softmax.axes == [-1] => {
                        Self::Activation(ActivationLayer::layer(Activation::Softmax))
                    }
                    settled => settled,
                }
            }

            /// Whether it does something random while the network trains.
            #[must_use]
            pub fn is_random(&self) -> bool {
                match self { $(Self::$op(op) => op.is_random(),)* }
            }

            /// Whether training does with it what Keras's does. Layers that Keras augments images with, or adds to a
            /// loss with, do nothing here: whoever trains tells the user.
            #[must_use]
            pub fn trains_as_keras(&self) -> bool {
                match self { $(Self::$op(op) => op.trains_as_keras(),)* }
            }

            /// The activation that it ends with, or all that it is.
            #[must_use]
            pub fn activation(&self) -> Activation {
                match self { $(Self::$op(op) => op.activation(),)* }
            }

            pub(crate) fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
                match self { $(Self::$op(op) => op.to_onnx(layer),)* }
            }

            pub(crate) fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
                match self { $(Self::$op(op) => op.to_tflite(layer),)* }
            }

            pub(crate) fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
                match self { $(Self::$op(op) => op.forward(run, inputs),)* }
            }
        }
    };
}

operations! {
    /// A convolution over all channels, or over groups of them.
    Conv2d(Conv2d),
    /// Filters for each channel of its own.
    DepthwiseConv2d(DepthwiseConv2d),
    /// Filters for each channel, then a convolution of single pixels.
    SeparableConv2d(SeparableConv2d),
    /// A fully connected layer.
    Dense(Dense),
    /// Batch normalization.
    BatchNorm(BatchNorm),
    /// Mean 0 and variance 1 over axes of each sample.
    LayerNorm(LayerNorm),
    /// Mean 0 and variance 1 over groups of channels of each sample.
    GroupNorm(GroupNorm),
    /// Length 1 along axes of each sample.
    UnitNorm(UnitNorm),
    /// Local response normalization.
    Lrn(Lrn),
    /// Mean and variance of a data set taken out.
    Normalization(Normalization),
    /// Each channel times a number that trains.
    LayerScale(LayerScale),
    /// A function of single values, or softmax.
    Activation(ActivationLayer),
    /// Softmax over other axes than the last.
    SoftmaxOver(SoftmaxOver),
    /// Values below 0 times numbers that train.
    Prelu(Prelu),
    /// The maximum or the mean of windows.
    Pool2d(Pool2d),
    /// The maximum or the mean of each channel.
    GlobalPool(GlobalPool),
    /// Zeros around maps.
    ZeroPadding2d(ZeroPadding2d),
    /// Edges of maps left off.
    Cropping2d(Cropping2d),
    /// The middle of maps.
    CenterCrop(CenterCrop),
    /// A part of maps that is drawn at random in Keras's training.
    RandomCrop(RandomCrop),
    /// Maps of another size.
    Resizing(Resizing),
    /// All values in a row.
    Flatten(Flatten),
    /// The same values in another shape.
    Reshape(Reshape),
    /// Axes in another order.
    Permute(Permute),
    /// `x * scale + offset`.
    Rescaling(Rescaling),
    /// Zeros at random while training.
    Dropout(Dropout),
    /// Zeros at random for whole channels or samples while training.
    SharedDropout(SharedDropout),
    /// Noise while training.
    Noise(Noise),
    /// What Keras does in training only.
    TrainingOnly(TrainingOnly),
    /// Element-wise sum, product, mean, ... of several values.
    Merge(Merge),
    /// The first value and the second times a number.
    ScaledAdd(ScaledAdd),
    /// Channels of several values side by side.
    Concatenate(Concatenate),
    /// What comes in.
    Identity(Identity),
}
