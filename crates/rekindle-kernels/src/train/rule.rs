//! The update rules of Keras's optimizers, each one pass over a parameter.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use crate::vectorized::{fma, vectorized};

/// How gradients change a parameter: an optimizer's rule and settings, Keras's defaults where not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", tag = "name")]
pub enum Rule {
    /// Keras's Adam (`keras/src/optimizers/adam.py`), with AdamW's decay of the weights where that is not 0.
    Adam {
        /// Share of the gradients' moving mean that a step keeps.
        beta_1: f64,
        /// Share of their squares' moving mean that a step keeps.
        beta_2: f64,
        /// Added to the root; not scaled by the bias correction, as in Keras and unlike PyTorch.
        epsilon: f64,
        /// Share of a weight that a step at rate 1 takes away (`keras/src/optimizers/adamw.py`).
        decay: f64,
    },
    /// Keras's SGD (`keras/src/optimizers/sgd.py`).
    Sgd {
        /// Share of the last step that a step repeats.
        momentum: f64,
        /// Whether the gradient is looked at after the repeated step.
        nesterov: bool,
    },
    /// Keras's RMSprop (`keras/src/optimizers/rmsprop.py`).
    RmsProp {
        /// Share of the squares' moving mean that a step keeps.
        rho: f64,
        /// Share of the last step that a step repeats.
        momentum: f64,
        /// Added under the root.
        epsilon: f64,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adam { beta_1, beta_2, epsilon, decay } => write!(
                f,
                "adam with beta_1 {beta_1}, beta_2 {beta_2}, epsilon {epsilon}, decay {decay}"
            ),
            Self::Sgd { momentum, nesterov } => {
                write!(f, "sgd with momentum {momentum}, nesterov {nesterov}")
            }
            Self::RmsProp { rho, momentum, epsilon } => {
                write!(f, "rmsprop with rho {rho}, momentum {momentum}, epsilon {epsilon}")
            }
        }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self::adam()
    }
}

impl Rule {
    /// Adam.
    #[must_use]
    pub fn adam() -> Self {
        Self::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, decay: 0.0 }
    }

    /// AdamW with Keras's decay of 0.004.
    #[must_use]
    pub fn adam_w() -> Self {
        Self::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, decay: 0.004 }
    }

    /// SGD, plain where `momentum` is 0.
    #[must_use]
    pub fn sgd(momentum: f64, nesterov: bool) -> Self {
        Self::Sgd { momentum, nesterov }
    }

    /// RMSprop without momentum.
    #[must_use]
    pub fn rms_prop() -> Self {
        Self::RmsProp { rho: 0.9, momentum: 0.0, epsilon: 1e-7 }
    }

    /// How many numbers it remembers for each weight.
    #[must_use]
    pub fn slots(&self) -> usize {
        match *self {
            Self::Adam { .. } => 2,
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Self::RmsProp { momentum, .. } => 1 + usize::from(momentum != 0.0),
        }
    }

    /// The factor that Adam's rate has in step `time`, counted from 1; 1 for the others.
    #[must_use]
    pub fn correction(&self, time: u64) -> f64 {
        match *self {
            Self::Adam { beta_1, beta_2, .. } => {
                let time = time as f64;
                (1.0 - beta_2.powf(time)).sqrt() / (1.0 - beta_1.powf(time))
            }
            _ => 1.0,
        }
    }

    /// Updates `weights` in step `time`, counted from 1, by gradients times `scale`; `slots` has
    /// [`slots`](Self::slots) vectors of their length. AdamW decays every variable, as Keras's does.
    pub fn update(
        &self,
        time: u64,
        rate: f64,
        scale: f32,
        weights: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        const PIECE: usize = 1 << 14;
        let update = self.at(time, rate, scale);
        let pieces = update.pieces(weights, slots, PIECE);
        let pieces = pieces.into_par_iter().zip(gradient.par_chunks(PIECE));
        pieces.for_each(|(mut piece, gradient)| update.apply(&mut piece, gradient));
    }

    /// What it does in step `time`, counted from 1, at a rate, with gradients times `scale`.
    pub(super) fn at(&self, time: u64, rate: f64, scale: f32) -> Update {
        let own = (rate * self.correction(time)) as f32;
        Update { rule: *self, rate, own, scale }
    }
}

