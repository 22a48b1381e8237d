//! Losses, on the host: outputs are a few numbers for each photo.

use serde::{Deserialize, Serialize};

/// What the outputs are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Loss {
    /// Classes exclude each other: Keras's categorical cross-entropy of a softmax.
    #[default]
    Softmax,
    /// Each class is there or not: Keras's binary cross-entropy of a sigmoid, the mean over the classes.
    Sigmoid,
}

/// A batch's loss.
pub(crate) struct Graded {
    /// The sum over the photos, each with its weight.
    pub sum: f64,
    /// The gradient of the mean, `[batch][classes]`.
    pub gradient: Vec<f32>,
}

impl Loss {
    /// Compares logits with targets, both `[batch][classes]`; each photo counts by its weight.
    pub(crate) fn grade(
        self,
        logits: &[f32],
        targets: &[f32],
        weights: &[f32],
        classes: usize,
    ) -> Graded {
        let batch = weights.len() as f64;
        let mut graded = Graded { sum: 0.0, gradient: Vec::with_capacity(logits.len()) };
        let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes)).zip(weights);
        for ((logits, targets), &weight) in rows {
            let weight = f64::from(weight);
            match self {
                Self::Softmax => {
                    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let exponent = |logit: f32| f64::from(logit - highest).exp();
                    let total: f64 = logits.iter().map(|&logit| exponent(logit)).sum();
                    let mass: f64 = targets.iter().map(|&target| f64::from(target)).sum();
                    for (&logit, &target) in logits.iter().zip(targets) {
                        let target = f64::from(target);
                        graded.sum -= weight * target * (f64::from(logit - highest) - total.ln());
                        let gradient = mass * exponent(logit) / total - target;
                        graded.gradient.push((weight * gradient / batch) as f32);
                    }
                }
                Self::Sigmoid => {
                    let share = weight / classes as f64;
                    for (&logit, &target) in logits.iter().zip(targets) {
                        let (x, target) = (f64::from(logit), f64::from(target));
                        // Stable for large logits of either sign.
                        graded.sum += share * (x.max(0.0) - x * target + (-x.abs()).exp().ln_1p());
                        let gradient = 1.0 / (1.0 + (-x).exp()) - target;
                        graded.gradient.push((share * gradient / batch) as f32);
                    }
                }
            }
        }
        graded
    }

    /// Keras's label smoothing.
    pub(crate) fn smooth(self, targets: &mut [f32], smoothing: f64, classes: usize) {
        let (keep, share) = match self {
            Self::Softmax => (1.0 - smoothing, smoothing / classes as f64),
            Self::Sigmoid => (1.0 - smoothing, smoothing / 2.0),
        };
        targets.iter_mut().for_each(|target| *target = (f64::from(*target) * keep + share) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// keras.losses.CategoricalCrossentropy(from_logits=True) and BinaryCrossentropy(from_logits=True), with label
    /// smoothing 0.1, sample weights [1, 2] and reduction "sum".
    #[test]
    fn losses_are_keras_s() {
        let logits = [1.0_f32, -2.0, 0.5, 3.0, 0.0, -1.0];
        let mut targets = [1.0_f32, 0.0, 0.0, 0.0, 0.0, 1.0];
        for (loss, golden) in [(Loss::Softmax, 8.419_698_7), (Loss::Sigmoid, 3.749_753)] {
            targets = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
            loss.smooth(&mut targets, 0.1, 3);
            let graded = loss.grade(&logits, &targets, &[1.0, 2.0], 3);
            assert!((graded.sum - golden).abs() < 1e-5, "{loss:?}: {}", graded.sum);
            // The gradient is that of the mean.
            for index in 0..6 {
                let at = |change: f32| {
                    let mut logits = logits;
                    logits[index] += change;
                    loss.grade(&logits, &targets, &[1.0, 2.0], 3).sum / 2.0
                };
                let gradient = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((f64::from(graded.gradient[index]) - gradient).abs() < 1e-4);
            }
        }
        assert!(targets.iter().sum::<f32>() > 0.0);
    }
}
