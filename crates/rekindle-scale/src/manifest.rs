//! What a shard's file says of itself and of its photos.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use half::f16;
pub(crate) use rekindle_infer::internal::hex;
use rekindle_train::Provenance;
use rekindle_vision::Shard;
use serde::{Deserialize, Serialize};

use crate::ScaleError;

/// The layout of files that this version writes and reads.
pub(crate) const LAYOUT: u32 = 1;

/// What is kept of a network's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Content {
    /// All values of a layer.
    Features,
    /// The probability of every class.
    Probabilities,
    /// The best classes, best first: the number and the probability of each.
    Top(usize),
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features => f.write_str("features"),
            Self::Probabilities => f.write_str("probabilities"),
            Self::Top(count) => write!(f, "the best {count} classes"),
        }
    }
}

impl Content {
    /// How many numbers are kept of `values` values.
    #[must_use]
    pub fn width(self, values: usize) -> usize {
        match self {
            Self::Features | Self::Probabilities => values,
            Self::Top(count) => 2 * count.min(values),
        }
    }

    /// What is kept.
    pub(crate) fn of(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Features | Self::Probabilities => values.to_vec(),
            Self::Top(count) => rekindle_vision::top(values, count)
                .into_iter()
                .flat_map(|(class, probability)| [class as f32, probability])
                .collect(),
        }
    }
}

/// What a number is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Element {
    /// Four bytes: what the network computed, to the bit.
    #[default]
    F32,
    /// Two bytes: rounded to the nearest.
    F16,
}

impl Element {
    /// All of them.
    pub const ALL: &[Self] = &[Self::F32, Self::F16];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Bytes of one number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Little-endian bytes of numbers of the photo at `path`.
    pub(crate) fn write(
        self,
        values: &[f32],
        path: &Path,
        to: &mut Vec<u8>,
    ) -> Result<(), ScaleError> {
        for &value in values {
            match self {
                Self::F32 => to.extend_from_slice(&value.to_le_bytes()),
                Self::F16 => {
                    let half = f16::from_f32(value);
                    if half.is_infinite() && value.is_finite() {
                        return Err(ScaleError::Range { path: path.to_owned(), value });
                    }
                    to.extend_from_slice(&half.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    /// The numbers of as many bytes as `to` has place for.
    pub(crate) fn read(self, bytes: &[u8], to: &mut [f32]) {
        match self {
            Self::F32 => {
                let words = bytes.as_chunks::<4>().0;
                to.iter_mut().zip(words).for_each(|(to, &word)| *to = f32::from_le_bytes(word));
            }
            Self::F16 => {
                let words = bytes.as_chunks::<2>().0;
                let value = |word: [u8; 2]| f16::from_le_bytes(word).to_f32();
                to.iter_mut().zip(words).for_each(|(to, &word)| *to = value(word));
            }
        }
    }
}

/// What all photos of a shard have in common, and all shards of a data set but for the shard's number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    pub(crate) layout: u32,
    /// What is kept of the network's values.
    pub content: Content,
    /// What a number is stored as.
    pub element: Element,
    /// What computed them.
    pub provenance: Provenance,
    /// The names of the photos' classes; of predictions those of the network's.
    pub classes: Vec<String>,
    /// Whether a photo may be of several classes, or of none.
    pub multi_label: bool,
    /// Whether the data set itself has photos to validate on.
    pub has_valid: bool,
    /// The shard's number, counted from 0, and how many there are.
    pub shard: [usize; 2],
}

impl Manifest {
    /// Numbers of one photo.
    #[must_use]
    pub fn width(&self) -> usize {
        self.content.width(self.provenance.shape().count())
    }

    /// The shape of a row.
    pub(crate) fn shape(&self) -> Vec<usize> {
        match self.content {
            Content::Features => self.provenance.shape.clone(),
            _ => vec![self.width()],
        }
    }

    /// The shard.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn shard(&self) -> Result<Shard, String> {
        Shard::new(self.shard[0], self.shard[1])
    }

    /// How numbers of `other` are not those that would be here: what is otherwise; nothing, where they are.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let said = |what: &str, here: String, there: String| {
            (here != there).then(|| format!("{what}: {here} here, {there} there"))
        };
        self.provenance
            .difference(&other.provenance)
            .or_else(|| {
                let (here, there) = (&self.provenance.precision, &other.provenance.precision);
                said("the precision", here.clone(), there.clone())
            })
            .or_else(|| {
                said("the element", self.element.name().into(), other.element.name().into())
            })
            .or_else(|| said("what is kept", self.content.to_string(), other.content.to_string()))
    }
}

/// What is known of one photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Entry {
    /// Its path in the data set.
    #[serde(with = "name")]
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal digits; nothing, where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Indices into the classes.
    pub labels: Vec<usize>,
    /// Its number in the data set's list, where that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Whether the data set has it to validate on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub valid: bool,
    /// Whether it has an EXIF orientation that was ignored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub askew: bool,
    /// Why there is no row of it: it could not be decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// A file of the data set that is no photo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Other {
    #[serde(with = "name")]
    pub path: PathBuf,
    pub reason: String,
}

/// A path with `/` between its names, the same on every system.
pub(crate) fn with_slashes(path: &Path) -> PathBuf {
    match std::path::MAIN_SEPARATOR {
        '/' => path.to_owned(),
        _ => {
            let names = path.components().filter(|part| *part != Component::CurDir);
            let names: Vec<_> = names.map(|part| part.as_os_str().to_string_lossy()).collect();
            names.join("/").into()
        }
    }
}

/// Paths as text, and bytes that are none in hexadecimal digits.
mod name {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Bytes { bytes: String },
    }

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match super::with_slashes(path).to_str() {
            Some(text) => text.serialize(serializer),
            None => {
                let bytes = super::hex(path.as_os_str().as_encoded_bytes());
                Name::Bytes { bytes }.serialize(serializer)
            }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        match Name::deserialize(deserializer)? {
            Name::Text(text) => Ok(text.into()),
            Name::Bytes { bytes } => {
                let digits = bytes.as_bytes().as_chunks::<2>();
                let byte = |pair: &[u8; 2]| {
                    let text = std::str::from_utf8(pair).ok()?;
                    u8::from_str_radix(text, 16).ok()
                };
                let all: Option<Vec<u8>> = digits.0.iter().map(byte).collect();
                let all = all.filter(|_| digits.1.is_empty());
                let all = all.ok_or_else(|| D::Error::custom("a name of no bytes"))?;
                os_string(all).map(PathBuf::from).map_err(D::Error::custom)
            }
        }
    }

    #[cfg(unix)]
    fn os_string(bytes: Vec<u8>) -> Result<OsString, String> {
        use std::os::unix::ffi::OsStringExt;
        Ok(OsString::from_vec(bytes))
    }

    #[cfg(not(unix))]
    fn os_string(bytes: Vec<u8>) -> Result<OsString, String> {
        String::from_utf8(bytes).map(OsString::from).map_err(|error| error.to_string())
    }
}
