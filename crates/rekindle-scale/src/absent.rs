//! In the place of Parquet, where it is not built.

use std::path::Path;

use crate::{ScaleError, ShardFile};

fn absent(path: &Path) -> Result<(), ScaleError> {
    let reason = "this program was built without Parquet; build it with the feature `parquet`";
    Err(ScaleError::file(path, reason))
}

pub(crate) fn write(path: &Path, _: &ShardFile) -> Result<(), ScaleError> {
    absent(path)
}

pub(crate) fn restore(path: &Path, _: &Path) -> Result<(), ScaleError> {
    absent(path)
}
