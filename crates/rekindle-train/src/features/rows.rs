//! Rows of numbers in memory or, once there are too many, in a temporary safetensors file that is mapped into memory.

use std::io;
use std::sync::Arc;

use rekindle_kernels::Scratch;

use super::source::FeatureSource;
use crate::archive::bytes;
use crate::error::TrainError;

/// Values that are turned into bytes at once: 4 MiB.
const PIECE: usize = 1 << 20;

/// The file's one tensor: `[rows, values]`.
const NAME: &str = "features";

/// Bytes of the file's header, the same for any number of rows.
const HEADER: usize = 192;

/// Rows of one length.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    Memory(Vec<f32>),
    /// And how many numbers it has.
    File(Arc<Scratch>, usize),
    /// These rows of what is there already.
    Given(Arc<dyn FeatureSource>, Arc<[usize]>),
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
    /// Adds rows of `count` values; into a file of the temporary folder once they are more than `limit` bytes.
    pub fn extend(&mut self, values: &[f32], count: usize, limit: u64) -> Result<(), TrainError> {
        if let Self::Memory(rows) = self {
            if (rows.len() + values.len()) as u64 * 4 <= limit {
                rows.extend_from_slice(values);
                return Ok(());
            }
            let mut file = Scratch::new().map_err(spilled)?;
            file.append(&header(0, count)).map_err(spilled)?;
            append(&mut file, rows).map_err(spilled)?;
            *self = Self::File(Arc::new(file), rows.len());
        }
        if let Self::File(file, length) = self {
            let shared = || io::Error::other("these features are read by others while they grow");
            let file = Arc::get_mut(file).ok_or_else(shared).map_err(spilled)?;
            append(file, values).map_err(spilled)?;
            *length += values.len();
            file.begin_with(&header(*length, count)).map_err(spilled)?;
        }
        Ok(())
    }

    /// Adds row `index`, of `count` values, to `to`.
    pub fn read(&self, index: usize, count: usize, to: &mut Vec<f32>) -> Result<(), TrainError> {
        let row = index * count..(index + 1) * count;
        match self {
            Self::Memory(rows) => to.extend_from_slice(&rows[row]),
            Self::File(file, _) => {
                let copy = |bytes: &[u8]| {
                    let values = bytes[HEADER..].as_chunks::<4>().0[row].iter();
                    to.extend(values.map(|&value| f32::from_le_bytes(value)));
                };
                file.read(count * 4, copy).map_err(spilled)?;
            }
            Self::Given(source, rows) => {
                let start = to.len();
                to.resize(start + count, 0.0);
                source.read(rows[index], &mut to[start..])?;
            }
        }
        Ok(())
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> u64 {
        match self {
            Self::Memory(rows) => rows.len() as u64 * 4,
            Self::File(..) | Self::Given(..) => 0,
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(rows) => rows.len(),
            Self::File(_, length) => *length,
            Self::Given(source, rows) => rows.len() * source.provenance().shape().count(),
        }
    }
}

/// The header of a safetensors file of `length` numbers in rows of `count`.
fn header(length: usize, count: usize) -> [u8; HEADER] {
    let (rows, bytes) = (length / count.max(1), length * 4);
    let json = format!(
        r#"{{"{NAME}":{{"dtype":"F32","shape":[{rows},{count}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let mut header = [b' '; HEADER];
    header[..8].copy_from_slice(&(HEADER as u64 - 8).to_le_bytes());
    header[8..][..json.len()].copy_from_slice(json.as_bytes());
    header
}

/// A piece at a time: there is no memory for all of it twice.
fn append(file: &mut Scratch, values: &[f32]) -> io::Result<()> {
    values.chunks(PIECE).try_for_each(|piece| file.append(&bytes(piece)))
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn a_header_has_room_for_the_largest_file() {
        let json = String::from_utf8(header(usize::MAX / 4, 1)[8..].to_vec()).expect("is text");
        assert!(json.contains(&format!("[0,{}]}}}}", usize::MAX / 4 * 4)), "{json}");
    }

    #[test]
    fn rows_are_the_same_in_memory_and_in_a_file() {
        let values: Vec<f32> = (0..60).map(|i| i as f32 * 1.5).collect();
        let (mut memory, mut file) = (Rows::default(), Rows::default());
        for part in values.chunks(12) {
            memory.extend(part, 3, u64::MAX).expect("fits");
            file.extend(part, 3, 100).expect("spills");
        }
        let (Rows::File(scratch, _), Rows::Memory(_)) = (&file, &memory) else {
            panic!("what is more than the limit is in a file")
        };
        let bytes = scratch.read(0, <[u8]>::to_vec).expect("reads");
        let tensors = SafeTensors::deserialize(&bytes).expect("is a safetensors file");
        assert_eq!(tensors.tensor(NAME).expect("is there").shape(), [20, 3]);
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
