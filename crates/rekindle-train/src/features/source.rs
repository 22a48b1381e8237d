use std::fmt::Debug;

use rekindle_infer::Provenance;

use crate::error::TrainError;

/// Features that are there already, as rows of numbers.
pub trait FeatureSource: Debug + Send + Sync {
    /// What they were computed by.
    fn provenance(&self) -> &Provenance;

    /// Fills `to`, which is as long as a row, with the row of this number.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, row: usize, to: &mut [f32]) -> Result<(), TrainError>;

    /// How many of the photos have an EXIF orientation that was ignored.
    fn askew(&self) -> usize {
        0
    }
}
