use burn::tensor::backend::Backend;
use rekindle_nn::{Features, Model, Shape};
use rekindle_vision::{ImageFolder, Sample, Skipped};

use crate::frozen::Frozen;
use crate::progress::{Event, Observer};
use crate::{Photos, TrainError};

/// Photos in one pass through the frozen part.
pub(crate) const BATCH: usize = 32;

/// What the frozen part of a model computed for each photo, in memory.
///
/// Nothing in that part changes while the head trains, so that one pass serves every epoch.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    shape: Shape,
    values: Vec<f32>,
    classes: Vec<usize>,
}

impl FeatureStore {
    /// Computes the features of `samples`, which are some of `folder`'s: the output of `model`'s layer `cut`.
    ///
    /// # Errors
    /// When the network cannot take the photos, all photos of a class that has any are damaged, or
    /// the folder is strict and one is.
    pub fn compute<B: Backend>(
        model: &Model<B>,
        cut: &str,
        photos: Photos,
        samples: &[Sample],
        folder: &ImageFolder,
        device: &B::Device,
        observer: &mut dyn Observer,
    ) -> Result<(Self, Vec<Skipped>), TrainError> {
        let mut store = Self { shape: Shape::Flat(0), values: Vec::new(), classes: Vec::new() };
        let mut skipped: Vec<(usize, Skipped)> = Vec::new();
        let mut done = 0;
        let input = Shape::image(photos.size);
        let frozen = Frozen::new(model, Some(cut), input, device)?;
        photos.for_each_batch(samples, BATCH, folder.is_strict(), |batch| {
            done += batch.classes.len() + batch.skipped.len();
            if !batch.classes.is_empty() {
                let (values, shape) = frozen.run(model, Some(cut), batch.values, input, device)?;
                store.shape = shape;
                store.values.extend(values);
                store.classes.extend(batch.classes);
            }
            for (_, file) in &batch.skipped {
                observer.on_event(&Event::Skipped(file));
            }
            skipped.extend(batch.skipped);
            observer.on_event(&Event::Features { done, total: samples.len() });
            Ok(())
        })?;
        if let Some((class, file)) =
            skipped.iter().find(|(class, _)| !store.classes.contains(class))
        {
            let reason = format!("{}: {}", file.path.display(), file.reason);
            return Err(TrainError::NoPhotos { class: folder.classes()[*class].clone(), reason });
        }
        Ok((store, skipped.into_iter().map(|(_, file)| file).collect()))
    }

    /// Features that were computed elsewhere: photo after photo, `[channels, height, width]` or flat.
    #[must_use]
    pub fn from_values(shape: Shape, values: Vec<f32>, classes: Vec<usize>) -> Self {
        Self { shape, values, classes }
    }

    /// Gives class `i` the number `numbers[i]`.
    pub(crate) fn renumber(&mut self, numbers: &[usize]) {
        for class in &mut self.classes {
            *class = numbers[*class];
        }
    }

    /// How many photos there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The shape of one photo's features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The class of each photo.
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The features of the photos with these indices, as one batch.
    #[must_use]
    pub fn batch<B: Backend>(&self, indices: &[usize], device: &B::Device) -> Features<B> {
        let count = self.shape.count();
        let mut values = Vec::with_capacity(indices.len() * count);
        for &index in indices {
            values.extend_from_slice(&self.values[index * count..][..count]);
        }
        Features::from_values(values, self.shape, device)
    }
}
