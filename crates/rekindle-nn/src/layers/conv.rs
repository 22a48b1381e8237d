use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::BatchNorm;
use crate::init::glorot_uniform;
use crate::{Layout, VariableSpec};

/// Keras's `padding` of convolutions and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Zeros so that the output has `ceil(size / stride)` rows; if odd, one more after than before.
    Same,
    /// None.
    Valid,
}

impl Padding {
    /// Zeros before and after a dimension of `size`.
    #[must_use]
    pub fn amount(self, size: usize, kernel: usize, stride: usize) -> [usize; 2] {
        match self {
            Self::Valid => [0, 0],
            Self::Same => {
                let covered = (size.div_ceil(stride).max(1) - 1) * stride + kernel;
                let total = covered.saturating_sub(size);
                [total / 2, total - total / 2]
            }
        }
    }

    /// The output size along `axis`, or nothing where the kernel does not fit.
    pub(crate) fn output(
        self,
        size: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        axis: usize,
    ) -> Option<usize> {
        let padded = size + self.amount(size, kernel[axis], stride[axis]).iter().sum::<usize>();
        (size > 0).then_some(())?;
        Some(padded.checked_sub(kernel[axis])? / stride[axis] + 1)
    }
}

/// A 2D convolution, full or depthwise (one filter for each channel).
#[derive(Module, Debug)]
pub struct Conv2d<B: Backend> {
    /// The layer's Keras name.
    #[module(skip)]
    pub name: String,
    /// `[out, in, height, width]`; depthwise `[channels, 1, height, width]`.
    pub weight: Param<Tensor<B, 4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<B, 1>>>,
    /// Channels in and out.
    #[module(skip)]
    pub channels: [usize; 2],
    /// Height and width.
    #[module(skip)]
    pub kernel: [usize; 2],
    /// Down and right.
    #[module(skip)]
    pub stride: [usize; 2],
    /// Keras's `padding`.
    #[module(skip)]
    pub padding: Padding,
    /// Whether each channel has its own filter.
    #[module(skip)]
    pub depthwise: bool,
}

/// The settings of a [`Conv2d`].
#[derive(Debug, Clone)]
pub struct Conv2dConfig {
    name: String,
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    depthwise: bool,
}

impl Conv2dConfig {
    /// A full convolution with stride 1, padding `same` and no bias.
    #[must_use]
    pub fn new(name: impl Into<String>, channels: [usize; 2], kernel: [usize; 2]) -> Self {
        let (name, padding) = (name.into(), Padding::Same);
        Self { name, channels, kernel, stride: [1, 1], padding, depthwise: false }
    }

    /// A depthwise convolution with stride 1, padding `same` and no bias.
    #[must_use]
    pub fn depthwise(name: impl Into<String>, channels: usize, kernel: [usize; 2]) -> Self {
        Self { depthwise: true, ..Self::new(name, [channels, channels], kernel) }
    }

    /// The same step down and right.
    #[must_use]
    pub fn with_stride(self, stride: usize) -> Self {
        Self { stride: [stride, stride], ..self }
    }

    /// Keras's `padding`.
    #[must_use]
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// The layer, with Glorot-uniform weights until others are loaded.
    #[must_use]
    pub fn init<B: Backend>(self, device: &B::Device) -> Conv2d<B> {
        let [kh, kw] = self.kernel;
        let [input, output] = self.channels;
        let (filters_in, fan_out) = if self.depthwise { (1, 1) } else { (input, output) };
        let weight = glorot_uniform(
            [output, filters_in, kh, kw],
            [kh * kw * filters_in, kh * kw * fan_out],
            0,
            &self.name,
            device,
        );
        Conv2d {
            name: self.name,
            weight,
            bias: None,
            channels: self.channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            depthwise: self.depthwise,
        }
    }
}

impl<B: Backend> Conv2d<B> {
    pub(crate) fn variables(&self) -> Vec<VariableSpec> {
        let [kh, kw] = self.kernel;
        let [input, output] = self.channels;
        let (shape, layout) = if self.depthwise {
            (vec![kh, kw, input, 1], Layout::Depthwise)
        } else {
            (vec![kh, kw, input, output], Layout::Conv)
        };
        let id = self.weight.id;
        let mut specs = vec![VariableSpec { name: "kernel", shape, layout, id, trainable: true }];
        if let Some(bias) = &self.bias {
            let (shape, layout, id) = (vec![output], Layout::Same, bias.id);
            specs.push(VariableSpec { name: "bias", shape, layout, id, trainable: true });
        }
        specs
    }
}

/// A convolution and the normalization behind it, the pair that most networks are made of.
#[derive(Module, Debug)]
pub struct ConvNorm<B: Backend> {
    /// The convolution.
    pub conv: Conv2d<B>,
    /// Its normalization.
    pub norm: BatchNorm<B>,
}

#[cfg(test)]
mod tests {
    use super::Padding;

    #[test]
    fn same_padding_is_tensorflow_s() {
        assert_eq!(Padding::Same.amount(224, 3, 2), [0, 1]);
        assert_eq!(Padding::Same.amount(97, 3, 2), [1, 1]);
        assert_eq!(Padding::Same.amount(17, 7, 1), [3, 3]);
        assert_eq!(Padding::Same.amount(5, 1, 2), [0, 0]);
        assert_eq!(Padding::Valid.output(2, [3, 3], [1, 1], 0), None);
        assert_eq!(Padding::Valid.output(299, [3, 3], [2, 2], 0), Some(149));
    }
}
