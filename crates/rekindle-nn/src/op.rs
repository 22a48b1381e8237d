use std::fmt;

use burn::module::ParamId;
use burn::tensor::{TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::NetworkError;
use crate::layers::{BatchNorm, Conv2d, Dense, Padding};

/// What one layer does. Layers with parameters lend them; the others carry their settings.
#[derive(Debug)]
pub enum Op<'a, B: Backend> {
    /// `Conv2D` or `DepthwiseConv2D`.
    Conv2d(&'a Conv2d<B>),
    /// `BatchNormalization`.
    BatchNorm(&'a BatchNorm<B>),
    /// `Dense` with its activation.
    Dense(&'a Dense<B>),
    /// `Activation("relu")`.
    Relu,
    /// `ReLU(6)`.
    Relu6,
    /// `ZeroPadding2D(correct_pad(x, kernel))`: an odd size gets `kernel / 2` on both sides, an even
    /// one less before than after, so that the stride-2 convolution behind it sees what TensorFlow's
    /// `same` would show it.
    CorrectPad {
        /// The kernel of the convolution that follows.
        kernel: usize,
    },
    /// `MaxPooling2D`.
    MaxPool(Pool),
    /// `AveragePooling2D`; padding is not counted.
    AvgPool(Pool),
    /// `GlobalAveragePooling2D`.
    GlobalAvgPool,
    /// `GlobalMaxPooling2D`.
    GlobalMaxPool,
    /// `Flatten`, in Keras's order: height, width, channels.
    Flatten,
    /// `Rescaling`: `x * scale + offset`.
    Rescale {
        /// Multiplies.
        scale: f64,
        /// Is added then.
        offset: f64,
    },
    /// `Dropout` with this rate.
    Dropout(f64),
    /// `Add`.
    Add,
    /// `Concatenate` along channels.
    Concat,
}

/// The settings of a pooling layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Window, height and width.
    pub kernel: [usize; 2],
    /// Step, down and right.
    pub stride: [usize; 2],
    /// Keras's `padding`.
    pub padding: Padding,
}

/// The shape of one sample between two layers, without the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Feature maps.
    Map {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels.
        channels: usize,
    },
    /// A vector of this length.
    Flat(usize),
}

impl Shape {
    /// A square RGB image.
    #[must_use]
    pub fn image(size: usize) -> Self {
        Self::Map { height: size, width: size, channels: 3 }
    }

    /// How many values a sample has.
    #[must_use]
    pub fn count(&self) -> usize {
        match *self {
            Self::Map { height, width, channels } => height * width * channels,
            Self::Flat(count) => count,
        }
    }
}

impl fmt::Display for Shape {
    /// As Keras writes it: `(None, 7, 7, 1280)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { height, width, channels } => {
                write!(f, "(None, {height}, {width}, {channels})")
            }
            Self::Flat(count) => write!(f, "(None, {count})"),
        }
    }
}

/// How Keras's values lie in memory, and so how they are permuted for Burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A conv kernel: `[height, width, in, out]` in Keras, `[out, in, height, width]` in Burn.
    Conv,
    /// A depthwise kernel: `[height, width, channels, 1]` in Keras, `[channels, 1, height, width]` in Burn.
    Depthwise,
    /// The same in both.
    Same,
}

/// One variable of a layer, as Keras knows it.
#[derive(Debug, Clone)]
pub struct VariableSpec {
    /// Keras's name within the layer: `kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`.
    pub name: &'static str,
    /// Keras's shape.
    pub shape: Vec<usize>,
    /// Keras's layout.
    pub layout: Layout,
    /// The Burn parameter that holds it.
    pub id: ParamId,
    /// Whether gradients reach it while its layer is trainable.
    pub trainable: bool,
}

