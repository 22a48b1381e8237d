//! Addresses of objects, as `s3://BUCKET/KEY`, in the place of paths.

use std::path::{Path, PathBuf};

use rekindle::vision::{ImageFolder, Shard, Share};

use crate::Outcome;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Whether a path is the address of something that is not on this machine.
pub fn is_address(path: &Path) -> bool {
    path.to_string_lossy().contains("://")
}

/// The photos at an address, to train or evaluate on.
pub fn photos(address: &Path, classes_are_folders: bool) -> Result<ImageFolder> {
    #[cfg(feature = "cloud")]
    return Ok(rekindle::cloud::folder(address, classes_are_folders)?);
    #[cfg(not(feature = "cloud"))]
    return absent(address, classes_are_folders);
}

/// A shard of the photos at an address.
pub fn share(
    address: &Path,
    labelled: bool,
    classes_are_folders: bool,
    shard: Shard,
) -> Result<Share> {
    #[cfg(feature = "cloud")]
    return Ok(rekindle::cloud::share(address, labelled, classes_are_folders, shard)?);
    #[cfg(not(feature = "cloud"))]
    return absent(address, (labelled, classes_are_folders, shard));
}

/// A file on this machine: the one that a path names, or that an object is downloaded into.
pub fn local(path: &Path) -> Result<PathBuf> {
    if !is_address(path) {
        return Ok(path.to_owned());
    }
    #[cfg(feature = "cloud")]
    return Ok(rekindle::cloud::local(path)?);
    #[cfg(not(feature = "cloud"))]
    return absent(path, ());
}

/// Refuses addresses where a path has to be on this machine.
pub fn refuse(paths: &[&Option<PathBuf>]) -> Outcome {
    match paths.iter().copied().flatten().find(|path| is_address(path)) {
        Some(address) => {
            let address = address.display();
            Err(format!("{address}: this has to be a path on this machine, not an address").into())
        }
        None => Ok(()),
    }
}

#[cfg(not(feature = "cloud"))]
fn absent<T, U>(address: &Path, _: U) -> Result<T> {
    let address = address.display();
    Err(format!(
        "{address}: this program was built without object stores; build it with the feature `cloud`"
    )
    .into())
}

/// Where a command writes: on this machine, from where it may be put elsewhere.
pub struct Out {
    path: PathBuf,
    #[cfg(feature = "cloud")]
    elsewhere: Option<rekindle::cloud::Output>,
}

impl Out {
    /// A file.
    pub fn file(path: &Path) -> Result<Self> {
        #[cfg(feature = "cloud")]
        if is_address(path) {
            return Ok(Self::of(rekindle::cloud::Output::file(path)?));
        }
        Self::here(path)
    }

    /// A folder of files whose names begin with `begin`; those that are elsewhere are fetched.
    #[cfg_attr(not(feature = "cloud"), expect(unused_variables, reason = "nothing is elsewhere"))]
    pub fn folder(path: &Path, begin: &str) -> Result<Self> {
        #[cfg(feature = "cloud")]
        if is_address(path) {
            return Ok(Self::of(rekindle::cloud::Output::folder(path, begin)?));
        }
        Self::here(path)
    }

    #[cfg(feature = "cloud")]
    fn of(output: rekindle::cloud::Output) -> Self {
        Self { path: output.path().to_owned(), elsewhere: Some(output) }
    }

    fn here(path: &Path) -> Result<Self> {
        #[cfg(not(feature = "cloud"))]
        if is_address(path) {
            return absent(path, ());
        }
        Ok(Self {
            path: path.to_owned(),
            #[cfg(feature = "cloud")]
            elsewhere: None,
        })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file that was written where it belongs, where that is not here.
    #[cfg_attr(not(feature = "cloud"), expect(unused_variables, reason = "nothing is elsewhere"))]
    pub fn put(&self, file: &Path) -> Outcome {
        #[cfg(feature = "cloud")]
        if let (Some(output), Some(name)) = (&self.elsewhere, file.file_name()) {
            let put = output.put(&name.to_string_lossy()).inspect_err(|_| {
                eprintln!(
                    "note: what could not be put is {}; copy it, since the next run that writes to this address removes it",
                    file.display()
                );
            });
            eprintln!("put {}", put?);
        }
        Ok(())
    }
}
