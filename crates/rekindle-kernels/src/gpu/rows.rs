//! What kernels over rows share. Maps are rows, `[batch * height * width, channels]`: the order in which Burn's own convolutions
//! leave them in memory, so that nothing is transposed between the two. A thread works on neighbouring channels, as many as the
//! device reads at once. Sums are in f32 whatever the values are.

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous};
use cubecl::prelude::*;
use cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};

use crate::Limits;

/// Outputs beside each other that a thread computes, from what it reads once.
pub(super) const STRIP: usize = 4;

/// As [`Limits`] have it: NaN is neither too low nor too high, and stays.
#[cube]
pub(super) fn clamp<N: Size>(value: Vector<f32, N>, low: f32, high: f32) -> Vector<f32, N> {
    let low = Vector::<f32, N>::new(low);
    let high = Vector::<f32, N>::new(high);
    let value = select_many(value.less_than(low), low, value);
    select_many(value.greater_than(high), high, value)
}

/// The limits as a kernel takes them: infinity is no literal of every shader language.
pub(super) fn finite(Limits { low, high }: Limits) -> [f32; 2] {
    [low.max(f32::MIN), high.min(f32::MAX)]
}

/// Memory for a tensor without gaps.
pub(super) fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: Shape,
    dtype: DType,
) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

/// Cubes and their size for so many threads.
pub(super) fn cubes<R: CubeRuntime>(like: &CubeTensor<R>, threads: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(&like.client, threads);
    (calculate_cube_count_elemwise(&like.client, threads, dim), dim)
}

/// How far apart the rows are; CUDA's may end with a gap. Rows of which the values are apart are copied.
pub(super) fn pitched<R: CubeRuntime>(
    rows: CubeTensor<R>,
    vector: usize,
) -> (CubeTensor<R>, usize) {
    let strides = rows.meta.strides();
    let (pitch, step) = (strides[0], strides[1]);
    if step == 1 && pitch >= rows.meta.shape()[1] && pitch.is_multiple_of(vector) {
        return (rows, pitch / vector);
    }
    let rows = into_contiguous(rows);
    let pitch = rows.meta.shape()[1] / vector;
    (rows, pitch)
}

/// How many channels a thread works on: as many as the device reads at once and as fill a pixel of each of these rows.
pub(super) fn vector<R: CubeRuntime>(all: &[CubeTensor<R>]) -> usize {
    let mut sizes = all[0].client.io_optimized_vector_sizes(all[0].dtype.size());
    let fills = |size| all.iter().all(|rows| rows.meta.shape()[1].is_multiple_of(size));
    sizes.find(|&size| fills(size)).unwrap_or(1)
}