impl VariableSpec {
    /// Values in Keras's layout, for the Burn parameter: `[height, width, in, out]` as `[out, in, height, width]`,
    /// and so on. There have to be as many as the shape says.
    #[must_use]
    pub fn to_burn(&self, values: Vec<f32>) -> TensorData {
        match (self.layout, &self.shape[..]) {
            (Layout::Conv, &[height, width, input, output]) => {
                let mut burn = vec![0.0; values.len()];
                permute([height * width, input, output], |keras, place| {
                    burn[place] = values[keras]
                });
                TensorData::new(burn, [output, input, height, width])
            }
            (Layout::Depthwise, &[height, width, channels, _]) => {
                let mut burn = vec![0.0; values.len()];
                permute([height * width, 1, channels], |keras, place| burn[place] = values[keras]);
                TensorData::new(burn, [channels, 1, height, width])
            }
            _ => TensorData::new(values, self.shape.clone()),
        }
    }

    /// The inverse of [`to_burn`](Self::to_burn).
    #[must_use]
    pub fn from_burn(&self, values: Vec<f32>) -> Vec<f32> {
        let sizes = match (self.layout, &self.shape[..]) {
            (Layout::Conv, &[height, width, input, output]) => [height * width, input, output],
            (Layout::Depthwise, &[height, width, channels, _]) => [height * width, 1, channels],
            _ => return values,
        };
        let mut kernel = vec![0.0; values.len()];
        permute(sizes, |keras, place| kernel[keras] = values[place]);
        kernel
    }
}

/// Calls `each` with a value's place in `[tap][in][out]` and in `[out][in][tap]`, some outputs at a time, so that both
/// are met in runs that fit a cache.
fn permute([taps, inputs, outputs]: [usize; 3], mut each: impl FnMut(usize, usize)) {
    const OUTPUTS: usize = 16;
    for first in (0..outputs).step_by(OUTPUTS) {
        for input in 0..inputs {
            for tap in 0..taps {
                for output in first..(first + OUTPUTS).min(outputs) {
                    let keras = (tap * inputs + input) * outputs + output;
                    each(keras, (output * inputs + input) * taps + tap);
                }
            }
        }
    }
}

impl<B: Backend> Op<'_, B> {
    /// The name of Keras's layer class.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(layer) if layer.depthwise => "DepthwiseConv2D",
            Self::Conv2d(_) => "Conv2D",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Dense(_) => "Dense",
            Self::Relu => "Activation",
            Self::Relu6 => "ReLU",
            Self::CorrectPad { .. } => "ZeroPadding2D",
            Self::MaxPool(_) => "MaxPooling2D",
            Self::AvgPool(_) => "AveragePooling2D",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::GlobalMaxPool => "GlobalMaxPooling2D",
            Self::Flatten => "Flatten",
            Self::Rescale { .. } => "Rescaling",
            Self::Dropout(_) => "Dropout",
            Self::Add => "Add",
            Self::Concat => "Concatenate",
        }
    }

    /// The layer's variables, in Keras's order; empty for layers without any.
    #[must_use]
    pub fn variables(&self) -> Vec<VariableSpec> {
        match self {
            Self::Conv2d(layer) => layer.variables(),
            Self::BatchNorm(layer) => layer.variables(),
            Self::Dense(layer) => layer.variables(),
            _ => Vec::new(),
        }
    }

    /// Whether the layer gives the same output for the same input in training, with nothing to learn.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        !matches!(self, Self::Dropout(_)) && self.variables().is_empty()
    }

    /// The shape of what comes out.
    ///
    /// # Errors
    /// When the layer cannot take `inputs`; the message names `layer`.
    pub fn output_shape(&self, layer: &str, inputs: &[Shape]) -> Result<Shape, NetworkError> {
        let wrong = |expected: String| Err(NetworkError::shape(layer, expected, inputs));
        let &[first, ref rest @ ..] = inputs else {
            return wrong("at least one input".into());
        };
        if let Self::Add = self {
            return if rest.len() == 1 && rest[0] == first {
                Ok(first)
            } else {
                wrong("two inputs of one shape".into())
            };
        }
        if !matches!(self, Self::Concat) && !rest.is_empty() {
            return wrong("one input".into());
        }
        let (height, width, channels) = match (self, first) {
            (Self::Dropout(_) | Self::Relu | Self::Relu6 | Self::Rescale { .. }, shape) => {
                return Ok(shape);
            }
            (Self::Flatten, shape) => return Ok(Shape::Flat(shape.count())),
            (Self::BatchNorm(norm), shape) => {
                let (Shape::Map { channels, .. } | Shape::Flat(channels)) = shape;
                return if channels == norm.channels {
                    Ok(shape)
                } else {
                    wrong(format!("{} channels", norm.channels))
                };
            }
            (Self::Dense(dense), Shape::Flat(count)) if count == dense.inputs => {
                return Ok(Shape::Flat(dense.outputs));
            }
            (Self::Dense(dense), _) => return wrong(format!("(None, {})", dense.inputs)),
            (_, Shape::Map { height, width, channels }) => (height, width, channels),
            (_, Shape::Flat(_)) => return wrong("(None, height, width, channels)".into()),
        };
        let window = |kernel, stride, padding: Padding, channels| match (
            padding.output(height, kernel, stride, 0),
            padding.output(width, kernel, stride, 1),
        ) {
            (Some(height), Some(width)) => Ok(Shape::Map { height, width, channels }),
            _ => wrong(format!("at least {} x {} pixels", kernel[0], kernel[1])),
        };
        match self {
            Self::Conv2d(conv) if conv.channels[0] == channels => {
                window(conv.kernel, conv.stride, conv.padding, conv.channels[1])
            }
            Self::Conv2d(conv) => wrong(format!("{} channels", conv.channels[0])),
            Self::MaxPool(pool) | Self::AvgPool(pool) => {
                window(pool.kernel, pool.stride, pool.padding, channels)
            }
            Self::CorrectPad { kernel } => {
                let pads = |size| correct_pad(size, *kernel).iter().sum::<usize>();
                Ok(Shape::Map {
                    height: height + pads(height),
                    width: width + pads(width),
                    channels,
                })
            }
            Self::GlobalAvgPool | Self::GlobalMaxPool => Ok(Shape::Flat(channels)),
            Self::Concat => {
                let mut total = channels;
                for shape in rest {
                    match shape {
                        Shape::Map { height: h, width: w, channels }
                            if (*h, *w) == (height, width) =>
                        {
                            total += channels;
                        }
                        _ => return wrong("maps of one height and width".into()),
                    }
                }
                Ok(Shape::Map { height, width, channels: total })
            }
            _ => unreachable!("handled above"),
        }
    }
}

