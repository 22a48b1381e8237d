//! Where a phase's batches come from.

use std::ops::Range;

use burn::tensor::backend::Backend;
use rekindle_infer::Photos;
use rekindle_infer::internal::{Change, Images, Job};
use rekindle_vision::{Augmentation, Sample};

use super::ahead::read_ahead;
use super::prefix::Prefix;
use super::store::FeatureStore;
use crate::error::TrainError;

/// What goes into one pass through the part that trains.
pub(crate) struct Batch {
    /// `[photos, channels, height, width]` or `[photos, features]`.
    pub features: Vec<f32>,
    /// `[photos][classes]`.
    pub targets: Vec<f32>,
    /// The classes of each photo.
    pub labels: Vec<Vec<usize>>,
}

impl Batch {
    /// The targets and weights of some of the photos.
    pub fn rows<'a>(
        &'a self,
        rows: &Range<usize>,
        weights: &'a [f32],
        classes: usize,
    ) -> (&'a [f32], &'a [f32]) {
        (&self.targets[rows.start * classes..rows.end * classes], &weights[rows.clone()])
    }

    /// How much each photo counts: as its class, or as the mean of its classes.
    pub fn weights(&self, classes: &[f32]) -> Vec<f32> {
        let of = |labels: &Vec<usize>| match labels.len() {
            0 => 1.0,
            count => labels.iter().map(|&label| classes[label]).sum::<f32>() / count as f32,
        };
        self.labels.iter().map(of).collect()
    }
}

/// Hears of each batch and its number.
pub(crate) type Consume<'a> = dyn FnMut(usize, Batch) -> Result<(), TrainError> + 'a;

/// Photos in some form.
pub(crate) trait Batches {
    /// How many there are.
    fn len(&self) -> usize;

    /// Gives those in `order`, as they are in an epoch counted from 1.
    fn for_each(
        &self,
        order: &[usize],
        epoch: usize,
        batch_size: usize,
        consume: &mut Consume<'_>,
    ) -> Result<(), TrainError>;
}

/// One for each class that a photo is of.
fn targets(labels: &[Vec<usize>], classes: usize) -> Vec<f32> {
    let mut targets = vec![0.0; labels.len() * classes];
    for (row, labels) in labels.iter().enumerate() {
        labels.iter().for_each(|label| targets[row * classes + label] = 1.0);
    }
    targets
}

/// Features of a store, for a number of classes.
pub(crate) struct Stored<'a> {
    pub store: &'a FeatureStore,
    pub classes: usize,
}

impl Stored<'_> {
    /// These photos, with their features.
    fn batch(&self, indices: &[usize], features: Vec<f32>) -> Batch {
        let labels: Vec<Vec<usize>> =
            indices.iter().map(|&index| self.store.labels()[index].clone()).collect();
        Batch { features, targets: targets(&labels, self.classes), labels }
    }
}

impl Batches for Stored<'_> {
    fn len(&self) -> usize {
        self.store.len()
    }

    fn for_each(
        &self,
        order: &[usize],
        epoch: usize,
        batch_size: usize,
        consume: &mut Consume<'_>,
    ) -> Result<(), TrainError> {
        if let Some((source, rows)) = self.store.source() {
            let count = self.store.shape().count();
            return read_ahead(
                source,
                rows,
                count,
                order,
                batch_size,
                |number, indices, features| consume(number, self.batch(indices, features)),
            );
        }
        for (number, indices) in order.chunks(batch_size).enumerate() {
            consume(number, self.batch(indices, self.store.values(indices, epoch)?))?;
        }
        Ok(())
    }
}

/// Photos that are changed anew in each epoch.
pub(crate) struct Live<'a, B: Backend> {
    pub samples: &'a [Sample],
    pub photos: Photos,
    pub augmentation: &'a Augmentation,
    pub prefix: &'a Prefix<'a, B>,
    pub seed: u64,
    pub strict: bool,
    pub classes: usize,
}

impl<B: Backend> Batches for Live<'_, B> {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn for_each(
        &self,
        order: &[usize],
        epoch: usize,
        batch_size: usize,
        consume: &mut Consume<'_>,
    ) -> Result<(), TrainError> {
        let job = |&number: &usize| {
            let change = Change { augmentation: self.augmentation, seed: self.seed, number, epoch };
            Job { sample: &self.samples[number], change: Some(change), hashed: false }
        };
        let jobs: Vec<Job<'_>> = order.iter().map(job).collect();
        // Counted from the epoch's end, which is the same for an epoch that is gone on with.
        let batches = jobs.len().div_ceil(batch_size);
        let mut number = 0;
        let waited = self.photos.for_each_batch(&jobs, batch_size, self.strict, |batch| {
            number += 1;
            if let Some((_, file)) = batch.skipped.first() {
                tracing::debug!("skipped {}: {}", file.path.display(), file.reason);
            }
            if batch.rows.is_empty() {
                return Ok(());
            }
            let labels: Vec<Vec<usize>> =
                batch.rows.iter().map(|&row| jobs[row].sample.labels.clone()).collect();
            let (mut images, mut targets) = (batch.images, targets(&labels, self.classes));
            if let Some(mix) = &self.augmentation.mix {
                let step = (epoch as u64) << 32 | (batches - number) as u64;
                let mixing = mix.draw(
                    self.seed,
                    step,
                    labels.len(),
                    [self.photos.height, self.photos.width],
                );
                let values = images.into_values(&self.photos);
                images = Images::Values(mixing.images(
                    &values,
                    [self.photos.channels, self.photos.height, self.photos.width],
                ));
                targets = mixing.targets(&targets, self.classes);
            }
            let (features, _) = self.prefix.run(images)?;
            consume(number - 1, Batch { features, targets, labels })
        })?;
        tracing::debug!("epoch {epoch} waited {:.3} s for photos", waited.as_secs_f64());
        Ok(())
    }
}
