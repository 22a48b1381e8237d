//! A shard's file: safetensors, with the manifest in it.
//!
//! Three tensors: `features`, `[photos, ...]`; `photos` and `skipped`, JSON lines as bytes. What they have in common is JSON
//! in the metadata, beside a SHA-256 of all of it. Rows are those of the photos that could be decoded, in their order.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::ScaleError;
use crate::manifest::{Entry, LAYOUT, Manifest, Other, hex};

const ABOUT: &str = "rekindle-shard";
const HASH: &str = "sha256";
const ROWS: &str = "features";
const PHOTOS: &str = "photos";
const SKIPPED: &str = "skipped";
/// Digits of the hash, before it is known.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The longest header, and the longest list of photos, that are read.
const MAX_HEADER: u64 = 100 << 20;
const MAX_LIST: u64 = 4 << 30;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The file of one shard, or of a part of one.
#[derive(Debug)]
pub struct ShardFile {
    pub(crate) path: PathBuf,
    /// Nothing, where it is opened for each reading: there may be more of them than a process may have open.
    file: Option<File>,
    manifest: Manifest,
    entries: Vec<Entry>,
    skipped: Vec<Other>,
    /// Where the first row begins.
    start: u64,
    /// How many there are.
    rows: usize,
    hash: String,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// JSON lines.
fn lines<T: Serialize>(all: &[T]) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for one in all {
        serde_json::to_writer(&mut lines, one)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// Writes a shard's file, which is no other's yet; `row` adds the bytes of each row to its argument. The hash.
pub(crate) fn write(
    path: &Path,
    manifest: &Manifest,
    entries: &[Entry],
    skipped: &[Other],
    mut row: impl FnMut(usize, &mut Vec<u8>) -> Result<(), ScaleError>,
) -> Result<String, ScaleError> {
    let io = ScaleError::io(path);
    let other = |error: serde_json::Error| io(io::Error::other(error));
    let rows = entries.iter().filter(|entry| entry.lost.is_none()).count();
    let row_bytes = manifest.width() * manifest.element.bytes();
    let bytes = rows * row_bytes;
    let about = serde_json::to_string(manifest).map_err(other)?;
    let (photos, others) = (lines(entries).map_err(other)?, lines(skipped).map_err(other)?);
    let mut shape = vec![rows];
    shape.extend(manifest.shape());
    let ends = [bytes, bytes + photos.len(), bytes + photos.len() + others.len()];
    let header = json!({
        "__metadata__": {ABOUT: about, HASH: NO_HASH},
        ROWS: {
            "dtype": manifest.element.name().to_uppercase(),
            "shape": shape,
            "data_offsets": [0, ends[0]],
        },
        PHOTOS: {"dtype": "U8", "shape": [photos.len()], "data_offsets": [ends[0], ends[1]]},
        SKIPPED: {"dtype": "U8", "shape": [others.len()], "data_offsets": [ends[1], ends[2]]},
    });
    let mut header = serde_json::to_vec(&header).map_err(other)?;
    header.resize(header.len().next_multiple_of(64) - 8 + 64, b' ');
    let place = find(&header, NO_HASH.as_bytes())
        .ok_or_else(|| io(io::Error::other("the header has no place for the hash")))?;
    let mut hash = Sha256::new();
    hash.update(about.as_bytes());
    let mut file = BufWriter::with_capacity(PIECE, File::create(path).map_err(&io)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(&io)?;
    file.write_all(&header).map_err(&io)?;
    let mut buffer = Vec::with_capacity(row_bytes);
    for number in 0..rows {
        buffer.clear();
        row(number, &mut buffer)?;
        if buffer.len() != row_bytes {
            let reason = format!("row {number} has {} bytes, expected {row_bytes}", buffer.len());
            return Err(ScaleError::file(path, reason));
        }
        hash.update(&buffer);
        file.write_all(&buffer).map_err(&io)?;
    }
    for list in [&photos, &others] {
        hash.update(list);
        file.write_all(list).map_err(&io)?;
    }
    let hash = hex(&hash.finalize());
    let mut file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.seek(SeekFrom::Start(8 + place as u64)).map_err(&io)?;
    file.write_all(hash.as_bytes()).map_err(&io)?;
    Ok(hash)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

impl ShardFile {
    /// Opens a file and checks all of it, its hash too.
    ///
    /// # Errors
    /// When it is none of these files, not whole, or altered.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ScaleError> {
        let path = path.as_ref();
        let io = ScaleError::io(path);
        let wrong = |reason: &str| ScaleError::file(path, reason);
        let mut file = File::open(path).map_err(&io)?;
        let length = file.metadata().map_err(&io)?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word)
            .map_err(|_| wrong("truncated: it is shorter than a header; compute it again"))?;
        let header_length = u64::from_le_bytes(word);
        if header_length > MAX_HEADER.min(length.saturating_sub(8)) {
            return Err(wrong("truncated, or no file of Rekindle's features; compute it again"));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(&io)?;
        let mut header: HashMap<String, serde_json::Value> = serde_json::from_slice(&header)
            .map_err(|error| {
                wrong(&format!("its header is damaged ({error}); compute it again"))
            })?;
        let metadata = header.remove("__metadata__").unwrap_or_default();
        let text = |name: &str| metadata.get(name).and_then(|text| text.as_str());
        let (Some(about), Some(expected)) = (text(ABOUT), text(HASH)) else {
            return Err(ScaleError::Foreign { path: path.to_owned() });
        };
        let layout = serde_json::from_str::<serde_json::Value>(about).unwrap_or_default();
        if let Some(layout) = layout.get("layout").filter(|layout| **layout != json!(LAYOUT)) {
            let reason = format!("of layout {layout}, expected {LAYOUT}: another version wrote it");
            return Err(wrong(&reason));
        }
        let manifest: Manifest = serde_json::from_str(about)
            .map_err(|error| wrong(&format!("its manifest is damaged: {error}")))?;
        manifest.shard().map_err(|reason| wrong(&reason))?;
        let mut tensor = |name: &str, dtype: &str| -> Result<Tensor, ScaleError> {
            let found = header.remove(name);
            let found = found.and_then(|found| serde_json::from_value::<Tensor>(found).ok());
            found.filter(|found| found.dtype == dtype).ok_or_else(|| {
                wrong(&format!("damaged: it has no `{name}` of {dtype}; compute it again"))
            })
        };
        let values = tensor(ROWS, &manifest.element.name().to_uppercase())?;
        let lists = [tensor(PHOTOS, "U8")?, tensor(SKIPPED, "U8")?];
        let start = 8 + header_length;
        let row_bytes = (manifest.width() as u64).checked_mul(manifest.element.bytes() as u64);
        let rows = values.shape.first().copied().unwrap_or_default();
        let own: Vec<u64> = manifest.shape().iter().map(|&side| side as u64).collect();
        let ends = [values.data_offsets, lists[0].data_offsets, lists[1].data_offsets];
        let follows = ends[0][0] == 0
            && ends.windows(2).all(|two| two[0][1] == two[1][0])
            && ends.iter().all(|[from, to]| from <= to);
        let is_whole = values.shape.get(1..) == Some(own.as_slice())
            && row_bytes.and_then(|bytes| bytes.checked_mul(rows)) == Some(ends[0][1])
            && follows
            && lists.iter().all(|Tensor { shape, data_offsets: [from, to], .. }| {
                shape.as_slice() == [to.saturating_sub(*from)]
            })
            && start.checked_add(ends[2][1]) == Some(length);
        if !is_whole {
            return Err(wrong(
                "truncated or damaged: its length is not what its header says; compute it again",
            ));
        }
        let mut hash = Sha256::new();
        hash.update(about.as_bytes());
        let mut left = ends[0][1];
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let count = left.min(PIECE as u64) as usize;
            file.read_exact(&mut piece[..count]).map_err(&io)?;
            hash.update(&piece[..count]);
            left -= count as u64;
        }
        let mut list = |[from, to]: [u64; 2]| -> Result<Vec<u8>, ScaleError> {
            if to - from > MAX_LIST {
                return Err(wrong("its list of photos is over 4 GiB: take more shards"));
            }
            let mut bytes = vec![0; (to - from) as usize];
            file.read_exact(&mut bytes).map_err(&io)?;
            hash.update(&bytes);
            Ok(bytes)
        };
        let (photos, others) = (list(ends[1])?, list(ends[2])?);
        let hash = hex(&hash.finalize());
        if hash != expected {
            return Err(wrong(
                "altered or damaged: its content does not have the hash that it should; compute it again",
            ));
        }
        let entries: Vec<Entry> = parse(&photos).map_err(|reason| wrong(&reason))?;
        let skipped: Vec<Other> = parse(&others).map_err(|reason| wrong(&reason))?;
        let there = entries.iter().filter(|entry| entry.lost.is_none()).count();
        if there as u64 != rows {
            return Err(wrong(&format!("it has {rows} rows for {there} photos; compute it again")));
        }
        let classes = manifest.classes.len();
        let is_known = |entry: &&Entry| entry.labels.iter().all(|&label| label < classes);
        if let Some(entry) = entries.iter().find(|entry| !is_known(entry)) {
            let (photo, labels) = (entry.path.display(), &entry.labels);
            return Err(wrong(&format!("{photo} is of classes {labels:?} of {classes}")));
        }
        let path = path.to_owned();
        let (file, rows) = (Some(file), rows as usize);
        Ok(Self { path, file, manifest, entries, skipped, start, rows, hash })
    }

    /// What its photos have in common.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its photos, those without a row too.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn take_entries(&mut self) -> (Vec<Entry>, Vec<Other>) {
        (std::mem::take(&mut self.entries), std::mem::take(&mut self.skipped))
    }

    pub(crate) fn skipped(&self) -> &[Other] {
        &self.skipped
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// SHA-256 of all that it says.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Lets go of the file until its rows are read.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Has the file open again.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::open(&self.path)?);
        }
        Ok(())
    }

    /// Adds the bytes of a row to `to`.
    pub(crate) fn bytes(&self, row: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let count = self.manifest.width() * self.manifest.element.bytes();
        let start = to.len();
        to.resize(start + count, 0);
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the file is closed"))?;
        read_at(file, &mut to[start..], self.start + row as u64 * count as u64)
    }

    /// Fills `to`, which is as long as a row, with a row's numbers.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn read(&self, row: usize, to: &mut [f32]) -> Result<(), ScaleError> {
        let mut bytes = Vec::new();
        self.bytes(row, &mut bytes).map_err(ScaleError::io(&self.path))?;
        self.manifest.element.read(&bytes, to);
        Ok(())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(lines: &[u8]) -> Result<Vec<T>, String> {
    let lines = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(serde_json::from_slice).collect::<Result<Vec<T>, _>>();
    parsed.map_err(|error| format!("its list of photos is damaged: {error}"))
}

/// Without a position that threads would share.
#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut to: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                to = &mut to[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::Error::other("rows of a file cannot be read on this system"))
}
