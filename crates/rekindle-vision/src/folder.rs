use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::decode::Kind;
use crate::{Decoding, Photo, VisionError, open_image};

/// One labelled photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file, or a name for an image in memory.
    pub path: PathBuf,
    /// Indices into the classes: one, or any number where photos may be of several.
    pub labels: Vec<usize>,
    /// The image itself, where it is in memory.
    pub image: Option<Arc<RgbImage>>,
}

impl Sample {
    /// A file of one class.
    #[must_use]
    pub fn file(path: PathBuf, class: usize) -> Self {
        Self { path, labels: vec![class], image: None }
    }

    /// Its first class; the first of all for a photo without any.
    #[must_use]
    pub fn class(&self) -> usize {
        self.labels.first().copied().unwrap_or_default()
    }

    /// The decoded photo.
    ///
    /// # Errors
    /// As [`open_image`].
    pub fn open(&self) -> Result<Arc<RgbImage>, VisionError> {
        match &self.image {
            Some(image) => Ok(image.clone()),
            None => Ok(Arc::new(open_image(&self.path)?)),
        }
    }

    /// The photo decoded as `decoding` says; of an image in memory only the channels change.
    ///
    /// # Errors
    /// As [`Decoding::open`].
    pub fn decode(&self, decoding: &Decoding) -> Result<Photo, VisionError> {
        match &self.image {
            Some(image) => Ok(Photo::of_rgb(image, decoding.channels)),
            None => decoding.open(&self.path),
        }
    }
}

/// A file that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Where the validation photos come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// There are none.
    None,
    /// A share of every class, from 0 to 1, drawn by the folder's seed.
    Fraction(f64),
    /// A folder with the same classes.
    Folder(PathBuf),
}

/// A folder with one folder of photos for each class: `photos/<class>/**/*.jpg`.
///
/// Classes are the sorted names of the folders, as in Keras. Hidden files are passed over; files that
/// are not images are skipped with a warning, or stop with an error where `strict` is set.
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
}

/// What is named so is taken for a photo unseen; of other files the content decides.
const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff"];
/// As much of a file as tells what it is.
const HEAD: u64 = 1 << 16;

impl ImageFolder {
    /// Lists the folder's classes and photos; a fifth of each class becomes validation data.
    ///
    /// # Errors
    /// When the folder cannot be read, has fewer than two classes, or a class without photos.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let folder = Self::labelled(path)?;
        match folder.classes.as_slice() {
            [one] => {
                let reason = format!("only one class, `{one}`; a classifier needs at least two");
                Err(VisionError::folder(&folder.path, reason))
            }
            _ => Ok(folder),
        }
    }

    /// As [`ImageFolder::open`], but takes a single class too: for evaluating.
    ///
    /// # Errors
    /// When the folder cannot be read, has no classes, or a class without photos.
    pub fn labelled(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let (classes, samples, skipped) = scan(path)?;
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
        let (skipped, split, seed, strict) = (Vec::new(), Split::Fraction(0.2), 0, false);
        Self { path, classes, samples, skipped, split, seed, strict, multi_label }
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
            Sample { path: format!("image {number}").into(), labels, image: Some(Arc::new(image)) }
        };
        let samples = images.into_iter().enumerate().map(sample).collect();
        Ok(Self::of(path, classes, samples, false))
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

    /// The files that are no photos, by name and content.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The photos to train on and those to validate on.
    ///
    /// # Errors
    /// When the share is not within 0 and 1, the validation folder has other classes, or `strict` is
    /// set and a file is not an image.
    pub fn split(&self) -> Result<(Vec<Sample>, Vec<Sample>), VisionError> {
        if let (true, Some(file)) = (self.strict, self.skipped.first()) {
            return Err(VisionError::Image {
                path: file.path.clone(),
                reason: file.reason.clone(),
            });
        }
        match &self.split {
            Split::None => Ok((self.samples.clone(), Vec::new())),
            Split::Folder(path) => {
                let (classes, samples, _) = scan(path)?;
                let name = |list: &[String], class: usize| list[class].clone();
                if let Some(class) = classes.iter().find(|class| !self.classes.contains(class)) {
                    let reason = format!(
                        "class `{class}` is not among the training classes: {}",
                        self.classes.join(", ")
                    );
                    return Err(VisionError::folder(path, reason));
                }
                let renumber = |sample: Sample| {
                    let name = name(&classes, sample.class());
                    let class = self.classes.iter().position(|class| *class == name);
                    Sample { labels: class.into_iter().collect(), ..sample }
                };
                if samples.is_empty() {
                    return Err(VisionError::folder(path, "no photos to validate on"));
                }
                Ok((self.samples.clone(), samples.into_iter().map(renumber).collect()))
            }
            Split::Fraction(fraction) => {
                if !(*fraction > 0.0 && *fraction < 1.0) {
                    let reason =
                        format!("a validation share of {fraction}; expected between 0 and 1");
                    return Err(VisionError::folder(&self.path, reason));
                }
                Ok(self.stratified(*fraction))
            }
        }
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
            for (index, sample) in samples.into_iter().enumerate() {
                let part = if order[..count].contains(&index) { &mut valid } else { &mut train };
                part.push(sample.clone());
            }
        }
        (train, valid)
    }
}

