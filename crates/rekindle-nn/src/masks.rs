use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::init::stream;

/// The samples of a batch that go through a network together, where not all of them do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Samples before them.
    pub first: usize,
    /// Samples of the batch.
    pub of: usize,
}

/// The masks of a training step's dropout layers, one after the other: they depend on the seed and the step only,
/// so that every backend drops the same values, and a batch in parts the same as a whole one.
#[derive(Debug)]
pub struct DropoutMasks {
    rng: ChaCha8Rng,
    samples: Option<Samples>,
}

impl DropoutMasks {
    /// Of one step, counted from 0 over the whole run.
    #[must_use]
    pub fn new(seed: u64, step: u64) -> Self {
        let mut rng = stream(seed, "dropout");
        // Each step starts in a part of the stream that no step before it can have reached.
        rng.set_word_pos(u128::from(step) << 40);
        Self { rng, samples: None }
    }

    /// Those of some samples only.
    #[must_use]
    pub fn of(self, samples: Option<Samples>) -> Self {
        Self { samples, ..self }
    }

    /// The next layer's mask for `samples` of `count` values each, channel by channel: 0, or `1 / (1 - rate)` for those
    /// that are kept (Keras's inverted dropout).
    #[must_use]
    pub fn next(&mut self, rate: f64, samples: usize, count: usize) -> Vec<f32> {
        let scale = (1.0 / (1.0 - rate)) as f32;
        let draw = |rng: &mut ChaCha8Rng| {
            if f64::from(rng.random::<f32>()) < rate { 0.0 } else { scale }
        };
        self.draw(samples, count, 1, draw)
    }

    /// The next layer's normal values, of mean 0 and deviation 1, in the same order (Box and Muller 1958).
    #[must_use]
    pub fn normal(&mut self, samples: usize, count: usize) -> Vec<f32> {
        let draw = |rng: &mut ChaCha8Rng| {
            // From above 0, which has no logarithm, to 1.
            let length = f64::from(1.0 - rng.random::<f32>());
            let turn = std::f64::consts::TAU * f64::from(rng.random::<f32>());
            ((-2.0 * length.ln()).sqrt() * turn.cos()) as f32
        };
        self.draw(samples, count, 2, draw)
    }

    /// Values that take `words` random words each; those of other samples of the batch are left out.
    fn draw(
        &mut self,
        samples: usize,
        count: usize,
        words: usize,
        mut draw: impl FnMut(&mut ChaCha8Rng) -> f32,
    ) -> Vec<f32> {
        let (before, behind) = match self.samples {
            Some(Samples { first, of }) => (first, of.saturating_sub(first + samples)),
            None => (0, 0),
        };
        self.skip(before * count * words);
        let values = (0..samples * count).map(|_| draw(&mut self.rng)).collect();
        self.skip(behind * count * words);
        values
    }

    fn skip(&mut self, words: usize) {
        self.rng.set_word_pos(self.rng.get_word_pos() + words as u128);
    }
}

#[cfg(test)]
mod tests {
    use super::{DropoutMasks, Samples};

    #[test]
    fn parts_of_a_batch_drop_what_the_whole_does() {
        let mut whole = DropoutMasks::new(3, 7);
        let expected = [whole.next(0.5, 5, 11), whole.next(0.25, 5, 4)];
        let mut found = [Vec::new(), Vec::new()];
        for (first, samples) in [(0, 2), (2, 2), (4, 1)] {
            let mut masks = DropoutMasks::new(3, 7).of(Some(Samples { first, of: 5 }));
            found[0].extend(masks.next(0.5, samples, 11));
            found[1].extend(masks.next(0.25, samples, 4));
        }
        assert_eq!(found, expected);
        assert!(expected[0].contains(&0.0) && expected[0].contains(&2.0));
    }
}
