//! Named numbers with a description and a hash over all of it, in one safetensors file: checkpoints of a run, features.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rekindle_infer::internal::hex;
use rekindle_weights::{WeightsError, write_atomic};
use safetensors::tensor::{Dtype, Metadata, View, serialize_to_file};
use sha2::{Digest, Sha256};

const ABOUT: &str = "rekindle-archive";
const HASH: &str = "sha256";
/// The longest header that is read.
const MAX_HEADER: u64 = 100 << 20;

/// Numbers of one name; `read` gives them when they are written.
pub(crate) struct Entry<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub read: Box<dyn Fn() -> io::Result<Vec<f32>> + 'a>,
}

impl<'a> Entry<'a> {
    /// Numbers in memory.
    pub fn values(name: String, shape: Vec<usize>, values: &'a [f32]) -> Self {
        Self { name, shape, read: Box::new(move || Ok(values.to_vec())) }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let values = (self.read)()?;
        if values.len() != self.shape.iter().product::<usize>() {
            return Err(io::Error::other(format!("`{}` has {} values", self.name, values.len())));
        }
        Ok(bytes(&values))
    }
}

struct Lazy<'a, 'b> {
    entry: &'a Entry<'b>,
    failure: &'a RefCell<Option<io::Error>>,
}

impl View for Lazy<'_, '_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.entry.bytes().unwrap_or_else(|error| {
            *self.failure.borrow_mut() = Some(error);
            vec![0; self.data_len()]
        }))
    }

    fn data_len(&self) -> usize {
        self.entry.shape.iter().product::<usize>() * 4
    }
}

/// Writes an archive, atomically.
pub(crate) fn write(
    path: &Path,
    about: &str,
    mut entries: Vec<Entry<'_>>,
) -> Result<(), WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    // The order of the file.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    hash.update(about.as_bytes());
    for entry in &entries {
        hash.update(entry.name.as_bytes());
        hash.update(entry.bytes().map_err(io)?);
    }
    let metadata = HashMap::from([
        (ABOUT.to_owned(), about.to_owned()),
        (HASH.to_owned(), hex(&hash.finalize())),
    ]);
    let failure = RefCell::new(None);
    write_atomic(path, |temporary| {
        let views = entries.iter().map(|entry| (&entry.name, Lazy { entry, failure: &failure }));
        serialize_to_file(views, Some(metadata), temporary).map_err(|error| {
            io(match error {
                safetensors::SafeTensorError::IoError(error) => error,
                error => io::Error::other(error.to_string()),
            })
        })?;
        failure.take().map_or(Ok(()), |error| Err(io(error)))
    })
}

/// An archive whose numbers are read when they are asked for.
#[derive(Debug)]
pub(crate) struct Archive {
    pub about: String,
    file: RefCell<File>,
    /// Each name's shape, and where its numbers begin.
    entries: HashMap<String, (Vec<usize>, u64)>,
}

impl Archive {
    /// Opens an archive and checks its hash; the error says what is wrong with the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut file = File::open(path).map_err(text)?;
        let length = file.metadata().map_err(text)?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word).map_err(|_| "truncated")?;
        let header_length = u64::from_le_bytes(word);
        if header_length > MAX_HEADER.min(length.saturating_sub(8)) {
            return Err("truncated, or not one of Rekindle's".into());
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(text)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| format!("damaged: {error}"))?;
        let start = 8 + header_length;
        let end = metadata.tensors().values().map(|info| info.data_offsets.1).max();
        if start + end.unwrap_or_default() as u64 != length {
            return Err("truncated".into());
        }
        let own = metadata.metadata().as_ref();
        let field = |name: &str| own.and_then(|own| own.get(name)).cloned();
        let (Some(about), Some(expected)) = (field(ABOUT), field(HASH)) else {
            return Err("not one of Rekindle's".into());
        };
        let mut hash = Sha256::new();
        hash.update(about.as_bytes());
        let mut infos: Vec<(String, _)> = metadata.tensors().into_iter().collect();
        infos.sort_by(|a, b| a.0.cmp(&b.0));
        let mut entries = HashMap::new();
        for (name, info) in infos {
            let (from, to) = info.data_offsets;
            if info.dtype != Dtype::F32 || to - from != info.shape.iter().product::<usize>() * 4 {
                return Err("damaged: numbers of another size".into());
            }
            hash.update(name.as_bytes());
            file.seek(SeekFrom::Start(start + from as u64)).map_err(text)?;
            io::copy(&mut (&mut file).take((to - from) as u64), &mut HashWriter(&mut hash))
                .map_err(text)?;
            entries.insert(name, (info.shape.clone(), start + from as u64));
        }
        if hex(&hash.finalize()) != expected {
            return Err(
                "altered or damaged: its content does not have the hash that it should".into()
            );
        }
        Ok(Self { about, file: RefCell::new(file), entries })
    }

    /// The names and shapes.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &[usize])> {
        self.entries.iter().map(|(name, (shape, _))| (name, shape.as_slice()))
    }

    /// Whether it has numbers of a name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The numbers of a name.
    pub fn read(&self, name: &str) -> io::Result<Vec<f32>> {
        let Some((shape, start)) = self.entries.get(name) else {
            return Err(io::Error::other(format!("it has no `{name}`")));
        };
        let mut bytes = vec![0; shape.iter().product::<usize>() * 4];
        let mut file = self.file.borrow_mut();
        file.seek(SeekFrom::Start(*start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each value's four bytes, one after the other.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    let places = bytes.as_chunks_mut::<4>().0.iter_mut();
    places.zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_come_back_and_every_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.safetensors");
        let (one, two) = (vec![1.0, -2.5], vec![0.5; 6]);
        let entries = vec![
            Entry::values("b".into(), vec![2, 3], &two),
            Entry::values("a".into(), vec![2], &one),
        ];
        write(&path, "about", entries).expect("writes");
        let archive = Archive::open(&path).expect("opens");
        assert_eq!(archive.about, "about");
        assert_eq!(
            (archive.read("a").expect("reads"), archive.read("b").expect("reads")),
            (one, two)
        );
        assert!(archive.read("c").is_err());
        let bytes = std::fs::read(&path).expect("reads");
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).expect("writes");
            assert!(Archive::open(&path).is_err(), "{length} bytes");
        }
        for position in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            std::fs::write(&path, &altered).expect("writes");
            // Spaces that pad the header say nothing.
            let said =
                Archive::open(&path).map(|archive| (archive.about.clone(), archive.entries.len()));
            assert!(said.is_err() || bytes[position] == b' ', "byte {position}: {said:?}");
        }
        let failing = Entry {
            name: "a".into(),
            shape: vec![1],
            read: Box::new(|| Err(io::Error::other("gone"))),
        };
        let error = write(&path, "", vec![failing]).expect_err("fails");
        assert!(rekindle_weights::with_causes(&error).contains("gone"));
    }
}
