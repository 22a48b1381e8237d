//! The layers that hold parameters, with Keras's semantics and names.

mod batch_norm;
mod conv;
mod dense;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use conv::{Conv2d, Conv2dConfig, ConvNorm, Padding};
pub use dense::{Activation, Dense, DenseConfig};
