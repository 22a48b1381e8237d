//! Objects that are read as files: downloaded once into the cache.

use std::path::{Path, PathBuf};

use object_store::ObjectMeta;
use rekindle_pixels::{Kept, cache_folder};
use rekindle_vision::short_hash;

use crate::address::Address;
use crate::{CloudError, Limits, Store};

/// A folder of the cache.
pub(crate) fn cache(address: &str, name: &str) -> Result<PathBuf, CloudError> {
    let folder = cache_folder().map(|cache| cache.join(name));
    let reason = "no folder is known that it can be kept in: set REKINDLE_CACHE to one";
    folder.ok_or_else(|| CloudError::address(address, reason))
}

/// An object's file on this machine: downloaded where this version of it is not there yet.
///
/// ```no_run
/// let model = rekindle_cloud::local("s3://models/pets.rekindle".as_ref())?;
/// # Ok::<(), rekindle_cloud::CloudError>(())
/// ```
///
/// # Errors
/// When there is none, or it cannot be read or written.
pub fn local(address: &Path) -> Result<PathBuf, CloudError> {
    let key = Address::parse(address)?.key;
    let store = Store::open(address, Limits::default())?;
    let folder = cache(&store.address(key), "objects")?;
    store.local(&store.head(key)?, &folder)
}

impl Store {
    /// The same of an object that was listed.
    pub(crate) fn local(&self, object: &ObjectMeta, folder: &Path) -> Result<PathBuf, CloudError> {
        let address = self.address(object.location.as_ref());
        let name = object.location.filename();
        let name = name.ok_or_else(|| CloudError::address(&address, "no name of a file"))?;
        let tag = object.e_tag.as_deref().unwrap_or_default();
        let state = format!("{tag} {} {}", object.size, object.last_modified.timestamp_millis());
        let kept = Kept {
            folder,
            name: &short_hash(address.as_bytes()),
            state: &short_hash(state.as_bytes()),
            file: name,
        };
        kept.get(|part| self.download(object, part), |path, error| CloudError::io(path)(error))
    }
}
