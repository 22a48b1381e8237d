//! Where what can be made or downloaded again is kept.

use std::ffi::OsString;
use std::path::PathBuf;

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of downloaded weights and of what is compiled for GPUs: `REKINDLE_CACHE`, or `rekindle` in the user's folder
/// of caches; nothing where that is not known.
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
