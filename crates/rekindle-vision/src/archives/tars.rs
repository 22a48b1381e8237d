//! WebDataset's tars: members of one name, but for their endings, are one sample. Photos stay in the tar, and are read where
//! they lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::unpacked::Unpacked;
use super::{Kind, parquet};
use crate::decode::MAX_FILE_BYTES;
use crate::{Place, Sample, Skipped, VisionError};

/// The endings of members that may be photos.
const PHOTOS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"];
/// Tars are made of blocks of this many bytes.
const BLOCK: u64 = 512;
/// The longest member that is a label.
const MAX_LABEL: u64 = 1 << 10;

/// Whether a file's name ends as a photo's.
pub(super) fn has_photo_s_ending(path: &Path) -> bool {
    let ending = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|ending| PHOTOS.contains(&ending.as_str()))
}

/// The photos of some tars, by class and path.
pub(crate) struct Tars {
    pub classes: Vec<String>,
    /// Each with its path from where the tars are: `000.tar/key.jpg`.
    pub photos: Vec<(PathBuf, Sample)>,
    /// By the same paths.
    pub skipped: Vec<Skipped>,
    /// What else there is to say.
    pub note: Option<String>,
}

/// A photo of a tar, and what its label is.
struct Found {
    name: PathBuf,
    from: u64,
    length: u64,
    label: Option<String>,
}

impl Tars {
    /// What is in these tars that `own` says is one's own; labels are those of `.cls` members, or the names of folders.
    /// What is no plain tar is unpacked in a folder of `cache`.
    ///
    /// # Errors
    /// When a tar cannot be read or is damaged, or, where `labelled` is set, photos have no labels.
    pub fn read(
        files: &[PathBuf],
        labelled: bool,
        own: &dyn Fn(&Path) -> bool,
        cache: Option<PathBuf>,
    ) -> Result<Self, VisionError> {
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        // Before the first is unpacked, which takes longer.
        for file in files.iter().filter(|file| Kind::of(file) == Some(Kind::Parquet)) {
            parquet::check(file, labelled)?;
        }
        let mut unpacked = Unpacked::within(cache);
        for file in files {
            let tar = PathBuf::from(file.file_name().unwrap_or_default());
            let at = Arc::new(unpacked.tar_of(file)?);
            let (photos, others) = index(file, &at)?;
            found.extend(photos.into_iter().map(|photo| (file, at.clone(), tar.clone(), photo)));
            skipped.extend(
                others
                    .into_iter()
                    .map(|Skipped { path, reason }| Skipped { path: tar.join(path), reason }),
            );
        }
        skipped.retain(|file| own(&file.path));
        let missing = found.iter().find(|(.., photo)| photo.label.is_none());
        if let (true, Some((file, .., photo))) = (labelled, missing) {
            let what = match Kind::of(file) {
                Some(Kind::Parquet) => "its row has none, or -1",
                _ => "neither a member of the same name that ends with .cls, nor a folder",
            };
            let reason = format!("{} has no label: {what}", photo.name.display());
            return Err(VisionError::folder(file, reason));
        }
        let mut classes: Vec<String> =
            found.iter().filter_map(|(.., photo)| photo.label.clone()).collect();
        classes.sort();
        classes.dedup();
        // Numbers by their size: 10 comes behind 9.
        let numbers: Option<Vec<u64>> = classes.iter().map(|class| class.parse().ok()).collect();
        if let Some(mut numbers) = numbers {
            numbers.sort_unstable();
            numbers.dedup();
            if numbers.len() == classes.len() {
                classes.sort_by_key(|class| class.parse::<u64>().unwrap_or_default());
            }
        }
        let places: BTreeMap<&String, usize> =
            classes.iter().enumerate().map(|(number, class)| (class, number)).collect();
        let photos = found.into_iter().map(|(file, at, tar, photo)| {
            let labels = photo.label.as_ref().and_then(|label| places.get(label).copied());
            let place = Place::Within { file: at, from: photo.from, length: photo.length };
            let sample = Sample {
                path: file.join(&photo.name),
                labels: labels.into_iter().collect(),
                place,
            };
            (tar.join(&photo.name), sample)
        });
        let mut photos: Vec<(PathBuf, Sample)> = photos.filter(|(path, _)| own(path)).collect();
        photos.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(two) = photos.windows(2).find(|two| two[0].0 == two[1].0) {
            let reason = "it is there twice: tars and members need names of their own";
            return Err(VisionError::folder(&two[0].0, reason));
        }
        // As those of a folder: of a class by their paths.
        photos.sort_by_key(|(_, sample)| sample.class());
        Ok(Self { classes, photos, skipped, note: unpacked.note() })
    }
}

