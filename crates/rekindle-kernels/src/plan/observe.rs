//! Between what the values of a network lie, found by looking at them while it runs in f32.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use rekindle_nn::Network;

use super::ends::Image;
use super::{Plan, PlanError, Step};
use crate::ir::SUM;
use crate::lower::lower_observed;
use crate::passes::Place;
use crate::{Isa, Quantization};

/// Bins on each side of zero.
const BINS: usize = 2048;

/// Which part of what was seen bytes stand for, in steps of this: the largest is all of it.
const SHARES: std::ops::RangeInclusive<usize> = 40..=100;

/// How often numbers of each size were seen.
#[derive(Debug, Clone)]
struct Histogram {
    low: f32,
    high: f32,
    /// What the outermost bins end at: a power of two.
    reach: f32,
    /// From `-reach` to `reach`.
    counts: Vec<u64>,
}

impl Histogram {
    fn new() -> Self {
        Self { low: 0.0, high: 0.0, reach: 2f32.powi(-20), counts: vec![0; 2 * BINS] }
    }

    /// Has bins that reach at least so far: twice as wide ones, as often as it takes.
    fn widen(&mut self, most: f32) {
        while self.reach < most {
            self.reach *= 2.0;
            let half = |bin: usize| (bin + BINS) / 2;
            let mut counts = vec![0; 2 * BINS];
            for (bin, count) in self.counts.iter().enumerate() {
                counts[half(bin)] += count;
            }
            self.counts = counts;
        }
    }

    /// Takes values in; one that is not finite is given back.
    fn add(&mut self, values: &[f32]) -> Result<(), f32> {
        let (mut low, mut high) = (self.low, self.high);
        for &value in values {
            if !value.is_finite() {
                return Err(value);
            }
            low = low.min(value);
            high = high.max(value);
        }
        (self.low, self.high) = (low, high);
        self.widen(high.max(-low));
        let per_bin = BINS as f32 / self.reach;
        for &value in values {
            let bin = (value * per_bin + BINS as f32) as usize;
            self.counts[bin.min(2 * BINS - 1)] += 1;
        }
        Ok(())
    }

    fn merge(&mut self, mut other: Self) {
        self.widen(other.reach);
        other.widen(self.reach);
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.counts.iter_mut().zip(other.counts).for_each(|(count, other)| *count += other);
    }

    /// The part of what was seen for which the mean square of what bytes are off by is the least.
    fn range(&self) -> [f32; 2] {
        let width = f64::from(self.reach) / BINS as f64;
        let bins: Vec<(f64, f64)> =
            (self.counts.iter().enumerate().filter(|(_, count)| **count > 0))
                .map(|(bin, &count)| ((bin as f64 - BINS as f64 + 0.5) * width, count as f64))
                .collect();
        let off = |share: usize| {
            let share = share as f64 / 100.0;
            let (low, high) = (f64::from(self.low) * share, f64::from(self.high) * share);
            let step = (high - low) / 255.0;
            let each = bins.iter().map(|&(value, count)| {
                let outside = (low - value).max(value - high).max(0.0);
                count * (outside * outside + step * step / 12.0)
            });
            each.sum::<f64>()
        };
        let best = SHARES.min_by(|&a, &b| off(a).total_cmp(&off(b))).unwrap_or(100) as f32 / 100.0;
        [self.low * best, self.high * best]
    }
}

/// A range of images, narrower where zero is in the middle of two bytes. Pixels are whole numbers, so that all of them would
/// be in the middle of two bytes too: rounding to even ones would make one byte of two pixels, and each engine another one.
fn between_pixels([low, high]: [f32; 2]) -> [f32; 2] {
    let zero = -low / ((high - low) / 255.0);
    match zero.fract() {
        0.4..=0.6 => [low, high].map(|end| end * (1.0 - 1.0 / 512.0)),
        _ => [low, high],
    }
}

/// A network in f32, whose values are looked at.
#[derive(Debug)]
pub struct Calibration {
    plan: Plan,
    seen: Vec<Histogram>,
    images: usize,
}