/// Keras's `imagenet_utils.correct_pad` for one dimension: zeros before and after.
#[must_use]
pub fn correct_pad(size: usize, kernel: usize) -> [usize; 2] {
    let after = kernel / 2;
    [after - usize::from(size.is_multiple_of(2)).min(after), after]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correct_pad_is_keras_s() {
        // keras.src.applications.imagenet_utils.correct_pad for sizes 96 and 97, kernels 3, 5 and 7.
        assert_eq!(correct_pad(96, 3), [0, 1]);
        assert_eq!(correct_pad(97, 3), [1, 1]);
        assert_eq!(correct_pad(96, 5), [1, 2]);
        assert_eq!(correct_pad(97, 7), [3, 3]);
    }

    #[test]
    fn layouts_are_permuted_there_and_back() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|value| value as f32).collect();
        let spec = |shape: Vec<usize>, layout| VariableSpec {
            name: "kernel",
            shape,
            layout,
            id: ParamId::new(),
            trainable: true,
        };
        let conv = spec(vec![2, 3, 4, 5], Layout::Conv);
        let burn = conv.to_burn(values.clone());
        assert_eq!(burn.shape.to_vec(), [5, 4, 2, 3]);
        let burn = burn.into_vec::<f32>().expect("f32");
        // [height 1, width 2, in 3, out 4] is [out 4, in 3, height 1, width 2].
        assert_eq!(burn[((4 * 4 + 3) * 2 + 1) * 3 + 2], values[((3 + 2) * 4 + 3) * 5 + 4]);
        assert_eq!(conv.from_burn(burn), values);

        let depthwise = spec(vec![4, 5, 6, 1], Layout::Depthwise);
        let burn = depthwise.to_burn(values.clone());
        assert_eq!(burn.shape.to_vec(), [6, 1, 4, 5]);
        let burn = burn.into_vec::<f32>().expect("f32");
        assert_eq!(burn[(5 * 4 + 2) * 5 + 3], values[(2 * 5 + 3) * 6 + 5]);
        assert_eq!(depthwise.from_burn(burn), values);
    }
}
