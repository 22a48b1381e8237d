//! All shards of a data set, checked, as what a head is trained on.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use rekindle_train::{FeatureSource, Provenance, TrainError};
use rekindle_vision::{ImageFolder, Place, Sample, Skipped};

use crate::manifest::{Content, Entry, Other};
use crate::{Manifest, ScaleError, ShardFile};

/// The most files that an error names.
const NAMED: usize = 5;

/// The features of a whole data set: the files of all of its shards.
///
/// Photos are in the order in which one machine would have them, whatever the number of shards.
#[derive(Debug)]
pub struct Shards {
    data: ImageFolder,
    rows: Arc<Rows>,
    manifest: Manifest,
    shards: usize,
}

/// The rows of all files, one file after the other.
#[derive(Debug)]
struct Rows {
    files: Vec<ShardFile>,
    /// The number of each file's first row.
    starts: Vec<usize>,
    provenance: Provenance,
    askew: usize,
}

impl FeatureSource for Rows {
    fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    fn read(&self, row: usize, to: &mut [f32]) -> Result<(), TrainError> {
        let file = self.starts.partition_point(|&start| start <= row).saturating_sub(1);
        let (path, source) = match (self.files.get(file), self.starts.get(file)) {
            (Some(file), Some(start)) => match file.read(row - start, to) {
                Ok(()) => return Ok(()),
                Err(ScaleError::Io { path, source }) => (path, source),
                Err(other) => (file.path.clone(), std::io::Error::other(other)),
            },
            _ => (PathBuf::new(), std::io::Error::other(format!("there is no row {row}"))),
        };
        Err(TrainError::FeatureFile { path, source })
    }

    fn askew(&self) -> usize {
        self.askew
    }
}

