//! The unit of work: what a network makes of one shard's photos, in one file.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use rayon::prelude::*;
use rekindle_train::{Event, Extracted, Extractor, Observer, Provenance, TrainError, Undecoded};
use rekindle_vision::{Sample, Shard, Share};
use sha2::{Digest, Sha256};

use crate::manifest::{Content, Element, Entry, LAYOUT, Manifest, Other, hex, with_slashes};
use crate::parts::{Parts, folder_of};
use crate::{ScaleError, ShardFile, file, parquet, text};

/// What a part is written after: the most that is computed twice when a task is killed.
const PART: usize = 1024;
const PART_TIME: Duration = Duration::from_secs(20);
/// Bytes of rows in memory before a part is written.
const PART_BYTES: usize = 64 << 20;

/// Is called for each photo: with its number among the samples, and its row or why there is none.
pub type Each<'a> = dyn FnMut(usize, Result<Extracted<'_>, Undecoded>) -> ControlFlow<()> + 'a;

/// What computes rows of photos.
pub trait Compute {
    /// What the rows depend on, but for the photos.
    fn provenance(&self) -> &Provenance;

    /// Hands the row of each sample to `each`, in their order, until it breaks or the observer stops.
    ///
    /// # Errors
    /// When they cannot be computed; where `strict` is set, when one cannot be decoded.
    fn each(
        &self,
        samples: &[&Sample],
        strict: bool,
        observer: &mut dyn Observer,
        each: &mut Each<'_>,
    ) -> Result<(), TrainError>;
}

impl<B: Backend> Compute for Extractor<B> {
    fn provenance(&self) -> &Provenance {
        self.provenance()
    }

    fn each(
        &self,
        samples: &[&Sample],
        strict: bool,
        observer: &mut dyn Observer,
        each: &mut Each<'_>,
    ) -> Result<(), TrainError> {
        Ok(self.each(samples, strict, observer, each)?)
    }
}

/// What the file of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// What [`Shards`](crate::Shards) and safetensors' libraries open.
    Safetensors,
    /// A table with a header.
    Csv,
    /// A JSON object for each photo.
    Jsonl,
    /// A table for DuckDB, Polars, Spark, Ray, with the cargo feature `parquet`.
    Parquet,
}

impl Format {
    /// What a path's ending says.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Self::Safetensors),
            "csv" => Some(Self::Csv),
            "jsonl" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// One shard of a data set, and where what a network makes of its photos goes.
#[derive(Debug)]
pub struct Task {
    share: Share,
    manifest: Manifest,
    target: PathBuf,
    format: Format,
    strict: bool,
    part: usize,
}

/// What a task did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done {
    /// The file.
    pub path: PathBuf,
    /// Photos of the shard.
    pub photos: usize,
    /// Of these, those that were computed now.
    pub computed: usize,
    /// Of these, those that could not be decoded, each with its reason.
    pub lost: Vec<(PathBuf, String)>,
    /// Files that are no photos, each with its reason.
    pub skipped: Vec<(PathBuf, String)>,
    /// Whether the file was there and as it should be.
    pub is_unchanged: bool,
}

/// Where the row of a photo is: in which file, and its number there; or why there is none.
#[derive(Debug, Clone)]
enum Found {
    Row(usize, usize),
    Lost(String),
}

/// What is known of a photo from an earlier run.
struct Known {
    sha256: String,
    askew: bool,
    found: Found,
}

impl Task {
    /// The features of a shard's photos, in a file of the folder `out` that is named by the shard's number; only those that
    /// are [`Format::Safetensors`] are trained on.
    #[must_use]
    pub fn features(
        share: Share,
        shard: Shard,
        provenance: Provenance,
        out: &Path,
        format: Format,
    ) -> Self {
        let ending = match format {
            Format::Safetensors => "safetensors",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
        };
        let name = format!("features-{:05}-of-{:05}.{ending}", shard.index(), shard.count());
        Self::new(share, shard, provenance, Content::Features, out.join(name), format)
    }

