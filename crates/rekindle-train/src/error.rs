use std::path::PathBuf;

use rekindle_infer::InferError;
use rekindle_kernels::PlanError;
use rekindle_nn::NetworkError;
use rekindle_vision::VisionError;
use rekindle_weights::WeightsError;

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// What predicting needs too: photos, a file of weights, the network, its device.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// `fit` was called without `data`.
    #[error("no photos to train on: call `data` with an ImageFolder before `fit`")]
    NoData,
    /// A setting is out of range.
    #[error("{setting} is {found}, expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was asked for.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Too many photos could not be decoded.
    #[error("no photo of class `{class}` could be decoded; the first: {reason}")]
    NoPhotos {
        /// The class.
        class: String,
        /// Why its first photo could not.
        reason: String,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss is {loss} in epoch {epoch}, step {step}, at learning rate {learning_rate}; try a tenth of that rate"
    )]
    Diverged {
        /// The loss.
        loss: f32,
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1.
        step: usize,
        /// The rate in that step.
        learning_rate: f64,
    },
    /// The observer stopped the run.
    #[error(
        "stopped in epoch {epoch} after step {step}; {}",
        checkpoint.as_ref().map_or("there is no checkpoint to go on from".to_owned(), |path| format!("resume with the checkpoint {}", path.display()))
    )]
    Interrupted {
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1.
        step: usize,
        /// What was saved.
        checkpoint: Option<PathBuf>,
    },
    /// A checkpoint cannot be gone on from.
    #[error("cannot resume: {0}")]
    Resume(String),
    /// Features did not fit into memory, and not on the disk either.
    #[error("{}: features cannot be kept there; there has to be room, or a higher memory limit", folder.display())]
    Spill {
        /// The temporary folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A log cannot be made.
    #[error("{}: the log cannot be written", path.display())]
    Log {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder of features cannot be used.
    #[error("{}: features cannot be kept there", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Features that are given are not those that a run trains on.
    #[error("the features do not fit: {0}")]
    Features(String),
    /// Features that are given cannot be read any more.
    #[error("{}: the features cannot be read", path.display())]
    FeatureFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A report cannot be written.
    #[error("{}: the report cannot be written", path.display())]
    Report {
        /// The page or picture.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A picture could not be drawn.
    #[error("{}: the picture cannot be drawn: {reason}", path.display())]
    Drawing {
        /// The picture.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The program was built without what was asked for.
    #[error("{what}: this program was built without it; build it with the feature `{feature}`")]
    Feature {
        /// What was asked for.
        what: String,
        /// The feature, of this crate, of `rekindle` and of the command.
        feature: &'static str,
    },
}

impl From<VisionError> for TrainError {
    fn from(error: VisionError) -> Self {
        Self::Infer(error.into())
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> Self {
        Self::Infer(error.into())
    }
}

impl From<NetworkError> for TrainError {
    fn from(error: NetworkError) -> Self {
        Self::Infer(error.into())
    }
}

impl From<PlanError> for TrainError {
    fn from(error: PlanError) -> Self {
        Self::Infer(error.into())
    }
}
