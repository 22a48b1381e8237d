use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use rekindle_infer::Photos;
use rekindle_nn::{Shape, read};
use rekindle_vision::Sample;
use sha2::{Digest, Sha256};

use super::prefix::Prefix;
use super::store::FeatureStore;
use rekindle_infer::internal::{hex, serialized};

use crate::archive::{self, Archive, Entry};
use crate::error::TrainError;

/// Counts how features have been computed and kept, so that those of an older version are not taken.
const LAYOUT: u32 = 5;

/// A folder that keeps features from run to run, by the content of the photo, of the weights and of the settings: a
/// second run computes only what has changed.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
}

/// What a cache has for a recipe and some samples.
pub(crate) struct Known {
    path: PathBuf,
    /// The hash of each sample; nothing for one that cannot be read.
    hashes: Vec<Option<String>>,
    /// What is there already, and the shape of its rows.
    there: Option<(Archive, Shape)>,
}

impl Known {
    /// The features of a sample, and their shape.
    pub fn row(&self, number: usize) -> Option<Result<(Vec<f32>, Shape), TrainError>> {
        let (archive, shape) = self.there.as_ref()?;
        let hash = self.hashes[number].as_ref().filter(|hash| archive.has(hash))?;
        let wrong = |source| TrainError::Cache { folder: self.path.clone(), source };
        Some(archive.read(hash).map(|values| (values, *shape)).map_err(wrong))
    }

    /// Keeps the features of the samples with these numbers, in the order of the store's rows.
    pub fn save(&self, numbers: &[usize], store: &FeatureStore) -> Result<(), TrainError> {
        let shape = match store.shape() {
            Shape::Map { height, width, channels } => vec![channels, height, width],
            Shape::Flat(count) => vec![count],
        };
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for (row, &number) in numbers.iter().enumerate() {
            if let Some(name) = self.hashes[number].clone().filter(|hash| seen.insert(hash.clone()))
            {
                let read = move || store.values(&[row], 1).map_err(io::Error::other);
                entries.push(Entry { name, shape: shape.clone(), read: Box::new(read) });
            }
        }
        if entries.len() == store.cached() {
            return Ok(());
        }
        let wrong = |source| TrainError::Cache { folder: self.path.clone(), source };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        // What it has of other photos stays: those to validate on, those of another split.
        if let Some((archive, _)) = &self.there {
            for (name, own) in archive.entries().filter(|(_, own)| **own == *shape) {
                if seen.insert(name.clone()) {
                    let read = Box::new(|| archive.read(name));
                    entries.push(Entry { name: name.clone(), shape: own.to_vec(), read });
                }
            }
        }
        Ok(archive::write(&self.path, "features", entries)?)
    }
}

impl FeatureCache {
    /// In this folder, which is made when it is needed.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path<B: Backend>(&self, prefix: &Prefix<'_, B>, photos: &Photos) -> PathBuf {
        let mut hash = Sha256::new();
        let (model, cut) = prefix.parts();
        let graph = model.graph();
        // Only what the features depend on: the layers up to the cut.
        let layers = match (cut, graph.part(None, cut)) {
            (Some(_), Ok(part)) => part.layers,
            _ => Vec::new(),
        };
        let frozen: Vec<_> = layers.iter().map(|&layer| &graph.layers()[layer]).collect();
        let precision = prefix.precision();
        hash.update(serialized(&(LAYOUT, cut, frozen, photos, precision.to_string())).as_bytes());
        let values = read(model);
        for layer in layers {
            let view = model.view(layer);
            for (variable, id) in view.variables() {
                hash.update(format!("{}/{}", view.name, variable.name).as_bytes());
                if let Some(data) = values.get(&id) {
                    hash.update(data.as_bytes());
                }
            }
        }
        self.folder.join(format!("{}.safetensors", hex(&hash.finalize()[..16])))
    }

    /// What is there of these samples' features. A file that cannot be used is made anew.
    pub(crate) fn open<B: Backend>(
        &self,
        prefix: &Prefix<'_, B>,
        photos: &Photos,
        samples: &[Sample],
    ) -> Known {
        let path = self.path(prefix, photos);
        let archive = if path.exists() { Archive::open(&path) } else { Err(String::new()) };
        let archive = archive.inspect_err(|reason| {
            if !reason.is_empty() {
                tracing::warn!("{}: {reason}; its features are computed again", path.display());
            }
        });
        let shaped = |archive: Archive| {
            let shape = match *archive.entries().next()?.1 {
                [channels, height, width] => Shape::Map { height, width, channels },
                [count] => Shape::Flat(count),
                _ => return None,
            };
            Some((archive, shape))
        };
        Known { hashes: hashes(samples), there: archive.ok().and_then(shaped), path }
    }
}

/// The hash of each photo's content; nothing for one that cannot be read.
fn hashes(samples: &[Sample]) -> Vec<Option<String>> {
    let hash = |sample: &Sample| Some(hex(&sample.content_hash().ok()?));
    samples.par_iter().map(hash).collect()
}
