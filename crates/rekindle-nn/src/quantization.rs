use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Op;

/// The largest byte of a weight.
const MOST: f32 = 127.0;

/// What post-training quantization found out about a network: between what its values lie, and which layers stay in `f32`.
///
/// Each weight of all other layers with products is a whole number of steps from -127 to 127, with a step for each output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The lowest and the highest number that bytes stand for, by the layer whose value it is, with what was fused into it.
    /// A layer that has several values has a number behind its name: `block#2`.
    pub values: BTreeMap<String, [f32; 2]>,
    /// Layers with products that are computed in `f32`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kept: BTreeSet<String>,
}

impl Quantization {
    /// How many steps a variable of a layer has, one for each output; `None` where its numbers are no bytes. `shape` is
    /// Keras's.
    #[must_use]
    pub fn steps(&self, layer: &str, op: &Op, variable: &str, shape: &[usize]) -> Option<usize> {
        if self.kept.contains(layer) {
            return None;
        }
        let of_last =
            |axes: usize| shape.len().checked_sub(axes).map(|at| shape[at..].iter().product());
        match (op, variable) {
            (Op::Conv2d(_) | Op::Dense(_), "kernel")
            | (Op::SeparableConv2d(_), "pointwise_kernel") => of_last(1),
            (Op::DepthwiseConv2d(_), "kernel") | (Op::SeparableConv2d(_), "depthwise_kernel") => {
                of_last(2)
            }
            _ => None,
        }
    }
}

/// Weights as bytes, and the step of each output.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundedWeights {
    /// `[..][output]`, from -127 to 127.
    pub bytes: Vec<i8>,
    /// A number is its byte times its output's step.
    pub steps: Vec<f32>,
}

impl RoundedWeights {
    /// The nearest bytes of weights, `[..][output]`, whose outputs' largest ones are 127 or -127.
    #[must_use]
    pub fn of(weights: &[f32], outputs: usize) -> Self {
        let mut steps = vec![0.0_f32; outputs];
        for row in weights.chunks(outputs) {
            steps.iter_mut().zip(row).for_each(|(step, weight)| *step = step.max(weight.abs()));
        }
        // Of an output without weights all are zeros, whatever its step is.
        let of_most = |most: &f32| if *most > 0.0 { most / MOST } else { 1.0 };
        let steps: Vec<f32> = steps.iter().map(of_most).collect();
        let byte = |(index, weight): (usize, &f32)| {
            (weight / steps[index % outputs]).round_ties_even().clamp(-MOST, MOST) as i8
        };
        let bytes = weights.iter().enumerate().map(byte).collect();
        Self { bytes, steps }
    }

    /// The numbers.
    #[must_use]
    pub fn weights(&self) -> Vec<f32> {
        let outputs = self.steps.len();
        let number = |(index, &byte): (usize, &i8)| f32::from(byte) * self.steps[index % outputs];
        self.bytes.iter().enumerate().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_within_half_a_step_and_rounded_ones_stay() {
        let outputs = 5;
        let mut weights: Vec<f32> =
            (0..40 * outputs).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
        weights.iter_mut().skip(3).step_by(outputs).for_each(|weight| *weight = 0.0);
        let rounded = RoundedWeights::of(&weights, outputs);
        let numbers = rounded.weights();
        for (index, (number, weight)) in numbers.iter().zip(&weights).enumerate() {
            assert!((number - weight).abs() <= rounded.steps[index % outputs] * 0.5001);
        }
        assert_eq!(rounded.steps[3], 1.0);
        assert_eq!(RoundedWeights::of(&numbers, outputs).bytes, rounded.bytes);
    }
}
