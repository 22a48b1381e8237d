use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::Elsewhere;
use crate::archives::range;
use crate::decode::read;
use crate::{Decoding, Photo, VisionError};

/// One labelled photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file, or a name for what is no file of its own.
    pub path: PathBuf,
    /// Indices into the classes: one, or any number where photos may be of several.
    pub labels: Vec<usize>,
    /// Where the photo is.
    pub place: Place,
}

/// Where a photo is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Place {
    /// In the file that its path names.
    #[default]
    File,
    /// In memory, decoded.
    Image(Arc<RgbImage>),
    /// Some bytes of a file that holds many: a tar, or what a compressed one is unpacked into.
    Within {
        /// The file.
        file: Arc<PathBuf>,
        /// The first byte.
        from: u64,
        /// How many there are.
        length: u64,
    },
    /// Not on this machine.
    Elsewhere(Elsewhere),
    /// Nowhere, but what a network computed of it is the row of this number among features; no row, where the photo could
    /// not be decoded.
    Row(Option<usize>),
}

impl Sample {
    /// A file of one class.
    #[must_use]
    pub fn file(path: PathBuf, class: usize) -> Self {
        Self { path, labels: vec![class], place: Place::File }
    }

    /// Its first class; the first of all for a photo without any.
    #[must_use]
    pub fn class(&self) -> usize {
        self.labels.first().copied().unwrap_or_default()
    }

    /// The decoded photo.
    ///
    /// # Errors
    /// As [`open_image`](crate::open_image).
    pub fn open(&self) -> Result<Arc<RgbImage>, VisionError> {
        match &self.place {
            Place::Image(image) => Ok(image.clone()),
            _ => Ok(Arc::new(self.decode(&Decoding::default())?.into_rgb())),
        }
    }

    /// The photo decoded as `decoding` says; of an image in memory only the channels change.
    ///
    /// # Errors
    /// As [`Decoding::open`].
    pub fn decode(&self, decoding: &Decoding) -> Result<Photo, VisionError> {
        match &self.place {
            Place::Image(image) => Ok(Photo::of_rgb(image, decoding.channels)),
            _ => decoding.decode(&self.bytes()?, &self.path),
        }
    }

    /// SHA-256 of the photo as it is stored, or of an image's width and pixels.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn content_hash(&self) -> Result<[u8; 32], VisionError> {
        let mut hash = Sha256::new();
        match &self.place {
            Place::Image(image) => {
                hash.update(image.width().to_le_bytes());
                hash.update(image.as_raw());
            }
            Place::File | Place::Within { .. } | Place::Elsewhere(_) | Place::Row(_) => {
                hash.update(self.bytes()?);
            }
        }
        Ok(hash.finalize().into())
    }

    /// The photo as it is stored, for what reads it itself: `bytes` of a file, or the pixels of an image in memory.
    ///
    /// # Errors
    /// When it cannot be read, or only its features are there.
    pub fn bytes(&self) -> Result<Vec<u8>, VisionError> {
        match &self.place {
            Place::File => read(&self.path),
            Place::Within { file, from, length } => range(file, *from, *length),
            Place::Elsewhere(photo) => photo.from.read(&[photo]).pop().unwrap_or_else(|| {
                let reason = "the place that it is in gave nothing".into();
                Err(VisionError::Image { path: self.path.clone(), reason })
            }),
            Place::Image(image) => Ok(image.as_raw().clone()),
            Place::Row(_) => {
                let reason =
                    "only its features are here; what needs the photo itself needs its folder";
                Err(VisionError::Image { path: self.path.clone(), reason: reason.into() })
            }
        }
    }
}

/// A file or folder that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The file. JSON has no bytes that are not UTF-8: such a name is written with U+FFFD in their place.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Why, and what to do about it.
    pub reason: String,
}

/// The most reasons that are listed; others are counted together.
const REASONS: usize = 10;

impl Skipped {
    /// The reason in short, which files that are alike have in common: its first clause.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.reason.split([':', ';', ',']).next().unwrap_or(&self.reason).trim()
    }

    /// How many of these files there are, and how many for each reason: `3 files skipped: a HEIC photo (2), the file is
    /// empty (1)`; nothing where there are none.
    #[must_use]
    pub fn summary(files: &[Self]) -> Option<String> {
        let mut causes: Vec<(&str, usize)> = Vec::new();
        for cause in files.iter().map(Self::cause) {
            match causes.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, count)) => *count += 1,
                None => causes.push((cause, 1)),
            }
        }
        // Stable: what is as frequent stays in the order of the files.
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest: usize = causes.iter().skip(REASONS).map(|(_, count)| count).sum();
        causes.truncate(REASONS);
        causes.extend((rest > 0).then_some(("other reasons", rest)));
        let parts: Vec<String> =
            causes.iter().map(|(cause, count)| format!("{cause} ({count})")).collect();
        match files.len() {
            0 => None,
            1 => Some(format!("1 file skipped: {}", parts.join(", "))),
            count => Some(format!("{count} files skipped: {}", parts.join(", "))),
        }
    }
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_files_are_counted_by_reason() {
        let of = |reasons: &[&str]| {
            let file = |reason: &&str| Skipped { path: "x".into(), reason: (*reason).into() };
            Skipped::summary(&reasons.iter().map(file).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&["the file is empty"]).as_deref(),
            Some("1 file skipped: the file is empty (1)")
        );
        assert_eq!(
            of(&["empty", "a HEIC photo, which", "cut: there", "a HEIC photo; so"]).as_deref(),
            Some("4 files skipped: a HEIC photo (2), empty (1), cut (1)")
        );
        let many: Vec<String> = (0..13).map(|number| format!("reason {number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let summary = of(&many).expect("some");
        assert!(summary.ends_with("reason 9 (1), other reasons (3)"), "{summary}");
    }
}
