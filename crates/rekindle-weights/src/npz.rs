//! NumPy's `.npz` of weights.

use std::path::Path;

use crate::WeightsError;
use crate::checkpoint::Checkpoint;
use crate::zipped::Zip;

pub(crate) fn open(_zip: Zip, path: &Path) -> Result<Checkpoint, WeightsError> {
    Err(WeightsError::format(path, "NumPy's .npz is not read"))
}
