use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// How the learning rate changes over a run, as a factor of the rate that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// Up in a straight line over `warm_up` of the steps, then down to 0 along half a cosine
    /// (`keras/src/optimizers/schedules/learning_rate_schedule.py`, `CosineDecay`).
    Cosine {
        /// Share of the steps, from 0 to 1.
        warm_up: f64,
    },
    /// Times `factor` after every `epochs` epochs.
    Step {
        /// From 0 to 1.
        factor: f64,
        /// At least 1.
        epochs: usize,
    },
    /// Times `factor` over every epoch, smoothly (`ExponentialDecay` without staircase).
    Exponential {
        /// From 0 to 1.
        factor: f64,
    },
    /// From a 25th up to the whole over the first 30 % of the steps, then down to a 10,000th, both along cosines
    /// (Smith 2018; fastai's `fit_one_cycle` and PyTorch's `OneCycleLR`).
    OneCycle,
    /// Times `factor` when the validation loss (the training loss, if there is none) has not fallen for `patience`
    /// epochs (`keras/src/callbacks/reduce_lr_on_plateau.py`).
    Plateau {
        /// From 0 to 1.
        factor: f64,
        /// At least 1.
        patience: usize,
    },
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Steps before this one.
    pub step: u64,
    /// Of the whole run.
    pub steps: u64,
    /// Of an epoch.
    pub steps_per_epoch: u64,
}

impl Schedule {
    /// The factor of a step; [`Schedule::Plateau`] depends on the losses, not on the step.
    #[must_use]
    pub fn factor(&self, at: Moment) -> f64 {
        let cosine = |share: f64| 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
        let (step, steps) = (at.step as f64, at.steps.max(1) as f64);
        match *self {
            Self::Constant | Self::Plateau { .. } => 1.0,
            Self::Cosine { warm_up } => {
                let warm = (warm_up * steps).round();
                if step < warm {
                    (step + 1.0) / warm
                } else {
                    cosine((step - warm) / (steps - warm).max(1.0))
                }
            }
            Self::Step { factor, epochs } => {
                factor.powf((at.step / at.steps_per_epoch.max(1) / epochs.max(1) as u64) as f64)
            }
            Self::Exponential { factor } => factor.powf(step / at.steps_per_epoch.max(1) as f64),
            Self::OneCycle => {
                let top = (0.3 * steps - 1.0).max(1.0);
                let between = |from: f64, to: f64, share: f64| to + (from - to) * cosine(share);
                if step <= top {
                    between(1.0 / 25.0, 1.0, step / top)
                } else {
                    between(1.0, 1e-4, (step - top) / (steps - 1.0 - top).max(1.0))
                }
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let wrong = |setting, found: String, expected| {
            Err(TrainError::Setting { setting, found, expected })
        };
        let is_share = |value: f64| value > 0.0 && value < 1.0;
        match *self {
            Self::Cosine { warm_up } if !(0.0..1.0).contains(&warm_up) => {
                wrong("warm-up of the schedule", warm_up.to_string(), "from 0 to less than 1")
            }
            Self::Step { factor, .. }
            | Self::Exponential { factor }
            | Self::Plateau { factor, .. }
                if !is_share(factor) =>
            {
                wrong("factor of the schedule", factor.to_string(), "between 0 and 1")
            }
            Self::Step { epochs: 0, .. } | Self::Plateau { patience: 0, .. } => {
                wrong("epochs of the schedule", "0".into(), "at least 1")
            }
            _ => Ok(()),
        }
    }
}

/// What [`Schedule::Plateau`] and early stopping remember: how long a loss has not fallen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The lowest loss.
    pub best: f32,
    /// Epochs since then.
    pub waited: usize,
    /// The rate's factor now.
    pub factor: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        // JSON has no infinity.
        Self { best: f32::MAX, waited: 0, factor: 1.0 }
    }
}

impl Plateau {
    /// Hears of an epoch's loss; whether it is the lowest by at least `least`.
    pub fn hear(&mut self, loss: f32, least: f32) -> bool {
        let is_better = loss < self.best - least;
        if is_better {
            (self.best, self.waited) = (loss, 0);
        } else {
            self.waited += 1;
        }
        is_better
    }

    /// Lowers the factor if the wait is over.
    pub fn reduce(&mut self, factor: f64, patience: usize) {
        if self.waited >= patience {
            self.factor *= factor;
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> Moment {
        Moment { step, steps: 100, steps_per_epoch: 10 }
    }

    #[test]
    fn factors_are_keras_s() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(Schedule::Constant.factor(at(99)), 1.0);
        // keras.optimizers.schedules.CosineDecay(1.0, 100)(25) and (50).
        close(Schedule::Cosine { warm_up: 0.0 }.factor(at(25)), 0.853_553_390_593_273_8);
        close(Schedule::Cosine { warm_up: 0.0 }.factor(at(50)), 0.5);
        close(Schedule::Cosine { warm_up: 0.1 }.factor(at(0)), 0.1);
        close(Schedule::Cosine { warm_up: 0.1 }.factor(at(9)), 1.0);
        close(Schedule::Cosine { warm_up: 0.1 }.factor(at(55)), 0.5);
        close(Schedule::Step { factor: 0.5, epochs: 2 }.factor(at(39)), 0.5);
        close(Schedule::Step { factor: 0.5, epochs: 2 }.factor(at(40)), 0.25);
        // ExponentialDecay(1.0, 10, 0.9)(15).
        close(Schedule::Exponential { factor: 0.9 }.factor(at(15)), 0.9_f64.powf(1.5));
        // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=100): steps 0, 29 and 99.
        close(Schedule::OneCycle.factor(at(0)), 0.04);
        close(Schedule::OneCycle.factor(at(29)), 1.0);
        close(Schedule::OneCycle.factor(at(99)), 1e-4);
    }

    #[test]
    fn a_plateau_reduces_after_its_patience() {
        let mut plateau = Plateau::default();
        for (loss, factor) in
            [(1.0, 1.0), (0.5, 1.0), (0.6, 1.0), (0.5, 0.1), (0.4, 0.1), (0.4, 0.1), (0.4, 0.01)]
        {
            plateau.hear(loss, 0.0);
            plateau.reduce(0.1, 2);
            assert!((plateau.factor - factor).abs() < 1e-12, "{loss}: {plateau:?}");
        }
    }
}
