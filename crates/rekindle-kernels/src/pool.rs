//! Pools, in plain Rust: they are a small part of any network's time.

use rekindle_nn::Pool;

/// An activation in memory: pixels of `stride` values, of which the first `channels` are pooled.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub height: usize,
    pub width: usize,
    pub stride: usize,
}

/// One output row of a pool over `channels`: the maximum, or the mean of what lies on the image.
#[expect(clippy::too_many_arguments, reason = "one call, and each has its own life")]
pub(crate) fn pool_row(
    input: &[f32],
    map: Map,
    pool: &Pool,
    is_max: bool,
    row: usize,
    channels: usize,
    mut write: impl FnMut(usize, &[f32]),
    sums: &mut Vec<f32>,
) {
    let [top, _] = pool.padding.amount(map.height, pool.kernel[0], pool.stride[0]);
    let [left, _] = pool.padding.amount(map.width, pool.kernel[1], pool.stride[1]);
    let within = |output: usize, axis: usize, before: usize, size: usize| {
        let start = output * pool.stride[axis];
        let end = (start + pool.kernel[axis]).saturating_sub(before).min(size);
        start.saturating_sub(before)..end
    };
    let rows = within(row, 0, top, map.height);
    let padded = map.width
        + pool.padding.amount(map.width, pool.kernel[1], pool.stride[1]).iter().sum::<usize>();
    let outputs = (padded - pool.kernel[1]) / pool.stride[1] + 1;
    for output in 0..outputs {
        let columns = within(output, 1, left, map.width);
        sums.clear();
        sums.resize(channels, if is_max { f32::NEG_INFINITY } else { 0.0 });
        for y in rows.clone() {
            for x in columns.clone() {
                let pixel = &input[(y * map.width + x) * map.stride..][..channels];
                if is_max {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        // NaN stays: neither comparison with it is true.
                        *sum = if *sum > value || sum.is_nan() { *sum } else { value };
                    }
                } else {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
            }
        }
        if !is_max {
            let share = 1.0 / (rows.len() * columns.len()) as f32;
            for sum in sums.iter_mut() {
                *sum *= share;
            }
        }
        write(output, sums);
    }
}

/// The mean or the maximum of each channel.
pub(crate) fn global(input: &[f32], map: Map, is_max: bool, out: &mut [f32]) {
    let pixels = map.height * map.width;
    out.fill(if is_max { f32::NEG_INFINITY } else { 0.0 });
    for pixel in 0..pixels {
        let values = &input[pixel * map.stride..];
        for (sum, &value) in out.iter_mut().zip(values) {
            *sum = match is_max {
                false => *sum + value,
                true if *sum > value || sum.is_nan() => *sum,
                true => value,
            };
        }
    }
    if !is_max {
        for sum in out.iter_mut() {
            *sum /= pixels as f32;
        }
    }
}
