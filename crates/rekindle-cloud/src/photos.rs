//! Photos in a bucket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use object_store::{Error, ObjectMeta};
use rekindle_vision::{
    Elsewhere, ImageFolder, Listed, MAX_FILE_BYTES, Place, Remote, Sample, Shard, Share, Skipped,
    VisionError, find_among, is_archive, is_part,
};

use crate::address::Address;
use crate::files::cache;
use crate::store::runtime;
use crate::{CloudError, Limits, Store};

/// How photos of an address are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    /// Whether photos need classes.
    labelled: bool,
    /// Whether every folder is a class, also `train` and `test`.
    classes_are_folders: bool,
}

/// A shard of the photos at an address: with a folder for each class, or, where `labelled` is not set, in any folders; or in
/// archives, which are downloaded into the cache.
///
/// # Errors
/// When they cannot be listed, or have no classes.
pub fn share(
    address: &Path,
    labelled: bool,
    classes_are_folders: bool,
    shard: Shard,
) -> Result<Share, CloudError> {
    let store = Store::open(address, Limits::default())?;
    let folder = cache(&store.address(""), "objects")?;
    match store.find(address, Wish { labelled, classes_are_folders }, shard, &folder)? {
        Found::Share(share) => Ok(share),
        Found::Archives(files) => Ok(Share::of_archives(address, &files, labelled, shard)?),
    }
}

/// All photos at an address, to train or evaluate on.
///
/// # Errors
/// As [`share`].
pub fn folder(address: &Path, classes_are_folders: bool) -> Result<ImageFolder, CloudError> {
    let store = Store::open(address, Limits::default())?;
    let folder = cache(&store.address(""), "objects")?;
    let wish = Wish { labelled: true, classes_are_folders };
    match store.find(address, wish, Shard::WHOLE, &folder)? {
        Found::Archives(files) => Ok(ImageFolder::from_archive_files(address, &files)?),
        Found::Share(Share { classes, photos, skipped, .. }) => {
            let samples = photos.into_iter().map(|photo| photo.sample).collect();
            let all = ImageFolder::from_samples(address, classes, samples, false)?;
            Ok(all.with_skipped(skipped))
        }
    }
}

/// What is at an address.
enum Found {
    Share(Share),
    /// Downloaded.
    Archives(Vec<PathBuf>),
}

impl Store {
    fn find(
        self: &Arc<Self>,
        address: &Path,
        wish: Wish,
        shard: Shard,
        folder: &Path,
    ) -> Result<Found, CloudError> {
        let parsed = Address::parse(address)?;
        let (key, can_list) = (parsed.key, parsed.can_list());
        let text = address.to_string_lossy();
        if address.extension().is_some_and(|end| end == "csv" || end == "jsonl") {
            let reason = "lists of photos are read on this machine only: name the folder of the photos, with one folder for each class";
            return Err(CloudError::address(&text, reason));
        }
        if is_archive(address) {
            let objects = self.archives(key, can_list)?;
            let files = objects.iter().map(|object| self.local(object, folder));
            return Ok(Found::Archives(files.collect::<Result<_, CloudError>>()?));
        }
        if !can_list {
            let reason = "nothing lists the files of such an address: name a tar (.tar, .tar.gz) or a Parquet file";
            return Err(CloudError::address(&text, reason));
        }
        self.photos(&text, key, wish, shard, folder)
    }

    /// The objects that the name of an archive means, which may be a pattern.
    fn archives(&self, key: &str, can_list: bool) -> Result<Vec<ObjectMeta>, CloudError> {
        let Some(pattern) = key.find(['{', '*']) else {
            return Ok(vec![self.head(key)?]);
        };
        let wrong = |reason: &str| CloudError::address(&self.address(key), reason);
        if !can_list {
            return Err(wrong("patterns are for addresses that can be listed; name one file"));
        }
        let above = key[..pattern].rsplit_once('/').map_or("", |(above, _)| above);
        let mut all = Vec::new();
        self.list(above, |object| all.push(object))?;
        let names: Vec<&str> = all.iter().map(|object| object.location.as_ref()).collect();
        let found = find_among(key, &names).map_err(|reason| wrong(&reason))?;
        Ok(found.into_iter().filter_map(|number| all.get(number).cloned()).collect())
    }

