//! Where what can be made or downloaded again is kept.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// An environment variable that is set to something.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of downloaded weights and objects, of unpacked photos and of what is compiled for GPUs: `REKINDLE_CACHE`, or
/// `rekindle` in the user's folder of caches; nothing where that is not known.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    let folder = if cfg!(windows) {
        variable("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_vendor = "apple") {
        std::env::home_dir().map(|home| home.join("Library/Caches"))
    } else {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
    };
    let cache = variable("REKINDLE_CACHE").map(PathBuf::from);
    cache.or_else(|| folder.map(|folder| folder.join("rekindle")))
}

/// A file that is made of another one: its place among the caches, and how it is made.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The folder of all that are made in this way.
    pub folder: &'a Path,
    /// What tells the other file from all others: a name for a folder.
    pub name: &'a str,
    /// What changes when that file does: a name for a folder.
    pub state: &'a str,
    /// What the file is called.
    pub file: &'a str,
}

impl Kept<'_> {
    /// The file, which `fill` writes where it is not there yet: by one process at a time, and there whole or not at all. What
    /// was made of an earlier state is deleted.
    ///
    /// # Errors
    /// Those of `fill`, and what `io` makes of files that cannot be written.
    pub fn get<E>(
        self,
        fill: impl FnOnce(&Path) -> Result<(), E>,
        io: impl Fn(&Path, io::Error) -> E,
    ) -> Result<PathBuf, E> {
        let own = self.folder.join(self.name);
        let place = own.join(self.state);
        let path = place.join(self.file);
        if path.is_file() {
            return Ok(path);
        }
        fs::create_dir_all(&own).map_err(|error| io(&own, error))?;
        let (lock, part) = (own.join("lock"), own.join("part"));
        let locked = File::options().create(true).append(true).open(&lock);
        // The system lets go of it where the process ends.
        let locked = locked.and_then(|file| file.lock().map(|()| file));
        let _lock = locked.map_err(|error| io(&lock, error))?;
        if path.is_file() {
            return Ok(path);
        }
        let made = fill(&part).and_then(|()| {
            let synced = File::options().write(true).open(&part).and_then(|file| file.sync_all());
            let placed = synced.and_then(|()| fs::create_dir_all(&place));
            let moved = placed.and_then(|()| fs::rename(&part, &path));
            moved.map_err(|error| io(&path, error))
        });
        if made.is_err() {
            // What is left of it takes space, and is written over by the next attempt.
            let _ = fs::remove_file(&part);
        }
        made?;
        forget(&own, &place);
        Ok(path)
    }
}

/// Deletes all folders of a folder but one.
fn forget(folder: &Path, but: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() && path != but {
            // Another process may be reading it, which some systems refuse.
            let _ = fs::remove_dir_all(path);
        }
    }
}