type Scan = (Vec<String>, Vec<Sample>, Vec<Skipped>);

fn scan(root: &Path) -> Result<Scan, VisionError> {
    let mut folders = BTreeMap::new();
    let mut skipped = Vec::new();
    for (name, path, is_folder) in entries(root)? {
        if is_folder {
            folders.insert(name, path);
        } else {
            let reason = "not in a class folder".into();
            skipped.push(Skipped { path, reason });
        }
    }
    let (mut classes, mut samples) = (Vec::new(), Vec::new());
    for (class, path) in folders {
        let before = samples.len();
        collect(&path, classes.len(), &mut samples, &mut skipped)?;
        if samples.len() == before {
            let reason = "no photos (JPEG, PNG, WebP, BMP, GIF, TIFF) in this class; remove the folder or fill it";
            return Err(VisionError::folder(&path, reason));
        }
        classes.push(class);
    }
    Ok((classes, samples, skipped))
}

fn collect(
    folder: &Path,
    class: usize,
    samples: &mut Vec<Sample>,
    skipped: &mut Vec<Skipped>,
) -> Result<(), VisionError> {
    for (_, path, is_folder) in entries(folder)? {
        let extension =
            path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if is_folder {
            collect(&path, class, samples, skipped)?;
        } else if EXTENSIONS.contains(&extension.as_str()) {
            samples.push(Sample::file(path, class));
        } else {
            match refusal(&path) {
                None => samples.push(Sample::file(path, class)),
                Some(reason) => skipped.push(Skipped { path, reason }),
            }
        }
    }
    Ok(())
}

/// Why a file is no photo, by its content.
fn refusal(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    match read {
        Ok(_) => Kind::of(&head).refusal(),
        Err(error) => Some(error.to_string()),
    }
}

