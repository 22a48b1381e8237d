//! Without the feature `parquet`.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use crate::VisionError;

fn absent(path: &Path) -> VisionError {
    let reason = "a Parquet file, and this program was built without Parquet; build it with the feature `parquet`";
    VisionError::folder(path, reason)
}

/// Refuses, since nothing is known of the file.
pub(super) fn check(path: &Path, _: bool) -> Result<(), VisionError> {
    Err(absent(path))
}

/// As [`check`].
pub(super) fn to_tar(path: &Path, _: &File, _: &mut BufWriter<File>) -> Result<(), VisionError> {
    Err(absent(path))
}
