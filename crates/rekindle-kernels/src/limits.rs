use burn::tensor::activation::relu;
use burn::tensor::{Tensor, backend::Backend};
use rekindle_nn::Activation;

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
        activation.limits().map_or(Self::NONE, |[low, high]| Self { low, high })
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
