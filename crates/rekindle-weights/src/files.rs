//! Models of several files, side by side in a folder or in a zip.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::zipped::Zip;

/// Bytes that are read where they are asked for.
pub(crate) enum Bytes {
    /// A part of a file: a whole one, or a zip's member that is not compressed.
    Part {
        /// The file.
        file: Arc<Mutex<File>>,
        /// Where in it the bytes begin.
        start: u64,
        /// How many there are.
        length: u64,
    },
    /// All of them.
    Memory(Vec<u8>),
}

impl Bytes {
    /// `length` bytes of a file from `start` on, which have been seen to be there.
    pub fn part(file: Arc<Mutex<File>>, start: u64, length: u64) -> Self {
        Self::Part { file, start, length }
    }

    /// How many there are.
    pub fn length(&self) -> u64 {
        match self {
            Self::Part { length, .. } => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// All of them, in memory.
    pub fn all(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            part => {
                // They have been seen to be in the file.
                let length = usize::try_from(part.length()).map_err(|error| error.to_string())?;
                let mut bytes = vec![0; length];
                part.read(0, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// Fills `buffer` with what is from `offset` on.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), String> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length()) {
            return Err(format!(
                "{} bytes at {offset} end behind the {} that there are",
                buffer.len(),
                self.length()
            ));
        }
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|error| error.to_string())?;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
            Self::Part { file, start, .. } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start + offset))
                    .and_then(|_| file.read_exact(buffer))
                    .map_err(|error| error.to_string())
            }
        }
    }
}

impl hdf5_pure::Source for Bytes {
    fn len(&self) -> u64 {
        self.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), hdf5_pure::FormatError> {
        let available = self.length().saturating_sub(offset);
        if available < buffer.len() as u64 {
            return Err(hdf5_pure::FormatError::UnexpectedEof {
                expected: buffer.len(),
                available: usize::try_from(available).unwrap_or(usize::MAX),
            });
        }
        self.read(offset, buffer).map_err(hdf5_pure::FormatError::Source)
    }
}

/// Where the files of a model are.
pub(crate) enum Files<'a> {
    /// A folder on the disk.
    Folder(&'a Path),
    /// What a zip has below this beginning of names, which is empty or ends in a slash.
    Zip(&'a mut Zip, &'a str),
}

/// The file that a model calls `name`, if that is a file beside it.
pub(crate) fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(plain(name)?))
}

/// The name without a `./` in front; nothing for one that leads elsewhere.
fn plain(name: &str) -> Option<&str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let mut parts = Path::new(name).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    (is_plain && !name.contains('\\')).then_some(name)
}

impl Files<'_> {
    /// The bytes of a file of weights; the error says its name.
    pub fn bytes(&mut self, name: &str) -> Result<Bytes, String> {
        let plain = plain(name)
            .ok_or_else(|| format!("names `{name}`, expected a file in its own folder"))?;
        match self {
            Self::Folder(folder) => {
                let wrong = |error: std::io::Error| {
                    format!(
                        "`{name}`, which belongs to it: {error}; keep all of its files in one folder"
                    )
                };
                let file = File::open(folder.join(plain)).map_err(wrong)?;
                let about = file.metadata().map_err(wrong)?;
                if !about.is_file() {
                    return Err(format!("`{name}`, which belongs to it, is no file"));
                }
                Ok(Bytes::part(Arc::new(Mutex::new(file)), 0, about.len()))
            }
            Self::Zip(zip, prefix) => zip.bytes(&format!("{prefix}{plain}")),
        }
    }

    /// The bytes of a file of at most `longest`; nothing where there is none. The error says its name.
    pub fn text(&mut self, name: &str, longest: u64) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                if !path.is_file() {
                    return Ok(None);
                }
                let bytes = self.bytes(name)?;
                let length = bytes.length();
                if length > longest {
                    return Err(format!("`{name}` has {length} bytes, expected at most {longest}"));
                }
                let mut text = vec![0; usize::try_from(length).map_err(|e| e.to_string())?];
                bytes.read(0, &mut text).map_err(|error| format!("`{name}`: {error}"))?;
                Ok(Some(text))
            }
            Self::Zip(zip, prefix) => {
                let name = format!("{prefix}{name}");
                if !zip.names().contains(&name) {
                    return Ok(None);
                }
                zip.text(&name, longest).map(Some)
            }
        }
    }
}