    /// What is kept of a network's values for a shard's photos, in this file.
    #[must_use]
    pub fn new(
        mut share: Share,
        shard: Shard,
        provenance: Provenance,
        content: Content,
        target: PathBuf,
        format: Format,
    ) -> Self {
        if content != Content::Features {
            // Labels are numbers of the data set's classes, and classes here are the network's.
            share.photos.iter_mut().for_each(|photo| photo.sample.labels.clear());
        }
        let manifest = Manifest {
            layout: LAYOUT,
            content,
            element: Element::F32,
            provenance,
            classes: share.classes.clone(),
            multi_label: share.multi_label,
            has_valid: share.has_valid,
            shard: [shard.index(), shard.count()],
        };
        Self { share, manifest, target, format, strict: false, part: PART }
    }

    /// What numbers are stored as; default [`Element::F32`].
    #[must_use]
    pub fn element(mut self, element: Element) -> Self {
        self.manifest.element = element;
        self
    }

    /// The names of the network's classes, for predictions.
    #[must_use]
    pub fn classes(mut self, classes: Vec<String>) -> Self {
        self.manifest.classes = classes;
        self
    }

    /// Stops at the first file that is no photo, instead of skipping it; default no.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Photos after which what is computed is kept, so that at most these are computed again after a kill; it is kept after
    /// 20 seconds and 64 MiB, too. Default 1024.
    #[must_use]
    pub fn part(mut self, photos: usize) -> Self {
        self.part = photos.max(1);
        self
    }

    /// Computes what is not there yet, and writes the file. Where all of it is there already, nothing is written.
    ///
    /// # Errors
    /// When a file cannot be read or written, another process has the task, what is there was made with other settings, or
    /// the observer stops it. What was computed is kept then.
    pub fn run(
        self,
        compute: &dyn Compute,
        observer: &mut dyn Observer,
    ) -> Result<Done, ScaleError> {
        let Self { share, manifest, target, format, strict, .. } = &self;
        let folder = folder_of(target);
        fs::create_dir_all(folder).map_err(ScaleError::io(folder))?;
        if let (true, Some(file)) = (strict, share.skipped.first()) {
            return Err(ScaleError::file(&file.path, file.reason.clone()));
        }
        if *format == Format::Parquet && cfg!(not(feature = "parquet")) {
            let reason =
                "this program was built without Parquet; build it with the feature `parquet`";
            return Err(ScaleError::file(target, reason));
        }
        let (mut parts, mut files) = Parts::take(target)?;
        // What text has no place for is in a file beside it; Parquet has all of it.
        let state = match format {
            Format::Safetensors => target.clone(),
            Format::Csv | Format::Jsonl => text::state(target),
            Format::Parquet => parts.folder().join("state"),
        };
        if *format == Format::Parquet {
            restore(target, &state, &parts)?;
        }
        let old = match ShardFile::open(&state) {
            Ok(file) => Some(file),
            Err(ScaleError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                None
            }
            Err(ScaleError::File { path, reason }) => {
                tracing::warn!("{}: {reason}; it is made anew", path.display());
                None
            }
            Err(error) => return Err(error),
        };
        // The last one.
        let old = old.map(|old| {
            files.push(old);
            files.len() - 1
        });
        for file in &files {
            if let Some(difference) = file.manifest().difference(manifest) {
                return Err(ScaleError::file(
                    &file.path,
                    format!(
                        "it was made with other settings ({difference}, where `there` is this run); name another place, or remove it"
                    ),
                ));
            }
        }
        let mut found = self.known(&files);
        let missing: Vec<usize> =
            (0..found.len()).filter(|&number| found[number].is_none()).collect();
        self.compute(compute, observer, &missing, &mut found, &mut parts, &mut files)?;
        let entries: Vec<Entry> = share
            .photos
            .iter()
            .zip(&found)
            .map(|(photo, known)| Entry {
                path: with_slashes(&photo.path),
                sha256: known.as_ref().map(|known| known.sha256.clone()).filter(|h| !h.is_empty()),
                labels: photo.sample.labels.clone(),
                position: photo.position,
                valid: photo.is_valid,
                askew: known.as_ref().is_some_and(|known| known.askew),
                lost: known.as_ref().and_then(|known| match &known.found {
                    Found::Lost(reason) => Some(reason.clone()),
                    Found::Row(..) => None,
                }),
            })
            .collect();
        let rows: Vec<(usize, usize)> = found
            .iter()
            .flatten()
            .filter_map(|known| match known.found {
                Found::Row(file, row) => Some((file, row)),
                Found::Lost(_) => None,
            })
            .collect();
        let other = |file: &rekindle_vision::Skipped| Other {
            path: with_slashes(&file.path),
            reason: file.reason.clone(),
        };
        let skipped: Vec<Other> = share.skipped.iter().map(other).collect();
        let mut is_unchanged = old.is_some_and(|old| {
            let own = rows.iter().enumerate().all(|(row, &place)| place == (old, row));
            let file = &files[old];
            own && file.manifest() == manifest
                && file.entries() == entries
                && file.skipped() == skipped
        });
        if !is_unchanged {
            // Rows lie in the order of parts, mostly: one of these is open at a time.
            let mut open = None;
            file::write(&parts.temporary(), manifest, &entries, &skipped, |row, to| {
                let (number, row) = rows[row];
                if let Some(before) = open.filter(|&before| before != number && Some(before) != old)
                {
                    files[before].close();
                }
                open = Some(number);
                let file = &mut files[number];
                let read = file.reopen().and_then(|()| file.bytes(row, to));
                read.map_err(ScaleError::io(&file.path))
            })?;
            parts.publish(&state)?;
        }
        // Also where nothing changed: what was altered in a table may be what no row is read from.
        if *format != Format::Safetensors {
            let made = ShardFile::open(&state)?;
            match format {
                Format::Parquet => parquet::write(&parts.temporary(), &made)?,
                _ => text::write(&parts.temporary(), *format, &made)?,
            }
            let is_same = text::same(&parts.temporary(), target)?;
            is_unchanged &= is_same;
            if !is_same {
                parts.publish(target)?;
            }
        }
        parts.remove()?;
        let lost =
            entries.iter().filter_map(|entry| Some((entry.path.clone(), entry.lost.clone()?)));
        Ok(Done {
            path: target.clone(),
            photos: entries.len(),
            computed: missing.len(),
            lost: lost.collect(),
            skipped: skipped.into_iter().map(|other| (other.path, other.reason)).collect(),
            is_unchanged,
        })
    }

