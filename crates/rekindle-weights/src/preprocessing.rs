//! Preprocessing as layers of a network.

use rekindle_nn::Op;
use rekindle_nn::ops::{Conv2d, Rescaling};
use rekindle_pixels::{Linear, Preprocessing};

/// One layer of a preprocessing.
pub(crate) struct Step {
    /// What it is called where nothing else is.
    pub name: &'static str,
    /// What it does.
    pub op: Op,
    /// The kernel of a convolution, in Keras's layout, and its shape.
    pub kernel: Option<(Vec<usize>, Vec<f32>)>,
}

/// The layers that preprocess RGB from 0 to 255, each of which takes what the one before it makes.
pub(crate) fn steps(mode: Preprocessing, channels: usize) -> Vec<Step> {
    let Linear { source, scale, offset } = mode.linear(channels);
    let mut steps = Vec::new();
    if !source.iter().copied().eq(0..channels) {
        // No layer of Keras's puts channels in another order: a convolution of single pixels does.
        let order = Conv2d::new(channels, [1, 1]).valid();
        let mut kernel = vec![0.0; channels * channels];
        for (output, &input) in source.iter().enumerate() {
            kernel[input * channels + output] = 1.0;
        }
        let shape = vec![1, 1, channels, channels];
        steps.push(Step { name: "rgb_to_bgr", op: order.into(), kernel: Some((shape, kernel)) });
    }
    if scale.iter().any(|&scale| scale != 1.0) || offset.iter().any(|&offset| offset != 0.0) {
        let op = Rescaling { scale: one(scale), offset: one(offset) }.into();
        steps.push(Step { name: "rescaling", op, kernel: None });
    }
    steps
}

/// One number where all are the same.
fn one(values: Vec<f64>) -> Vec<f64> {
    match values.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => vec![*first],
        _ => values,
    }
}
