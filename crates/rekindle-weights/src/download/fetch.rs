use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::http::Address;
use super::{Downloader, Published, beside, http};
use crate::{WeightsError, write_atomic};

/// How long another process is waited for.
const PATIENCE: Duration = Duration::from_secs(1800);

/// A file that is to be on the disk.
pub(super) struct Wanted<'a> {
    /// Where it is to be.
    pub path: &'a Path,
    /// Where it is.
    pub url: &'a str,
    /// For the server there.
    pub token: Option<&'a str>,
    /// Its checksum, where that is known: 64 digits are a SHA-256, others an MD5.
    pub hash: Option<&'a str>,
}

impl Wanted<'_> {
    fn problem(&self, reason: String) -> WeightsError {
        let by_hand = format!("put the file at {}", self.path.display());
        WeightsError::Download { url: self.url.to_owned(), reason, by_hand }
    }
}

impl Downloader {
    /// The file on the disk, downloaded if it is not there yet.
    ///
    /// # Errors
    /// When it is not there and cannot be downloaded.
    pub fn fetch(&self, published: &Published) -> Result<PathBuf, WeightsError> {
        if let Some(path) = self.in_keras_folder(published) {
            return Ok(path);
        }
        let Some(cache) = &self.cache else {
            return Err(self.problem(published, "no folder for downloads is known".into()));
        };
        let (path, url) = (cache.join(&published.file), self.url(published));
        self.wanted(&Wanted { path: &path, url: &url, token: None, hash: published.hash })?;
        Ok(path)
    }

    /// Downloads a file if it is not there yet.
    pub(super) fn wanted(&self, wanted: &Wanted<'_>) -> Result<(), WeightsError> {
        let path = wanted.path;
        if self.is_good(wanted)? {
            return Ok(());
        }
        if self.offline {
            return Err(wanted.problem("downloads are turned off".into()));
        }
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(|error| WeightsError::io(folder, error))?;
        // Held until this function ends, by the system if the process does.
        let _lock = self.lock(wanted)?;
        if self.is_good(wanted)? {
            return Ok(());
        }
        let part = beside(path, ".part");
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let address = Address { url: wanted.url, token: wanted.token };
        http::download(self, address, &part, &name).map_err(|reason| wanted.problem(reason))?;
        let sha256 = digest::<Sha256>(&part).map_err(|error| WeightsError::io(&part, error))?;
        if let Some(expected) = wanted.hash {
            let found = hash_as(expected, &part).map_err(|error| WeightsError::io(&part, error))?;
            if found != expected {
                // Nothing of it can be trusted.
                let _ = std::fs::remove_file(&part);
                let reason = format!("the file's checksum is {found}, expected {expected}");
                return Err(wanted.problem(reason));
            }
        }
        // The checksum first: a file without one would be taken for a user's own.
        let recorded = beside(path, ".sha256");
        write_atomic(&recorded, |temporary| {
            std::fs::write(temporary, &sha256).map_err(|error| WeightsError::io(temporary, error))
        })?;
        File::open(&part)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(|error| WeightsError::io(path, error))?;
        #[cfg(unix)]
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| WeightsError::io(folder, error))?;
        Ok(())
    }

    fn in_keras_folder(&self, published: &Published) -> Option<PathBuf> {
        let path = self.keras.as_ref()?.join(&published.file);
        if !path.is_file() {
            return None;
        }
        match published.hash {
            None => Some(path),
            Some(expected) if hash_as(expected, &path).is_ok_and(|found| found == expected) => {
                Some(path)
            }
            Some(_) => {
                tracing::warn!("{}: not what Keras published; it is left alone", path.display());
                None
            }
        }
    }

    /// Whether the file is there, and as it was when it was downloaded. One that a user has put there has no
    /// checksum of its own yet.
    pub(super) fn is_good(&self, wanted: &Wanted<'_>) -> Result<bool, WeightsError> {
        let path = wanted.path;
        if !path.is_file() {
            return Ok(false);
        }
        let io = |error| WeightsError::io(path, error);
        let (found, expected) = match std::fs::read_to_string(beside(path, ".sha256")) {
            Ok(recorded) => (digest::<Sha256>(path).map_err(io)?, recorded.trim().to_owned()),
            Err(_) => match wanted.hash {
                Some(expected) => (hash_as(expected, path).map_err(io)?, expected.to_owned()),
                None => return Ok(true),
            },
        };
        if found == expected {
            return Ok(true);
        }
        Err(WeightsError::format(
            path,
            format!(
                "its checksum is {found}, expected {expected}: it was altered; delete it, and it is downloaded again"
            ),
        ))
    }

    /// Waits until no other process downloads this file.
    fn lock(&self, wanted: &Wanted<'_>) -> Result<File, WeightsError> {
        let lock = beside(wanted.path, ".lock");
        let io = |error| WeightsError::io(&lock, error);
        let file = File::options().create(true).append(true).open(&lock).map_err(io)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
                Err(std::fs::TryLockError::WouldBlock) if start.elapsed() > PATIENCE => {
                    let reason =
                        format!("another process has held {} for too long", lock.display());
                    return Err(wanted.problem(reason));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// A file's checksum of the kind that `expected` is: 64 digits are a SHA-256, others an MD5.
fn hash_as(expected: &str, path: &Path) -> std::io::Result<String> {
    if expected.len() == 64 { digest::<Sha256>(path) } else { digest::<Md5>(path) }
}

/// A file's checksum, in hexadecimal.
pub(super) fn digest<D: Digest>(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (D::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}