    /// What earlier runs computed of each photo that has not changed since.
    fn known(&self, files: &[ShardFile]) -> Vec<Option<Known>> {
        let mut known: HashMap<&Path, (usize, usize, Option<usize>)> = HashMap::new();
        // The task's file first, which is the last one: parts are newer, and the last one of a photo counts.
        let last = files.len().checked_sub(1).into_iter();
        for number in last.chain(0..files.len().saturating_sub(1)) {
            let file = &files[number];
            let mut row = 0;
            for (index, entry) in file.entries().iter().enumerate() {
                let own = entry.lost.is_none().then_some(row);
                row += usize::from(own.is_some());
                known.insert(&entry.path, (number, index, own));
            }
        }
        let find = |photo: &rekindle_vision::Listed| {
            let &(number, index, row) = known.get(with_slashes(&photo.path).as_path())?;
            let entry = files.get(number)?.entries().get(index)?;
            let sha256 = entry.sha256.clone()?;
            let bytes = photo.sample.bytes().ok()?;
            (hex(&Sha256::digest(&bytes)) == sha256).then_some(())?;
            let found = match (row, &entry.lost) {
                (Some(row), _) => Found::Row(number, row),
                (None, lost) => Found::Lost(lost.clone()?),
            };
            Some(Known { sha256, askew: entry.askew, found })
        };
        self.share.photos.par_iter().map(find).collect()
    }

