use std::fmt;
use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_kernels::train::Pass;
use rekindle_nn::Network;
use serde::Serialize;

use crate::engine::{Place, Scope, Step, engine};
use crate::error::TrainError;
use crate::features::{Batches, Stored};
use crate::report::{Line, draw_line};
use crate::settings::FitConfig;

/// The lowest and the highest rate that are tried.
const RATES: [f64; 2] = [1e-7, 10.0];
const STEPS: usize = 100;
/// How much of the last losses' mean a step keeps.
const SMOOTHING: f64 = 0.9;

/// How the loss goes as the rate rises; see [`TransferLearner::find_learning_rate`](crate::TransferLearner::find_learning_rate).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RateFinder {
    /// The rates, in order.
    pub rates: Vec<f64>,
    /// The loss at each, smoothed.
    pub losses: Vec<f64>,
    /// In the middle of where the loss falls.
    pub suggestion: f64,
}

pub(crate) fn find<B: AutodiffBackend>(
    model: Network<B>,
    scope: Scope,
    train: &Stored<'_>,
    classes: usize,
    config: &FitConfig,
    class_weights: &[f32],
    place: &Place<B::Device>,
) -> Result<RateFinder, TrainError> {
    let mut engine = engine(model, scope, place, config.batch_size)?;
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let (mut rates, mut losses) = (Vec::new(), Vec::new());
    let (mut mean, mut best) = (0.0, f64::INFINITY);
    let ratio = (RATES[1] / RATES[0]).powf(1.0 / (STEPS - 1) as f64);
    let mut is_over = false;
    while rates.len() < STEPS && !is_over {
        order.shuffle(&mut rng);
        train.for_each(&order, 1, config.batch_size, &mut |_, mut batch| {
            let step = rates.len();
            if step == STEPS || is_over {
                return Ok(());
            }
            let photos = batch.labels.len() as f64;
            let pass = Pass::Training { seed: config.seed, step: step as u64, part: None };
            let weights = batch.weights(class_weights);
            config.loss.smooth(&mut batch.targets, config.label_smoothing, classes);
            let logits = engine.forward(std::mem::take(&mut batch.features), pass)?;
            let graded = config.loss.grade(&logits, &batch.targets, &weights, classes);
            engine.backward(&graded.gradient)?;
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * graded.sum / photos;
            // Unbiased, as Adam's means are.
            let loss = mean / (1.0 - SMOOTHING.powi(step as i32 + 1));
            is_over = !loss.is_finite() || loss > 4.0 * best;
            if is_over {
                return Ok(());
            }
            best = best.min(loss);
            let rate = RATES[0] * ratio.powi(step as i32);
            rates.push(rate);
            losses.push(loss);
            let time = step as u64 + 1;
            engine.step(&Step { rule: config.optimizer, time, rate, scale: 1.0 });
            Ok(())
        })?;
    }
    let suggestion = valley(&rates, &losses);
    Ok(RateFinder { rates, losses, suggestion })
}

/// In the middle of the valley: of the longest falling series of losses (fastai's `valley`), so that neither noise
/// before it nor the rise behind it counts.
fn valley(rates: &[f64], losses: &[f64]) -> f64 {
    let mut lengths = vec![1; losses.len()];
    let mut end = 0;
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
        }
        if lengths[end] < lengths[i] {
            end = i;
        }
    }
    let length = lengths.get(end).copied().unwrap_or_default();
    // Keras's rate where there was nothing to try.
    rates.get((end + 1).saturating_sub(length) + length / 2).copied().unwrap_or(1e-3)
}

impl RateFinder {
    /// Draws the loss over the rate, as a PNG.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn draw(&self, path: impl AsRef<Path>) -> Result<(), TrainError> {
        let points = self.rates.iter().zip(&self.losses);
        let points = points.map(|(rate, loss)| (rate.log10(), *loss)).collect();
        let mark = self.suggestion.log10();
        let title = format!("Loss over the learning rate; suggested {:.1e}", self.suggestion);
        draw_line(path.as_ref(), &title, "learning rate", Line { name: "loss", points }, mark)
    }
}

impl fmt::Display for RateFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points: Vec<(&f64, &f64)> = self.rates.iter().zip(&self.losses).collect();
        for (rate, loss) in points.iter().step_by(points.len().div_ceil(16).max(1)) {
            writeln!(f, "rate {rate:9.1e}  loss {loss:.4}")?;
        }
        write!(f, "suggested rate: {:.1e}", self.suggestion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_is_found_between_noise_and_the_rise() {
        let rates: Vec<f64> = (0..100).map(|i| 1e-7 * 1.2_f64.powi(i)).collect();
        let loss = |i: usize| match i {
            0..40 => 2.0 + 0.1 * f64::from(u8::from(i.is_multiple_of(3))),
            40..70 => 2.0 - (i - 40) as f64 * 0.05,
            _ => 0.6 + (i - 70) as f64,
        };
        let losses: Vec<f64> = (0..100).map(loss).collect();
        let found = valley(&rates, &losses);
        assert!((rates[50]..=rates[60]).contains(&found), "{found}");
        assert_eq!(valley(&[], &[]), 1e-3);
        assert_eq!(valley(&[0.5], &[1.0]), 0.5);
    }
}