/// `a, b and 3 more`.
fn list(names: &[String]) -> String {
    let named = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Shards {
    /// Opens the files of a folder that `rekindle features` filled, and checks all of each, which reads it once.
    ///
    /// # Errors
    /// When a file is damaged or altered, a shard is missing or there twice, or some were computed by another model, up to
    /// another layer, with another preprocessing, element or precision, or of other photos.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, ScaleError> {
        let folder = folder.as_ref();
        let wrong = |reason: String| Err(ScaleError::Shards { folder: folder.to_owned(), reason });
        let mut paths = Vec::new();
        let mut others = 0;
        for entry in fs::read_dir(folder).map_err(ScaleError::io(folder))? {
            let path = entry.map_err(ScaleError::io(folder))?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some("safetensors") if path.is_file() => paths.push(path),
                Some("parquet") => others += 1,
                _ => {}
            }
        }
        paths.sort();
        if paths.is_empty() {
            let others = match others {
                0 => String::new(),
                count => format!(
                    " ({count} Parquet files, which are for other programs: training reads those that `rekindle features` writes without --format parquet)"
                ),
            };
            return wrong(format!(
                "no features here{others}; `rekindle features DATA --out DIR` makes them"
            ));
        }
        let opened: Vec<_> = paths.par_iter().map(ShardFile::open).collect();
        let mut files = opened.into_iter().collect::<Result<Vec<ShardFile>, ScaleError>>()?;
        let Some(first) = files.first() else { return wrong("no features here".into()) };
        let (first, manifest) = (name(&first.path), first.manifest().clone());
        if manifest.content != Content::Features {
            return wrong(format!("{first} has predictions, expected features"));
        }
        let count = manifest.shard[1];
        for file in &files {
            let own = file.manifest();
            let mixed = |what: String| {
                let said = format!(
                    "{first} and {} do not belong together: {what}; remove those of another run, or compute them again",
                    name(&file.path)
                );
                wrong(said)
            };
            if own.shard[1] != count {
                return mixed(format!("one is of {count} shards, the other of {}", own.shard[1]));
            }
            if let Some(difference) = manifest.difference(own) {
                return mixed(difference);
            }
            if own.classes != manifest.classes {
                let (here, there) = (manifest.classes.join(", "), own.classes.join(", "));
                return mixed(format!("the classes: {here} here, {there} there"));
            }
            if (own.multi_label, own.has_valid) != (manifest.multi_label, manifest.has_valid) {
                return mixed("the data set's kind: labels, or photos to validate on".into());
            }
        }
        files.sort_by_key(|file| file.manifest().shard[0]);
        let twice = files.windows(2).find(|two| two[0].manifest().shard == two[1].manifest().shard);
        if let Some(two) = twice {
            let (a, b) = (name(&two[0].path), name(&two[1].path));
            let shard = two[0].manifest().shard[0];
            return wrong(format!("{a} and {b} are both shard {shard}/{count}; remove one"));
        }
        let is_there = |number: usize| {
            files.binary_search_by_key(&number, |file| file.manifest().shard[0]).is_ok()
        };
        let missing: Vec<String> = (0..count)
            .filter(|&number| !is_there(number))
            .map(|number| format!("{number}/{count}"))
            .collect();
        if !missing.is_empty() {
            return wrong(format!(
                "{} of {count} shards are missing: {}; run `rekindle features` for each with --shard",
                missing.len(),
                list(&missing)
            ));
        }
        for file in &files {
            let shard =
                file.manifest().shard().map_err(|reason| ScaleError::file(&file.path, reason))?;
            if let Some(entry) = file.entries().iter().find(|entry| !shard.has(&entry.path)) {
                let reason = format!(
                    "{} is not a photo of shard {shard}: the file was altered; compute it again",
                    entry.path.display()
                );
                return Err(ScaleError::file(&file.path, reason));
            }
        }
        Self::of(folder, files, manifest)
    }

    /// Of files that belong together.
    fn of(
        folder: &Path,
        mut files: Vec<ShardFile>,
        manifest: Manifest,
    ) -> Result<Self, ScaleError> {
        let (mut all, mut skipped) = (Vec::new(), Vec::new());
        let (mut starts, mut next, mut askew) = (Vec::new(), 0, 0);
        for file in &mut files {
            starts.push(next);
            let (entries, others) = file.take_entries();
            let other = |Other { path, reason }| Skipped { path, reason };
            skipped.extend(others.into_iter().map(other));
            for entry in entries {
                let Entry { path, labels, position, valid, lost, .. } = entry;
                askew += usize::from(entry.askew);
                if let Some(reason) = &lost {
                    skipped.push(Skipped { path: path.clone(), reason: reason.clone() });
                }
                let row = lost.is_none().then_some(next);
                next += usize::from(row.is_some());
                all.push((position, valid, Sample { path, labels, place: Place::Row(row) }));
            }
        }
        // That of one machine: a list's own, or by class and path.
        all.sort_by(|(place, _, a), (other, _, b)| {
            place
                .cmp(other)
                .then_with(|| a.class().cmp(&b.class()))
                .then_with(|| a.path.cmp(&b.path))
        });
        let same = all.windows(2).find(|two| two[0].0.is_some() && two[0].0 == two[1].0);
        if let Some([(place, _, a), (_, _, b)]) = same {
            let (a, b) = (a.path.display(), b.path.display());
            let number = place.unwrap_or_default() + 1;
            let reason = format!(
                "{a} and {b} are both number {number} of the list: it changed between shards; run all of them again"
            );
            return Err(ScaleError::Shards { folder: folder.to_owned(), reason });
        }
        skipped.sort_by(|a, b| a.path.cmp(&b.path));
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        for (_, is_valid, sample) in all {
            if is_valid { &mut valid } else { &mut train }.push(sample);
        }
        let has_class = |class: usize| train.iter().any(|sample| sample.labels.contains(&class));
        let empty = (0..manifest.classes.len()).find(|&class| !has_class(class));
        if let (Some(class), false) = (empty, manifest.multi_label) {
            let reason = format!(
                "no photos of class `{}`; remove its folder or fill it",
                manifest.classes[class]
            );
            return Err(ScaleError::Shards { folder: folder.to_owned(), reason });
        }
        let classes = manifest.classes.clone();
        let data = ImageFolder::from_samples(folder, classes, train, manifest.multi_label)?;
        let data = data.with_skipped(skipped);
        let data = if manifest.has_valid { data.valid_samples(valid) } else { data };
        let (shards, provenance) = (files.len(), manifest.provenance.clone());
        let rows = Arc::new(Rows { files, starts, provenance, askew });
        Ok(Self { data, rows, manifest, shards })
    }

    /// The photos, by class and path or in the order of their list; their rows are those of [`Shards::source`].
    #[must_use]
    pub fn data(&self) -> &ImageFolder {
        &self.data
    }

    /// The same, without a second list of them.
    #[must_use]
    pub fn into_data(self) -> ImageFolder {
        self.data
    }

    /// The rows, for [`TransferLearner::features`](rekindle_train::TransferLearner::features).
    #[must_use]
    pub fn source(&self) -> Arc<dyn FeatureSource> {
        self.rows.clone()
    }

    /// What the shards have in common.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many shards there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards
    }

    /// Whether there are none: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards == 0
    }
}
