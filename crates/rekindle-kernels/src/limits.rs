use burn::tensor::activation::relu;
use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::layers::Activation;

/// What outputs are clamped to, once their bias is added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The lowest.
    pub low: f32,
    /// The highest.
    pub high: f32,
}

impl Limits {
    /// Of outputs that are not clamped.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// What an activation clamps to; [`NONE`](Self::NONE) where it does something else.
    #[must_use]
    pub fn of(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self { low: 0.0, ..Self::NONE },
            Activation::Relu6 => Self { low: 0.0, high: 6.0 },
            Activation::Linear | Activation::Softmax | Activation::Sigmoid => Self::NONE,
        }
    }

    /// As operations of the tensor's backend, with their gradients.
    pub(crate) fn clamp<B: Backend, const D: usize>(self, y: Tensor<B, D>) -> Tensor<B, D> {
        let y = match self.low {
            0.0 => relu(y),
            f32::NEG_INFINITY => y,
            low => y.clamp_min(low),
        };
        if self.high == f32::INFINITY { y } else { y.clamp_max(self.high) }
    }
}
