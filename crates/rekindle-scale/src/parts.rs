//! The results of a task that is not done yet: a folder beside its file, where each part is whole or not there.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::manifest::{Entry, Manifest};
use crate::{ScaleError, ShardFile, file};

/// What begins the name of a file that is still written.
const TEMPORARY: &str = "writing-";

/// The folder of a task's parts, which one process has at a time.
#[derive(Debug)]
pub(crate) struct Parts {
    folder: PathBuf,
    /// Held while this lives: the system lets go of it when the process ends, however it does.
    _lock: File,
    /// The number of the next part.
    next: usize,
}

impl Parts {
    /// Takes the folder of the file that is to be made, and what is there of its parts: those that are whole.
    pub fn take(target: &Path) -> Result<(Self, Vec<ShardFile>), ScaleError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let folder = target.with_file_name(format!(".{name}.parts"));
        let lock = lock(&folder)?;
        let mut files = Vec::new();
        let mut next = 0;
        for entry in fs::read_dir(&folder).map_err(ScaleError::io(&folder))? {
            let path = entry.map_err(ScaleError::io(&folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(TEMPORARY) {
                // Of a process that is gone, since this one has the lock.
                fs::remove_file(&path).map_err(ScaleError::io(&path))?;
                continue;
            }
            let Some(number) = number(&name) else { continue };
            next = next.max(number + 1);
            match ShardFile::open(&path) {
                Ok(mut file) => {
                    file.close();
                    files.push(file);
                }
                Err(ScaleError::File { reason, .. }) => {
                    // The system went down before it was on the disk.
                    tracing::warn!("{}: {reason}; its photos are computed again", path.display());
                    fs::remove_file(&path).map_err(ScaleError::io(&path))?;
                }
                Err(error) => return Err(error),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((Self { folder, _lock: lock, next }, files))
    }

    /// Where a file may be written that is renamed when it is whole.
    pub fn temporary(&self) -> PathBuf {
        self.folder.join(format!("{TEMPORARY}{}", std::process::id()))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the rows of some photos.
    pub fn add(
        &mut self,
        manifest: &Manifest,
        entries: &[Entry],
        rows: &[u8],
    ) -> Result<ShardFile, ScaleError> {
        let row_bytes = manifest.width() * manifest.element.bytes();
        let temporary = self.temporary();
        file::write(&temporary, manifest, entries, &[], |row, to| {
            to.extend_from_slice(&rows[row * row_bytes..(row + 1) * row_bytes]);
            Ok(())
        })?;
        let path = self.folder.join(format!("part-{:06}.safetensors", self.next));
        self.next += 1;
        fs::rename(&temporary, &path).map_err(ScaleError::io(&path))?;
        ShardFile::open(&path)
    }

    /// Puts a file that was written as [`temporary`](Self::temporary) into the place of `target`, when it is on the disk.
    pub fn publish(&self, target: &Path) -> Result<(), ScaleError> {
        let io = ScaleError::io(target);
        let temporary = self.temporary();
        File::options()
            .write(true)
            .open(&temporary)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&temporary, target))
            .map_err(&io)?;
        #[cfg(unix)]
        File::open(folder_of(target)).and_then(|folder| folder.sync_all()).map_err(&io)?;
        Ok(())
    }

    /// Removes the folder: all of it is in the task's file.
    pub fn remove(self) -> Result<(), ScaleError> {
        fs::remove_dir_all(&self.folder).map_err(ScaleError::io(&self.folder))
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix("part-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// Makes the folder, and takes the lock in it.
fn lock(folder: &Path) -> Result<File, ScaleError> {
    let path = folder.join("lock");
    loop {
        fs::create_dir_all(folder).map_err(ScaleError::io(folder))?;
        let file = match File::create(&path) {
            // Another process has just removed the folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.map_err(ScaleError::io(&path))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ScaleError::Busy { path: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "{}: this file system has no locks ({error}): see to it that no other process has the same shard",
                    path.display()
                );
            }
        }
        // It is of no use in a folder that another process has removed in the meantime.
        if path.exists() {
            return Ok(file);
        }
    }
}
