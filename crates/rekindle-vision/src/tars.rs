//! WebDataset's tars: members of one name, but for their endings, are one sample. Photos stay in the tar, and are read where
//! they lie.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::MAX_FILE_BYTES;
use crate::{Place, Sample, Skipped, VisionError};

/// The endings of members that may be photos.
const PHOTOS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm"];
/// The longest member that is a label.
const MAX_LABEL: u64 = 1 << 10;

/// The photos of some tars, by class and path.
pub(crate) struct Tars {
    pub classes: Vec<String>,
    /// Each with its path from where the tars are: `000.tar/key.jpg`.
    pub photos: Vec<(PathBuf, Sample)>,
    /// By the same paths.
    pub skipped: Vec<Skipped>,
}

/// A photo of a tar, and what its label is.
struct Found {
    name: PathBuf,
    from: u64,
    length: u64,
    label: Option<String>,
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "tar") && path.is_file()
}

/// The tars that a path means, sorted: itself, those of a folder of nothing else, or those of a pattern as
/// `data/{000..099}.tar`; none, where it means something else.
///
/// # Errors
/// When one of a pattern is not there, or is compressed.
pub(crate) fn find(path: &Path) -> Result<Option<Vec<PathBuf>>, VisionError> {
    let compressed = |path: &Path| {
        let name = path.to_string_lossy();
        name.ends_with(".tar.gz") || name.ends_with(".tgz")
    };
    if compressed(path) {
        let reason = "a compressed tar, of which no photo can be read without all before it: `gunzip` it; JPEGs are no smaller with gzip";
        return Err(VisionError::folder(path, reason));
    }
    if is_tar(path) {
        return Ok(Some(vec![path.to_owned()]));
    }
    if let Some(names) = expand(&path.to_string_lossy()) {
        let all: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        if let Some(missing) = all.iter().find(|path| !is_tar(path)) {
            return Err(VisionError::folder(missing, "there is no such tar"));
        }
        return Ok(Some(all));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| VisionError::io(path, error))? {
        let path = entry.map_err(|error| VisionError::io(path, error))?.path();
        if path.is_dir() {
            return Ok(None);
        }
        if is_tar(&path) {
            all.push(path);
        }
    }
    all.sort();
    Ok((!all.is_empty()).then_some(all))
}

/// The names of a pattern with one range of numbers in braces.
fn expand(pattern: &str) -> Option<Vec<String>> {
    let (before, rest) = pattern.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let number = |text: &str| text.parse::<u32>().ok();
    let (from, to, digits) = (number(first)?, number(last)?, first.len());
    (from <= to && to - from < 1_000_000)
        .then(|| (from..=to).map(|number| format!("{before}{number:0digits$}{after}")).collect())
}

impl Tars {
    /// What is in these tars that `own` says is one's own; labels are those of `.cls` members, or the names of folders.
    ///
    /// # Errors
    /// When a tar cannot be read or is damaged, or, where `labelled` is set, photos have no labels.
    pub fn read(
        files: &[PathBuf],
        labelled: bool,
        own: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, VisionError> {
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        for file in files {
            let tar = PathBuf::from(file.file_name().unwrap_or_default());
            let (photos, others) = index(file)?;
            found.extend(
                photos.into_iter().map(|photo| (Arc::new(file.clone()), tar.clone(), photo)),
            );
            skipped.extend(
                others
                    .into_iter()
                    .map(|Skipped { path, reason }| Skipped { path: tar.join(path), reason }),
            );
        }
        skipped.retain(|file| own(&file.path));
        let missing = found.iter().find(|(_, _, photo)| photo.label.is_none());
        if let (true, Some((file, _, photo))) = (labelled, missing) {
            let reason = format!(
                "{} has no label: neither a member of the same name that ends with .cls, nor a folder",
                photo.name.display()
            );
            return Err(VisionError::folder(file, reason));
        }
        let mut classes: Vec<String> =
            found.iter().filter_map(|(_, _, photo)| photo.label.clone()).collect();
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
        let photos = found.into_iter().map(|(file, tar, photo)| {
            let labels = photo.label.as_ref().and_then(|label| places.get(label).copied());
            let place =
                Place::Within { file: file.clone(), from: photo.from, length: photo.length };
            let sample = Sample {
                path: file.join(&photo.name),
                labels: labels.into_iter().collect(),
                place,
            };
            (tar.join(&photo.name), sample)
        });
        let mut photos: Vec<(PathBuf, Sample)> = photos.filter(|(path, _)| own(path)).collect();
        // As those of a folder.
        photos.sort_by(|(a, one), (b, other)| (one.class(), a).cmp(&(other.class(), b)));
        if let Some(two) = photos.windows(2).find(|two| two[0].0 == two[1].0) {
            let reason = "it is there twice: tars and members need names of their own";
            return Err(VisionError::folder(&two[0].0, reason));
        }
        Ok(Self { classes, photos, skipped })
    }
}

/// What is in a tar: photos, and members that are none.
fn index(path: &Path) -> Result<(Vec<Found>, Vec<Skipped>), VisionError> {
    let damaged = |error: std::io::Error| {
        VisionError::folder(path, format!("a tar that is damaged or cut off: {error}"))
    };
    let file = File::open(path).map_err(|error| VisionError::io(path, error))?;
    let end = file.metadata().map_err(|error| VisionError::io(path, error))?.len();
    let mut archive = tar::Archive::new(file);
    let (mut photos, mut labels, mut skipped) = (Vec::new(), BTreeMap::new(), Vec::new());
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        let (from, length) = (entry.raw_file_position(), entry.size());
        if from.checked_add(length).is_none_or(|last| last > end) {
            let reason = format!("a tar that is cut off: `{}` ends behind it", name.display());
            return Err(VisionError::folder(path, reason));
        }
        let (key, ending) = parts(&name);
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
    let label = |(key, photo): (String, Found)| {
        let folder = photo.name.parent().and_then(Path::file_name);
        let folder = folder.map(|name| name.to_string_lossy().into_owned());
        Found { label: labels.get(&key).cloned().or(folder), ..photo }
    };
    Ok((photos.into_iter().map(label).collect(), skipped))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageFolder, Shard, Share};

