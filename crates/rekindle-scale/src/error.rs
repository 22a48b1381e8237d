use std::io;
use std::path::{Path, PathBuf};

use rekindle_train::TrainError;
use rekindle_vision::VisionError;

/// What can be wrong with shards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// Photos, or a folder of them.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// What computes them.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file or folder cannot be read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no shard, or not whole.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file is none of these.
    #[error("{}: no file of Rekindle's features or predictions; name another place, or remove it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The files of a folder are not the shards of one data set.
    #[error("{}: {reason}", folder.display())]
    Shards {
        /// The folder.
        folder: PathBuf,
        /// What is missing, double or of another kind, and what to do.
        reason: String,
    },
    /// A value that half precision has not.
    #[error("{}: a value of {value}, which f16 cannot hold; take f32 (--element f32)", path.display())]
    Range {
        /// The photo.
        path: PathBuf,
        /// The value.
        value: f32,
    },
    /// Another process has the same task.
    #[error("{}: another process computes this shard; wait for it, or stop it first", path.display())]
    Busy {
        /// Its folder of parts.
        path: PathBuf,
    },
    /// The observer stopped it.
    #[error("stopped after {done} of {total} photos; run again, it goes on from there")]
    Interrupted {
        /// Photos of which there is a result.
        done: usize,
        /// Photos of the shard.
        total: usize,
    },
}

impl ScaleError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }
}
