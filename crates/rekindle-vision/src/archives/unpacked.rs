//! Files that are unpacked into tars, which stay in the cache.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;
use rekindle_pixels::Kept;
use sha2::{Digest, Sha256};

use super::Kind;
use crate::VisionError;

/// Changes where files are unpacked otherwise than before.
const LAYOUT: &[u8] = b"1";
/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;

/// What was unpacked of some files.
#[derive(Debug)]
pub(super) struct Unpacked {
    files: usize,
    bytes: u64,
    /// Where, if that is known.
    folder: Option<PathBuf>,
}

impl Unpacked {
    /// Into a folder of this folder of caches.
    pub fn within(cache: Option<PathBuf>) -> Self {
        Self { files: 0, bytes: 0, folder: cache.map(|cache| cache.join("unpacked")) }
    }

    /// What a user should know of it.
    pub fn note(&self) -> Option<String> {
        let size = match self.bytes >> 20 {
            0 => format!("{} bytes", self.bytes),
            size => format!("{size} MiB"),
        };
        let (verb, it, stays) = match self.files {
            0 => return None,
            1 => ("1 file is".to_owned(), "it", "stays"),
            files => (format!("{files} files are"), "they", "stay"),
        };
        let folder = self.folder.as_ref()?.display();
        Some(format!(
            "{verb} unpacked in {folder} ({size}), where {it} {stays} for other runs; REKINDLE_CACHE names another folder"
        ))
    }

    /// The tar that a file is, or that it is unpacked into now, where an earlier run has not.
    pub fn tar_of(&mut self, path: &Path) -> Result<PathBuf, VisionError> {
        let write: Fill = match Kind::of(path) {
            Some(Kind::Gzip) => gunzip,
            Some(Kind::Parquet) => super::parquet::to_tar,
            Some(Kind::Tar) | None => return Ok(path.to_owned()),
        };
        let reason = "no folder is known that it can be unpacked in: set REKINDLE_CACHE to one";
        let folder = self.folder.as_ref().ok_or_else(|| VisionError::folder(path, reason))?;
        let tar = unpack(path, folder, write)?;
        let size = fs::metadata(&tar).map_err(|error| VisionError::io(&tar, error))?.len();
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        Ok(tar)
    }
}

/// Writes a file's tar.
type Fill = fn(&Path, &File, &mut BufWriter<File>) -> Result<(), VisionError>;

/// What a file is as long as nobody changes it: length and time of the last change.
fn state(path: &Path) -> Result<Vec<u8>, VisionError> {
    let about = fs::metadata(path).map_err(|error| VisionError::io(path, error))?;
    let changed = about.modified().map_err(|error| VisionError::io(path, error))?;
    // One from before 1970 is told apart by its length.
    let time = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok([LAYOUT, &about.len().to_le_bytes(), &time.to_le_bytes()].concat())
}

/// A name for a folder, of the SHA-256 of bytes.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where a file is unpacked in a folder.
fn unpack(path: &Path, folder: &Path, fill: Fill) -> Result<PathBuf, VisionError> {
    let real = fs::canonicalize(path).map_err(|error| VisionError::io(path, error))?;
    let before = state(path)?;
    let name = short_hash(real.as_os_str().as_encoded_bytes());
    let kept = Kept { folder, name: &name, state: &short_hash(&before), file: "photos.tar" };
    let write = |part: &Path| {
        let io = |error| VisionError::io(part, error);
        let source = File::open(path).map_err(|error| VisionError::io(path, error))?;
        let mut to = BufWriter::with_capacity(BUFFER, File::create(part).map_err(io)?);
        fill(path, &source, &mut to)?;
        to.flush().map_err(io)?;
        match state(path)? == before {
            true => Ok(()),
            false => Err(VisionError::folder(path, "it changed while it was read: run this again")),
        }
    };
    kept.get(write, VisionError::io)
}

fn gunzip(path: &Path, source: &File, to: &mut BufWriter<File>) -> Result<(), VisionError> {
    let mut gzip = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, source));
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match io::Read::read(&mut gzip, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(gzip_error(path, error)),
        };
        to.write_all(&buffer[..read]).map_err(|error| unwritten(path, &error))?;
    }
}

/// When the cache has no room for what is unpacked.
pub(super) fn unwritten(path: &Path, error: &io::Error) -> VisionError {
    VisionError::folder(path, format!("it cannot be unpacked in the cache: {error}"))
}

fn gzip_error(path: &Path, error: io::Error) -> VisionError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            VisionError::folder(path, "gzip that is cut off: copy or download the file again")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => VisionError::folder(
            path,
            format!("gzip that is damaged ({error}): copy or download the file again"),
        ),
        _ => VisionError::io(path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).expect("writes");
        to.finish().expect("writes")
    }

    #[test]
    fn a_file_is_unpacked_once_as_long_as_it_stays_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, cache) = (dir.path().join("a.tar.gz"), dir.path().join("cache"));
        fs::write(&path, [gzip(b"one"), gzip(b"two")].concat()).expect("writes");
        let tar = unpack(&path, &cache, gunzip).expect("unpacks");
        assert_eq!(fs::read(&tar).expect("reads"), b"onetwo", "both members of the gzip");
        let never: Fill = |path, _, _| Err(VisionError::folder(path, "again"));
        assert_eq!(unpack(&path, &cache, never).expect("is there"), tar);
        fs::write(&path, gzip(b"three!")).expect("writes");
        let other = unpack(&path, &cache, gunzip).expect("unpacks");
        assert_eq!(fs::read(&other).expect("reads"), b"three!");
        assert!(!tar.exists(), "what was unpacked before is deleted");
    }

    #[test]
    fn damaged_gzip_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, cache) = (dir.path().join("a.tgz"), dir.path().join("cache"));
        let whole = gzip(&[7; 100_000]);
        let mut crc = whole.clone();
        let place = crc.len() - 8;
        crc[place] ^= 1;
        for (bytes, said) in [
            (&whole[..whole.len() / 2], "cut off"),
            (&whole[..whole.len() - 3], "cut off"),
            (&whole[..0], "cut off"),
            (&crc[..], "damaged"),
            (b"not gzip at all, but text", "damaged"),
        ] {
            fs::write(&path, bytes).expect("writes");
            let error = unpack(&path, &cache, gunzip).expect_err(said).to_string();
            assert!(error.contains("a.tgz") && error.contains(said), "{error}");
            assert!(error.contains("download the file again"), "{error}");
            let own = fs::read_dir(&cache).expect("reads").next().expect("one").expect("reads");
            let left: Vec<PathBuf> = fs::read_dir(own.path())
                .expect("reads")
                .map(|entry| entry.expect("reads").path())
                .filter(|path| !path.ends_with("lock"))
                .collect();
            assert!(left.is_empty(), "{} files are left", left.len());
        }
    }
}
