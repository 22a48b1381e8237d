//! A flatbuffer's tables, read step by step through `flatbuffers::Verifier`: it sees that each position is in the file and
//! aligned, and counts tables, their depth and all bytes that are looked at, so that parts which claim the same bytes again
//! and again are an error.
//!
//! The readers that `flatc` generates have `unsafe` in them, which this crate has not, and so has `flatbuffers::Table`. The
//! crates that carry such code for TensorFlow Lite's schema bring an engine or a C++ library with them. Networks need some
//! twenty tables, each a list of numbered fields: the schema's numbers stand where they are read (`file.rs`,
//! `metadata.rs`) and written (`write.rs`).

use flatbuffers::{InvalidFlatbuffer, Verifier, VerifierOptions};

/// What a file may hold at most.
pub(super) fn limits(length: usize) -> VerifierOptions {
    VerifierOptions {
        // Metadata's tables are nested deepest: eight.
        max_depth: 16,
        // Somebody has to point at each, by four bytes.
        max_tables: length / 4 + 64,
        // Tables share descriptions of themselves, which are looked at for each.
        max_apparent_size: length.saturating_mul(8).saturating_add(1 << 16),
        ignore_missing_null_terminator: true,
    }
}

/// A buffer that is being read.
pub(super) struct Tables<'a> {
    bytes: &'a [u8],
    verifier: Verifier<'a, 'a>,
}

fn damaged(error: &InvalidFlatbuffer) -> String {
    let text = error.to_string();
    format!("damaged: {}", text.lines().next().unwrap_or_default())
}

impl<'a> Tables<'a> {
    pub fn new(bytes: &'a [u8], limits: &'a VerifierOptions) -> Self {
        Self { bytes, verifier: Verifier::new(limits, bytes) }
    }

    /// The table that the buffer begins with.
    pub fn root(&mut self) -> Result<usize, String> {
        self.follow(0)
    }

    /// Where the first `N` fields of a table are, those that it has.
    pub fn fields<const N: usize>(&mut self, table: usize) -> Result<[Option<usize>; N], String> {
        let mut visited = self.verifier.visit_table(table).map_err(|error| damaged(&error))?;
        let mut fields = [None; N];
        for (number, field) in (0_u16..).zip(&mut fields) {
            *field = visited.deref(4 + 2 * number).map_err(|error| damaged(&error))?;
        }
        visited.finish();
        Ok(fields)
    }

    fn take<const N: usize>(&mut self, at: usize) -> Result<[u8; N], String> {
        self.verifier.range_in_buffer(at, N).map_err(|error| damaged(&error))?;
        let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or_else(|| format!("damaged: {N} bytes at {at} are not there"))
    }

    pub fn byte(&mut self, at: Option<usize>) -> Result<u8, String> {
        Ok(at.map(|at| self.take::<1>(at)).transpose()?.map_or(0, |[byte]| byte))
    }

    pub fn unsigned(&mut self, at: Option<usize>) -> Result<u32, String> {
        Ok(at.map(|at| self.take(at)).transpose()?.map_or(0, u32::from_le_bytes))
    }

    pub fn long(&mut self, at: Option<usize>) -> Result<u64, String> {
        Ok(at.map(|at| self.take(at)).transpose()?.map_or(0, u64::from_le_bytes))
    }

    /// As many bytes as there are of four.
    pub fn raw(&mut self, at: usize) -> Result<[u8; 4], String> {
        let count = self.bytes.len().saturating_sub(at).min(4);
        self.verifier.range_in_buffer(at, count).map_err(|error| damaged(&error))?;
        let mut raw = [0; 4];
        if let Some(found) = self.bytes.get(at..at + count) {
            raw[..count].copy_from_slice(found);
        }
        Ok(raw)
    }

    /// What a field points at.
    pub fn follow(&mut self, at: usize) -> Result<usize, String> {
        let offset = self.verifier.get_uoffset(at).map_err(|error| damaged(&error))?;
        let place = usize::try_from(offset).ok().and_then(|offset| at.checked_add(offset));
        place.filter(|_| offset != 0).ok_or_else(|| format!("damaged: nothing is at {at}"))
    }

    /// Where a vector of values of `size` bytes begins, and how many there are.
    fn vector(&mut self, at: usize, size: usize) -> Result<(usize, usize), String> {
        let start = self.follow(at)?;
        let count = self.verifier.get_uoffset(start).map_err(|error| damaged(&error))?;
        let count = usize::try_from(count).map_err(|error| error.to_string())?;
        let bytes = count.checked_mul(size).ok_or("damaged: a vector of too many values")?;
        self.verifier.range_in_buffer(start + 4, bytes).map_err(|error| damaged(&error))?;
        Ok((start + 4, count))
    }

    fn list<T, const N: usize>(
        &mut self,
        at: Option<usize>,
        of: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, String> {
        let Some(at) = at else { return Ok(Vec::new()) };
        let (start, count) = self.vector(at, N)?;
        let bytes = self.bytes.get(start..start + count * N).unwrap_or_default();
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| of(chunk)).collect())
    }

    pub fn integers(&mut self, at: Option<usize>) -> Result<Vec<i32>, String> {
        self.list(at, i32::from_le_bytes)
    }

    pub fn longs(&mut self, at: Option<usize>) -> Result<Vec<i64>, String> {
        self.list(at, i64::from_le_bytes)
    }

    pub fn floats(&mut self, at: Option<usize>) -> Result<Vec<f32>, String> {
        self.list(at, f32::from_le_bytes)
    }

    /// Where bytes are.
    pub fn bytes(&mut self, at: Option<usize>) -> Result<Option<std::ops::Range<usize>>, String> {
        let Some(at) = at else { return Ok(None) };
        let (start, count) = self.vector(at, 1)?;
        Ok(Some(start..start + count))
    }

    pub fn text(&mut self, at: Option<usize>) -> Result<String, String> {
        let Some(range) = self.bytes(at)? else { return Ok(String::new()) };
        let text = self.bytes.get(range).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Where the tables of a vector are.
    pub fn tables(&mut self, at: Option<usize>) -> Result<Vec<usize>, String> {
        let Some(at) = at else { return Ok(Vec::new()) };
        let (start, count) = self.vector(at, 4)?;
        (0..count).map(|number| self.follow(start + 4 * number)).collect()
    }
}