/// A rule in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    rule: Rule,
    rate: f64,
    /// The rate with Adam's correction.
    own: f32,
    scale: f32,
}

/// Some of a parameter's weights, and what is remembered of them; slots that the rule has not are empty.
pub(super) struct Piece<'a> {
    pub weights: &'a mut [f32],
    pub slots: [&'a mut [f32]; 2],
}

impl Piece<'_> {
    /// Some of these.
    pub fn part(&mut self, range: Range<usize>) -> Piece<'_> {
        let slots = self.slots.each_mut().map(|slot| match slot.is_empty() {
            true => &mut [][..],
            false => &mut slot[range.clone()],
        });
        Piece { weights: &mut self.weights[range], slots }
    }
}

impl Update {
    /// A parameter in pieces of `size` weights; the last may have fewer.
    pub fn pieces<'a>(
        &self,
        weights: &'a mut [f32],
        slots: &'a mut [Vec<f32>],
        size: usize,
    ) -> Vec<Piece<'a>> {
        assert_eq!(slots.len(), self.rule.slots(), "a rule has all its slots");
        let is_whole = |slot: &Vec<f32>| slot.len() == weights.len();
        assert!(slots.iter().all(is_whole), "slots are as long as the weights");
        let mut slots = slots.iter_mut().map(|slot| slot.chunks_mut(size));
        let [mut first, mut second] = [slots.next(), slots.next()];
        let mut next = || {
            [&mut first, &mut second]
                .map(|slot| slot.as_mut().and_then(Iterator::next).unwrap_or_default())
        };
        weights.chunks_mut(size).map(|weights| Piece { weights, slots: next() }).collect()
    }

    /// Updates some weights by their gradients.
    pub fn apply(&self, piece: &mut Piece<'_>, gradient: &[f32]) {
        let (scale, plain) = (self.scale, self.rate as f32);
        let Piece { weights, slots: [first, second] } = piece;
        match self.rule {
            Rule::Adam { beta_1, beta_2, epsilon, decay } => {
                let keep = (1.0 - self.rate * decay) as f32;
                // In f32 what is left of 1 would be off by 1e-5.
                let betas = [beta_1, 1.0 - beta_1, beta_2, 1.0 - beta_2].map(|beta| beta as f32);
                let settings = [epsilon as f32, self.own, keep, scale];
                adam(betas, settings, weights, gradient, first, second);
            }
            Rule::Sgd { momentum: 0.0, .. } => {
                let pairs = weights.iter_mut().zip(gradient);
                pairs.for_each(|(w, g)| *w -= plain * scale * g);
            }
            Rule::Sgd { momentum, nesterov } => {
                let momentum = momentum as f32;
                for ((w, g), v) in weights.iter_mut().zip(gradient).zip(first.iter_mut()) {
                    let step = plain * scale * g;
                    *v = momentum * *v - step;
                    *w += if nesterov { momentum * *v - step } else { *v };
                }
            }
            Rule::RmsProp { rho, momentum, epsilon } => {
                let has_velocity = momentum != 0.0;
                let [rho, added, momentum, epsilon] =
                    [rho, 1.0 - rho, momentum, epsilon].map(|value| value as f32);
                let step = |g: f32, s: &mut f32| {
                    let g = g * scale;
                    *s = rho * *s + added * g * g;
                    plain * g / (*s + epsilon).sqrt()
                };
                let squares = weights.iter_mut().zip(gradient).zip(first.iter_mut());
                if has_velocity {
                    for (((w, g), s), v) in squares.zip(second.iter_mut()) {
                        *v = momentum * *v + step(*g, s);
                        *w -= *v;
                    }
                } else {
                    squares.for_each(|((w, g), s)| *w -= step(*g, s));
                }
            }
        }
    }
}

vectorized! {
    fn adam(betas: [f32; 4], settings: [f32; 4], weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let ([beta_1, added_1, beta_2, added_2], [epsilon, rate, keep, scale]) = (betas, settings);
        let moments = mean.iter_mut().zip(square);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = g * scale;
            *m = fma::<FUSED>(*m, beta_1, g * added_1);
            *v = fma::<FUSED>(*v, beta_2, g * g * added_2);
            *w = *w * keep - rate * *m / (v.sqrt() + epsilon);
        }
    }
}
