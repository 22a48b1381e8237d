//! Maps as rows, `[batch * height * width, channels]`: in the order that GPUs' convolutions leave them in memory, and such that a
//! convolution of one pixel is a product.

use burn::tensor::{Tensor, backend::Backend};

use crate::gpu;

/// `[batch, channels, height, width]` as rows; on GPUs without a copy where they are rows in memory.
pub(crate) fn rows<B: Backend>(map: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, channels, height, width] = map.dims();
    gpu::map_rows(&map)
        .unwrap_or_else(|| map.permute([0, 2, 3, 1]).reshape([batch * height * width, channels]))
}

/// Rows as `[batch, channels, height, width]`: another view of the same memory.
pub(crate) fn map<B: Backend>(rows: Tensor<B, 2>, [height, width]: [usize; 2]) -> Tensor<B, 4> {
    let [pixels, channels] = rows.dims();
    let batch = pixels / (height * width);
    rows.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}
