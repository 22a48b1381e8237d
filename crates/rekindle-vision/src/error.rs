use std::path::PathBuf;

/// What can be wrong with images and with folders of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisionError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A place that is not on this machine, and that no photo can be read from; it ends a run, since photos that are left out
    /// for that would be no one's choice.
    #[error("{address}: {reason}")]
    Elsewhere {
        /// Where the photo is.
        address: String,
        /// What happened, and what to do.
        reason: String,
        /// What the place said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file is not an image that can be decoded.
    #[error("{}: {reason}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
    /// A photo of other bytes than its size says.
    #[error("{width} x {height} pixels of {} channels are not {found} bytes", channels.count())]
    Bytes {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// What a pixel is made of.
        channels: crate::Channels,
        /// How many bytes there are.
        found: usize,
    },
    /// A resize to or from nothing.
    #[error("cannot resize {} x {} to {} x {} pixels (width x height): both need at least 1", from.0, from.1, to.0, to.1)]
    Size {
        /// Width and height of the image.
        from: (usize, usize),
        /// Width and height asked for.
        to: (usize, usize),
    },
    /// A model's own resize cannot take an image.
    #[error("cannot resize as the model does: {reason}")]
    Resize {
        /// What it takes, and what it was given.
        reason: String,
    },
    /// A folder does not hold what training needs.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is missing, and what to do about it.
        reason: String,
    },
    /// A file does not name classes.
    #[error("{}: {reason}", path.display())]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A random change's factor is out of range.
    #[error(
        "augmentation {what}: expected factors from 0 to 1 (a crop's and a zoom's within), a positive alpha"
    )]
    Augmentation {
        /// The change.
        what: String,
    },
    /// Predictions that are not ImageNet's.
    #[error("expected the probabilities of ImageNet's 1000 classes, found {found}")]
    Classes {
        /// How many there are.
        found: usize,
    },
}

impl VisionError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn folder(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::Folder { path: path.to_owned(), reason: reason.into() }
    }
}
