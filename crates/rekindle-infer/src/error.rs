use std::path::PathBuf;

use rekindle_nn::NetworkError;
use rekindle_vision::VisionError;
use rekindle_weights::WeightsError;

/// What can go wrong where a model is loaded or predicts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
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
    /// A file is not a trained model.
    #[error("{}: {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
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
    /// A picture cannot be written.
    #[error("{}: the picture cannot be written", path.display())]
    Write {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that decodes photos ended without a result.
    #[error("the thread that decodes photos stopped; this is a bug in Rekindle, please report it")]
    DecoderStopped,
}