/// What is in the tar of a file, which is `at`: photos, and members that are none.
fn index(path: &Path, at: &Path) -> Result<(Vec<Found>, Vec<Skipped>), VisionError> {
    let damaged = |error: std::io::Error| {
        let again = match path == at {
            true => String::new(),
            false => {
                format!(" (unpacked as {}; delete that, and it is unpacked again)", at.display())
            }
        };
        VisionError::folder(path, format!("a tar that is damaged or cut off: {error}{again}"))
    };
    let file = File::open(at).map_err(|error| VisionError::io(at, error))?;
    let end = file.metadata().map_err(|error| VisionError::io(at, error))?.len();
    let mut archive = tar::Archive::new(file);
    let (mut photos, mut labels, mut skipped) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut last = 0_u64;
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        last = entry.raw_file_position().saturating_add(entry.size());
        let name = entry.path().map_err(damaged)?.into_owned();
        let (key, ending) = parts(&name);
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            if !kind.is_dir() && PHOTOS.contains(&ending.as_str()) {
                let reason = "a link or another member that is no plain file";
                skipped.push(Skipped { path: name, reason: reason.into() });
            }
            continue;
        }
        let (from, length) = (entry.raw_file_position(), entry.size());
        if from.checked_add(length).is_none_or(|last| last > end) {
            let reason = format!("a tar that is cut off: `{}` ends behind it", name.display());
            return Err(VisionError::folder(path, reason));
        }
        if ending == "cls" {
            if length > MAX_LABEL {
                let reason = format!("`{}` has {length} bytes, expected a label", name.display());
                return Err(VisionError::folder(path, reason));
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(damaged)?;
            labels.insert(key, text.trim().to_owned());
        } else if PHOTOS.contains(&ending.as_str()) {
            match length > MAX_FILE_BYTES {
                true => {
                    skipped.push(Skipped { path: name, reason: "the photo is over 512 MiB".into() })
                }
                false => photos.push((key, Found { name, from, length, label: None })),
            }
        }
    }
    // A block of zeros ends a tar: without it nobody knows whether members are missing.
    if last.checked_next_multiple_of(BLOCK).is_none_or(|last| end < last.saturating_add(BLOCK)) {
        let reason = "a tar that is cut off: the block of zeros at its end is missing";
        return Err(VisionError::folder(path, reason));
    }
    if has_more(archive.into_inner(), last).map_err(|error| VisionError::io(at, error))? {
        let reason = "a tar with more behind its end, as several in one file: name each as a file of its own";
        return Err(VisionError::folder(path, reason));
    }
    let label = |(key, photo): (String, Found)| {
        let folder = photo.name.parent().and_then(Path::file_name);
        let folder = folder.map(|name| name.to_string_lossy().into_owned());
        Found { label: labels.get(&key).cloned().or(folder), ..photo }
    };
    Ok((photos.into_iter().map(label).collect(), skipped))
}

/// Whether there is anything but zeros behind a tar's last member, which ends at `from`.
fn has_more(file: File, from: u64) -> std::io::Result<bool> {
    let mut file = BufReader::new(file);
    file.seek(SeekFrom::Start(from.next_multiple_of(BLOCK)))?;
    loop {
        let bytes = file.fill_buf()?;
        let count = bytes.len();
        if count == 0 || bytes.iter().any(|&byte| byte != 0) {
            return Ok(count > 0);
        }
        file.consume(count);
    }
}

/// A member's name up to the first dot of its last part, and its ending in lower case.
fn parts(name: &Path) -> (String, String) {
    let text = name.to_string_lossy();
    let start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[start..].find('.') {
        Some(dot) => {
            let ending = text[start + dot + 1..].rsplit('.').next().unwrap_or_default();
            (text[..start + dot].to_owned(), ending.to_lowercase())
        }
        None => (text.clone().into_owned(), String::new()),
    }
}

/// Bytes of a file.
pub(crate) fn range(path: &Path, from: u64, length: u64) -> Result<Vec<u8>, VisionError> {
    let io = |error| VisionError::io(path, error);
    let mut file = File::open(path).map_err(io)?;
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(length.min(MAX_FILE_BYTES)).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(VisionError::folder(path, "shorter than when it was opened")),
    }
}