    fn tar(path: &Path, members: &[(&str, &[u8])]) {
        let mut tar = tar::Builder::new(File::create(path).expect("creates"));
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).expect("writes");
        }
        tar.finish().expect("writes");
    }

    #[test]
    fn photos_lie_in_tars_with_their_labels() {
        let dir = tempfile::tempdir().expect("a folder");
        let png = |shade: u8| {
            let mut bytes = Vec::new();
            let image = image::RgbImage::from_pixel(3, 2, image::Rgb([shade; 3]));
            let format = image::ImageFormat::Png;
            image.write_to(&mut std::io::Cursor::new(&mut bytes), format).expect("writes");
            bytes
        };
        let (one, two, three) = (png(1), png(2), png(3));
        // A name that a tar's header has no place for.
        let long = format!("{}/b.x.png", "long".repeat(40));
        tar(&dir.path().join("000.tar"), &[("a.png", &one), ("a.cls", b"10\n"), ("a.json", b"{}")]);
        tar(&dir.path().join("001.tar"), &[("b.cls", b"9"), ("b.png", &two), (&long, &three)]);
        let pattern = dir.path().join("{000..001}.tar");
        assert!(ImageFolder::from_tars(&pattern).is_ok(), "a folder's name is a label, too");
        tar(
            &dir.path().join("001.tar"),
            &[("b.cls", b"9"), ("b.png", &two), ("c/d.PNG", &three), ("c/d.cls", b"10")],
        );
        for path in [pattern.as_path(), dir.path()] {
            let folder = ImageFolder::from_tars(path).expect("reads").expect("tars");
            assert_eq!(folder.classes(), ["9", "10"]);
            let of = |sample: &Sample| {
                let pixel = sample.open().expect("decodes").get_pixel(0, 0).0[0];
                (sample.labels.clone(), pixel)
            };
            let found: Vec<_> = folder.samples().iter().map(of).collect();
            assert_eq!(found, [(vec![0], 2), (vec![1], 1), (vec![1], 3)]);
        }
        let shares: Vec<usize> = (0..3)
            .map(|index| {
                let shard = Shard::new(index, 3).expect("there");
                let share = Share::labelled(dir.path(), false, shard).expect("reads");
                assert_eq!(share.classes, ["9", "10"]);
                assert!(share.photos.iter().all(|photo| shard.has(&photo.path)));
                share.photos.len()
            })
            .collect();
        assert_eq!(shares.iter().sum::<usize>(), 3);
        assert!(Share::unlabelled(&pattern, Shard::WHOLE).expect("reads").photos.len() == 3);
        assert!(ImageFolder::from_tars(dir.path().join("none")).expect("no tars").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_tar_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.tar");
        let said = |path: &Path| ImageFolder::from_tars(path).expect_err("must fail").to_string();
        tar(&path, &[("a.png", b"x"), ("b.png", b"y"), ("b.cls", b"1")]);
        assert!(said(&path).contains("a.png has no label"), "{}", said(&path));
        tar(&path, &[("a.png", b"x"), ("a.cls", b"1")]);
        assert!(said(&path).contains("1 classes"), "{}", said(&path));
        assert!(said(&dir.path().join("{0..1}.tar")).contains("there is no such tar"));
        assert!(said(&dir.path().join("a.tar.gz")).contains("gunzip"));
        let many: Vec<u8> = vec![7; 5000];
        tar(&path, &[("x/a.png", &many), ("y/b.png", &many)]);
        assert!(ImageFolder::from_tars(&path).is_ok());
        let bytes = fs::read(&path).expect("reads");
        for length in [100, 600, 3000, 6000, 8000] {
            fs::write(&path, &bytes[..length]).expect("writes");
            let error = said(&path);
            assert!(error.contains("a.tar") && error.contains("cut off"), "{length}: {error}");
        }
    }
}
