use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::init::stream;

/// The masks of a training step's dropout layers, one after the other: they depend on the seed and the step only,
/// so that every backend drops the same values.
#[derive(Debug)]
pub struct DropoutMasks(ChaCha8Rng);

impl DropoutMasks {
    /// Of one step, counted from 0 over the whole run.
    #[must_use]
    pub fn new(seed: u64, step: u64) -> Self {
        let mut rng = stream(seed, "dropout");
        // Each step starts in a part of the stream that no step before it can have reached.
        rng.set_word_pos(u128::from(step) << 40);
        Self(rng)
    }

    /// The next layer's mask for `count` values, channel by channel: 0, or `1 / (1 - rate)` for those that are kept
    /// (Keras's inverted dropout).
    #[must_use]
    pub fn next(&mut self, rate: f64, count: usize) -> Vec<f32> {
        let scale = (1.0 / (1.0 - rate)) as f32;
        let mut drop = || if f64::from(self.0.random::<f32>()) < rate { 0.0 } else { scale };
        (0..count).map(|_| drop()).collect()
    }
}
