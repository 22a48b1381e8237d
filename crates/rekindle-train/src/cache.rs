use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use rekindle_nn::{Shape, read, variables};
use rekindle_vision::Sample;
use sha2::{Digest, Sha256};

use crate::archive::{self, Archive, Entry, hex};
use crate::features::Recipe;
use crate::{FeatureStore, TrainError};

/// A folder that keeps features from run to run, by the content of the photo, of the weights and of the settings: a
/// second run computes only what has changed.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    folder: PathBuf,
}

/// What a cache has for a recipe.
pub(crate) struct Known {
    shape: Shape,
    archive: Archive,
    /// The hash of each sample, if its features are there.
    rows: Vec<Option<String>>,
}

impl Known {
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The features of a sample.
    pub fn row(&self, number: usize) -> Option<Result<Vec<f32>, TrainError>> {
        let values = self.archive.read(self.rows[number].as_ref()?);
        Some(values.map_err(|source| TrainError::Cache { folder: PathBuf::new(), source }))
    }
}

impl FeatureCache {
    /// In this folder, which is made when it is needed.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path<B: Backend>(&self, recipe: &Recipe<'_, B>) -> PathBuf {
        let mut hash = Sha256::new();
        let (model, cut) = recipe.prefix.parts();
        let settings = format!("1 {cut:?} {:?}", recipe.photos);
        hash.update(settings.as_bytes());
        let values = read(&model.backbone);
        for variable in variables(&model.backbone) {
            hash.update(variable.path().as_bytes());
            if let Some(data) = values.get(&variable.spec.id) {
                hash.update(data.as_bytes());
            }
        }
        self.folder.join(format!("{}.safetensors", hex(&hash.finalize()[..16])))
    }

    /// What is there of these samples' features. A file that cannot be used is made anew.
    pub(crate) fn open<B: Backend>(
        &self,
        recipe: &Recipe<'_, B>,
        samples: &[Sample],
    ) -> Option<Known> {
        let path = self.path(recipe);
        if !path.exists() {
            return None;
        }
        let archive = match Archive::open(&path) {
            Ok(archive) => archive,
            Err(reason) => {
                tracing::warn!("{}: {reason}; its features are computed again", path.display());
                return None;
            }
        };
        let shape: Vec<usize> = archive.entries().next()?.1.to_vec();
        let shape = match shape[..] {
            [channels, height, width] => Shape::Map { height, width, channels },
            [count] => Shape::Flat(count),
            _ => return None,
        };
        let known: std::collections::HashSet<&String> =
            archive.entries().map(|(name, _)| name).collect();
        let rows = hashes(samples).into_iter().map(|hash| hash.filter(|hash| known.contains(hash)));
        let rows = rows.collect();
        Some(Known { shape, archive, rows })
    }

    /// Keeps the features of the samples with these numbers, in the order of the store's rows.
    pub(crate) fn save<B: Backend>(
        &self,
        recipe: &Recipe<'_, B>,
        samples: &[Sample],
        numbers: &[usize],
        store: &FeatureStore,
    ) -> Result<(), TrainError> {
        let io = |source| TrainError::Cache { folder: self.folder.clone(), source };
        fs::create_dir_all(&self.folder).map_err(io)?;
        let shape = match store.shape() {
            Shape::Map { height, width, channels } => vec![channels, height, width],
            Shape::Flat(count) => vec![count],
        };
        let hashes = hashes(samples);
        let path = self.path(recipe);
        // What it has of other photos stays: those to validate on, those of another split.
        let old = if path.exists() { Archive::open(&path).ok() } else { None };
        let mut seen = std::collections::HashSet::new();
        let mut entries = Vec::new();
        for (row, &number) in numbers.iter().enumerate() {
            if let Some(name) = hashes[number].clone().filter(|hash| seen.insert(hash.clone())) {
                let read = move || store.values(&[row], 1).map_err(io::Error::other);
                entries.push(Entry { name, shape: shape.clone(), read: Box::new(read) });
            }
        }
        if entries.len() == store.cached() {
            return Ok(());
        }
        for (name, own) in old.iter().flat_map(Archive::entries).filter(|(_, own)| **own == *shape)
        {
            if seen.insert(name.clone()) {
                let read = || old.as_ref().map_or(Ok(Vec::new()), |old| old.read(name));
                entries.push(Entry {
                    name: name.clone(),
                    shape: own.to_vec(),
                    read: Box::new(read),
                });
            }
        }
        Ok(archive::write(&path, "features", entries)?)
    }
}

/// The hash of each photo's content; nothing for one that cannot be read.
fn hashes(samples: &[Sample]) -> Vec<Option<String>> {
    let hash = |sample: &Sample| {
        let mut hash = Sha256::new();
        match &sample.image {
            Some(image) => {
                hash.update(image.width().to_le_bytes());
                hash.update(image.as_raw());
            }
            None => {
                let mut bytes = Vec::new();
                fs::File::open(&sample.path).ok()?.read_to_end(&mut bytes).ok()?;
                hash.update(&bytes);
            }
        }
        Some(hex(&hash.finalize()))
    };
    samples.par_iter().map(hash).collect()
}
