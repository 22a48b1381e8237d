use std::sync::Arc;
use std::time::Duration;

use rekindle_nn::Shape;
use rekindle_vision::{Place, Sample};

use super::rows::Rows;
use super::source::FeatureSource;
use crate::error::TrainError;

/// A source, and rows of it.
type Given<'a> = (&'a Arc<dyn FeatureSource>, &'a Arc<[usize]>);

/// What the frozen part of a model computed for each photo, in memory or, past a limit, in a temporary
/// safetensors file that is mapped into memory.
///
/// Nothing in that part changes while the rest trains, so that one pass serves every epoch. With augmentation a
/// photo has several views, and each epoch takes the next.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    pub(super) shape: Shape,
    /// View after view, in each photo after photo.
    pub(super) rows: Rows,
    pub(super) labels: Vec<Vec<usize>>,
    pub(super) views: usize,
    pub(super) cached: usize,
    pub(super) waited: Duration,
    /// How many photos have an EXIF orientation that is ignored.
    pub(super) askew: usize,
}

impl FeatureStore {
    /// Features of a source: those of the samples that have any.
    pub(crate) fn given(source: &Arc<dyn FeatureSource>, samples: &[Sample]) -> Self {
        let row = |sample: &Sample| match sample.place {
            Place::Row(Some(row)) => Some((row, sample.labels.clone())),
            _ => None,
        };
        let (rows, labels): (Vec<usize>, _) = samples.iter().filter_map(row).unzip();
        let (cached, waited) = (rows.len(), Duration::ZERO);
        let shape = source.provenance().shape();
        let rows = Rows::Given(source.clone(), rows.into());
        Self { shape, rows, labels, views: 1, cached, waited, askew: 0 }
    }

    /// The source and the rows of it, where these are features of a source.
    pub(super) fn source(&self) -> Option<Given<'_>> {
        match &self.rows {
            Rows::Given(source, rows) => Some((source, rows)),
            Rows::Memory(_) | Rows::File(..) => None,
        }
    }

    /// Features that were computed elsewhere: photo after photo, `[channels, height, width]` or flat.
    #[must_use]
    pub fn from_values(shape: Shape, values: Vec<f32>, classes: Vec<usize>) -> Self {
        let labels = classes.into_iter().map(|class| vec![class]).collect();
        let (rows, waited) = (Rows::Memory(values), Duration::ZERO);
        Self { shape, rows, labels, views: 1, cached: 0, waited, askew: 0 }
    }

    /// How many photos there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of memory that they take.
    pub(crate) fn memory(&self) -> u64 {
        self.rows.memory()
    }

    /// How many photos have an EXIF orientation that is ignored.
    pub(crate) fn askew(&self) -> usize {
        self.askew
    }

    /// How long the frozen part waited for photos to be decoded.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many of them were in a [`FeatureCache`](crate::FeatureCache).
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// The shape of one photo's features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The classes of each photo.
    #[must_use]
    pub fn labels(&self) -> &[Vec<usize>] {
        &self.labels
    }

    /// The features of the photos with these indices, as they are in an epoch: `[photos, channels, height, width]` or
    /// `[photos, features]`.
    ///
    /// # Errors
    /// When they are in a file that cannot be read any more.
    pub fn values(&self, indices: &[usize], epoch: usize) -> Result<Vec<f32>, TrainError> {
        let count = self.shape.count();
        let mut values = Vec::with_capacity(indices.len() * count);
        // The view of an epoch counted from 1.
        let first = (epoch.max(1) - 1) % self.views * (self.rows.len() / count.max(1) / self.views);
        for &index in indices {
            self.rows.read(first + index, count, &mut values)?;
        }
        Ok(values)
    }
}