    fn photos(
        self: &Arc<Self>,
        address: &str,
        key: &str,
        Wish { labelled, classes_are_folders }: Wish,
        shard: Shard,
        folder: &Path,
    ) -> Result<Found, CloudError> {
        let from: Arc<dyn Remote> = self.clone();
        let (mut classes, mut found, mut skipped) = (BTreeSet::new(), Vec::new(), Vec::new());
        let (mut archives, mut has_folders, mut count) = (Vec::new(), false, 0_usize);
        let prefix = self.key(key)?;
        self.list(key, |object| {
            let Some(parts) = object.location.prefix_match(&prefix) else { return };
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            let name = parts.last().map(String::as_str).unwrap_or_default();
            // Consoles make an empty object for a folder.
            if name.is_empty() || object.size == 0 && !name.contains('.') {
                return;
            }
            count += 1;
            has_folders |= parts.len() > 1;
            let path: PathBuf = parts.iter().collect();
            if parts.len() == 1 && is_archive(&path) {
                archives.push(object);
                return;
            }
            let is_hidden = parts.iter().any(|part| part.starts_with('.'));
            if let (true, [class, _, ..], false) = (labelled, parts.as_slice(), is_hidden) {
                classes.insert(class.clone());
            }
            if !shard.has(&path) {
                return;
            }
            let reason = match (parts.as_slice(), object.size) {
                _ if is_hidden => "a name that begins with a dot, which hides it",
                (_, 0) => "the file is empty",
                (_, size) if size > MAX_FILE_BYTES => "the photo is over 512 MiB",
                ([_], _) if labelled => "not in a class folder",
                _ => {
                    let place = Elsewhere {
                        from: from.clone(),
                        key: object.location.to_string(),
                        length: object.size,
                        version: object.e_tag,
                    };
                    found.push((path, place));
                    return;
                }
            };
            skipped.push(Skipped { path, reason: reason.to_owned() });
        })?;
        let wrong = |reason: String| Err(CloudError::address(address, reason));
        if count == 0 {
            return wrong("nothing is there".into());
        }
        if !archives.is_empty() && !has_folders {
            archives.sort_by(|a, b| a.location.cmp(&b.location));
            let names: Vec<&str> = archives.iter().map(|object| object.location.as_ref()).collect();
            if let Err(reason) = find_among(&format!("{key}/"), &names) {
                return wrong(reason);
            }
            let files = archives.iter().map(|object| self.local(object, folder));
            return Ok(Found::Archives(files.collect::<Result<_, CloudError>>()?));
        }
        let beside = "an archive beside folders of photos, which are what is used";
        let names = archives.iter().filter_map(|object| object.location.filename());
        let own = names.map(PathBuf::from).filter(|path| shard.has(path));
        skipped.extend(own.map(|path| Skipped { path, reason: beside.to_owned() }));
        let parts = classes.iter().filter(|name| is_part(name));
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        if !classes_are_folders && parts.len() > 1 {
            return wrong(format!(
                "it looks split already ({}): name one of its parts, as {address}/{}, or take every folder as a class (--classes-are-folders)",
                parts.join(", "),
                parts.last().copied().unwrap_or_default()
            ));
        }
        if labelled && classes.len() < 2 {
            let found = classes.len();
            return wrong(format!("{found} folders of classes; a classifier needs at least two"));
        }
        let classes: Vec<String> = classes.into_iter().collect();
        let listed = |(path, place): (PathBuf, Elsewhere)| {
            let class = path.components().next().map(|part| part.as_os_str().to_string_lossy());
            // They are sorted.
            let label = class
                .and_then(|class| classes.binary_search_by(|name| name.as_str().cmp(&class)).ok());
            let sample = Sample {
                path: self.address(&place.key).into(),
                labels: label.into_iter().collect(),
                place: Place::Elsewhere(place),
            };
            Listed { sample, path, position: None, is_valid: false }
        };
        let mut photos: Vec<Listed> = found.into_iter().map(listed).collect();
        // As those of a folder.
        photos.sort_by(|a, b| (a.sample.class(), &a.path).cmp(&(b.sample.class(), &b.path)));
        let (multi_label, has_valid, notes) = (false, false, Vec::new());
        Ok(Found::Share(Share { classes, multi_label, has_valid, photos, skipped, notes }))
    }
}

impl Remote for Store {
    fn read(&self, photos: &[&Elsewhere]) -> Vec<Result<Vec<u8>, VisionError>> {
        let one = |photo: &Elsewhere, error: Error| {
            let address = self.address(&photo.key);
            let reason = match &error {
                Error::NotFound { .. } => "it was there when photos were listed, and is gone",
                Error::Precondition { .. } => "it changed since photos were listed",
                _ => {
                    let told = CloudError::store(&address, error);
                    return elsewhere(address, told);
                }
            };
            VisionError::Image { path: address.into(), reason: reason.to_owned() }
        };
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                let reason = error.to_string();
                let failed = |photo: &&Elsewhere| {
                    Err(elsewhere(self.address(&photo.key), CloudError::address("", &reason)))
                };
                return photos.iter().map(failed).collect();
            }
        };
        runtime.block_on(async {
            let files = stream::iter(photos.iter().copied()).map(async |photo: &Elsewhere| {
                let file = self.bytes(&photo.key, photo.length, photo.version.as_deref()).await;
                file.map_err(|error| one(photo, error))
            });
            files.buffered(self.limits.parallel.max(1)).collect().await
        })
    }
}

/// What ends a run.
fn elsewhere(address: String, error: CloudError) -> VisionError {
    let (reason, source): (String, Box<dyn std::error::Error + Send + Sync>) = match error {
        CloudError::Store { reason, source, .. } => (reason, Box::new(source)),
        other => (other.to_string(), Box::new(other)),
    };
    VisionError::Elsewhere { address, reason, source }
}

#[cfg(test)]
mod tests;
