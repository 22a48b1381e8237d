//! What is in a folder: by content, through links, and with a reason for everything that is not used.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Sample, Skipped};
use crate::VisionError;
use crate::decode::Kind;

/// As much of a file as tells what it is; of a TIFF, which may be a RAW photo, `HEAD`.
const START: u64 = 1 << 12;
const HEAD: u64 = 1 << 16;

/// What systems and programs leave in folders; in lower case. What begins with a dot is besides.
const JUNK: [&str; 11] = [
    ".ds_store",
    "desktop.ini",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "icon\r",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
];

/// A folder's classes, with their photos and all that is not one.
pub(super) struct Scan {
    pub classes: Vec<String>,
    pub samples: Vec<Sample>,
    pub skipped: Vec<Skipped>,
}

/// The folders of `root` as classes, in the order of their names.
pub(super) fn scan(root: &Path) -> Result<Scan, VisionError> {
    scan_for(root, None)
}

/// The same, where only the files are looked into and taken that `own` says are. A class may then have none.
pub(super) fn scan_for(root: &Path, own: Option<&Own<'_>>) -> Result<Scan, VisionError> {
    let mut walk = Walk::new(root, own)?;
    let mut links = Vec::new();
    for Entry { name, path, what } in entries(root).map_err(|error| VisionError::io(root, error))? {
        match what {
            What::Folder => {
                let real = walk.real(&path);
                walk.classes.push(Class {
                    name: class_name(root, &walk.classes, &name)?,
                    path,
                    real,
                });
            }
            What::LinkedFolder => links.push((name, path)),
            What::File => walk.skip(path, "not in a class folder"),
            What::Hidden => {}
            What::Unusable(reason) => walk.skip(path, reason),
        }
    }
    // Behind the folders themselves, since a link to one of them is no class of its own.
    for (name, path) in links {
        let real = walk.real(&path);
        match walk.objection(&real, None) {
            Some(reason) => walk.skip(path, reason),
            None => {
                let name = class_name(root, &walk.classes, &name)?;
                walk.classes.push(Class { name, path, real });
            }
        }
    }
    walk.classes.sort_by(|a, b| a.name.cmp(&b.name));
    for class in 0..walk.classes.len() {
        let Class { path, real, .. } = walk.classes[class].clone();
        let (samples, skipped) = (walk.samples.len(), walk.skipped.len());
        walk.has_others = false;
        walk.enter(&path, real, class);
        if walk.samples.len() == samples && !walk.has_others {
            let files = Skipped::summary(&walk.skipped[skipped..]);
            let files = files.map_or(String::new(), |files| format!(" ({files})"));
            let reason = format!(
                "no photos (JPEG, PNG, WebP, BMP, GIF, TIFF) in this class; remove the folder or fill it{files}"
            );
            return Err(VisionError::folder(&path, reason));
        }
    }
    let classes = walk.classes.into_iter().map(|class| class.name).collect();
    Ok(Scan { classes, samples: walk.samples, skipped: walk.skipped })
}

/// All photos below a folder, sorted by path, whatever folders they are in; and what is none.
///
/// # Errors
/// When the folder cannot be read.
pub fn list_photos(root: impl AsRef<Path>) -> Result<(Vec<PathBuf>, Vec<Skipped>), VisionError> {
    list_for(root.as_ref(), None)
}

pub(super) fn list_for(
    root: &Path,
    own: Option<&Own<'_>>,
) -> Result<(Vec<PathBuf>, Vec<Skipped>), VisionError> {
    fs::read_dir(root).map_err(|error| VisionError::io(root, error))?;
    let mut walk = Walk::new(root, own)?;
    let real = walk.root.clone();
    walk.enter(root, real, 0);
    Ok((walk.samples.into_iter().map(|sample| sample.path).collect(), walk.skipped))
}

#[derive(Clone)]
struct Class {
    name: String,
    path: PathBuf,
    /// Where it is without links.
    real: PathBuf,
}

/// The folder's name; bytes that are not UTF-8 become U+FFFD.
fn class_name(root: &Path, classes: &[Class], name: &OsStr) -> Result<String, VisionError> {
    let name = name.to_string_lossy().into_owned();
    // Others differ as the folders do.
    match name.contains('\u{FFFD}') && classes.iter().any(|class| class.name == name) {
        false => Ok(name),
        true => {
            let reason = format!(
                "two folders would be the class `{name}`, since their names differ in bytes that are not UTF-8; rename one"
            );
            Err(VisionError::folder(root, reason))
        }
    }
}

/// Whether a file is one's own, where many share the work.
pub(super) type Own<'a> = dyn Fn(&Path) -> bool + 'a;

struct Walk<'a> {
    own: Option<&'a Own<'a>>,
    /// Whether the last class has files that are not one's own.
    has_others: bool,
    /// Where the root is without links.
    root: PathBuf,
    classes: Vec<Class>,
    /// Folders whose photos are taken, without links.
    seen: HashSet<PathBuf>,
    samples: Vec<Sample>,
    skipped: Vec<Skipped>,
}

