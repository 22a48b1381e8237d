//! Files that hold many photos each: WebDataset's tars, plain or with gzip, and Parquet as Hugging Face's hub has it.
//!
//! Photos of a tar are read where they lie. Of the others no photo can be read without much of what is before it, so they are
//! unpacked into tars in the cache.

#[cfg(not(feature = "parquet"))]
#[path = "absent.rs"]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet;
mod tars;
mod unpacked;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::VisionError;

pub(crate) use tars::{Tars, range};
pub use unpacked::short_hash;

/// What a file is, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tar,
    Gzip,
    Parquet,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy();
        let ends = |ending: &str| name.ends_with(ending);
        match () {
            () if ends(".tar") => Some(Self::Tar),
            () if ends(".tar.gz") || ends(".tgz") => Some(Self::Gzip),
            () if ends(".parquet") => Some(Self::Parquet),
            () => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tar => "tars",
            Self::Gzip => "compressed tars",
            Self::Parquet => "Parquet files",
        }
    }
}

/// Whether a path means a file, or with a pattern several files, that hold many photos each: its name ends with `.tar`,
/// `.tar.gz`, `.tgz` or `.parquet`.
#[must_use]
pub fn is_archive(path: &Path) -> bool {
    Kind::of(path).is_some()
}

/// The files that a path means, sorted: itself, those of a folder of nothing else, or those of a pattern as
/// `data/{000..099}.tar` or `data/train-*.parquet`; none, where it means something else.
///
/// # Errors
/// When one of a pattern is not there, or files do not belong together.
pub(crate) fn find(path: &Path) -> Result<Option<Vec<PathBuf>>, VisionError> {
    let is_there = |path: &Path| is_archive(path) && path.is_file();
    if is_there(path) {
        return Ok(Some(vec![path.to_owned()]));
    }
    let names = if path.exists() { None } else { expand(&path.to_string_lossy()) };
    if let Some(names) = names {
        let all: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        let Some(first) = all.iter().find(|path| !is_there(path)) else {
            return of_one_kind(path, all).map(Some);
        };
        let reason = match is_archive(first) {
            true => "there is no such file",
            false => "no name of a tar (.tar, .tar.gz, .tgz) or of a Parquet file (.parquet)",
        };
        return Err(VisionError::folder(first, reason));
    }
    let star = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('*'));
    if let (Some(pattern), true, false) = (star, is_archive(path), path.exists()) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let (all, _) = files(folder.unwrap_or(Path::new(".")))?;
        let fits = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| matches(pattern, &name))
        };
        let all: Vec<PathBuf> =
            all.into_iter().filter(|path| is_there(path)).filter(fits).collect();
        return match all.is_empty() {
            true => Err(VisionError::folder(path, "no file is called so")),
            false => of_one_kind(path, all).map(Some),
        };
    }
    if !path.is_dir() {
        return match is_archive(path) {
            true => Err(VisionError::folder(path, "there is no such file")),
            false => Ok(None),
        };
    }
    let (all, has_folders) = files(path)?;
    let (all, others): (Vec<PathBuf>, Vec<PathBuf>) =
        all.into_iter().partition(|path| is_there(path));
    if has_folders || all.is_empty() {
        return Ok(None);
    }
    if let Some(photo) = others.iter().find(|path| tars::has_photo_s_ending(path)) {
        let name = photo.file_name().unwrap_or_default().to_string_lossy();
        let reason = format!(
            "{} and photos (`{name}`) are side by side: move the photos away, or name the files that are meant, as `*.tar`",
            Kind::of(&all[0]).map_or("archives", Kind::name)
        );
        return Err(VisionError::folder(path, reason));
    }
    let all = of_one_kind(path, all)?;
    splits(path, &all)?;
    Ok(Some(all))
}

/// Which of some names in an object store a pattern means, as those of files do; of one that ends with `/`, whether all
/// of them belong together.
///
/// # Errors
/// What is wrong with the pattern or the names.
pub fn find_among(pattern: &str, names: &[&str]) -> Result<Vec<usize>, String> {
    let found: Vec<usize> = match expand(pattern) {
        _ if pattern.ends_with('/') => (0..names.len()).collect(),
        Some(wanted) => {
            let places: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
            let place = |name: &String| {
                let place = places.get(name.as_str()).copied();
                place.ok_or_else(|| format!("`{name}` is not there"))
            };
            wanted.iter().map(place).collect::<Result<_, String>>()?
        }
        // A star stands for no slash.
        None => {
            let depth = |name: &str| name.matches('/').count();
            let fits = |name: &str| depth(name) == depth(pattern) && matches(pattern, name);
            (0..names.len()).filter(|&number| fits(names[number])).collect()
        }
    };
    let paths: Vec<PathBuf> =
        found.iter().filter_map(|&number| names.get(number)).map(PathBuf::from).collect();
    let told = |error: VisionError| match error {
        VisionError::Folder { reason, .. } => reason,
        other => other.to_string(),
    };
    if paths.is_empty() {
        return Err("nothing is called so".into());
    }
    let path = Path::new(pattern);
    let paths = of_one_kind(path, paths).map_err(told)?;
    if pattern.ends_with('/') {
        splits(path, &paths).map_err(told)?;
    }
    Ok(found)
}

/// The files in a folder, sorted, and whether there are folders in it.
fn files(folder: &Path) -> Result<(Vec<PathBuf>, bool), VisionError> {
    let io = |error| VisionError::io(folder, error);
    let (mut all, mut has_folders) = (Vec::new(), false);
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        match path.is_dir() {
            true => has_folders = true,
            false => all.push(path),
        }
    }
    all.sort();
    Ok((all, has_folders))
}

/// The same photos are often there twice, in two kinds of files.
fn of_one_kind(path: &Path, all: Vec<PathBuf>) -> Result<Vec<PathBuf>, VisionError> {
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in all.iter().filter_map(|path| Kind::of(path)) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    match kinds.as_slice() {
        [one, other, ..] => {
            let reason = format!(
                "{} and {} are side by side, and may be the same photos: name those that are meant, as `*.tar` or `{{000..099}}.tar.gz`",
                one.name(),
                other.name()
            );
            Err(VisionError::folder(path, reason))
        }
        _ => Ok(all),
    }
}

/// The hub has all parts of a data set in one folder: `train-00000-of-00002.parquet` beside `test-00000-of-00001.parquet`.
fn splits(path: &Path, all: &[PathBuf]) -> Result<(), VisionError> {
    let part = |path: &PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let (part, rest) = name.split_once('-')?;
        (Kind::of(path) == Some(Kind::Parquet) && rest.contains("-of-")).then(|| part.to_owned())
    };
    let mut parts: Vec<String> = all.iter().filter_map(part).collect();
    parts.dedup();
    match parts.as_slice() {
        [one, _, ..] => {
            let reason = format!(
                "several parts of a data set ({}): name the files of one, as `{}`",
                parts.join(", "),
                path.join(format!("{one}-*.parquet")).display()
            );
            Err(VisionError::folder(path, reason))
        }
        _ => Ok(()),
    }
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

/// Whether a name is what a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => name.strip_prefix(before).is_some_and(|name| {
            let places = name.char_indices().map(|(place, _)| place).chain([name.len()]);
            places.into_iter().any(|place| matches(rest, &name[place..]))
        }),
    }
}

#[cfg(test)]
mod tests;
