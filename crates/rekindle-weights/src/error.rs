use std::path::{Path, PathBuf};

use rekindle_nn::NetworkError;

/// What can go wrong with files of weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file cannot be read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what its format asks for: foreign, truncated or altered.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The network has variables that the file does not.
    #[error(
        "{}: {} of the {expected} variables of {network} are missing, first `{}`; is it a checkpoint of another network or width?",
        path.display(), missing.len(), missing[0]
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The network that was to be filled.
        network: String,
        /// How many variables it has.
        expected: usize,
        /// Their names, `layer/variable`; at least one.
        missing: Vec<String>,
    },
    /// A tensor has another shape than the network's variable.
    #[error("{}: `{tensor}` has shape {found:?}, expected {expected:?} for {network}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// `layer/variable`.
        tensor: String,
        /// The network that was to be filled.
        network: String,
        /// Keras's shape of the variable.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor holds values that no training can have left there.
    #[error("{}: `{tensor}` holds {value} at position {position}; the file is damaged, or training diverged before it was saved", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// `layer/variable`.
        tensor: String,
        /// The first such value.
        value: f32,
        /// Its position.
        position: usize,
    },
    /// The network's settings are wrong.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Published weights cannot be downloaded.
    #[error("cannot download {url}: {reason}; {by_hand}")]
    Download {
        /// The address.
        url: String,
        /// Why.
        reason: String,
        /// What a user can do instead.
        by_hand: String,
    },
    /// These weights were asked for, but cannot be had.
    #[error("no weights for {architecture}: {reason}")]
    Unavailable {
        /// The architecture.
        architecture: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// A message with those of its causes behind it: errors of all crates leave them to [`source`](std::error::Error::source).
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl WeightsError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_go_between_threads_and_say_each_cause_once() {
        fn goes_between_threads<T: Send + Sync + 'static>() {}
        goes_between_threads::<WeightsError>();
        let cause = std::io::Error::other("no room");
        let error = WeightsError::io(Path::new("model.h5"), cause);
        assert_eq!(error.to_string(), "model.h5: cannot be read or written");
        assert_eq!(with_causes(&error), "model.h5: cannot be read or written: no room");
    }
}