/// Name, path and whether it is a folder, sorted by name, without hidden ones. Links to folders are
/// not followed, so that no folder is met twice.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, VisionError> {
    let io = |error| VisionError::io(folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().into_string().map_err(|name| {
            VisionError::folder(
                folder,
                format!("the name {name:?} is not valid Unicode; rename it"),
            )
        })?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
        let is_linked_folder = kind.is_symlink() && path.is_dir();
        if !name.starts_with('.') && name != "Thumbs.db" && !is_linked_folder {
            found.push((name, path, kind.is_dir()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = dir.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).expect("creates");
            } else {
                fs::create_dir_all(path.parent().expect("inside")).expect("creates");
                fs::write(path, "").expect("writes");
            }
        }
        dir
    }

    fn many(classes: &[(&str, usize)]) -> tempfile::TempDir {
        let files =
            classes.iter().flat_map(|(class, n)| (0..*n).map(move |i| format!("{class}/{i}.jpg")));
        let files: Vec<String> = files.collect();
        folder(&files.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn classes_are_sorted_folders_and_strangers_are_listed() {
        let dir = folder(&[
            "b/1.JPG",
            "a/deep/2.png",
            "a/notes.txt",
            "a/.hidden",
            "stray.jpg",
            "B/3.webp",
        ]);
        let folder = ImageFolder::open(dir.path()).expect("opens");
        assert_eq!(folder.classes(), ["B", "a", "b"]);
        assert_eq!(folder.samples().iter().map(|s| s.class()).collect::<Vec<_>>(), [0, 1, 2]);
        let skipped: Vec<_> = folder.skipped().iter().map(|s| s.path.file_name()).collect();
        assert_eq!(skipped, [Some("stray.jpg".as_ref()), Some("notes.txt".as_ref())]);
        assert!(folder.clone().strict(true).split().is_err());
        assert!(folder.split().is_ok());
    }

    #[test]
    fn images_in_memory_take_the_channels_asked_for() {
        let image = RgbImage::from_pixel(2, 1, image::Rgb([10, 20, 30]));
        let images = [(image.clone(), "a".to_owned()), (image, "b".to_owned())];
        let folder = ImageFolder::from_images(images).expect("two classes");
        let of = |channels| {
            let photo = folder.samples()[0].decode(&Decoding::default().with_channels(channels));
            photo.expect("in memory").into_bytes()
        };
        assert_eq!(of(crate::Channels::Grey), [18, 18]);
        assert_eq!(of(crate::Channels::Rgba), [10, 20, 30, 255, 10, 20, 30, 255]);
    }

    #[test]
    fn content_decides_where_a_name_does_not() {
        let dir = folder(&["a/1.jpg", "b/2.jpg", "b/notes.txt"]);
        let jpeg = b"\xFF\xD8\xFF\xE0";
        fs::write(dir.path().join("a/no-extension"), jpeg).expect("writes");
        fs::write(dir.path().join("a/phone.heic"), jpeg).expect("writes");
        fs::write(dir.path().join("b/real.HEIC"), b"\0\0\0\x18ftypheic\0\0\0\0").expect("writes");
        let folder = ImageFolder::open(dir.path()).expect("opens");
        let names: Vec<_> = folder.samples().iter().map(|s| s.path.file_name()).collect();
        let expected = ["1.jpg", "no-extension", "phone.heic", "2.jpg"];
        assert_eq!(names, expected.map(|name| Some(name.as_ref())));
        let reasons: Vec<&str> = folder.skipped().iter().map(|s| s.reason.as_str()).collect();
        assert_eq!(reasons[0], "the file is empty");
        assert!(reasons[1].starts_with("a HEIC photo, which is not read"), "{}", reasons[1]);
    }

    #[test]
    fn split_is_stratified_and_seeded() {
        let dir = many(&[("a", 10), ("b", 5), ("c", 1), ("d", 2)]);
        let open = |seed| {
            ImageFolder::open(dir.path()).expect("opens").seed(seed).split().expect("splits")
        };
        let (train, valid) = open(1);
        let count = |part: &[Sample], class| part.iter().filter(|s| s.class() == class).count();
        assert_eq!([0, 1, 2, 3].map(|class| count(&valid, class)), [2, 1, 0, 1]);
        assert_eq!(train.len() + valid.len(), 18);
        assert!(train.iter().all(|sample| !valid.contains(sample)));
        assert_eq!(open(1), (train.clone(), valid.clone()));
        assert_ne!(open(2).1, valid);
    }

    #[test]
    fn bad_folders_say_what_is_wrong() {
        let error =
            |dir: &tempfile::TempDir| ImageFolder::open(dir.path()).expect_err("fails").to_string();
        assert!(error(&folder(&["a/1.jpg", "b/"])).contains("no photos"));
        assert!(error(&folder(&[])).contains("no class folders"));
        assert!(error(&folder(&["a/1.jpg"])).contains("only one class, `a`"));
        assert!(
            ImageFolder::open("/nonexistent")
                .expect_err("fails")
                .to_string()
                .contains("/nonexistent")
        );
        let dir = many(&[("a", 3), ("b", 3)]);
        let open = || ImageFolder::open(dir.path()).expect("opens");
        assert!(open().valid_split(1.5).split().expect_err("fails").to_string().contains("1.5"));
        let other = many(&[("a", 1), ("z", 1)]);
        let message = open().valid_folder(other.path()).split().expect_err("fails").to_string();
        assert!(message.contains("class `z`"), "{message}");
    }
}
