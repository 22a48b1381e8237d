use std::path::PathBuf;

use rekindle_nn::NetworkError;
use rekindle_vision::VisionError;
use rekindle_weights::WeightsError;

/// What can go wrong in training and prediction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A photo or a folder of them.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// A file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The CPU engine.
    #[error(transparent)]
    Plan(#[from] rekindle_kernels::PlanError),
    /// The GPU.
    #[error(
        "the device failed: {0}; if its memory is full, a smaller batch or smaller photos need less"
    )]
    Device(String),
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
    /// Nothing is left to evaluate.
    #[error("{}: no photo could be decoded; the last: {}: {reason}", folder.display(), path.display())]
    NoneUsable {
        /// The folder.
        folder: PathBuf,
        /// One of its files.
        path: PathBuf,
        /// Why it could not.
        reason: String,
    },
    /// What the network computes of a photo is no number.
    #[error(
        "the network's output is not a number: its weights are damaged, or the preprocessing `{preprocessing}` is not what it was trained with; `inspect` shows what the file says, and --preprocess takes another"
    )]
    NotANumber {
        /// Keras's mode of preprocessing.
        preprocessing: String,
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
    #[error("{}: features cannot be kept there: {source}; there has to be room, or a higher memory limit", folder.display())]
    Spill {
        /// The temporary folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A log cannot be made.
    #[error("{}: {source}", path.display())]
    Log {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder of features cannot be used.
    #[error("{}: features cannot be kept there: {source}", folder.display())]
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
    #[error("{}: the features cannot be read: {source}", path.display())]
    FeatureFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a trained model.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A picture could not be drawn.
    #[error("{}: the picture cannot be drawn: {reason}", path.display())]
    Drawing {
        /// The picture.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Names that do not fit a model's outputs.
    #[error(
        "found {found} class names, {distinct} of them distinct, expected {expected}: one for each output"
    )]
    Classes {
        /// How many were given.
        found: usize,
        /// How many different ones.
        distinct: usize,
        /// How many outputs there are.
        expected: usize,
    },
    /// The folder to evaluate on has other classes.
    #[error("{}: class `{class}` is not one of the model's: {known}", path.display())]
    UnknownClass {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: String,
        /// Those that the model knows.
        known: String,
    },
    /// A model does not name its classes, and the folder has another number of them.
    #[error(
        "{}: has {found} classes, and the model {expected}, which it does not name: name them with a file of labels \
         (--labels, TrainedModel::with_classes)",
        path.display()
    )]
    UnnamedClasses {
        /// The folder.
        path: PathBuf,
        /// How many classes it has.
        found: usize,
        /// How many outputs the model has.
        expected: usize,
    },
    /// The thread that decodes photos ended without a result.
    #[error("the thread that decodes photos stopped; this is a bug in Rekindle, please report it")]
    DecoderStopped,
}
