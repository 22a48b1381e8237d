//! What of a data set is one shard's.

use std::path::{Path, PathBuf};

use rekindle_pixels::cache_folder;

use super::layout::{Layout, layout};
use super::scan::{Scan, list_for, scan_for};
use super::{ImageFolder, Sample, Shard, Skipped};
use crate::VisionError;
use crate::archives::{Tars, find};
use crate::manifest::List;

/// A photo of a data set, and its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The photo.
    pub sample: Sample,
    /// Its path in the data set.
    pub path: PathBuf,
    /// Its number, where the data set is a list; where it is a folder, photos are in the order of their paths.
    pub position: Option<u64>,
    /// Whether the data set has it to validate on.
    pub is_valid: bool,
}

/// What of a data set is one shard's. All shards have the same classes; only files of the shard itself are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The names of the classes; empty, where photos have none.
    pub classes: Vec<String>,
    /// Whether a photo may be of several classes, or of none.
    pub multi_label: bool,
    /// Whether the data set has photos to validate on.
    pub has_valid: bool,
    /// The shard's photos.
    pub photos: Vec<Listed>,
    /// What is not used of the files that are the shard's, by their paths in the data set.
    pub skipped: Vec<Skipped>,
    /// How the data set is understood, a sentence each.
    pub notes: Vec<String>,
}

/// What photos of a data set are called in it.
fn within(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

impl Share {
    /// A shard of a folder with one folder of photos for each class, also of one that is
    /// [split already](ImageFolder::open), of a [list](ImageFolder::from_list), or of [tars or
    /// Parquet files](ImageFolder::from_archives); `classes_are_folders` as in [`ImageFolder::open_classes`].
    ///
    /// # Errors
    /// When it cannot be read, has fewer than two classes, or a class of a folder has no files.
    pub fn labelled(
        path: impl AsRef<Path>,
        classes_are_folders: bool,
        shard: Shard,
    ) -> Result<Self, VisionError> {
        let root = path.as_ref();
        if let Some(files) = find(root)? {
            return Self::of_archives(root, &files, true, shard);
        }
        if root.is_file() {
            return Self::of_list(root, shard);
        }
        let (parts, note) = match classes_are_folders {
            true => (None, None),
            false => layout(root)?,
        };
        let own = |path: &Path| shard.has(&within(root, path));
        let train = parts.as_ref().map_or(root, |parts| parts.train.as_path());
        let Scan { classes, samples, mut skipped } = scan_for(train, Some(&own))?;
        if classes.len() < 2 {
            // It says so.
            ImageFolder::open_classes(train)?;
        }
        let listed = |is_valid| {
            move |sample: Sample| {
                let path = within(root, &sample.path);
                Listed { sample, path, position: None, is_valid }
            }
        };
        let mut photos: Vec<Listed> = samples.into_iter().map(listed(false)).collect();
        let mut notes: Vec<String> = note.into_iter().collect();
        let mut has_valid = false;
        if let Some(parts) = &parts {
            notes.push(parts.note(root, true));
            let Layout { valid, strays, .. } = parts;
            let stray = |path: &&PathBuf| own(path);
            skipped.extend(strays.iter().filter(stray).map(|path| Skipped {
                path: path.clone(),
                reason: "not in a class folder".into(),
            }));
            if let Some(valid) = valid {
                let other = scan_for(valid, Some(&own))?;
                let number = |name: &String| classes.iter().position(|class| class == name);
                // The layout has seen to it that all of them are there.
                let numbers: Vec<usize> = other.classes.iter().filter_map(number).collect();
                let renumber = |sample: Sample| {
                    let labels = sample.labels.iter().filter_map(|&label| numbers.get(label));
                    Sample { labels: labels.copied().collect(), ..sample }
                };
                photos.extend(other.samples.into_iter().map(renumber).map(listed(true)));
                skipped.extend(other.skipped);
                has_valid = true;
            }
        }
        skipped.iter_mut().for_each(|file| file.path = within(root, &file.path));
        Ok(Self { classes, multi_label: false, has_valid, photos, skipped, notes })
    }

    /// A shard of the photos in files that hold many each; messages name `path`. `labelled` says whether photos need classes.
    ///
    /// # Errors
    /// As [`ImageFolder::from_archives`].
    pub fn of_archives(
        path: &Path,
        files: &[PathBuf],
        labelled: bool,
        shard: Shard,
    ) -> Result<Self, VisionError> {
        let Tars { classes, photos, skipped, note } =
            Tars::read(files, labelled, &|path| shard.has(path), cache_folder())?;
        if labelled && classes.len() < 2 {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(path, reason));
        }
        let listed = |(path, mut sample): (PathBuf, Sample)| {
            if !labelled {
                sample.labels.clear();
            }
            Listed { sample, path, position: None, is_valid: false }
        };
        let photos = photos.into_iter().map(listed).collect();
        let classes = if labelled { classes } else { Vec::new() };
        let (multi_label, has_valid) = (false, false);
        let notes = note.into_iter().collect();
        Ok(Self { classes, multi_label, has_valid, photos, skipped, notes })
    }

    fn of_list(path: &Path, shard: Shard) -> Result<Self, VisionError> {
        let List { root, rows, classes, multi_label } = List::read(path)?;
        if classes.len() < 2 && !multi_label || classes.is_empty() {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(path, reason));
        }
        let rows = rows.into_iter().enumerate().filter(|(_, row)| shard.has(row.path.as_ref()));
        let photos = rows.map(|(number, row)| {
            let own = PathBuf::from(&row.path);
            let sample = row.sample(path, &root, &classes)?;
            Ok(Listed { sample, path: own, position: Some(number as u64), is_valid: false })
        });
        let photos = photos.collect::<Result<_, VisionError>>()?;
        let (skipped, notes) = (Vec::new(), Vec::new());
        Ok(Self { classes, multi_label, has_valid: false, photos, skipped, notes })
    }

    /// A shard of all photos below a folder, whatever folders they are in, without classes; or of those of a list.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn unlabelled(path: impl AsRef<Path>, shard: Shard) -> Result<Self, VisionError> {
        let root = path.as_ref();
        if let Some(files) = find(root)? {
            return Self::of_archives(root, &files, false, shard);
        }
        let (mut photos, mut skipped) = (Vec::new(), Vec::new());
        if root.is_file() {
            let Self { photos: listed, .. } = Self::of_list(root, shard)?;
            photos = listed;
            photos.iter_mut().for_each(|photo| photo.sample.labels.clear());
        } else {
            let own = |path: &Path| shard.has(&within(root, path));
            let (files, others) = list_for(root, Some(&own))?;
            photos.extend(files.into_iter().map(|file| {
                let path = within(root, &file);
                let sample = Sample { labels: Vec::new(), ..Sample::file(file, 0) };
                Listed { sample, path, position: None, is_valid: false }
            }));
            skipped = others;
        }
        skipped.iter_mut().for_each(|file| file.path = within(root, &file.path));
        let (classes, multi_label, notes) = (Vec::new(), false, Vec::new());
        Ok(Self { classes, multi_label, has_valid: false, photos, skipped, notes })
    }
}
