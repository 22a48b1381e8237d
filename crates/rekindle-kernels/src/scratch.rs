//! A temporary file that is read where it lies, through a memory map: here since maps take `unsafe`.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::Mmap;

/// Bytes that are read before the pages that they lie in are given back: they count as the process's memory.
const KEPT: usize = 64 << 20;

/// What the system may map for one byte that is read.
const LEAST: usize = 64 << 10;

/// A file of the temporary folder that only this process reaches: it has no name there, and is gone from the disk with
/// this value.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    map: OnceLock<Mmap>,
    read: AtomicUsize,
}

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// When the temporary folder cannot be written to.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, map: OnceLock::new(), read: AtomicUsize::new(0) })
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(SeekFrom::End(0), bytes)
    }

    /// Replaces the first bytes.
    ///
    /// # Errors
    /// When the disk cannot be written to.
    pub fn begin_with(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(SeekFrom::Start(0), bytes)
    }

    /// Through the file and not through the map, so that a full disk is an error.
    fn write(&mut self, to: SeekFrom, bytes: &[u8]) -> io::Result<()> {
        self.map.take();
        self.file.seek(to)?;
        self.file.write_all(bytes)
    }

    /// What `look` finds in the file's bytes, of which it reads `count`.
    ///
    /// # Errors
    /// When the file cannot be mapped.
    pub fn read<T>(&self, count: usize, look: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let map = match self.map.get() {
            Some(map) => map,
            None => {
                // SAFETY: nobody else has the file, which has no name, and while the map is there it is neither
                // written nor cut: that takes `&mut self` and drops the map first.
                let map = unsafe { Mmap::map(&self.file)? };
                self.map.get_or_init(|| map)
            }
        };
        let found = look(map);
        let count = count.max(LEAST);
        if self.read.fetch_add(count, Ordering::Relaxed) + count >= KEPT {
            self.read.store(0, Ordering::Relaxed);
            give_back(map)?;
        }
        Ok(found)
    }
}

/// Takes the pages of a map out of memory; they come again when they are read.
#[cfg(unix)]
fn give_back(map: &Mmap) -> io::Result<()> {
    // SAFETY: the map is shared with the file and never written to, so that its pages come again with the same bytes,
    // also for threads that read them now.
    unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) }
}

/// Other systems take pages when they need memory.
#[cfg(not(unix))]
fn give_back(_: &Mmap) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "maps of files are the system's")]
    fn what_is_written_is_read_also_after_more_was_added() {
        let mut scratch = Scratch::new().expect("a temporary folder");
        scratch.append(b"....first").expect("writes");
        let read = |scratch: &Scratch| scratch.read(1, <[u8]>::to_vec).expect("reads");
        assert_eq!(read(&scratch), b"....first");
        scratch.append(b", second").expect("writes");
        scratch.begin_with(b"head").expect("writes");
        assert_eq!(read(&scratch), b"headfirst, second");
        // So much that its pages are given back between.
        assert_eq!(scratch.read(KEPT, |bytes| bytes[0]).expect("reads"), b'h');
        assert_eq!(read(&scratch), b"headfirst, second");
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[cfg_attr(miri, ignore = "maps of files are the system's")]
    fn the_pages_of_a_large_file_are_not_kept() {
        const PIECE: usize = 8 << 20;
        let file_pages = || -> usize {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
            let pages = |line: &str| {
                let kind =
                    ["RssFile:", "RssShmem:"].into_iter().find(|kind| line.starts_with(kind))?;
                line[kind.len()..].trim().trim_end_matches(" kB").parse::<usize>().ok()
            };
            status.lines().filter_map(pages).sum::<usize>() << 10
        };
        let mut scratch = Scratch::new().expect("a temporary folder");
        let piece: Vec<u8> = (0..PIECE).map(|i| (i % 251) as u8).collect();
        for _ in 0..24 {
            scratch.append(&piece).expect("writes");
        }
        let (before, mut most) = (file_pages(), 0);
        for number in 0..24 {
            let part = number * PIECE..(number + 1) * PIECE;
            let same = scratch.read(PIECE, |bytes| bytes[part] == piece).expect("reads");
            assert!(same, "piece {number}");
            most = most.max(file_pages().saturating_sub(before));
        }
        assert!(most <= KEPT, "{} MiB of 192 are in memory", most >> 20);
    }
}