    /// Computes the photos of these numbers, and keeps them in parts.
    fn compute(
        &self,
        compute: &dyn Compute,
        observer: &mut dyn Observer,
        missing: &[usize],
        found: &mut [Option<Known>],
        parts: &mut Parts,
        files: &mut Vec<ShardFile>,
    ) -> Result<(), ScaleError> {
        if missing.is_empty() {
            return Ok(());
        }
        let Self { share, manifest, strict, .. } = self;
        let samples: Vec<&Sample> =
            missing.iter().map(|&number| &share.photos[number].sample).collect();
        let width = manifest.provenance.shape().count();
        let mut buffer = Buffer::default();
        let (mut failed, mut done) = (None, 0);
        let mut counted = Counted { inner: observer, before: found.len() - missing.len() };
        let ended = compute.each(&samples, *strict, &mut counted, &mut |number, answer| {
            let photo = &share.photos[missing[number]];
            let step = || -> Result<(), ScaleError> {
                if let Ok(extracted) = &answer
                    && extracted.values.len() != width
                {
                    let reason = format!("{} values, expected {width}", extracted.values.len());
                    return Err(ScaleError::file(&photo.path, reason));
                }
                buffer.add(manifest, photo, missing[number], answer)?;
                done += 1;
                if buffer.is_full(self.part) {
                    buffer.flush(manifest, found, parts, files)?;
                }
                Ok(())
            };
            match step() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        // What is there is kept, whatever ended it.
        buffer.flush(manifest, found, parts, files)?;
        ended?;
        if let Some(error) = failed {
            return Err(error);
        }
        if done < missing.len() {
            let total = found.len();
            return Err(ScaleError::Interrupted { done: total - missing.len() + done, total });
        }
        Ok(())
    }
}

/// Makes the rows of a table that is there the state, where there is none yet.
fn restore(target: &Path, state: &Path, parts: &Parts) -> Result<(), ScaleError> {
    // A state that is there is of a run that was killed before it wrote its table.
    if state.exists() || !target.exists() {
        return Ok(());
    }
    match parquet::restore(target, &parts.temporary()) {
        Ok(()) => parts.publish(state),
        Err(ScaleError::File { path, reason }) => {
            tracing::warn!("{}: {reason}; it is made anew", path.display());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Photos since the last part.
struct Buffer {
    entries: Vec<Entry>,
    /// Their numbers in the share.
    numbers: Vec<usize>,
    rows: Vec<u8>,
    since: Instant,
}

impl Default for Buffer {
    fn default() -> Self {
        let (entries, numbers, rows) = (Vec::new(), Vec::new(), Vec::new());
        Self { entries, numbers, rows, since: Instant::now() }
    }
}

impl Buffer {
    fn add(
        &mut self,
        manifest: &Manifest,
        photo: &rekindle_vision::Listed,
        number: usize,
        answer: Result<Extracted<'_>, Undecoded>,
    ) -> Result<(), ScaleError> {
        let (sha256, askew, lost) = match answer {
            Ok(Extracted { values, hash, is_askew, .. }) => {
                let kept = manifest.content.of(values);
                manifest.element.write(&kept, &photo.path, &mut self.rows)?;
                (Some(hex(&hash)), is_askew, None)
            }
            Err(Undecoded { file, hash, .. }) => {
                (hash.map(|hash| hex(&hash)), false, Some(file.reason))
            }
        };
        self.numbers.push(number);
        self.entries.push(Entry {
            path: with_slashes(&photo.path),
            sha256,
            labels: Vec::new(),
            position: None,
            valid: false,
            askew,
            lost,
        });
        Ok(())
    }

    fn is_full(&self, part: usize) -> bool {
        self.entries.len() >= part
            || self.rows.len() >= PART_BYTES
            || self.since.elapsed() >= PART_TIME
    }

    /// Writes a part, and says where its photos' rows are.
    fn flush(
        &mut self,
        manifest: &Manifest,
        found: &mut [Option<Known>],
        parts: &mut Parts,
        files: &mut Vec<ShardFile>,
    ) -> Result<(), ScaleError> {
        let Self { entries, numbers, rows, .. } = std::mem::take(self);
        if entries.is_empty() {
            return Ok(());
        }
        let mut file = parts.add(manifest, &entries, &rows)?;
        file.take_entries();
        file.close();
        let (number, mut row) = (files.len(), 0);
        files.push(file);
        for (own, Entry { sha256, askew, lost, .. }) in numbers.into_iter().zip(entries) {
            let place = match lost {
                None => Found::Row(number, row),
                Some(reason) => Found::Lost(reason),
            };
            row += usize::from(matches!(place, Found::Row(..)));
            let sha256 = sha256.unwrap_or_default();
            found[own] = Some(Known { sha256, askew, found: place });
        }
        Ok(())
    }
}

/// Counts photos that are there already.
struct Counted<'a> {
    inner: &'a mut dyn Observer,
    before: usize,
}

impl Observer for Counted<'_> {
    fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Features { done, total } => {
                let (done, total) = (done + self.before, total + self.before);
                self.inner.on_event(&Event::Features { done, total });
            }
            event => self.inner.on_event(event),
        }
    }

    fn stops(&mut self) -> bool {
        self.inner.stops()
    }
}
