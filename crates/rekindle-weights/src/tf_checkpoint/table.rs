//! LevelDB's table, as TensorFlow writes it (`tensorflow/core/lib/io/format.h`): sorted keys with their values, in blocks
//! with a CRC each. The index, a block itself, has the last key of each block and where it is; the file's end says
//! where the index is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use prost::bytes::Bytes;

use crate::WeightsError;

/// The last eight bytes of every table.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Where two blocks are, padded, and the magic number.
const FOOTER: u64 = 48;
/// Behind each block: how it is compressed, and its CRC.
const TRAILER: u64 = 5;
/// Keys share beginnings, so that a small file may claim long ones; real checkpoints have some hundred kilobytes.
const LONGEST_KEYS: usize = 64 << 20;
/// A snappy element makes at most 64 bytes of 3.
const SNAPPY_RATIO: usize = 22;

/// Where a block is.
#[derive(Debug, Clone, Copy)]
struct Handle {
    offset: u64,
    size: u64,
}

pub(super) struct Table {
    file: File,
    /// Where blocks end: the footer's place.
    end: u64,
    /// The last key of each block, or one behind it, and the block.
    index: Vec<(Vec<u8>, Handle)>,
    /// The block that was read last, since neighbours are often read next.
    last: Option<(usize, Bytes)>,
}

/// Whether a file ends as a table does.
pub(crate) fn is_table(file: &mut File) -> bool {
    let mut end = [0; 8];
    file.seek(SeekFrom::End(-8)).is_ok()
        && file.read_exact(&mut end).is_ok()
        && u64::from_le_bytes(end) == MAGIC
}

/// What TensorFlow stores for a CRC, so that the CRC of what holds CRCs is not a special one.
pub(super) fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

impl Table {
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |error| WeightsError::io(path, error);
        let wrong = |reason: String| WeightsError::format(path, reason);
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < FOOTER || !is_table(&mut file) {
            return Err(wrong(format!(
                "{length} bytes that do not end as a TensorFlow checkpoint does: truncated, or another file; copy or download it again"
            )));
        }
        let end = length - FOOTER;
        file.seek(SeekFrom::Start(end)).map_err(io)?;
        let mut footer = [0; FOOTER as usize];
        file.read_exact(&mut footer).map_err(io)?;
        let mut rest = &footer[..];
        let handles = (handle(&mut rest), handle(&mut rest));
        let (Ok(other), Ok(index)) = handles else {
            return Err(wrong("its end does not say where its index is: damaged".into()));
        };
        // Zeros and the magic number.
        if rest.iter().rev().skip(8).any(|byte| *byte != 0) {
            return Err(wrong("its end is not filled up with zeros: damaged".into()));
        }
        let mut table = Self { file, end, index: Vec::new(), last: None };
        table.index = table.read_index(other, index).map_err(wrong)?;
        Ok(table)
    }

    /// Reads the index; the other block that the end names is one that TensorFlow leaves empty.
    fn read_index(&mut self, other: Handle, at: Handle) -> Result<Vec<(Vec<u8>, Handle)>, String> {
        self.contents(other)?;
        let block = self.contents(at)?;
        let (mut index, mut keys) = (Vec::new(), 0);
        let mut entries = Entries::new(&block)?;
        while let Some((key, value)) = entries.next()? {
            keys += key.len();
            within_limit(keys)?;
            let mut value = &block[value];
            index.push((key.to_vec(), handle(&mut value)?));
        }
        Ok(index)
    }

    /// A block's contents, whose CRC is right.
    fn contents(&mut self, at: Handle) -> Result<Bytes, String> {
        let Handle { offset, size } = at;
        let place = format!("the block of {size} bytes at byte {offset}");
        let end = offset.checked_add(size).and_then(|end| end.checked_add(TRAILER));
        if end.is_none_or(|end| end > self.end) {
            return Err(format!(
                "{place} is not within the {} bytes of the file: it is damaged or truncated",
                self.end
            ));
        }
        let length = usize::try_from(size + TRAILER).map_err(|error| error.to_string())?;
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(offset));
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| format!("{place}: {error}"))?;
        let (checked, crc) = bytes.split_at(length - 4);
        let expected = le_u32(crc).unwrap_or_default();
        let found = masked(crc32c::crc32c(checked));
        if found != expected {
            return Err(format!(
                "{place} has the CRC {found:#010x}, expected {expected:#010x}: the file is damaged; copy or download it again"
            ));
        }
        let compression = checked.last().copied().unwrap_or_default();
        bytes.truncate(length - TRAILER as usize);
        match compression {
            0 => Ok(bytes.into()),
            1 => unpacked(&bytes).map(Bytes::from).map_err(|error| format!("{place}: {error}")),
            other => Err(format!(
                "{place} is compressed in way {other}, expected 0 (not at all) or 1 (snappy)"
            )),
        }
    }

    fn block(&mut self, number: usize) -> Result<Bytes, String> {
        if let Some((last, block)) = &self.last
            && *last == number
        {
            return Ok(block.clone());
        }
        // Before the next one is read, which may be as large as the file.
        self.last = None;
        let Some(&(_, at)) = self.index.get(number) else {
            return Err(format!("there is no block {number}"));
        };
        let block = self.contents(at)?;
        self.last = Some((number, block.clone()));
        Ok(block)
    }

    /// Shows all keys and values, in order.
    pub fn walk(
        &mut self,
        mut visit: impl FnMut(&[u8], Bytes) -> Result<(), String>,
    ) -> Result<(), String> {
        let (mut before, mut keys): (Option<Vec<u8>>, usize) = (None, 0);
        for number in 0..self.index.len() {
            let block = self.block(number)?;
            let mut entries = Entries::new(&block)?;
            let mut is_first = true;
            while let Some((key, value)) = entries.next()? {
                if is_first && before.as_deref().is_some_and(|before| before >= key) {
                    return Err(format!("the keys of block {number} are not in order: damaged"));
                }
                is_first = false;
                keys += key.len();
                within_limit(keys)?;
                visit(key, block.slice(value))?;
            }
            if !is_first {
                before = Some(entries.key);
            }
        }
        Ok(())
    }

    /// The value of a key.
    pub fn find(&mut self, wanted: &[u8]) -> Result<Option<Bytes>, String> {
        let number = self.index.partition_point(|(last, _)| last.as_slice() < wanted);
        if number == self.index.len() {
            return Ok(None);
        }
        let block = self.block(number)?;
        let mut entries = Entries::new(&block)?;
        while let Some((key, value)) = entries.next()? {
            if key == wanted {
                return Ok(Some(block.slice(value)));
            }
        }
        Ok(None)
    }
}

