//! In place of the kernels where this crate is built without: no backend has them.

use burn::tensor::{Int, Tensor, backend::Backend};

use super::{ChannelScale, DenseStep, WindowConfig};
use crate::Limits;

/// None.
#[must_use]
pub fn depthwise<B: Backend>(
    _: &Tensor<B, 4>,
    _: &Tensor<B, 4>,
    _: Option<&Tensor<B, 1>>,
    _: WindowConfig,
) -> Option<Tensor<B, 4>> {
    None
}

/// None.
#[must_use]
pub fn depthwise_rows<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: WindowConfig,
) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn stem<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: WindowConfig,
) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn conv<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 4>,
    _: &Tensor<B, 2>,
    _: WindowConfig,
) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn join<B: Backend>(_: &[Tensor<B, 2>], _: &[Limits]) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn map_rows<B: Backend>(_: &Tensor<B, 4>) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn all_reduce<B: Backend, const D: usize>(_: &[Tensor<B, D>]) -> Option<Vec<Tensor<B, D>>> {
    None
}

/// None.
#[must_use]
pub fn photos<B: Backend>(
    _: &Tensor<B, 1, Int>,
    _: usize,
    _: ChannelScale,
) -> Option<Tensor<B, 2>> {
    None
}

/// No.
#[must_use]
pub fn has_kernels<B: Backend>() -> bool {
    false
}

/// None.
#[must_use]
pub fn dense<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: Option<&Tensor<B, 2>>,
    _: Limits,
) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn dense_input_gradient<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: Option<&Tensor<B, 2>>,
    _: Limits,
) -> Option<Tensor<B, 2>> {
    None
}

/// None.
#[must_use]
pub fn dense_step<B: Backend>(
    _: &Tensor<B, 2>,
    _: &Tensor<B, 2>,
    _: Vec<Tensor<B, 2>>,
    _: DenseStep,
) -> Option<Vec<Tensor<B, 2>>> {
    None
}
