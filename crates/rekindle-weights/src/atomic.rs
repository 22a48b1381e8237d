use std::fs::File;
use std::io;
use std::path::Path;

use crate::WeightsError;

/// Writes a file so that other programs see the old one or the whole new one, never a part: `write`
/// fills a temporary file in the same folder, which is then flushed to the disk and renamed.
///
/// # Errors
/// When the folder or the file cannot be written; an existing file is then as it was.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let mut failure = None;
    let written = replace_file(path, |temporary| {
        write(temporary).map_err(|error| {
            failure = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    match failure {
        Some(error) => Err(error),
        None => written.map_err(|error| WeightsError::io(path, error)),
    }
}

/// [`write_atomic`] for files that hold no weights: reports, tables, pictures.
///
/// # Errors
/// When the folder or the file cannot be written, or `write` fails; an existing file is then as it was.
pub fn replace_file(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new().prefix(".rekindle-").tempfile_in(folder)?;
    write(temporary.path())?;
    // Reopened: the writer may have replaced the file that this handle is for.
    File::options().write(true).open(temporary.path()).and_then(|file| file.sync_all())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary file is private; the result gets the permissions that a new file has.
        let mode = std::fs::metadata(path).map_or(0o644, |old| old.permissions().mode());
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(temporary.path(), permissions)?;
    }
    temporary.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("file");
        std::fs::write(&path, "old").expect("writes");
        let result = write_atomic(&path, |temporary| {
            std::fs::write(temporary, "half").expect("writes");
            Err(WeightsError::format(temporary, "stopped"))
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read(&path).expect("reads"), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);

        write_atomic(&path, |temporary| {
            std::fs::write(temporary, "new").map_err(|error| WeightsError::io(temporary, error))
        })
        .expect("writes");
        assert_eq!(std::fs::read(&path).expect("reads"), b"new");
    }
}
