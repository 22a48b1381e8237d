//! Rows of numbers in memory, or in a temporary file once there are too many. The file is read by position and not mapped: a
//! map's pages count as the process's memory, and a disk that fails under one ends the process instead of being an error.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use crate::TrainError;

/// Values that are turned into bytes at once: 4 MiB.
const PIECE: usize = 1 << 20;

/// Rows of one length.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    Memory(Vec<f32>),
    /// The file is gone from its folder already, and from the disk once nobody has it open.
    File(Arc<File>, u64),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

fn spilled(source: io::Error) -> TrainError {
    TrainError::Spill { folder: std::env::temp_dir(), source }
}

impl Rows {
    /// Adds rows; into a file of the temporary folder once they are more than `limit` bytes.
    pub fn extend(&mut self, values: &[f32], limit: u64) -> Result<(), TrainError> {
        if let Self::Memory(rows) = self {
            if (rows.len() + values.len()) as u64 * 4 <= limit {
                rows.extend_from_slice(values);
                return Ok(());
            }
            let mut file = tempfile::tempfile().map_err(spilled)?;
            // A piece at a time: there is no memory for all of it twice.
            for piece in rows.chunks(PIECE) {
                file.write_all(&bytes(piece)).map_err(spilled)?;
            }
            let length = rows.len() as u64 * 4;
            *self = Self::File(Arc::new(file), length);
        }
        if let Self::File(file, length) = self {
            (&**file).write_all(&bytes(values)).map_err(spilled)?;
            *length += values.len() as u64 * 4;
        }
        Ok(())
    }

    /// Adds row `index`, of `count` values, to `to`.
    pub fn read(&self, index: usize, count: usize, to: &mut Vec<f32>) -> Result<(), TrainError> {
        match self {
            Self::Memory(rows) => to.extend_from_slice(&rows[index * count..][..count]),
            Self::File(file, _) => {
                let mut buffer = vec![0; count * 4];
                read_at(file, &mut buffer, index as u64 * count as u64 * 4).map_err(spilled)?;
                to.extend(buffer.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)));
            }
        }
        Ok(())
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> u64 {
        match self {
            Self::Memory(rows) => rows.len() as u64 * 4,
            Self::File(..) => 0,
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(rows) => rows.len(),
            Self::File(_, length) => (*length / 4) as usize,
        }
    }
}

/// Each value's four bytes, one after the other.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    let places = bytes.as_chunks_mut::<4>().0.iter_mut();
    places.zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
    bytes
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (buffer, offset) = (&mut buffer[count..], offset + count as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_in_memory_and_in_a_file() {
        let values: Vec<f32> = (0..60).map(|i| i as f32 * 1.5).collect();
        let (mut memory, mut file) = (Rows::default(), Rows::default());
        for part in values.chunks(12) {
            memory.extend(part, u64::MAX).expect("fits");
            file.extend(part, 100).expect("spills");
        }
        assert!(matches!(file, Rows::File(..)) && matches!(memory, Rows::Memory(_)));
        for row in [4, 0, 19] {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            memory.read(row, 3, &mut a).expect("reads");
            file.read(row, 3, &mut b).expect("reads");
            assert_eq!((&a, a.as_slice()), (&b, &values[row * 3..][..3]));
        }
        assert_eq!((memory.len(), file.len()), (60, 60));
        assert_eq!((memory.memory(), file.memory()), (240, 0));
    }
}