fn within_limit(keys: usize) -> Result<(), String> {
    if keys > LONGEST_KEYS {
        return Err(format!("names of more than {LONGEST_KEYS} bytes: the file is damaged"));
    }
    Ok(())
}

pub(super) fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let damaged = |error: snap::Error| format!("damaged snappy: {error}");
    let length = snap::raw::decompress_len(bytes).map_err(damaged)?;
    if length > bytes.len().saturating_mul(SNAPPY_RATIO) {
        return Err(format!("claims {length} bytes of {} of snappy: damaged", bytes.len()));
    }
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(damaged)
}

/// A key, and where in the block its value is.
type Entry<'a> = (&'a [u8], Range<usize>);

/// The entries of a block: how much of the key is that of the one before, the rest of it, and the value. What allows
/// searching, the places of whole keys, is at the end and is not needed.
struct Entries<'a> {
    rest: &'a [u8],
    /// How long the entries are.
    length: usize,
    key: Vec<u8>,
    is_first: bool,
}

impl<'a> Entries<'a> {
    fn new(block: &'a [u8]) -> Result<Self, String> {
        let count = block.len().checked_sub(4).and_then(|at| le_u32(&block[at..]));
        let restarts = count.and_then(|count| (count as usize).checked_add(1)?.checked_mul(4));
        let length = restarts.and_then(|restarts| block.len().checked_sub(restarts));
        let Some(length) = length else {
            return Err(format!("a block of {} bytes is shorter than its own list", block.len()));
        };
        Ok(Self { rest: &block[..length], length, key: Vec::new(), is_first: true })
    }

    fn next(&mut self) -> Result<Option<Entry<'_>>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.length - self.rest.len();
        let damaged = || format!("the entry at byte {at} of a block is damaged");
        let mut number = || varint(&mut self.rest).and_then(|value| usize::try_from(value).ok());
        let (Some(shared), Some(own), Some(value)) = (number(), number(), number()) else {
            return Err(damaged());
        };
        let fits = own.checked_add(value).is_some_and(|both| both <= self.rest.len());
        if !fits || shared > self.key.len() {
            return Err(damaged());
        }
        let (own, rest) = self.rest.split_at(own);
        if !self.is_first && own <= &self.key[shared..] {
            return Err(format!("the key at byte {at} of a block is not behind the one before"));
        }
        self.is_first = false;
        self.key.truncate(shared);
        self.key.extend_from_slice(own);
        let start = self.length - rest.len();
        self.rest = &rest[value..];
        Ok(Some((&self.key, start..start + value)))
    }
}

fn le_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|&word| u32::from_le_bytes(word))
}

/// A number of up to 64 bits, seven to a byte.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn handle(bytes: &mut &[u8]) -> Result<Handle, String> {
    match (varint(bytes), varint(bytes)) {
        (Some(offset), Some(size)) => Ok(Handle { offset, size }),
        _ => Err("where a block is cannot be read: the file is damaged".into()),
    }
}
