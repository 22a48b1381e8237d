//! Photos that are not on this machine.

use std::fmt;
use std::sync::Arc;

use super::{Place, Sample};
use crate::VisionError;

/// A place that photos are read from, as an object store.
pub trait Remote: fmt::Debug + Send + Sync {
    /// The files of photos, in their order; many at a time. A photo that is gone, or another one by now, is a
    /// [`VisionError::Image`]; where the place itself fails, that is a [`VisionError::Elsewhere`], which ends a run.
    fn read(&self, photos: &[&Elsewhere]) -> Vec<Result<Vec<u8>, VisionError>>;
}

/// A photo that is not on this machine.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Where it is read from.
    pub from: Arc<dyn Remote>,
    /// What it is called there.
    pub key: String,
    /// Bytes of its file.
    pub length: u64,
    /// What changes when the file does, where the place says it.
    pub version: Option<String>,
}

impl PartialEq for Elsewhere {
    fn eq(&self, other: &Self) -> bool {
        let own = (&self.key, self.length, &self.version);
        Arc::ptr_eq(&self.from, &other.from) && own == (&other.key, other.length, &other.version)
    }
}

impl Eq for Elsewhere {}

/// The files of those of some photos that are not on this machine, read at once; nothing for all others.
#[must_use]
pub fn read_elsewhere(samples: &[&Sample]) -> Vec<Option<Result<Vec<u8>, VisionError>>> {
    let mut read: Vec<Option<Result<Vec<u8>, VisionError>>> =
        samples.iter().map(|_| None).collect();
    let mut left: Vec<(usize, &Elsewhere)> = samples
        .iter()
        .enumerate()
        .filter_map(|(number, sample)| match &sample.place {
            Place::Elsewhere(photo) => Some((number, photo)),
            _ => None,
        })
        .collect();
    while let Some(&(_, first)) = left.first() {
        let is_there = |(_, photo): &(usize, &Elsewhere)| Arc::ptr_eq(&photo.from, &first.from);
        let (same, others): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_there);
        let photos: Vec<&Elsewhere> = same.iter().map(|(_, photo)| *photo).collect();
        for ((number, _), file) in same.iter().zip(first.from.read(&photos)) {
            read[*number] = Some(file);
        }
        left = others;
    }
    read
}