impl<'a> Walk<'a> {
    fn new(root: &Path, own: Option<&'a Own<'a>>) -> Result<Self, VisionError> {
        let root = fs::canonicalize(root).map_err(|error| VisionError::io(root, error))?;
        let (classes, seen, has_others) = (Vec::new(), HashSet::new(), false);
        let (samples, skipped) = (Vec::new(), Vec::new());
        Ok(Self { own, has_others, root, classes, seen, samples, skipped })
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own.is_none_or(|own| own(path))
    }

    fn skip(&mut self, path: PathBuf, reason: impl Into<String>) {
        if !self.is_own(&path) {
            return;
        }
        self.skipped.push(Skipped { path, reason: reason.into() });
    }

    /// Without links, where that can be found out.
    fn real(&self, path: &Path) -> PathBuf {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }

    /// Why a link to this folder is not followed, within a class or as one.
    fn objection(&self, real: &Path, own: Option<usize>) -> Option<String> {
        let is_above = |folder: &Path| folder.starts_with(real);
        if is_above(&self.root)
            || own.and_then(|own| self.classes.get(own)).is_some_and(|class| is_above(&class.real))
        {
            return Some(format!(
                "a link that leads back to a folder that it is in: {}; following it would never end",
                real.display()
            ));
        }
        let others = self.classes.iter().enumerate().filter(|(number, _)| Some(*number) != own);
        let mut others = others.map(|(_, class)| class);
        let other = others.find(|c| real.starts_with(&c.real) || c.real.starts_with(real))?;
        Some(format!("a link to photos of another class: `{}`; they would be of both", other.name))
    }

    /// Takes all photos of a folder for a class.
    fn enter(&mut self, folder: &Path, real: PathBuf, class: usize) {
        if !self.seen.insert(real) {
            return self.skip(
                folder.to_owned(),
                "a folder that another link leads to as well: its photos are taken once",
            );
        }
        let entries = match entries(folder) {
            Ok(entries) => entries,
            Err(error) => {
                return self
                    .skip(folder.to_owned(), format!("a folder that cannot be read: {error}"));
            }
        };
        for Entry { path, what, .. } in entries {
            match what {
                What::Folder => {
                    let real = self.real(&path);
                    self.enter(&path, real, class);
                }
                What::LinkedFolder => {
                    let real = self.real(&path);
                    match self.objection(&real, Some(class)) {
                        Some(reason) => self.skip(path, reason),
                        None => self.enter(&path, real, class),
                    }
                }
                What::File | What::Hidden if !self.is_own(&path) => {
                    self.has_others |= matches!(what, What::File);
                }
                What::File => match refusal(&path) {
                    None => self.samples.push(Sample::file(path, class)),
                    Some(reason) => self.skip(path, reason),
                },
                // Programs' own files are nobody's photos; a photo may be missed.
                What::Hidden if refusal(&path).is_none() => {
                    self.skip(path, "a photo whose name begins with a dot, which hides it: rename it to have it used");
                }
                What::Hidden => {}
                What::Unusable(reason) => self.skip(path, reason),
            }
        }
    }
}

pub(super) struct Entry {
    pub name: OsString,
    pub path: PathBuf,
    pub what: What,
}

pub(super) enum What {
    Folder,
    LinkedFolder,
    File,
    /// A file whose name begins with a dot.
    Hidden,
    /// And why.
    Unusable(String),
}

/// What is in a folder, sorted by name, without what systems and programs leave there.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, path, kind) = (entry.file_name(), entry.path(), entry.file_type()?);
        let what = match kind.is_symlink() {
            true => linked(&path),
            false if kind.is_dir() => What::Folder,
            false if kind.is_file() => What::File,
            false => What::Unusable("neither a file nor a folder".into()),
        };
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let what = match what {
            _ if is_junk(&name) => continue,
            What::File if is_hidden => What::Hidden,
            _ if is_hidden => continue,
            what => what,
        };
        found.push(Entry { name, path, what });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn is_junk(name: &OsStr) -> bool {
    // macOS keeps what a file system has no place for in `._x` beside `x`.
    let is_fork = name.as_encoded_bytes().starts_with(b"._");
    is_fork || name.to_str().is_some_and(|name| JUNK.contains(&name.to_lowercase().as_str()))
}

/// What a link leads to.
fn linked(path: &Path) -> What {
    match fs::metadata(path) {
        Ok(target) if target.is_dir() => What::LinkedFolder,
        Ok(target) if target.is_file() => What::File,
        Ok(_) => What::Unusable("neither a file nor a folder".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let target = fs::read_link(path).unwrap_or_default();
            What::Unusable(format!("a broken link: {} is not there", target.display()))
        }
        Err(error) => What::Unusable(format!("a link that cannot be followed: {error}")),
    }
}

/// Why a file is no photo, by its content.
fn refusal(path: &Path) -> Option<String> {
    match start(path) {
        Ok(start) => Kind::of(&start).refusal(),
        Err(error) => Some(format!("the file cannot be read: {error}")),
    }
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let (mut file, mut bytes) = (File::open(path)?, Vec::new());
    file.by_ref().take(START).read_to_end(&mut bytes)?;
    // RAW photos are TIFFs whose directory may be anywhere.
    if bytes.starts_with(b"II") || bytes.starts_with(b"MM") {
        file.take(HEAD - START).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
