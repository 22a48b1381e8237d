//! Numbers that train and stand for all places along axes where there is one: scales, shifts and PReLU's slopes.

use rayon::prelude::*;

use super::PIECE;
use super::conv::add_all;

/// Height, width and channels of an image, and of the numbers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub image: [usize; 3],
    pub numbers: [usize; 3],
}

impl Sizes {
    /// Values of an image.
    fn count(&self) -> usize {
        self.image.iter().product()
    }

    /// Calls `each` with every value's place and its number's.
    fn for_each(&self, mut each: impl FnMut(usize, usize)) {
        let ([height, width, channels], numbers) = (self.image, self.numbers);
        let step = |axis: usize, step: usize| if numbers[axis] == 1 { 0 } else { step };
        let steps = [step(0, numbers[1] * numbers[2]), step(1, numbers[2]), step(2, 1)];
        let mut at = 0;
        for y in 0..height {
            for x in 0..width {
                let first = y * steps[0] + x * steps[1];
                for channel in 0..channels {
                    each(at, first + channel * steps[2]);
                    at += 1;
                }
            }
        }
    }

    /// What `f` makes of each value and its number.
    pub fn map(
        &self,
        numbers: &[f32],
        x: &[f32],
        out: &mut [f32],
        f: impl Fn(f32, f32) -> f32 + Sync,
    ) {
        let images = x.par_chunks(self.count()).zip(out.par_chunks_mut(self.count()));
        images.for_each(|(x, out)| {
            self.for_each(|at, number| out[at] = f(x[at], numbers[number]));
        });
    }

    /// Changes values by their numbers.
    pub fn change(&self, numbers: &[f32], values: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
        values.par_chunks_mut(self.count()).for_each(|values| {
            self.for_each(|at, number| values[at] = f(values[at], numbers[number]));
        });
    }

    /// Adds, to the gradient of each number, what `f` makes of the values that it is for and their gradients.
    pub fn sum(&self, x: &[f32], dy: &[f32], to: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
        let pieces = x.par_chunks(self.count() * PIECE).zip(dy.par_chunks(self.count() * PIECE));
        let parts: Vec<Vec<f32>> = pieces
            .map(|(x, dy)| {
                let mut part = vec![0.0; to.len()];
                let images = x.chunks_exact(self.count()).zip(dy.chunks_exact(self.count()));
                for (x, dy) in images {
                    self.for_each(|at, number| part[number] += f(x[at], dy[at]));
                }
                part
            })
            .collect();
        add_all(to, &parts);
    }
}
