//! What the program was built without.

use std::convert::Infallible;
use std::path::Path;

use rekindle_infer::{Event, Observer};

use crate::error::TrainError;

/// TensorBoard's event file; this program was built without the feature `tensorboard`.
#[derive(Debug)]
pub struct TensorBoard(Infallible);

impl TensorBoard {
    /// Always an error that names the feature.
    ///
    /// # Errors
    /// Always.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self, TrainError> {
        let what = format!("{}: events for TensorBoard", folder.as_ref().display());
        Err(TrainError::Feature { what, feature: "tensorboard" })
    }
}

impl Observer for TensorBoard {
    fn on_event(&mut self, _: &Event<'_>) {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_in_is_an_error_that_names_the_feature() {
        let result = TensorBoard::create("runs");
        assert!(matches!(result, Err(TrainError::Feature { feature: "tensorboard", .. })));
        assert!(!Path::new("runs").exists());
    }
}