impl Calibration {
    /// Of a network with its end.
    ///
    /// # Errors
    /// As [`lower`](crate::lower)'s.
    pub fn new<B: Backend>(network: &Network<B>) -> Result<Self, PlanError> {
        let plan = lower_observed(network, Isa::detect()?)?;
        let seen = vec![Histogram::new(); plan.keys.len()];
        Ok(Self { plan, seen, images: 0 })
    }

    /// Runs a batch, `[batch, channels, height, width]`, preprocessed, and looks at all values; its outputs, as
    /// [`Plan::run`] gives them.
    ///
    /// # Errors
    /// When `images` is not a whole number of images, or a value is not finite.
    pub fn observe(&mut self, images: &[f32]) -> Result<Vec<f32>, PlanError> {
        let plan = &self.plan;
        let (count, length) = (plan.input_shape.count(), plan.output_shape.count());
        let mut outputs = vec![0.0; plan.batch(images.len())? * length];
        let none = || vec![Histogram::new(); plan.keys.len()];
        let parts = images.len().div_ceil(count).div_ceil(rayon::current_num_threads());
        let all = images.par_chunks(count * parts).zip(outputs.par_chunks_mut(length * parts));
        let seen: Vec<Vec<Histogram>> = all
            .map(|(images, outputs)| {
                let mut seen = none();
                for (image, output) in images.chunks(count).zip(outputs.chunks_mut(length)) {
                    plan.look(image, output, &mut seen)?;
                }
                Ok(seen)
            })
            .collect::<Result<_, PlanError>>()?;
        for part in seen {
            self.seen.iter_mut().zip(part).for_each(|(all, part)| all.merge(part));
        }
        self.images += images.len() / count;
        Ok(outputs)
    }

    /// How many images have been looked at.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Between what values lie: for each the part of what was seen that bytes stand for with the least mean square error.
    #[must_use]
    pub fn quantization(&self) -> Quantization {
        let named = self.plan.keys.iter().zip(&self.seen);
        let seen = named.filter(|(key, seen)| {
            !key.ends_with(SUM) && seen.counts.iter().any(|&count| count > 0)
        });
        let mut values: BTreeMap<_, _> =
            seen.map(|(key, seen)| (key.clone(), seen.range())).collect();
        // The first node is the image.
        if let Some(range) = self.plan.keys.first().and_then(|key| values.get_mut(key)) {
            *range = between_pixels(*range);
        }
        Quantization { values, ..Quantization::default() }
    }
}

impl Plan {
    /// Runs an image on this thread, and takes in each step's values.
    fn look(
        &self,
        image: &[f32],
        output: &mut [f32],
        seen: &mut [Histogram],
    ) -> Result<(), PlanError> {
        let mut workspace = self.workspace();
        let arena = workspace.arena();
        let mut take = |node: usize, place: &Place| {
            let each = arena.read::<f32>(place).chunks(place.stride);
            let mut each = each.map(|pixel| &pixel[..place.channels]);
            each.try_for_each(|pixel| seen[node].add(pixel))
                .map_err(|value| PlanError::NotFinite { layer: self.keys[node].clone(), value })
        };
        self.bring_in(Image::Values(image), arena, 0..self.input.height);
        take(0, &self.input)?;
        for step in &self.steps {
            let Step { node, out, .. } = step;
            self.run_step(step, &[arena], 0, 1);
            take(*node, out)?;
        }
        self.bring_out(arena, 0..self.output.channels, super::arena::Arena::of(output));
        drop(self.free.push(workspace));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::between_pixels;
    use crate::int8::Scale;

    #[test]
    fn pixels_are_not_between_two_bytes() {
        let pixel = |pixel: u8| f32::from(pixel) / 127.5 - 1.0;
        let scale = Scale::of(between_pixels([-1.0, 1.0]));
        let bytes: std::collections::BTreeSet<i32> = (0..=255)
            .map(|byte| {
                let steps = pixel(byte) / scale.step;
                assert!((steps.fract().abs() - 0.5).abs() > 5e-4, "{byte}: {steps} steps");
                steps.round() as i32
            })
            .collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(between_pixels([0.0, 255.0]), [0.0, 255.0]);
    }
}
