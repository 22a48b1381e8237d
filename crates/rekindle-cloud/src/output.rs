//! What is written on this machine first, and then put where it belongs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rekindle_vision::short_hash;

use crate::address::Address;
use crate::files::cache;
use crate::{CloudError, Limits, Store};

/// A file, or the files of a folder, at an address: what is there is fetched, a run writes on this machine, and [`put`](Self::put)
/// puts it back. Parts of a run that was stopped are kept on this machine.
#[derive(Debug)]
pub struct Output {
    store: Arc<Store>,
    folder: PathBuf,
    /// What the objects' keys begin with: a folder and a slash, or nothing.
    above: String,
    path: PathBuf,
}

impl Output {
    /// A file that a run writes; what begins with its name is fetched, where it is there.
    ///
    /// # Errors
    /// When nothing can be written there, or what is there cannot be read.
    pub fn file(address: &Path) -> Result<Self, CloudError> {
        let key = Address::parse(address)?.key;
        let (above, name) = key.rsplit_once('/').unwrap_or(("", key));
        if name.is_empty() {
            let reason = "the name of a file is missing";
            return Err(CloudError::address(&address.to_string_lossy(), reason));
        }
        let output = Self::at(address, above, name)?;
        Ok(Self { path: output.folder.join(name), ..output })
    }

    /// A folder in which a run writes files whose names begin with `begin`; those that are there are fetched.
    ///
    /// # Errors
    /// As [`Output::file`].
    pub fn folder(address: &Path, begin: &str) -> Result<Self, CloudError> {
        Self::at(address, Address::parse(address)?.key, begin)
    }

    fn at(address: &Path, above: &str, begin: &str) -> Result<Self, CloudError> {
        let text = address.to_string_lossy();
        if !Address::parse(address)?.can_list() {
            return Err(CloudError::address(&text, "outputs go to s3://, gs:// or az://"));
        }
        let store = Store::open(address, Limits::default())?;
        let folder = cache(&text, "outputs")?.join(short_hash(store.address(above).as_bytes()));
        store.output(&folder, above, begin)
    }

    /// Where a run writes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file of this folder where it belongs, whole or not at all; says where that is.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn put(&self, name: &str) -> Result<String, CloudError> {
        let key = format!("{}{name}", self.above);
        self.store.upload(&self.folder.join(name), &key)?;
        Ok(self.store.address(&key))
    }
}

impl Store {
    pub(crate) fn output(
        self: Arc<Self>,
        folder: &Path,
        above: &str,
        begin: &str,
    ) -> Result<Output, CloudError> {
        let io = CloudError::io(folder);
        fs::create_dir_all(folder).map_err(&io)?;
        let mut there = Vec::new();
        let prefix = self.key(above)?;
        self.list(above, |object| {
            let name = object
                .location
                .prefix_match(&prefix)
                .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<String>>());
            if let Some([name]) = name.as_deref()
                && name.starts_with(begin)
            {
                there.push((name.clone(), object));
            }
        })?;
        // What is not there any more is not written either.
        for entry in fs::read_dir(folder).map_err(&io)? {
            let entry = entry.map_err(&io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_there = there.iter().any(|(known, _)| *known == name);
            if name.starts_with(begin) && !is_there && entry.path().is_file() {
                fs::remove_file(entry.path()).map_err(CloudError::io(&entry.path()))?;
            }
        }
        for (name, object) in &there {
            let path = folder.join(name);
            // Another process may be fetching it, too.
            let part = folder.join(format!(".{name}.{}.download", std::process::id()));
            let fetched = self
                .download(object, &part)
                .and_then(|()| fs::rename(&part, &path).map_err(CloudError::io(&path)));
            if fetched.is_err() {
                let _ = fs::remove_file(&part);
            }
            fetched?;
        }
        let above = if above.is_empty() { String::new() } else { format!("{above}/") };
        Ok(Output { store: self, path: folder.to_owned(), folder: folder.to_owned(), above })
    }
}
