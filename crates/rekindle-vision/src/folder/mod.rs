//! Folders of labelled photos.

mod elsewhere;
mod layout;
mod sample;
mod scan;
mod shard;
mod share;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rekindle_pixels::cache_folder;

use crate::VisionError;
use crate::archives::{Tars, find};

pub use elsewhere::{Elsewhere, Remote, read_elsewhere};
pub use layout::is_part;
use layout::{Layout, layout};
pub use sample::{Place, Sample, Skipped};
pub use scan::list_photos;
use scan::{Scan, scan};
pub use shard::Shard;
pub use share::{Listed, Share};

/// Where the validation photos come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// There are none.
    None,
    /// A share of every class, from 0 to 1, drawn by the folder's seed.
    Fraction(f64),
    /// A folder with the same classes.
    Folder(PathBuf),
    /// These photos, of the same classes.
    Samples(Vec<Sample>),
}

/// What a folder's photos are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Photos to train on.
    pub train: Vec<Sample>,
    /// Photos to validate on.
    pub valid: Vec<Sample>,
    /// What is used for neither, of the folder and of the one with the validation photos.
    pub skipped: Vec<Skipped>,
}

/// A folder with one folder of photos for each class: `photos/<class>/**/*.jpg`.
///
/// Classes are the sorted names of the folders, as in Keras. What a file is decides its content, not its name. What is no
/// photo that can be read is in [`ImageFolder::skipped`] with the reason, or stops where `strict` is set; only what
/// systems and programs leave in folders (`Thumbs.db`, `.DS_Store`, `.ipynb_checkpoints`, ...) is not mentioned.
/// Links to folders are followed, but for those that would never end, or would have photos be of two classes.
///
/// A folder that is split already, as `photos/train/<class>` and `photos/validation/<class>` (or `val`, `valid`), and
/// `photos/test/<class>`, is used as such; [`ImageFolder::notes`] says so.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    path: PathBuf,
    classes: Vec<String>,
    samples: Vec<Sample>,
    skipped: Vec<Skipped>,
    split: Split,
    seed: u64,
    strict: bool,
    multi_label: bool,
    /// The parts of a folder that is split.
    layout: Option<(PathBuf, Layout)>,
    /// What else there is to say.
    note: Option<String>,
}

