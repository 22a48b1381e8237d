//! Photos as bytes become what a network takes, in one pass over them.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous};
use cubecl::prelude::*;

use super::ChannelScale;
use super::rows::{cubes, empty};

#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn preprocess(
    words: &Array<i32>,
    output: &mut Array<f32>,
    pixels: usize,
    scale_0: f32,
    scale_1: f32,
    scale_2: f32,
    offset_0: f32,
    offset_1: f32,
    offset_2: f32,
    #[comptime] source_0: usize,
    #[comptime] source_1: usize,
    #[comptime] source_2: usize,
) {
    if ABSOLUTE_POS >= pixels {
        terminate!();
    }
    let first = ABSOLUTE_POS * 3;
    output[first] = byte(words, first + source_0) * scale_0 + offset_0;
    output[first + 1] = byte(words, first + source_1) * scale_1 + offset_1;
    output[first + 2] = byte(words, first + source_2) * scale_2 + offset_2;
}

/// Byte `index` of numbers of four bytes each, the lowest first.
#[cube]
fn byte(words: &Array<i32>, index: usize) -> f32 {
    let shift = i32::cast_from(index % 4 * 8);
    f32::cast_from((words[index / 4] >> shift) & 255)
}

/// `[pixels, 3]` of bytes, four of them in a number.
pub(super) fn photos<R: CubeRuntime>(
    words: CubeTensor<R>,
    pixels: usize,
    ChannelScale { source, scale, offset }: ChannelScale,
) -> CubeTensor<R> {
    let words = into_contiguous(words);
    let output = empty(&words, Shape::new([pixels, 3]), DType::F32);
    let (count, dim) = cubes(&words, pixels);
    let client = words.client.clone();
    preprocess::launch(
        &client,
        count,
        dim,
        words.into_array_arg(),
        output.clone().into_array_arg(),
        pixels,
        scale[0],
        scale[1],
        scale[2],
        offset[0],
        offset[1],
        offset[2],
        source[0],
        source[1],
        source[2],
    );
    output
}
