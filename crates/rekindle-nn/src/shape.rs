use std::fmt;

use serde::{Deserialize, Serialize};

/// The shape of one sample between two layers, without the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Feature maps.
    Map {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels.
        channels: usize,
    },
    /// A vector of this length.
    Flat(usize),
}

impl Shape {
    /// A square RGB image.
    #[must_use]
    pub fn image(size: usize) -> Self {
        Self::map(size, size, 3)
    }

    /// Feature maps of this size.
    #[must_use]
    pub const fn map(height: usize, width: usize, channels: usize) -> Self {
        Self::Map { height, width, channels }
    }

    /// How many values a sample has.
    #[must_use]
    pub fn count(&self) -> usize {
        match *self {
            Self::Map { height, width, channels } => height * width * channels,
            Self::Flat(count) => count,
        }
    }

    /// The size of Keras's last axis.
    #[must_use]
    pub fn channels(&self) -> usize {
        let (Self::Map { channels, .. } | Self::Flat(channels)) = *self;
        channels
    }

    /// Height, width and channels of maps; nothing for a vector.
    #[must_use]
    pub fn as_map(&self) -> Option<[usize; 3]> {
        match *self {
            Self::Map { height, width, channels } => Some([height, width, channels]),
            Self::Flat(_) => None,
        }
    }

    /// The same with other channels.
    #[must_use]
    pub fn with_channels(&self, channels: usize) -> Self {
        match *self {
            Self::Map { height, width, .. } => Self::map(height, width, channels),
            Self::Flat(_) => Self::Flat(channels),
        }
    }

    /// How many values a sample has, or nothing where that is more than a computer can count.
    #[must_use]
    pub fn checked_count(&self) -> Option<usize> {
        match *self {
            Self::Map { height, width, channels } => {
                height.checked_mul(width)?.checked_mul(channels)
            }
            Self::Flat(count) => Some(count),
        }
    }
}

impl fmt::Display for Shape {
    /// As Keras writes it: `(None, 7, 7, 1280)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { height, width, channels } => {
                write!(f, "(None, {height}, {width}, {channels})")
            }
            Self::Flat(count) => write!(f, "(None, {count})"),
        }
    }
}