impl ImageFolder {
    /// Lists the folder's classes and photos; a fifth of each class becomes validation data, unless the folder is split
    /// already.
    ///
    /// # Errors
    /// When the folder cannot be read, has fewer than two classes, or a class without photos; or when it looks split,
    /// but its parts have different classes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let (parts, note) = layout(path)?;
        let Some(parts) = parts else { return Ok(Self { note, ..Self::open_classes(path)? }) };
        let mut folder = Self::open_classes(&parts.train)?;
        let stray =
            |path: &PathBuf| Skipped { path: path.clone(), reason: "not in a class folder".into() };
        folder.skipped.extend(parts.strays.iter().map(stray));
        if let Some(valid) = &parts.valid {
            folder.split = Split::Folder(valid.clone());
        }
        Ok(Self { layout: Some((path.to_owned(), parts)), ..folder })
    }

    /// As [`ImageFolder::open`], but every folder is a class, whatever it is called: also `train`, `validation`, `test`.
    ///
    /// # Errors
    /// When the folder cannot be read, has fewer than two classes, or a class without photos.
    pub fn open_classes(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let folder = Self::labelled_classes(path)?;
        match folder.classes.as_slice() {
            [one] => {
                let reason = format!("only one class, `{one}`; a classifier needs at least two");
                Err(VisionError::folder(&folder.path, reason))
            }
            _ => Ok(folder),
        }
    }

    /// As [`ImageFolder::open`], but takes a single class too: for evaluating. Of a folder that is split already these
    /// are the photos of its `test`, or else of its `validation`.
    ///
    /// # Errors
    /// When the folder cannot be read, has no classes, or a class without photos.
    pub fn labelled(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let (parts, note) = layout(path)?;
        let Some(parts) = parts else { return Ok(Self { note, ..Self::labelled_classes(path)? }) };
        let part = parts.to_evaluate(path)?;
        let note = format!(
            "{} is split already: the photos of {} are taken (--classes-are-folders takes these folders as classes)",
            path.display(),
            part.display()
        );
        Ok(Self { note: Some(note), ..Self::labelled_classes(part)? })
    }

    /// As [`ImageFolder::labelled`], but every folder is a class, whatever it is called.
    ///
    /// # Errors
    /// When the folder cannot be read, has no classes, or a class without photos.
    pub fn labelled_classes(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let Scan { classes, samples, skipped } = scan(path)?;
        if classes.is_empty() {
            let reason = "no class folders; put the photos of each class into a folder of its own";
            return Err(VisionError::folder(path, reason));
        }
        Ok(Self { skipped, ..Self::of(path.to_owned(), classes, samples, false) })
    }

    /// Photos from anywhere; a fifth of each class becomes validation data.
    pub(crate) fn of(
        path: PathBuf,
        classes: Vec<String>,
        samples: Vec<Sample>,
        multi_label: bool,
    ) -> Self {
        Self {
            path,
            classes,
            samples,
            skipped: Vec::new(),
            split: Split::Fraction(0.2),
            seed: 0,
            strict: false,
            multi_label,
            layout: None,
            note: None,
        }
    }

    /// Images in memory, each with the name of its class.
    ///
    /// # Errors
    /// When there are fewer than two classes.
    pub fn from_images(
        images: impl IntoIterator<Item = (RgbImage, String)>,
    ) -> Result<Self, VisionError> {
        let images: Vec<(RgbImage, String)> = images.into_iter().collect();
        let mut classes: Vec<String> = images.iter().map(|(_, class)| class.clone()).collect();
        classes.sort();
        classes.dedup();
        let path = PathBuf::from("(images in memory)");
        if classes.len() < 2 {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(&path, reason));
        }
        let sample = |(number, (image, class)): (usize, (RgbImage, String))| {
            let labels = classes.iter().position(|name| *name == class).into_iter().collect();
            let place = Place::Image(Arc::new(image));
            Sample { path: format!("image {number}").into(), labels, place }
        };
        let samples = images.into_iter().enumerate().map(sample).collect();
        Ok(Self::of(path, classes, samples, false))
    }

    /// The photos of WebDataset's tars (`.tar`, `.tar.gz`, `.tgz`), or of Parquet files as Hugging Face's hub has them, with
    /// the feature `parquet`: of one file, of a folder of them, or of a pattern as `data/{000..099}.tar` or
    /// `data/train-*.parquet`; nothing, where the path means something else.
    ///
    /// In a tar, a photo's label is the content of the member of the same name that ends with `.cls`, or else the name of the
    /// folder that it is in. In Parquet, photos are in a column of type `struct<bytes, path>` or `binary`, and labels in the
    /// column `label`, as numbers of the names in the schema's metadata or as text. Photos of a plain tar are read where they
    /// lie. Other files are unpacked once, in the folder of caches; [`ImageFolder::notes`] says where.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, a photo has no label, or there are fewer than two classes.
    pub fn from_archives(path: impl AsRef<Path>) -> Result<Option<Self>, VisionError> {
        let path = path.as_ref();
        find(path)?.map(|files| Self::from_archive_files(path, &files)).transpose()
    }

    /// The same of files that are known already; messages name `path`.
    ///
    /// # Errors
    /// As [`ImageFolder::from_archives`].
    pub fn from_archive_files(
        path: impl AsRef<Path>,
        files: &[PathBuf],
    ) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let Tars { classes, photos, skipped, note } =
            Tars::read(files, true, &|_| true, cache_folder())?;
        if classes.len() < 2 {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(path, reason));
        }
        let samples = photos.into_iter().map(|(_, sample)| sample).collect();
        Ok(Self { skipped, note, ..Self::of(path.to_owned(), classes, samples, false) })
    }

    /// Photos that are known already, in this order, of these classes; a fifth of each class becomes validation data.
    ///
    /// # Errors
    /// When a photo is of a class that there is not, or there are fewer than two classes.
    pub fn from_samples(
        path: impl AsRef<Path>,
        classes: Vec<String>,
        samples: Vec<Sample>,
        multi_label: bool,
    ) -> Result<Self, VisionError> {
        let path = path.as_ref();
        if classes.is_empty() || classes.len() < 2 && !multi_label {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(path, reason));
        }
        let is_known = |sample: &&Sample| sample.labels.iter().all(|&label| label < classes.len());
        if let Some(sample) = samples.iter().find(|sample| !is_known(sample)) {
            let (labels, count) = (&sample.labels, classes.len());
            let reason = format!("classes {labels:?} of {count}, counted from 0");
            return Err(VisionError::folder(&sample.path, reason));
        }
        Ok(Self::of(path.to_owned(), classes, samples, multi_label))
    }

    /// Takes these photos for validation, of the same classes.
    #[must_use]
    pub fn valid_samples(mut self, samples: Vec<Sample>) -> Self {
        self.split = Split::Samples(samples);
        self
    }

    /// Says of more files that they are not used, and why.
    #[must_use]
    pub fn with_skipped(mut self, skipped: impl IntoIterator<Item = Skipped>) -> Self {
        self.skipped.extend(skipped);
        self
    }

    /// Only these of its photos, with the same classes and none to validate on.
    #[must_use]
    pub fn only(self, samples: Vec<Sample>) -> Self {
        Self { samples, split: Split::None, ..self }
    }

    /// Whether a photo may be of several classes, or of none.
    #[must_use]
    pub fn is_multi_label(&self) -> bool {
        self.multi_label
    }

    /// Takes this share of every class for validation: at least one photo of a class that has two,
    /// never all. 0 takes none.
    #[must_use]
    pub fn valid_split(mut self, fraction: f64) -> Self {
        self.split = if fraction == 0.0 { Split::None } else { Split::Fraction(fraction) };
        self
    }

    /// Takes the validation photos from another folder with the same classes.
    #[must_use]
    pub fn valid_folder(mut self, path: impl AsRef<Path>) -> Self {
        self.split = Split::Folder(path.as_ref().to_owned());
        self
    }

    /// The seed that draws the validation photos.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Stops at the first file that is not an image, instead of skipping it.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether a file that is not an image stops.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the photos to validate on come from.
    #[must_use]
    pub fn validation(&self) -> &Split {
        &self.split
    }

    /// What a user should know of how the folder is understood, a sentence each: which part of one that is split is used
    /// for what.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let parts = self.layout.as_ref().map(|(path, parts)| {
            let uses_valid = matches!(&self.split, Split::Folder(folder) if parts.valid.as_ref() == Some(folder));
            parts.note(path, uses_valid)
        });
        self.note.iter().cloned().chain(parts).collect()
    }

    /// The names of the classes, sorted.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// All photos, by class and path.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What is in the folder and no photo that can be read, as far as a file's first bytes say; damaged photos are found
    /// out when they are decoded.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The photos to train on and those to validate on.
    ///
    /// # Errors
    /// As [`ImageFolder::parts`].
    pub fn split(&self) -> Result<(Vec<Sample>, Vec<Sample>), VisionError> {
        let Parts { train, valid, .. } = self.parts()?;
        Ok((train, valid))
    }

    /// The photos to train on, those to validate on, and what is skipped of both.
    ///
    /// # Errors
    /// When the share is not within 0 and 1, the validation folder has other classes, or `strict` is
    /// set and a file is not an image.
    pub fn parts(&self) -> Result<Parts, VisionError> {
        let mut skipped = self.skipped.clone();
        let (train, valid) = match &self.split {
            Split::None => (self.samples.clone(), Vec::new()),
            Split::Samples(valid) => (self.samples.clone(), valid.clone()),
            Split::Folder(path) => {
                let other = scan(path)?;
                skipped.extend(other.skipped);
                (self.samples.clone(), self.renumbered(path, &other.classes, other.samples)?)
            }
            Split::Fraction(fraction) if *fraction > 0.0 && *fraction < 1.0 => {
                self.stratified(*fraction)
            }
            Split::Fraction(fraction) => {
                let reason = format!("a validation share of {fraction}; expected between 0 and 1");
                return Err(VisionError::folder(&self.path, reason));
            }
        };
        if let (true, Some(file)) = (self.strict, skipped.first()) {
            let Skipped { path, reason } = file.clone();
            return Err(VisionError::Image { path, reason });
        }
        Ok(Parts { train, valid, skipped })
    }

    /// Photos of another folder, with the numbers that its classes have here.
    fn renumbered(
        &self,
        path: &Path,
        classes: &[String],
        samples: Vec<Sample>,
    ) -> Result<Vec<Sample>, VisionError> {
        let number = |class: &String| {
            self.classes.iter().position(|known| known == class).ok_or_else(|| {
                let known = self.classes.join(", ");
                let reason = format!("class `{class}` is not among the training classes: {known}");
                VisionError::folder(path, reason)
            })
        };
        let numbers = classes.iter().map(number).collect::<Result<Vec<usize>, VisionError>>()?;
        if samples.is_empty() {
            return Err(VisionError::folder(path, "no photos to validate on"));
        }
        let renumber = |sample: Sample| Sample { labels: vec![numbers[sample.class()]], ..sample };
        Ok(samples.into_iter().map(renumber).collect())
    }

    fn stratified(&self, fraction: f64) -> (Vec<Sample>, Vec<Sample>) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let (mut train, mut valid) = (Vec::new(), Vec::new());
        for class in 0..self.classes.len() {
            let samples: Vec<&Sample> =
                self.samples.iter().filter(|s| s.class() == class).collect();
            let mut order: Vec<usize> = (0..samples.len()).collect();
            order.shuffle(&mut rng);
            let wanted = (samples.len() as f64 * fraction).round() as usize;
            let count = wanted.max(1).min(samples.len().saturating_sub(1));
            let mut is_valid = vec![false; samples.len()];
            order[..count].iter().for_each(|&index| is_valid[index] = true);
            for (index, sample) in samples.into_iter().enumerate() {
                let part = if is_valid[index] { &mut valid } else { &mut train };
                part.push(sample.clone());
            }
        }
        (train, valid)
    }
}

#[cfg(test)]
mod tests;
